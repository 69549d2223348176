//! What is told of a service's scheduler that is a plugin: how long it takes, and whether it is still at work.
//!
//! Of the crate it needs nothing, so that it can go with the few files that plugins are built from.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// What is told of a service's scheduler where that is a plugin: of the one that is at work now, since the service has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginNumbers {
    /// How long its picks took.
    pub picks: PickTimes,
    /// Picks that took longer than the budget, whoever was to blame.
    pub over_budget: u64,
    /// What is at work in its place, while anything is.
    pub fallback: Option<Fallback>,
}

impl AddAssign for PluginNumbers {
    fn add_assign(&mut self, other: Self) {
        let Self {
            picks,
            over_budget,
            fallback,
        } = other;
        self.picks += picks;
        self.over_budget += over_budget;
        self.fallback = either(self.fallback, fallback, Fallback::and);
    }
}

const BOUNDS: usize = 10;

/// Times of picks, by the bounds of [`PickTimes::BOUNDS_NS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PickTimes {
    /// Picks up to each bound and above the one before; what is above the last is in `count` alone.
    pub counts: [u64; BOUNDS],
    /// All picks.
    pub count: u64,
    /// Nanoseconds of them all.
    pub sum_ns: u64,
    /// Nanoseconds of the longest.
    pub longest_ns: u64,
}

impl PickTimes {
    /// A look-up in a table to a plugin that blocks; dense about the usual budgets.
    pub const BOUNDS_NS: [u64; BOUNDS] = [
        250,
        1_000,
        10_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        10_000_000,
        100_000_000,
    ];

    /// Counts one.
    pub fn record(&mut self, ns: u64) {
        let bucket = Self::BOUNDS_NS.iter().position(|bound| ns <= *bound);
        if let Some(bucket) = bucket {
            self.counts[bucket] += 1;
        }
        self.count += 1;
        self.sum_ns = self.sum_ns.saturating_add(ns);
        self.longest_ns = self.longest_ns.max(ns);
    }
}

impl AddAssign for PickTimes {
    fn add_assign(&mut self, other: Self) {
        let Self {
            counts,
            count,
            sum_ns,
            longest_ns,
        } = other;
        for (sum, more) in self.counts.iter_mut().zip(counts) {
            *sum += more;
        }
        self.count += count;
        self.sum_ns = self.sum_ns.saturating_add(sum_ns);
        self.longest_ns = self.longest_ns.max(longest_ns);
    }
}

/// A service that has gone over from its plugin to a built-in scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fallback {
    /// Whole seconds since it did, of several workers the first.
    pub ago: u64,
    /// The last fault before.
    pub fault: PluginFault,
    /// How many workers did.
    pub workers: u32,
}

impl Fallback {
    fn and(self, other: Self) -> Self {
        Self {
            workers: self.workers + other.workers,
            ..self.max(other)
        }
    }
}

/// What a plugin can do wrong, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PluginFault {
    /// It panicked.
    Panic,
    /// It named a server that does not exist.
    WrongIndex,
    /// It named a server of weight 0, or one that is overloaded.
    ForbiddenServer,
    /// A function other than `pick` failed.
    Failed,
    /// A pick took longer than the budget.
    Slow,
}

impl PluginFault {
    /// All, in the order they are listed.
    pub const ALL: [Self; 5] = [
        Self::Panic,
        Self::WrongIndex,
        Self::ForbiddenServer,
        Self::Failed,
        Self::Slow,
    ];

    /// As metrics and listings call it, and as it is serialised.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::WrongIndex => "wrong_index",
            Self::ForbiddenServer => "forbidden_server",
            Self::Failed => "failed",
            Self::Slow => "slow",
        }
    }
}

/// Of two that may be there, both as one, or the one that is.
pub(crate) fn either<T>(
    one: Option<T>,
    other: Option<T>,
    both: impl FnOnce(T, T) -> T,
) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(both(one, other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pick_is_in_the_bucket_of_the_first_bound_that_it_does_not_pass() {
        let mut picks = PickTimes::default();
        for ns in [250, 251, 1_000_000, 100_000_001] {
            picks.record(ns);
        }
        assert_eq!(picks.counts, [1, 1, 0, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!((picks.count, picks.longest_ns), (4, 100_000_001));
        assert_eq!(picks.sum_ns, 250 + 251 + 1_000_000 + 100_000_001);
    }

    #[test]
    fn of_several_workers_the_first_that_fell_back_says_since_when_and_why() {
        let fallback = |ago, fault| Fallback {
            ago,
            fault,
            workers: 1,
        };
        let numbers = |fallback| PluginNumbers {
            fallback,
            ..PluginNumbers::default()
        };
        let mut all = numbers(Some(fallback(3, PluginFault::Panic)));
        all += numbers(None);
        all += numbers(Some(fallback(9, PluginFault::Slow)));
        let workers = 2;
        let first = Fallback {
            workers,
            ..fallback(9, PluginFault::Slow)
        };
        assert_eq!(all.fallback, Some(first));
    }
}
