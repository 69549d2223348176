//! lc, least connection: the server with the fewest connections, whatever its weight.
//!
//! An active connection counts 256 times an inactive one ([`Backend::overhead`]); a tie goes to the server
//! added last. Weight 0 and overloaded servers are skipped. Source: the behaviour of Linux's `ip_vs_lc.c`.

use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::scheduler::{Fork, Scheduler, SchedulerDef};

pub(crate) const DEF: SchedulerDef = SchedulerDef {
    name: "lc",
    about: "least connection: the fewest connections, whatever the weight",
    new: |_| Box::new(LeastConnection),
};

#[derive(Clone)]
struct LeastConnection;

impl Scheduler for LeastConnection {
    fn pick(&mut self, _flow: &Flow, backends: &[Backend]) -> Option<usize> {
        (0..backends.len())
            .filter(|&i| backends[i].is_available())
            .min_by_key(|&i| backends[i].overhead())
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
    fn an_active_connection_outweighs_255_inactive_ones() {
        let mut set = backends(&[(2, 1), (1, 100)]);
        assert_eq!(ids_picked(&mut LeastConnection, &set, 1), [2]);
        set[0].active = 1;
        set[1].inactive = 255;
        assert_eq!(ids_picked(&mut LeastConnection, &set, 1), [1]);
        set[1].inactive = 256;
        assert_eq!(ids_picked(&mut LeastConnection, &set, 1), [2]);
    }
}
