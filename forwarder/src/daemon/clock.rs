//! What happens every two seconds: the kernel's estimator, and the control thread's own rounds.

use std::time::{Duration, Instant};

/// As `net/netfilter/ipvs/ip_vs_est.c`.
const PERIOD: Duration = Duration::from_secs(2);

/// The end of the running period, and thereby of all to come.
#[derive(Debug)]
pub struct Clock {
    next: Instant,
}

impl Clock {
    /// The first period begins now.
    pub fn new(now: Instant) -> Self {
        Self { next: now + PERIOD }
    }

    /// Puts this moment in the middle of a period.
    ///
    /// The kernel's estimator runs from the creation of the network namespace, so that the first service
    /// comes at any moment of a period, half-way on average. UVS's is always half-way: what a script reads
    /// some seconds after it has filled the table is then the same each time.
    pub fn half_way(&mut self, now: Instant) {
        self.next = now + PERIOD / 2;
    }

    /// How long the running period still takes.
    pub(crate) fn left(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }

    /// Whether a period has ended; each is reported once, even when checked late.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let struck = now >= self.next;
        if struck {
            self.next += PERIOD;
        }
        struck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_strikes_once_a_period_and_catches_up() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut clock = Clock::new(start);
        assert_eq!(clock.left(at(500)), Duration::from_millis(1500));
        let struck = [0, 1999, 2000, 2001, 6500, 6500, 6500].map(|ms| clock.is_due(at(ms)));
        assert_eq!(struck, [false, false, true, false, true, true, false]);
        assert_eq!(clock.left(at(9000)), Duration::ZERO);
    }

    #[test]
    fn half_way_there_is_a_second_left() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        let filled = start + Duration::from_millis(1900);
        clock.half_way(filled);
        let struck =
            [0, 999, 1000, 2999, 3000].map(|ms| clock.is_due(filled + Duration::from_millis(ms)));
        assert_eq!(struck, [false, false, true, false, true]);
    }
}
