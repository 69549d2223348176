//! p2c, power of two choices: two different servers drawn by weight, the one with less load for its weight.
//!
//! Nearly as even as wlc, and one pick costs the same with 3 servers as with 3000: draws come from an alias
//! table that is made when the set changes. Load is `(256 · active + inactive) / weight`; a tie goes to the
//! first drawn. Unlike twos, the draws are exactly by weight and (but for a lopsided set) two different
//! servers. Not in IPVS. Source: M. Mitzenmacher, "The power of two choices in randomized load balancing"
//! (2001); M. D. Vose, "A linear algorithm for generating random numbers with a given distribution" (1991).

use std::cmp::Ordering;

use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::random::Random;
use uvs_core::scheduler::{Fork, Scheduler, SchedulerDef};

use crate::load;

pub(crate) const DEF: SchedulerDef = SchedulerDef {
    name: "p2c",
    about: "power of two choices: the less loaded of two, in constant time (not in IPVS)",
    new: |params| Box::new(TwoChoices::new(params.seed)),
};

/// Draws for a second, different server. With one server far heavier than all others together the second
/// may well be the same one, which is then the right one nearly always.
const DRAWS: usize = 8;

#[derive(Clone)]
struct TwoChoices {
    table: AliasTable,
    random: Random,
}

impl TwoChoices {
    fn new(seed: u64) -> Self {
        Self {
            table: AliasTable::default(),
            random: Random::new(seed),
        }
    }
}

impl Scheduler for TwoChoices {
    fn backends_changed(&mut self, backends: &[Backend]) {
        self.table = AliasTable::new(backends.iter().map(|b| b.weight));
    }

    fn pick(&mut self, _flow: &Flow, backends: &[Backend]) -> Option<usize> {
        let first = self.table.draw(&mut self.random)?;
        let mut others = (0..DRAWS).filter_map(|_| self.table.draw(&mut self.random));
        let second = others.find(|&i| i != first).unwrap_or(first);
        match (
            backends[first].is_available(),
            backends[second].is_available(),
        ) {
            (true, true) => {
                match load::compare(&backends[second], &backends[first], Backend::overhead) {
                    Ordering::Less => Some(second),
                    Ordering::Equal | Ordering::Greater => Some(first),
                }
            }
            (true, false) => Some(first),
            (false, true) => Some(second),
            // Weights are above 0 here, so both are overloaded: rare enough to look at all.
            (false, false) => load::least(backends, Backend::overhead),
        }
    }

    fn state(&self) -> Vec<u64> {
        vec![self.random.state()]
    }

    fn resume(&mut self, state: &[u64]) {
        if let [seed] = *state {
            self.random = Random::new(seed);
        }
    }

    fn fork(&self) -> Fork {
        Fork::Exact(Box::new(self.clone()))
    }
}

/// Draws an index in proportion to its weight in constant time.
///
/// As many slots as there are weights above 0, each as wide as the sum of the weights: a slot is shared by
/// the index it belongs to, up to a limit, and one other.
#[derive(Clone, Default)]
struct AliasTable {
    slots: Vec<Slot>,
    width: u64,
}

#[derive(Clone, Copy)]
struct Slot {
    own: usize,
    limit: u64,
    other: usize,
}

impl AliasTable {
    fn new(weights: impl Iterator<Item = u32>) -> Self {
        let weights: Vec<(usize, u64)> = weights
            .map(u64::from)
            .enumerate()
            .filter(|(_, weight)| *weight > 0)
            .collect();
        let n = weights.len() as u64;
        let width = weights.iter().map(|(_, weight)| weight).sum();
        // Each index has weight * n to put somewhere, and all slots together hold exactly that.
        let shares = weights.iter().map(|&(own, weight)| Slot {
            own,
            limit: weight * n,
            other: own,
        });
        let (mut small, mut large): (Vec<Slot>, Vec<Slot>) = shares.partition(|s| s.limit < width);
        let mut slots = Vec::with_capacity(weights.len());
        while let (Some(mut slot), Some(donor)) = (small.pop(), large.last_mut()) {
            slot.other = donor.own;
            slots.push(slot);
            donor.limit -= width - slot.limit;
            if donor.limit < width {
                small.extend(large.pop());
            }
        }
        slots.append(&mut large);
        Self { slots, width }
    }

    fn draw(&self, random: &mut Random) -> Option<usize> {
        let slot = self.slots.get(random.index(self.slots.len()))?;
        Some(if random.below(self.width) < slot.limit {
            slot.own
        } else {
            slot.other
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::testing::servers::{backends, flow, ids_picked};

    /// What the table gives each index, in units of one slot's width.
    fn shares(weights: &[u32]) -> Vec<u64> {
        let table = AliasTable::new(weights.iter().copied());
        let mut shares = vec![0; weights.len()];
        for slot in &table.slots {
            let own = slot.limit.min(table.width);
            shares[slot.own] += own;
            shares[slot.other] += table.width - own;
        }
        shares
    }

    #[test]
    fn the_table_is_exactly_in_proportion() {
        assert_eq!(shares(&[5, 0, 3, 2]), [15, 0, 9, 6]);
        assert_eq!(shares(&[1, 1, 1]), [3, 3, 3]);
        assert_eq!(shares(&[1, 100, 7, 2, 2]), [5, 500, 35, 10, 10]);
        let heavy = i32::MAX as u32;
        assert_eq!(shares(&[heavy, 1]), [2 * u64::from(heavy), 2]);
        assert_eq!(shares(&[0, 0]), [0, 0]);
    }

    #[test]
    fn of_two_servers_the_less_loaded_is_taken() {
        let mut set = backends(&[(1, 1), (2, 1)]);
        let mut p2c = TwoChoices::new(3);
        p2c.backends_changed(&set);
        set[0].active = 1;
        let picked = ids_picked(&mut p2c, &set, 10_000);
        // Only where all draws gave the same server: once in 2^9.
        assert!(picked.iter().filter(|id| **id == 1).count() < 60);
    }

    #[test]
    fn a_hundred_servers_stay_nearly_even() {
        let servers: Vec<(u64, u32)> = (0..100).zip([1, 2].into_iter().cycle()).collect();
        let mut set = backends(&servers);
        let mut p2c = TwoChoices::new(5);
        p2c.backends_changed(&set);
        for n in 0..15_000 {
            let i = p2c.pick(&flow(n), &set).expect("a server");
            set[i].active += 1;
        }
        let off = |b: &Backend| b.active.abs_diff(100 * b.weight);
        assert!(
            set.iter().all(|b| off(b) <= 8),
            "{:?}",
            set.iter().map(off).max()
        );
    }

    #[test]
    fn the_last_usable_server_is_found() {
        let mut set = backends(&[(1, 50), (2, 50), (3, 0), (4, 1)]);
        let mut p2c = TwoChoices::new(1);
        p2c.backends_changed(&set);
        set[0].flags = Backend::OVERLOADED;
        set[1].flags = Backend::OVERLOADED;
        assert_eq!(ids_picked(&mut p2c, &set, 100), [4; 100]);
    }
}
