//! The clocks: the engine's own, and that of the ring's time stamps.

use uvs_core::time::Instant;

/// CLOCK_MONOTONIC as the engine's time.
pub(crate) fn monotonic() -> Instant {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Instant(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64)
}

/// CLOCK_REALTIME, which the ring's time stamps are in.
pub(super) fn realtime_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}
