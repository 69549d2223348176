//! fo, weighted fail-over: everything to the available server of the highest weight.
//!
//! The next one takes over when it is quiesced or overloaded. A tie goes to the server added last. Source:
//! the behaviour of Linux's `ip_vs_fo.c`.

use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::scheduler::{Fork, Scheduler, SchedulerDef};

pub(crate) const DEF: SchedulerDef = SchedulerDef {
    name: "fo",
    about: "weighted fail-over: the highest weight takes everything",
    new: |_| Box::new(FailOver),
};

#[derive(Clone)]
struct FailOver;

impl Scheduler for FailOver {
    fn pick(&mut self, _flow: &Flow, backends: &[Backend]) -> Option<usize> {
        heaviest(backends, Backend::is_available)
    }

    fn fork(&self) -> Fork {
        Fork::Exact(Box::new(self.clone()))
    }
}

/// The first of the heaviest servers that are `usable`.
pub(crate) fn heaviest(backends: &[Backend], usable: fn(&Backend) -> bool) -> Option<usize> {
    (0..backends.len())
        .filter(|&i| usable(&backends[i]))
        .min_by_key(|&i| std::cmp::Reverse(backends[i].weight))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::testing::servers::{backends, ids_picked};

    #[test]
    fn the_next_heaviest_takes_over() {
        let mut set = backends(&[(4, 1), (3, 5), (2, 9), (1, 9)]);
        assert_eq!(ids_picked(&mut FailOver, &set, 2), [2, 2]);
        set[2].flags = Backend::OVERLOADED;
        assert_eq!(ids_picked(&mut FailOver, &set, 2), [1, 1]);
        set[3].weight = 0;
        assert_eq!(ids_picked(&mut FailOver, &set, 2), [3, 3]);
    }
}
