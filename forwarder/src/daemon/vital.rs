//! Whether the daemon's threads are alive, as the metrics' thread and systemd are told. It is read, never asked
//! for: a control thread that is stuck answers nobody.

use std::sync::Arc;
use std::time::Duration;

use uvs_core::time::Instant;

use crate::worker::{Pulse, Shared, monotonic};

/// The control thread wakes every two seconds; putting a great table in force takes it some.
const CONTROL: Duration = Duration::from_secs(10);
/// The worker never sleeps for more than half a second.
const WORKER: Duration = Duration::from_secs(5);

/// The heartbeats of both threads.
#[derive(Clone)]
pub(super) struct Vital {
    control: Arc<Pulse>,
    shared: Arc<Shared>,
}

impl Vital {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            control: Arc::new(Pulse::new()),
            shared,
        }
    }

    /// The control thread completes a turn.
    pub(super) fn beat(&self) {
        self.control.beat(monotonic());
    }

    /// Whether the worker does.
    pub(super) fn has_worker(&self) -> bool {
        self.shared.pulse.age(monotonic()) <= WORKER
    }

    /// What is stuck, each a sentence; empty = nothing.
    pub(super) fn complaints(&self) -> Vec<String> {
        self.complaints_at(monotonic())
    }

    fn complaints_at(&self, now: Instant) -> Vec<String> {
        let threads = [
            ("control thread", self.control.age(now), CONTROL),
            ("worker", self.shared.pulse.age(now), WORKER),
        ];
        let stuck = threads.into_iter().filter(|(_, age, limit)| age > limit);
        let sentence = |(name, age, _): (&str, Duration, _)| {
            format!("the {name} is stuck: no heartbeat for {} s", age.as_secs())
        };
        stuck.map(sentence).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_is_missed_after_its_own_time() {
        let vital = Vital::new(Arc::new(Shared::empty()));
        let at = |s: u64| Instant::from_secs(1_000 + s);
        vital.control.beat(at(0));
        vital.shared.pulse.beat(at(0));
        assert!(vital.complaints_at(at(4)).is_empty());
        let worker = "the worker is stuck: no heartbeat for 6 s";
        assert_eq!(vital.complaints_at(at(6)), [worker]);
        vital.shared.pulse.beat(at(12));
        let control = "the control thread is stuck: no heartbeat for 12 s";
        assert_eq!(vital.complaints_at(at(12)), [control]);
    }
}
