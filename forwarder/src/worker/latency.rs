//! How long frames took, from their arrival in the ring until they were sent.

use std::ops::{AddAssign, Deref};

use hdrhistogram::Histogram;

/// The longest time that is told apart, 10 s in nanoseconds.
const LONGEST: u64 = 10_000_000_000;
/// Digits: 28 KiB.
const DIGITS: u8 = 2;

/// Nanoseconds, to two digits, from 1 ns to 10 s; what took longer counts as that.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    /// Those with these counts of values, as [`Latencies::recorded`] tells them.
    pub(super) fn of(recorded: &[(u64, u64)]) -> Self {
        let mut latencies = Self::default();
        for (ns, count) in recorded {
            latencies.0.saturating_record_n(*ns, *count);
        }
        latencies
    }

    /// The values, each with how often it was recorded.
    pub(super) fn recorded(&self) -> Vec<(u64, u64)> {
        let steps = self.0.iter_recorded();
        steps
            .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
            .collect()
    }

    /// A frame took so many nanoseconds.
    pub(crate) fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns.max(1));
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self(
            Histogram::new_with_bounds(1, LONGEST, DIGITS)
                .expect("bounds that a histogram may have"),
        )
    }
}

impl Deref for Latencies {
    type Target = Histogram<u64>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl AddAssign<&Self> for Latencies {
    fn add_assign(&mut self, other: &Self) {
        self.0
            .add(&other.0)
            .expect("a histogram of the same bounds has room for the other's");
    }
}
