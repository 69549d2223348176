//! How long frames took, now and a while ago, so that `uvs latency` can look back: what the workers had
//! recorded is kept for a minute.

use std::collections::VecDeque;
use std::time::Duration;

use uvs_control::protocol::{Answers, Latency, LatencySample, Refusal, ask};
use uvs_core::time::Instant;

use super::Daemon;
use super::live::{nanoseconds, ring_drops};
use crate::worker::Latencies;
use crate::workers::Counted;

/// How far back latencies are kept, two seconds apart at 28 KiB each.
const KEPT: Duration = Duration::from_secs(60);

/// What the workers had recorded at the end of each period, the oldest first.
#[derive(Default)]
pub(super) struct LatencyHistory(VecDeque<Recorded>);

struct Recorded {
    taken: Instant,
    started: Instant,
    forwarded: u64,
    ring_drops: u64,
    busy: Duration,
    latency: Latencies,
}

impl LatencyHistory {
    /// Keeps what a status has, and forgets what is too old.
    pub(super) fn keep(&mut self, counted: &Counted) {
        let now = counted.taken();
        while self.0.front().is_some_and(|r| now.since(r.taken) > KEPT) {
            self.0.pop_front();
        }
        self.0.push_back(Recorded::of(counted));
    }

    /// The oldest that is no older than this, or else the newest.
    fn within(&self, now: Instant, ago: Duration) -> Option<&Recorded> {
        let recent = self.0.iter().find(|r| now.since(r.taken) <= ago);
        recent.or_else(|| self.0.back())
    }
}

impl Recorded {
    fn of(counted: &Counted) -> Self {
        let all = &counted.all;
        Self {
            taken: counted.taken(),
            started: counted.started(),
            forwarded: all.counters.sent,
            ring_drops: ring_drops(all),
            busy: counted.busy(),
            latency: all.latency.clone(),
        }
    }

    fn sample(&self) -> LatencySample {
        let counts = self.latency.iter_recorded();
        LatencySample {
            taken_ns: self.taken.0,
            started_ns: self.started.0,
            forwarded: self.forwarded,
            ring_drops: self.ring_drops,
            busy_ns: nanoseconds(self.busy),
            counts: counts
                .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
                .collect(),
        }
    }
}

impl Answers<ask::Latency> for Daemon {
    fn answer(&mut self, ask::Latency(ago): ask::Latency) -> Result<Latency, Refusal> {
        let counted = self.counted()?;
        let ago = ago.map(|seconds| Duration::from_secs(u64::from(seconds)));
        let before = ago.and_then(|ago| self.history.within(counted.taken(), ago));
        Ok(Latency {
            before: before.map(Recorded::sample),
            now: Recorded::of(&counted).sample(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_kept_for_a_minute_and_found_by_age() {
        let recorded = |seconds: u64| Recorded {
            taken: Instant(seconds * 1_000_000_000),
            started: Instant(0),
            forwarded: seconds,
            ring_drops: 0,
            busy: Duration::ZERO,
            latency: Latencies::default(),
        };
        let history = LatencyHistory((0..10).map(|i| recorded(2 * i)).collect());
        let now = Instant(19_000_000_000);
        let ago = |seconds| {
            history
                .within(now, Duration::from_secs(seconds))
                .map(|r| r.forwarded)
        };
        assert_eq!(
            (ago(0), ago(1), ago(10), ago(60)),
            (Some(18), Some(18), Some(10), Some(0))
        );
    }
}
