//! nq, never queue: the first idle server, and if none is idle the shortest expected delay (sed).
//!
//! Idle means no active connections; inactive ones do not count, so all UDP goes to the server added last.
//! Source: the behaviour of Linux's `ip_vs_nq.c`.

use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::scheduler::{Fork, Scheduler, SchedulerDef};

use crate::{load, sed};

pub(crate) const DEF: SchedulerDef = SchedulerDef {
    name: "nq",
    about: "never queue: an idle server, else the least (active + 1) / weight",
    new: |_| Box::new(NeverQueue),
};

#[derive(Clone)]
struct NeverQueue;

impl Scheduler for NeverQueue {
    fn pick(&mut self, _flow: &Flow, backends: &[Backend]) -> Option<usize> {
        let idle = |b: &Backend| b.active == 0 && b.is_available();
        backends
            .iter()
            .position(idle)
            .or_else(|| load::least(backends, sed::delay))
    }

    fn fork(&self) -> Fork {
        Fork::Exact(Box::new(self.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::testing::servers::{backends, ids_picked};

    #[test]
    fn an_idle_server_comes_before_a_faster_one() {
        let mut set = backends(&[(2, 1), (1, 100)]);
        set[1].active = 1;
        assert_eq!(ids_picked(&mut NeverQueue, &set, 1), [2]);
        set[0].active = 1;
        assert_eq!(ids_picked(&mut NeverQueue, &set, 1), [1]);
    }
}
