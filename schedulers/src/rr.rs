//! rr, round robin: each new connection goes to the server after the one that got the last.
//!
//! Servers of weight 0 and overloaded ones are skipped; otherwise weights do not matter. When the set
//! changes the round goes on after the server that was last, or after its nearest predecessor that is
//! still there. Source: the behaviour of Linux's `ip_vs_rr.c`.

use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::scheduler::{Fork, Scheduler, SchedulerDef};

pub(crate) const DEF: SchedulerDef = SchedulerDef {
    name: "rr",
    about: "round robin: the next server in turn, whatever its weight",
    new: |_| Box::new(RoundRobin::default()),
};

#[derive(Clone, Default)]
struct RoundRobin {
    /// The servers' ids in order, as of the last change.
    order: Vec<u64>,
    /// How many servers of `order` come up to and including the last picked: where the search goes on.
    next: usize,
}

impl Scheduler for RoundRobin {
    fn backends_changed(&mut self, backends: &[Backend]) {
        let passed = self.order[..self.next].iter().rev();
        self.next = passed
            .filter_map(|id| backends.iter().position(|b| b.id == *id))
            .next()
            .map_or(0, |last| last + 1);
        self.order.clear();
        self.order.extend(backends.iter().map(|b| b.id));
    }

    fn pick(&mut self, _flow: &Flow, backends: &[Backend]) -> Option<usize> {
        let found = (self.next..backends.len())
            .chain(0..self.next)
            .find(|&i| backends[i].is_available())?;
        self.next = found + 1;
        Some(found)
    }

    fn state(&self) -> Vec<u64> {
        vec![self.next as u64]
    }

    fn resume(&mut self, state: &[u64]) {
        if let [next] = *state {
            let next = usize::try_from(next).unwrap_or(usize::MAX);
            self.next = next.min(self.order.len());
        }
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
    fn servers_take_turns_and_the_unavailable_are_skipped() {
        let mut set = backends(&[(3, 1), (2, 0), (1, 9)]);
        let mut rr = RoundRobin::default();
        rr.backends_changed(&set);
        assert_eq!(ids_picked(&mut rr, &set, 4), [3, 1, 3, 1]);
        set[0].flags = Backend::OVERLOADED;
        assert_eq!(ids_picked(&mut rr, &set, 2), [1, 1]);
    }

    #[test]
    fn an_added_server_is_first_but_waits_for_the_next_round() {
        let mut rr = RoundRobin::default();
        let set = backends(&[(2, 1), (1, 1)]);
        rr.backends_changed(&set);
        assert_eq!(ids_picked(&mut rr, &set, 1), [2]);
        let set = backends(&[(3, 1), (2, 1), (1, 1)]);
        rr.backends_changed(&set);
        assert_eq!(ids_picked(&mut rr, &set, 3), [1, 3, 2]);
    }

    #[test]
    fn removing_the_last_picked_server_does_not_skip_another() {
        let mut rr = RoundRobin::default();
        let set = backends(&[(3, 1), (2, 1), (1, 1)]);
        rr.backends_changed(&set);
        assert_eq!(ids_picked(&mut rr, &set, 2), [3, 2]);
        let set = backends(&[(3, 1), (1, 1)]);
        rr.backends_changed(&set);
        assert_eq!(ids_picked(&mut rr, &set, 2), [1, 3]);
    }
}
