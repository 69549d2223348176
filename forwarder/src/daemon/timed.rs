//! How long schedulers take: a scheduler around a scheduler, so that neither the engine nor the algorithms
//! know of the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::plugins::PluginNumbers;
use uvs_core::scheduler::{Fork, Scheduler};
use uvs_core::time::Instant;
use uvs_exporter::{Histogram, SCHEDULE_BOUNDS};

use crate::clock::monotonic;

/// What a worker's schedulers took. Written by the worker, read by the control thread, without a lock, and alone
/// in its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Times {
    counts: [AtomicU64; SCHEDULE_BOUNDS.len()],
    count: AtomicU64,
    sum_ns: AtomicU64,
}

impl Times {
    fn record(&self, ns: u64) {
        let seconds = ns as f64 / 1e9;
        if let Some(bucket) = SCHEDULE_BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Those that go on from what [`counted`] has told.
    pub(super) fn going_on((counts, count, sum_ns): &(Vec<u64>, u64, u64)) -> Self {
        let times = Self::default();
        for (to, from) in times.counts.iter().zip(counts) {
            to.store(*from, Ordering::Relaxed);
        }
        times.count.store(*count, Ordering::Relaxed);
        times.sum_ns.store(*sum_ns, Ordering::Relaxed);
        times
    }
}

/// What the schedulers of all workers took: by bucket, in all, and nanoseconds together.
pub(super) fn counted(all: &[Arc<Times>]) -> (Vec<u64>, u64, u64) {
    let sum = |read: &dyn Fn(&Times) -> &AtomicU64| {
        let each = all.iter().map(|times| read(times).load(Ordering::Relaxed));
        each.sum::<u64>()
    };
    let counts: Vec<u64> = (0..SCHEDULE_BOUNDS.len())
        .map(|bucket| sum(&|times| &times.counts[bucket]))
        .collect();
    // A record may fall between the readings; the total is never less than its parts.
    let count = sum(&|times| &times.count).max(counts.iter().sum());
    (counts, count, sum(&|times| &times.sum_ns))
}

/// What the schedulers of all workers took.
pub(super) fn histogram(all: &[Arc<Times>]) -> Histogram {
    let (counts, count, sum_ns) = counted(all);
    Histogram {
        bounds: SCHEDULE_BOUNDS.to_vec(),
        counts,
        count,
        sum: sum_ns as f64 / 1e9,
    }
}

/// A scheduler whose decisions are timed.
pub(super) struct Timed {
    inner: Box<dyn Scheduler>,
    times: Arc<Times>,
}

impl Timed {
    pub(super) fn new(inner: Box<dyn Scheduler>, times: &Arc<Times>) -> Self {
        let times = Arc::clone(times);
        Self { inner, times }
    }
}

impl Scheduler for Timed {
    fn backends_changed(&mut self, backends: &[Backend]) {
        self.inner.backends_changed(backends);
    }

    fn state(&self) -> Vec<u64> {
        self.inner.state()
    }

    fn resume(&mut self, state: &[u64]) {
        self.inner.resume(state);
    }

    fn pick(&mut self, flow: &Flow, backends: &[Backend]) -> Option<usize> {
        let before = monotonic();
        let picked = self.inner.pick(flow, backends);
        let took = monotonic().since(before);
        self.times
            .record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        picked
    }

    fn tick(&mut self, now: Instant) {
        self.inner.tick(now);
    }

    fn weighs_handshakes(&self) -> bool {
        self.inner.weighs_handshakes()
    }

    fn numbers(&self) -> Option<PluginNumbers> {
        self.inner.numbers()
    }

    fn is_consistent(&self) -> bool {
        self.inner.is_consistent()
    }

    /// Not timed: a dry run is none of the data path's decisions.
    fn fork(&self) -> Fork {
        self.inner.fork()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::flow::{Addr, Endpoint, Protocol};

    /// Picks as many as it has heard of sets and ticks.
    struct Calls(usize);

    impl Scheduler for Calls {
        fn backends_changed(&mut self, _: &[Backend]) {
            self.0 += 1;
        }

        fn pick(&mut self, _: &Flow, _: &[Backend]) -> Option<usize> {
            Some(self.0)
        }

        fn tick(&mut self, _: Instant) {
            self.0 += 10;
        }
    }

    #[test]
    fn a_timed_scheduler_chooses_as_it_would_and_is_counted() {
        let times = Arc::new(Times::default());
        let mut timed = Timed::new(Box::new(Calls(0)), &times);
        timed.backends_changed(&[]);
        timed.tick(Instant::ZERO);
        let end = Endpoint::new(Addr::v4([10, 0, 0, 1]), 80);
        let flow = Flow::new(Protocol::Tcp, end, end);
        assert_eq!(timed.pick(&flow, &[]), Some(11), "every call reaches it");
        assert_eq!(histogram(&[times]).count, 1);
    }

    #[test]
    fn what_is_above_all_bounds_is_only_in_the_total() {
        let workers = [(); 2].map(|()| Arc::new(Times::default()));
        workers[0].record(50);
        workers[1].record(20_000_000);
        let h = histogram(&workers);
        assert_eq!(
            (h.counts[0], h.counts.iter().sum::<u64>(), h.count),
            (1, 1, 2)
        );
        assert!((h.sum - 0.020_000_05).abs() < 1e-9);
    }
}
