//! Seeded randomness for schedulers and tests: the same seed gives the same run.
//!
//! SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014). Fast
//! and even, and predictable to who sees its output: not for secrets.

use serde::{Deserialize, Serialize};

/// A stream of pseudo-random numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Random(u64);

impl Random {
    /// The stream that `seed` gives.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed that gives the stream from here on.
    pub const fn state(&self) -> u64 {
        self.0
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 where `bound` is 0.
    ///
    /// The top half of a product: uneven by at most `bound` in 2^64, which no test can see.
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }

    /// [`Random::below`] of 32 bits.
    pub const fn below_u32(&mut self, bound: u32) -> u32 {
        (self.below(bound as u64) & 0xffff_ffff) as u32
    }

    /// A place among `len`; 0 where `len` is 0.
    #[expect(clippy::cast_possible_truncation, reason = "it is below a usize")]
    pub const fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_that_of_the_reference_implementation() {
        // Output of the authors' splitmix64.c for state 1234567.
        let mut r = Random::new(1_234_567);
        assert_eq!(r.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(r.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn below_stays_below_and_reaches_every_value() {
        let mut r = Random::new(1);
        let mut seen = [0; 10];
        for _ in 0..10_000 {
            seen[r.index(10)] += 1;
        }
        assert!(seen.iter().all(|n| (800..1200).contains(n)), "{seen:?}");
        assert_eq!(r.below(0), 0);
    }
}
