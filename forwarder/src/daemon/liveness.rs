//! Whether the daemon's threads are alive, as the metrics' thread and systemd are told. It is read, never asked
//! for: a control thread that is stuck answers nobody.

use std::sync::Arc;
use std::time::Duration;

use uvs_control::plugins::Schedulers;
use uvs_core::time::Instant;

use crate::clock::monotonic;
use crate::worker::Heartbeat;
use crate::workers::{MISSED, WorkerHeartbeat};

/// The control thread wakes every two seconds; putting a great table in force takes it some.
const CONTROL: Duration = Duration::from_secs(10);
/// Where a thread is stuck, a plugin's function that has not returned for so long is named.
const PLUGIN: Duration = Duration::from_secs(1);

/// The heartbeats of all threads that serve.
#[derive(Clone)]
pub(super) struct Liveness {
    control: Arc<Heartbeat>,
    workers: Arc<[WorkerHeartbeat]>,
    schedulers: Arc<Schedulers>,
    /// The log has what is stuck.
    told: bool,
}

impl Liveness {
    pub(super) fn new(workers: Vec<WorkerHeartbeat>, schedulers: Arc<Schedulers>) -> Self {
        Self {
            control: Arc::new(Heartbeat::new()),
            workers: workers.into(),
            schedulers,
            told: false,
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

    /// What is stuck, each a sentence, and the plugins that it may be stuck in; empty = nothing.
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
        let mut complaints: Vec<String> = stuck.map(sentence).collect();
        if !complaints.is_empty() {
            complaints.extend(self.schedulers.unreturned(PLUGIN));
        }
        complaints
    }

    /// Logs what is stuck, when it begins and when it is over; returns what has just begun.
    pub(super) fn tell(&mut self) -> Option<String> {
        let complaints = self.complaints();
        let before = std::mem::replace(&mut self.told, !complaints.is_empty());
        if before == self.told {
            return None;
        }
        if complaints.is_empty() {
            tracing::info!("no thread is stuck any more");
            return None;
        }
        for complaint in &complaints {
            tracing::error!("{complaint}");
        }
        Some(complaints.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(workers: Vec<WorkerHeartbeat>) -> Liveness {
        Liveness::new(workers, Arc::default())
    }

    #[test]
    fn each_thread_is_missed_after_its_own_time() {
        let at = |s: u64| Instant::from_secs(1_000 + s);
        let liveness = of(vec![WorkerHeartbeat::test(0, 1, at(0))]);
        liveness.control.beat(at(0));
        assert!(liveness.complaints_at(at(4)).is_empty());
        let worker = "the worker is stuck: no heartbeat for 6 s";
        assert_eq!(liveness.complaints_at(at(6)), [worker]);
        let liveness = of(vec![WorkerHeartbeat::test(0, 1, at(12))]);
        liveness.control.beat(at(0));
        let control = "the control thread is stuck: no heartbeat for 12 s";
        assert_eq!(liveness.complaints_at(at(12)), [control]);
    }

    #[test]
    fn of_several_workers_the_one_that_is_missed_is_named() {
        let at = |s: u64| Instant::from_secs(1_000 + s);
        let liveness = of(vec![
            WorkerHeartbeat::test(0, 2, at(6)),
            WorkerHeartbeat::test(1, 2, at(0)),
        ]);
        liveness.control.beat(at(6));
        let second = "worker 1 is stuck: no heartbeat for 6 s";
        assert_eq!(liveness.complaints_at(at(6)), [second]);
    }
}
