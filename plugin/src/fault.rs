//! What a plugin did wrong at run time: each reason has a name and is counted.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use uvs_core::plugins::PluginFault;

/// A broken promise of a plugin. It costs the connection that was being scheduled, nothing else; one that is only slow
/// not even that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It panicked; the panic was caught on its side.
    Panicked,
    /// It named a server that does not exist.
    WrongIndex {
        /// What it returned.
        index: i64,
        /// How many servers there are.
        servers: usize,
    },
    /// It named a server of weight 0, or one that is overloaded.
    Forbidden {
        /// What it returned.
        index: usize,
    },
    /// A function other than `pick` failed.
    Failed {
        /// Which.
        function: &'static str,
        /// What it returned; 0 for a null pointer.
        code: i32,
    },
    /// A pick took longer than it may.
    Slow {
        /// How long, without what others had the CPU for.
        took: Duration,
        /// How long it may.
        budget: Duration,
    },
}

impl Fault {
    /// How many kinds there are.
    pub const KINDS: usize = PluginFault::ALL.len();

    /// Its kind.
    pub const fn kind(self) -> PluginFault {
        match self {
            Self::Panicked => PluginFault::Panic,
            Self::WrongIndex { .. } => PluginFault::WrongIndex,
            Self::Forbidden { .. } => PluginFault::ForbiddenServer,
            Self::Failed { .. } => PluginFault::Failed,
            Self::Slow { .. } => PluginFault::Slow,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked => write!(f, "it panicked"),
            Self::WrongIndex { index, servers } => {
                write!(f, "it picked index {index} of {servers} servers")
            }
            Self::Forbidden { index } => write!(
                f,
                "it picked server {index}, which has weight 0 or is overloaded"
            ),
            Self::Failed { function, code } => write!(f, "its {function} returned {code}"),
            Self::Slow { took, budget } => {
                write!(f, "its pick took {took:?}, its budget is {budget:?}")
            }
        }
    }
}

/// Faults by kind; written by workers, read by whoever reports.
#[derive(Debug, Default)]
pub struct FaultCounters([AtomicU64; Fault::KINDS]);

impl FaultCounters {
    /// Counts one.
    pub fn count(&self, fault: Fault) {
        self.0[fault.kind() as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Each kind, as metrics and listings call it, with its count.
    pub fn read(&self) -> [(&'static str, u64); Fault::KINDS] {
        PluginFault::ALL.map(|kind| (kind.label(), self.0[kind as usize].load(Ordering::Relaxed)))
    }
}
