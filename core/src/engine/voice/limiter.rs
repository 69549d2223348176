//! A token bucket.

use serde::{Deserialize, Serialize};

use crate::time::Instant;

/// Limits what is said, per second.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::engine) struct Limiter {
    ns_per_token: u64,
    burst: u32,
    tokens: u32,
    refilled: Instant,
}

impl Limiter {
    /// One that allows `burst` at once, and so many per second.
    pub(super) const fn new(per_second: u64, burst: u32) -> Self {
        Self {
            ns_per_token: 1_000_000_000 / per_second,
            burst,
            tokens: burst,
            refilled: Instant::ZERO,
        }
    }

    /// When it allows as many as at once again, where it does not allow one now.
    pub(in crate::engine) fn next(&self) -> Instant {
        if self.tokens > 0 {
            return Instant::ZERO;
        }
        Instant(self.refilled.0 + self.ns_per_token * u64::from(self.burst))
    }

    /// Whether one more is allowed; it then counts.
    pub(in crate::engine) fn allows(&mut self, now: Instant) -> bool {
        let new = now.0.saturating_sub(self.refilled.0) / self.ns_per_token;
        if new > 0 {
            self.tokens = self.burst.min(
                self.tokens
                    .saturating_add(u32::try_from(new).unwrap_or(u32::MAX)),
            );
            self.refilled = now;
        }
        if self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }
}
