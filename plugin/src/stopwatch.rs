//! How long a plugin's pick takes, and how much of that is its own doing.
//!
//! The first is two readings of a clock that needs no system call. But a pick may also be late because the host had
//! another thread run in the middle of it. What the thread itself has run, and whether it waited for something, only the
//! kernel knows, and must be asked before and after; that costs more than most picks, so it is for some of them.

#[cfg(not(miri))]
use std::mem::MaybeUninit;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A running measurement.
pub(crate) struct Stopwatch {
    began_ns: u64,
    /// Before the pick, where it is watched closely.
    before: Option<Usage>,
}

/// What the calling thread has had so far.
#[derive(Clone, Copy)]
struct Usage {
    cpu_ns: u64,
    /// How often it gave the CPU away to wait for something: a sleep, a lock, a disk.
    waits: i64,
}

impl Stopwatch {
    pub(crate) fn start(closely: bool) -> Self {
        let before = closely.then(Usage::now);
        Self {
            began_ns: now_ns(),
            before,
        }
    }

    pub(crate) const fn began_ns(&self) -> u64 {
        self.began_ns
    }

    /// Nanoseconds since the start.
    pub(crate) fn elapsed_ns(&self) -> u64 {
        now_ns().saturating_sub(self.began_ns)
    }

    /// What is the pick's own of these nanoseconds that it took: all, where it waited for something, and otherwise what it
    /// had of the CPU. `None` where it was not watched closely.
    pub(crate) fn own(&self, elapsed_ns: u64) -> Option<Duration> {
        let (before, after) = (self.before?, Usage::now());
        let own = if after.waits == before.waits {
            after.cpu_ns.saturating_sub(before.cpu_ns).min(elapsed_ns)
        } else {
            elapsed_ns
        };
        Some(Duration::from_nanos(own))
    }
}

impl Usage {
    /// Miri has no such kernel to ask, and is so slow that no pick would be in time.
    #[cfg(miri)]
    const fn now() -> Self {
        Self {
            cpu_ns: 0,
            waits: 0,
        }
    }

    #[cfg(not(miri))]
    fn now() -> Self {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the kernel writes one `rusage` to where it is told, or nothing.
        unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
        // SAFETY: numbers only, for which zeros are a value too.
        let usage = unsafe { usage.assume_init() };
        Self {
            cpu_ns: nanoseconds(ClockId::ThreadCPUTime),
            waits: usage.ru_nvcsw,
        }
    }
}

/// CLOCK_MONOTONIC.
pub(crate) fn now_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let t = clock_gettime(clock);
    t.tv_sec.cast_unsigned() * 1_000_000_000 + t.tv_nsec.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_its_own_doing() {
        let watch = Stopwatch::start(true);
        std::thread::sleep(Duration::from_millis(20));
        let elapsed = watch.elapsed_ns();
        assert!(elapsed >= 20_000_000, "{elapsed}");
        assert_eq!(watch.own(elapsed), Some(Duration::from_nanos(elapsed)));
    }

    #[test]
    fn without_a_wait_it_is_what_the_thread_had_of_the_cpu() {
        let watch = Stopwatch::start(true);
        let until = nanoseconds(ClockId::ThreadCPUTime) + 5_000_000;
        while nanoseconds(ClockId::ThreadCPUTime) < until {}
        let own = watch.own(u64::MAX).expect("watched closely");
        assert!(own >= Duration::from_millis(5), "{own:?}");
        // An hour passed by, by somebody else's clock; a test that was woken from a wait knows no better.
        assert!(own < Duration::from_secs(3600) || own == Duration::from_nanos(u64::MAX));
        assert_eq!(watch.own(1000), Some(Duration::from_nanos(1000)));
    }

    #[test]
    fn unless_it_is_watched_closely_nobody_can_tell() {
        assert_eq!(Stopwatch::start(false).own(1_000_000_000), None);
    }
}
