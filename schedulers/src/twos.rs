//! twos, power of two choices weighted at random: two draws by weight, the one with less load for its weight.
//!
//! A draw is `r` in `0..=total` over the available servers' weights; walking the servers and taking their
//! weights off `r`, the one at which it is used up is drawn. So the first server has `weight + 1` chances of
//! `total + 1`. Both draws may give the same server. The second wins only with a strictly smaller
//! `(256 · active + inactive) / weight`. Source: the behaviour of Linux's `ip_vs_twos.c`; M. Mitzenmacher,
//! "The power of two choices in randomized load balancing" (2001). Random, but from the service's seed.

use std::cmp::Ordering;

use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::random::Random;
use uvs_core::scheduler::{Fork, Scheduler, SchedulerDef};

use crate::load;

pub(crate) const DEF: SchedulerDef = SchedulerDef {
    name: "twos",
    about: "weighted random, twice: the less loaded of two servers drawn by weight",
    new: |params| {
        Box::new(Twos {
            random: Random::new(params.seed),
        })
    },
};

#[derive(Clone)]
struct Twos {
    random: Random,
}

impl Scheduler for Twos {
    fn pick(&mut self, _flow: &Flow, backends: &[Backend]) -> Option<usize> {
        let usable = backends.iter().filter(|b| b.is_available());
        let total: u64 = usable.map(|b| u64::from(b.weight)).sum();
        let first = draw(self.random.below(total + 1), backends)?;
        let second = draw(self.random.below(total + 1), backends)?;
        match load::compare(&backends[second], &backends[first], Backend::overhead) {
            Ordering::Less => Some(second),
            Ordering::Equal | Ordering::Greater => Some(first),
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

/// The available server at which `r` is used up.
fn draw(mut r: u64, backends: &[Backend]) -> Option<usize> {
    for (i, b) in backends
        .iter()
        .enumerate()
        .filter(|(_, b)| b.is_available())
    {
        r = r.saturating_sub(u64::from(b.weight));
        if r == 0 {
            return Some(i);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::testing::servers::{backends, ids_picked};

    const PICKS: usize = 100_000;

    fn shares(set: &[Backend]) -> Vec<usize> {
        let picked = ids_picked(
            &mut Twos {
                random: Random::new(42),
            },
            set,
            PICKS,
        );
        set.iter()
            .map(|b| picked.iter().filter(|id| **id == b.id).count())
            .collect()
    }

    /// Five standard deviations of a binomial distribution.
    fn assert_share(got: usize, p: f64) {
        let n = PICKS as f64;
        let off = (got as f64 - n * p).abs();
        assert!(
            off < 5.0 * (n * p * (1.0 - p)).sqrt(),
            "{got} of {PICKS}, expected a share of {p}"
        );
    }

    #[test]
    fn without_load_each_server_is_drawn_by_its_weight() {
        let set = backends(&[(1, 5), (2, 3), (3, 0), (4, 2)]);
        let shares = shares(&set);
        assert_share(shares[0], 6.0 / 11.0);
        assert_share(shares[1], 3.0 / 11.0);
        assert_eq!(shares[2], 0);
        assert_share(shares[3], 2.0 / 11.0);
    }

    #[test]
    fn the_loaded_server_gets_only_what_both_draws_give_it() {
        let mut set = backends(&[(1, 50), (2, 50)]);
        set[0].active = 1;
        let p = 51.0 / 101.0;
        assert_share(shares(&set)[0], p * p);
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let set = backends(&[(1, 1), (2, 1), (3, 1)]);
        let run = |seed| {
            ids_picked(
                &mut Twos {
                    random: Random::new(seed),
                },
                &set,
                100,
            )
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
