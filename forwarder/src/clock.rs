//! The clocks: the engine's own, and that of the ring's time stamps.

use rustix::time::{ClockId, clock_gettime};
use uvs_core::time::Instant;

/// CLOCK_MONOTONIC as the engine's time.
pub(crate) fn monotonic() -> Instant {
    Instant(nanoseconds(ClockId::Monotonic))
}

/// CLOCK_REALTIME, which the ring's time stamps are in.
pub(crate) fn realtime_ns() -> u64 {
    nanoseconds(ClockId::Realtime)
}

/// What a clock shows; neither shows a time before its zero.
fn nanoseconds(clock: ClockId) -> u64 {
    let t = clock_gettime(clock);
    t.tv_sec.cast_unsigned() * 1_000_000_000 + t.tv_nsec.cast_unsigned()
}
