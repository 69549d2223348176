//! wlc, weighted least connection: the smallest `(256 · active + inactive) / weight`. The usual choice.
//!
//! A tie goes to the server added last. Weight 0 and overloaded servers are skipped. Source: the behaviour
//! of Linux's `ip_vs_wlc.c`.

use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::scheduler::{Fork, Scheduler, SchedulerDef};

use crate::load;

pub(crate) const DEF: SchedulerDef = SchedulerDef {
    name: "wlc",
    about: "weighted least connection: the fewest connections for the weight",
    new: |_| Box::new(WeightedLeastConnection),
};

#[derive(Clone)]
struct WeightedLeastConnection;

impl Scheduler for WeightedLeastConnection {
    fn pick(&mut self, _flow: &Flow, backends: &[Backend]) -> Option<usize> {
        load::least(backends, Backend::overhead)
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
    fn load_is_shared_in_proportion_to_the_weights() {
        let mut set = backends(&[(2, 1), (1, 3)]);
        for _ in 0..400 {
            let id = ids_picked(&mut WeightedLeastConnection, &set, 1)[0];
            set.iter_mut()
                .filter(|b| b.id == id)
                .for_each(|b| b.active += 1);
        }
        assert_eq!([set[0].active, set[1].active], [100, 300]);
    }
}
