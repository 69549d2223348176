//! What a plugin did wrong at run time: each reason has a name and is counted.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A broken promise of a plugin. It costs the connection that was being scheduled, nothing else.
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
}

impl Fault {
    /// The reasons as metrics and listings call them, in the order of [`FaultCounters::read`].
    pub const REASONS: [&'static str; 4] = ["panic", "wrong_index", "forbidden_server", "failed"];

    /// Its reason.
    pub const fn reason(self) -> &'static str {
        Self::REASONS[self.place()]
    }

    const fn place(self) -> usize {
        match self {
            Self::Panicked => 0,
            Self::WrongIndex { .. } => 1,
            Self::Forbidden { .. } => 2,
            Self::Failed { .. } => 3,
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
        }
    }
}

/// Faults by reason; written by workers, read by whoever reports.
#[derive(Debug, Default)]
pub struct FaultCounters([AtomicU64; Fault::REASONS.len()]);

impl FaultCounters {
    /// Counts one.
    pub fn count(&self, fault: Fault) {
        self.0[fault.place()].fetch_add(1, Ordering::Relaxed);
    }

    /// Each reason with its count.
    pub fn read(&self) -> [(&'static str, u64); Fault::REASONS.len()] {
        std::array::from_fn(|i| (Fault::REASONS[i], self.0[i].load(Ordering::Relaxed)))
    }
}
