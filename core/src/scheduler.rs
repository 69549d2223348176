//! The scheduler's contract: which real server takes a new connection.
//!
//! One instance per service per worker, `&mut self`, no locks. The core counts load and a scheduler
//! only reads it. Built-in schedulers and plugins come through this very trait.

use crate::backend::Backend;
use crate::flow::Flow;
use crate::plugins::PluginNumbers;
use crate::time::Instant;

/// Picks a real server for each new connection of one service.
pub trait Scheduler: Send {
    /// The set changed, or is seen for the first time: rebuild from the whole set.
    ///
    /// Called once for every single change, in order, so that state (the place in a round) moves as
    /// the kernel's does. A server is recognised by [`Backend::id`].
    fn backends_changed(&mut self, backends: &[Backend]) {
        let _ = backends;
    }

    /// The index of the server for `flow`, or `None` to refuse.
    ///
    /// Must be in range and must name a server that [`Backend::is_available`]; the engine checks both
    /// and counts a fault otherwise.
    fn pick(&mut self, flow: &Flow, backends: &[Backend]) -> Option<usize>;

    /// Time has passed: drop what is stale. Called about once a minute.
    ///
    /// Schedulers that remember clients or destinations (lblc, lblcr) need it; the rest do not.
    fn tick(&mut self, now: Instant) {
        let _ = now;
    }

    /// Something to dry-run with: `uvs trace` asks it what this scheduler would pick, and nothing of this
    /// one's changes.
    ///
    /// A scheduler that is `Clone` has `Fork::Exact(Box::new(self.clone()))`.
    fn fork(&self) -> Fork {
        Fork::None
    }

    /// What a new instance of the same algorithm goes on from in another process, beside the set, where the daemon is
    /// upgraded ([`Scheduler::resume`]). Empty: it starts anew.
    fn state(&self) -> Vec<u64> {
        Vec::new()
    }

    /// Goes on from what another instance has told by [`Scheduler::state`], of the set that was told last. What
    /// this algorithm cannot have told is ignored.
    fn resume(&mut self, state: &[u64]) {
        let _ = state;
    }

    /// Whether its picks depend on [`Backend::handshake`]: then each handshake is measured as soon as it is over,
    /// also where the kernel forwards it.
    fn weighs_handshakes(&self) -> bool {
        false
    }

    /// What is told of it where it is a plugin.
    fn numbers(&self) -> Option<PluginNumbers> {
        None
    }

    /// Whether a client's server follows from the flow and the set alone, on every director alike (sh, dh,
    /// mh). Such a service has no slow start, which would send clients elsewhere and back again.
    fn is_consistent(&self) -> bool {
        false
    }
}

/// What a scheduler has to dry-run with.
pub enum Fork {
    /// A copy: it picks what the original would.
    Exact(Box<dyn Scheduler>),
    /// A new instance of the same algorithm, without the original's state: what it picks is an example.
    Example(Box<dyn Scheduler>),
    /// Nothing.
    None,
}

/// What a scheduler is made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedulerParams {
    /// The service's scheduler flags as IPVS numbers them: [`FLAG_1`], [`FLAG_2`], [`FLAG_3`].
    pub flags: u32,
    /// Seed of any randomness; from the configuration, so that a run can be repeated.
    pub seed: u64,
    /// Entries of the look-up table of a scheduler that has one of settable size (mh); 0 = its default.
    pub table_size: u32,
}

/// `flag-1`: `sh-fallback`, `mh-fallback` (IP_VS_SVC_F_SCHED1).
pub const FLAG_1: u32 = 0x8;
/// `flag-2`: `sh-port`, `mh-port` (IP_VS_SVC_F_SCHED2).
pub const FLAG_2: u32 = 0x10;
/// `flag-3` (IP_VS_SVC_F_SCHED3).
pub const FLAG_3: u32 = 0x20;

/// A scheduler's row in a table such as `uvs_schedulers::BUILTIN`.
#[derive(Clone, Copy)]
pub struct SchedulerDef {
    /// The name `ipvsadm -s` takes, at most 15 bytes.
    pub name: &'static str,
    /// One line for `uvs show` and the documentation.
    pub about: &'static str,
    /// Makes an instance for one service.
    pub new: fn(&SchedulerParams) -> Box<dyn Scheduler>,
}
