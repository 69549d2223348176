//! swrr, smooth weighted round robin: turns in proportion to the weights, spread out instead of in bursts.
//!
//! At each pick every available server's credit grows by its weight; the one with the most credit is picked
//! (a tie goes to the first) and pays the sum of those weights. Weights 5, 1, 1 of A, B, C: A A B A C A A,
//! where wrr gives A A A A A B C. Not in IPVS. Source: nginx's upstream balancer, by I. Sysoev and others
//! (nginx 1.3.1, 2012).
//!
//! On a change credits are scaled by the sums of the weights, so that an edit does not restart the cycle.

use std::collections::BTreeMap;

use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::scheduler::{Fork, Scheduler, SchedulerDef};

pub(crate) const DEF: SchedulerDef = SchedulerDef {
    name: "swrr",
    about: "smooth weighted round robin: as wrr without bursts (not in IPVS)",
    new: |_| Box::new(Smooth::default()),
};

#[derive(Clone, Default)]
struct Smooth {
    /// Each server's id and credit, in the order of the set.
    servers: Vec<(u64, i64)>,
    /// The sum of all weights.
    total: i64,
}

impl Scheduler for Smooth {
    fn backends_changed(&mut self, backends: &[Backend]) {
        let total: i64 = backends.iter().map(|b| i64::from(b.weight)).sum();
        let old: BTreeMap<u64, i64> = self.servers.iter().copied().collect();
        let scaled =
            |credit: i64| i128::from(credit) * i128::from(total) / i128::from(self.total.max(1));
        // A credit is never more than the total, before and after.
        let fitting = |credit: i64| i64::try_from(scaled(credit)).unwrap_or(0);
        let credit = |b: &Backend| old.get(&b.id).map_or(0, |&c| fitting(c));
        self.servers = backends.iter().map(|b| (b.id, credit(b))).collect();
        self.total = total;
    }

    fn pick(&mut self, _flow: &Flow, backends: &[Backend]) -> Option<usize> {
        let mut sum = 0;
        let mut best: Option<usize> = None;
        for i in (0..backends.len()).filter(|&i| backends[i].is_available()) {
            let weight = i64::from(backends[i].weight);
            sum += weight;
            self.servers[i].1 += weight;
            if best.is_none_or(|best| self.servers[i].1 > self.servers[best].1) {
                best = Some(i);
            }
        }
        self.servers[best?].1 -= sum;
        best
    }

    fn state(&self) -> Vec<u64> {
        let credits = self
            .servers
            .iter()
            .map(|(_, credit)| credit.cast_unsigned());
        credits.collect()
    }

    fn resume(&mut self, state: &[u64]) {
        if state.len() == self.servers.len() {
            for ((_, credit), resumed) in self.servers.iter_mut().zip(state) {
                *credit = resumed.cast_signed().clamp(-self.total, self.total);
            }
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

    fn sequence(weights: &[u32], picks: usize) -> String {
        let named: Vec<(u64, u32)> = (0..).zip(weights).map(|(i, w)| (i, *w)).collect();
        let set = backends(&named);
        let mut swrr = Smooth::default();
        swrr.backends_changed(&set);
        let picked = ids_picked(&mut swrr, &set, picks);
        picked
            .iter()
            .map(|id| char::from(b'A' + (*id & 0xff) as u8))
            .collect()
    }

    #[test]
    fn turns_are_spread_out() {
        assert_eq!(sequence(&[5, 1, 1], 14), "AABACAAAABACAA");
        assert_eq!(sequence(&[4, 3, 2], 9), "ABCABACBA");
        assert_eq!(sequence(&[1, 1, 1], 6), "ABCABC");
    }

    #[test]
    fn a_whole_cycle_is_in_proportion_whatever_the_weights() {
        let picked = sequence(&[7, 0, 11, 2], 40);
        let count = |name| picked.chars().filter(|c| *c == name).count();
        assert_eq!(
            [count('A'), count('B'), count('C'), count('D')],
            [14, 0, 22, 4]
        );
    }

    #[test]
    fn an_edit_in_mid_cycle_neither_restarts_it_nor_starves_a_server() {
        let mut set = backends(&[(1, 1000), (2, 1000)]);
        let mut swrr = Smooth::default();
        swrr.backends_changed(&set);
        assert_eq!(ids_picked(&mut swrr, &set, 1), [1]);
        swrr.backends_changed(&set);
        assert_eq!(ids_picked(&mut swrr, &set, 2), [2, 1]);
        set.iter_mut().for_each(|b| b.weight = 1);
        swrr.backends_changed(&set);
        assert_eq!(ids_picked(&mut swrr, &set, 3), [2, 1, 2]);
    }
}
