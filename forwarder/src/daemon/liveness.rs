//! Whether the daemon's threads are alive, as the metrics' thread and systemd are told. It is read, never asked
//! for: a control thread that is stuck answers nobody.

use std::sync::Arc;
use std::time::Duration;

use uvs_core::time::Instant;

use crate::worker::{Heartbeat, monotonic};
use crate::workers::{MISSED, WorkerHeartbeat};

/// The control thread wakes every two seconds; putting a great table in force takes it some.
const CONTROL: Duration = Duration::from_secs(10);

/// The heartbeats of all threads that serve.
#[derive(Clone)]
pub(super) struct Liveness {
    control: Arc<Heartbeat>,
    workers: Arc<[WorkerHeartbeat]>,
}

impl Liveness {
    pub(super) fn new(workers: Vec<WorkerHeartbeat>) -> Self {
        Self {
            control: Arc::new(Heartbeat::new()),
            workers: workers.into(),
        }
    }

    /// The control thread completes a turn.
    pub(super) fn beat(&self) {
        self.control.beat(monotonic());
    }

    /// When the slowest worker last did.
    pub(super) fn oldest(&self) -> Instant {
        let all = self.workers.iter().map(WorkerHeartbeat::last);
        all.min().unwrap_or_else(monotonic)
    }

    /// Whether all workers do.
    pub(super) fn has_workers(&self) -> bool {
        let now = monotonic();
        !self.workers.iter().any(|worker| worker.is_missed(now))
    }

    /// What is stuck, each a sentence; empty = nothing.
    pub(super) fn complaints(&self) -> Vec<String> {
        self.complaints_at(monotonic())
    }

    fn complaints_at(&self, now: Instant) -> Vec<String> {
        let control = (
            "the control thread".to_owned(),
            self.control.age(now),
            CONTROL,
        );
        let workers = self.workers.iter();
        let workers =
            workers.map(|heartbeat| (heartbeat.name.to_string(), heartbeat.age(now), MISSED));
        let threads = [control].into_iter().chain(workers);
        let stuck = threads.filter(|(_, age, limit)| age > limit);
        let sentence = |(name, age, _): (String, Duration, _)| {
            format!("{name} is stuck: no heartbeat for {} s", age.as_secs())
        };
        stuck.map(sentence).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_is_missed_after_its_own_time() {
        let at = |s: u64| Instant::from_secs(1_000 + s);
        let liveness = Liveness::new(vec![WorkerHeartbeat::test(0, 1, at(0))]);
        liveness.control.beat(at(0));
        assert!(liveness.complaints_at(at(4)).is_empty());
        let worker = "the worker is stuck: no heartbeat for 6 s";
        assert_eq!(liveness.complaints_at(at(6)), [worker]);
        let liveness = Liveness::new(vec![WorkerHeartbeat::test(0, 1, at(12))]);
        liveness.control.beat(at(0));
        let control = "the control thread is stuck: no heartbeat for 12 s";
        assert_eq!(liveness.complaints_at(at(12)), [control]);
    }

    #[test]
    fn of_several_workers_the_one_that_is_missed_is_named() {
        let at = |s: u64| Instant::from_secs(1_000 + s);
        let liveness = Liveness::new(vec![
            WorkerHeartbeat::test(0, 2, at(6)),
            WorkerHeartbeat::test(1, 2, at(0)),
        ]);
        liveness.control.beat(at(6));
        let second = "worker 1 is stuck: no heartbeat for 6 s";
        assert_eq!(liveness.complaints_at(at(6)), [second]);
    }
}
