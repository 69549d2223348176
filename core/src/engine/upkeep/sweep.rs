//! A walk round the connection table: how far it is, and when it goes on.

use serde::{Deserialize, Serialize};

use super::{Timer, Upkeep};
use crate::conn::ConnId;
use crate::engine::flows::Flows;
use crate::time::Instant;

/// A walk round the table.
#[derive(Default, Clone, Serialize, Deserialize)]
pub(super) struct Sweep {
    /// The next place.
    at: u32,
    /// Places that are still to be looked at.
    left: u32,
    /// Whether a server has left that lets its connections go.
    releases: bool,
}

impl Upkeep {
    /// Connections have to end: a walk begins, or begins again. It goes round twice from where it is, for
    /// templates wait until what they control has ended. `releases`: a server has left that lets its connections go.
    pub(in crate::engine) fn begin_sweep(&mut self, flows: &Flows, releases: bool) {
        self.sweep.releases = releases || self.sweep_releases();
        self.sweep.left = 2 * flows.table().places();
        self.timers.set(Timer::Sweep, Some(Instant::ZERO));
    }

    /// Whether the walk is one for servers that have left: only then does the kernel look for their connections
    /// (`ip_vs_expire_nodest_conn_flush`).
    pub(in crate::engine) fn sweep_releases(&self) -> bool {
        self.sweep.left > 0 && self.sweep.releases
    }

    /// The place in the table that is looked at next, `None` where the walk is over.
    pub(in crate::engine) fn sweep_place(&self) -> Option<ConnId> {
        (self.sweep.left > 0).then_some(ConnId(self.sweep.at))
    }

    /// That place has been looked at, of so many.
    pub(in crate::engine) fn sweep_on(&mut self, places: u32) {
        let sweep = &mut self.sweep;
        sweep.left -= 1;
        sweep.at = if sweep.at + 1 < places {
            sweep.at + 1
        } else {
            0
        };
    }

    /// The walk rests until then; whether it is not over.
    pub(in crate::engine) fn rest_sweep(&mut self, until: Instant) -> bool {
        let goes_on = self.sweep.left > 0;
        self.timers.set(Timer::Sweep, goes_on.then_some(until));
        goes_on
    }
}
