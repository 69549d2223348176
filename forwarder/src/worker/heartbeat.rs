//! A thread's heartbeat, for others to read without asking it: a thread that is stuck answers nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use uvs_core::time::Instant;

use crate::clock::monotonic;

/// When a thread last came round. Each is alone in its cache lines (the CPU fetches them by pairs), so that one
/// thread's turns cost no other thread's anything.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Heartbeat(AtomicU64);

impl Heartbeat {
    /// Of a thread that begins now.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(monotonic().0))
    }

    /// The thread completes a turn.
    pub(crate) fn beat(&self, now: Instant) {
        self.0.store(now.0, Ordering::Relaxed);
    }

    /// When it last did.
    pub(crate) fn last(&self) -> Instant {
        Instant(self.0.load(Ordering::Relaxed))
    }

    /// How long ago that was.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.since(self.last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_ages_from_its_last_beat() {
        let heartbeat = Heartbeat::new();
        heartbeat.beat(Instant::from_secs(100));
        assert_eq!(
            heartbeat.age(Instant::from_secs(107)),
            Duration::from_secs(7)
        );
        heartbeat.beat(Instant::from_secs(107));
        let earlier = heartbeat.age(Instant::from_secs(106));
        assert_eq!(earlier, Duration::ZERO, "read before the beat");
    }
}
