//! wrr, weighted round robin: rounds over the servers at levels that go down from the highest weight.
//!
//! With `g` the greatest common divisor of the weights, the levels are `1, 1 + g, …, max - g + 1`. A round
//! at a level takes, in order, each server whose weight is at least the level; then the next level down,
//! and after the lowest the highest again. Weights 4, 3, 2 of A, B, C: A A B A B C A B C.
//!
//! On any change the round starts again at the first server and the level is kept as far as it still
//! exists. A service is built up server by server from level 1 of the first one, which is why a new
//! service begins with one round over all. Source: the behaviour of Linux's `ip_vs_wrr.c`.

use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::scheduler::{Fork, Scheduler, SchedulerDef};

use crate::gcd::gcd;

pub(crate) const DEF: SchedulerDef = SchedulerDef {
    name: "wrr",
    about: "weighted round robin: turns in proportion to the weights",
    new: |_| Box::new(WeightedRoundRobin::default()),
};

#[derive(Clone, Default)]
struct WeightedRoundRobin {
    /// Where the round at this level goes on.
    next: usize,
    /// The weight a server must have to take part in this round; 0 while no server has any.
    level: u32,
    /// The highest level.
    top: u32,
    /// Between levels: the greatest common divisor of the weights.
    step: u32,
}

impl Scheduler for WeightedRoundRobin {
    fn backends_changed(&mut self, backends: &[Backend]) {
        let max = backends.iter().map(|b| b.weight).max().unwrap_or(0);
        self.step = gcd(backends.iter().map(|b| b.weight)).max(1);
        self.top = max.saturating_sub(self.step - 1);
        self.next = 0;
        if self.level == 0 || self.level > self.top {
            self.level = self.top;
        } else if self.step > 1 {
            self.level = self.level / self.step * self.step + 1;
        }
    }

    fn pick(&mut self, _flow: &Flow, backends: &[Backend]) -> Option<usize> {
        let found = match self.first_from(self.next, backends) {
            Some(i) => i,
            None => self.first_of_next_round(backends)?,
        };
        self.next = found + 1;
        Some(found)
    }

    fn state(&self) -> Vec<u64> {
        vec![self.next as u64, self.level.into()]
    }

    fn resume(&mut self, state: &[u64]) {
        if let [next, level] = *state {
            self.next = usize::try_from(next).unwrap_or(usize::MAX);
            self.level = u32::try_from(level).map_or(self.top, |level| level.min(self.top));
        }
    }

    fn fork(&self) -> Fork {
        Fork::Exact(Box::new(self.clone()))
    }
}

impl WeightedRoundRobin {
    fn first_from(&self, start: usize, backends: &[Backend]) -> Option<usize> {
        let takes_part = |b: &Backend| b.is_available() && b.weight >= self.level;
        (start..backends.len()).find(|&i| takes_part(&backends[i]))
    }

    /// Goes to the next level at which there is a server, in one step: walking down level by level
    /// would take two thousand million rounds when a server of the highest weight is overloaded.
    fn first_of_next_round(&mut self, backends: &[Backend]) -> Option<usize> {
        let available = backends.iter().filter(|b| b.is_available());
        let Some(heaviest) = available.map(|b| b.weight).max() else {
            self.find_none();
            return None;
        };
        let down = if self.level > self.step {
            self.level - self.step
        } else {
            self.top
        };
        self.level = (down.min(heaviest) - 1) / self.step * self.step + 1;
        self.first_from(0, backends)
    }

    /// No server can be used. The kernel's search ends where it began when that was within the lowest
    /// level, and otherwise before a whole new cycle.
    fn find_none(&mut self) {
        if self.level > self.step || self.next == 0 {
            self.next = 0;
            self.level = self.top;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::testing::servers::{backends, flow, ids_picked};

    /// The first two rounds of a service that came with all its servers at once.
    fn two_rounds(weights: &[u32]) -> String {
        let named: Vec<(u64, u32)> = (0..).zip(weights).map(|(i, w)| (i, *w)).collect();
        let set = backends(&named);
        let mut wrr = WeightedRoundRobin::default();
        wrr.backends_changed(&set);
        let round: u32 = weights.iter().map(|w| w / wrr.step).sum();
        let picked = ids_picked(&mut wrr, &set, 2 * round as usize);
        picked
            .iter()
            .map(|id| char::from(b'A' + (*id & 0xff) as u8))
            .collect()
    }

    #[test]
    fn rounds_are_those_of_the_algorithm() {
        assert_eq!(two_rounds(&[4, 3, 2]), "AABABCABCAABABCABC");
        assert_eq!(two_rounds(&[5, 1, 1]), "AAAAABCAAAAABC");
        assert_eq!(two_rounds(&[2, 1]), "AABAAB");
        assert_eq!(two_rounds(&[40, 40, 20]), "ABABCABABC");
        assert_eq!(two_rounds(&[10, 20, 30]), "CBCABCCBCABC");
        assert_eq!(two_rounds(&[8, 2]), "AAAABAAAAB");
        assert_eq!(two_rounds(&[1, 1, 1]), "ABCABC");
    }

    #[test]
    fn a_service_built_up_begins_with_one_round_over_all() {
        let mut wrr = WeightedRoundRobin::default();
        wrr.backends_changed(&[]);
        wrr.backends_changed(&backends(&[(1, 3)]));
        let set = backends(&[(2, 1), (1, 3)]);
        wrr.backends_changed(&set);
        assert_eq!(ids_picked(&mut wrr, &set, 8), [2, 1, 1, 1, 2, 1, 1, 1]);
    }

    #[test]
    fn levels_without_a_usable_server_cost_nothing() {
        let mut set = backends(&[(1, i32::MAX as u32), (2, 2), (3, 1)]);
        let mut wrr = WeightedRoundRobin::default();
        wrr.backends_changed(&set);
        assert_eq!(ids_picked(&mut wrr, &set, 2), [1, 1]);
        set[0].flags = Backend::OVERLOADED;
        assert_eq!(ids_picked(&mut wrr, &set, 6), [2, 2, 3, 2, 2, 3]);
    }

    #[test]
    fn an_edit_moves_the_level_up_to_the_next_that_still_exists() {
        let mut wrr = WeightedRoundRobin::default();
        let set = backends(&[(2, 9), (1, 1)]);
        wrr.backends_changed(&set);
        assert_eq!(ids_picked(&mut wrr, &set, 4), [2; 4]);
        assert_eq!(wrr.level, 6);
        wrr.backends_changed(&backends(&[(2, 9), (1, 3)]));
        assert_eq!((wrr.level, wrr.next), (7, 0));
    }

    #[test]
    fn after_a_time_without_servers_a_new_cycle_begins() {
        let mut wrr = WeightedRoundRobin::default();
        let mut set = backends(&[(2, 3), (1, 3), (3, 1)]);
        wrr.backends_changed(&set);
        assert_eq!(ids_picked(&mut wrr, &set, 3), [2, 1, 2]);
        set.iter_mut().for_each(|b| b.flags = Backend::OVERLOADED);
        assert_eq!(wrr.pick(&flow(0), &set), None);
        set.iter_mut().for_each(|b| b.flags = 0);
        assert_eq!(ids_picked(&mut wrr, &set, 7), [2, 1, 2, 1, 2, 1, 3]);
    }
}
