//! sed, shortest expected delay: the smallest `(active + 1) / weight`.
//!
//! The delay the new connection would see if it were served there: it counts itself. Inactive connections
//! do not count, so all UDP goes to the heaviest server. A tie goes to the server added last. Source: the
//! behaviour of Linux's `ip_vs_sed.c`.

use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::scheduler::{Fork, Scheduler, SchedulerDef};

use crate::load;

pub(crate) const DEF: SchedulerDef = SchedulerDef {
    name: "sed",
    about: "shortest expected delay: the least (active + 1) / weight",
    new: |_| Box::new(ShortestExpectedDelay),
};

/// The expected delay at weight 1.
pub(crate) const fn delay(backend: &Backend) -> u64 {
    backend.active as u64 + 1
}

#[derive(Clone)]
struct ShortestExpectedDelay;

impl Scheduler for ShortestExpectedDelay {
    fn pick(&mut self, _flow: &Flow, backends: &[Backend]) -> Option<usize> {
        load::least(backends, delay)
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
    fn the_new_connection_counts_itself() {
        let mut set = backends(&[(2, 1), (1, 3)]);
        // 1/1 against 1/3, 2/3 and then 3/3, a tie that goes to the first.
        for expected in [1, 1, 2] {
            assert_eq!(ids_picked(&mut ShortestExpectedDelay, &set, 1), [expected]);
            set[1].active += 1;
        }
    }
}
