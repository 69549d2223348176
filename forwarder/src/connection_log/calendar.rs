//! The engine's instants as dates: one pair of readings of both clocks, and RFC 3339.

use std::time::{Duration, SystemTime};

use uvs_core::time::Instant;

use crate::clock::monotonic;

/// What day an instant of the monotonic clock is. Where the wall clock is set, all instants move with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calendar {
    monotonic: Instant,
    /// Since 1970.
    wall: Duration,
}

impl Calendar {
    /// By the clocks as they are now.
    pub(super) fn now() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            monotonic: monotonic(),
            wall: wall.unwrap_or_default(),
        }
    }

    /// Where an instant is so many milliseconds after 1970.
    #[cfg(test)]
    pub(super) const fn test(monotonic: Instant, ms: u64) -> Self {
        Self {
            monotonic,
            wall: Duration::from_millis(ms),
        }
    }

    /// An instant in UTC with milliseconds, as RFC 3339 §5.6 has it.
    pub(super) fn date(self, at: Instant) -> String {
        let wall = match at > self.monotonic {
            true => self.wall + at.since(self.monotonic),
            false => self.wall.saturating_sub(self.monotonic.since(at)),
        };
        let (days, second) = (wall.as_secs() / DAY, wall.as_secs() % DAY);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let ms = wall.subsec_millis();
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
}

const DAY: u64 = 86_400;

/// Year, month and day of the day so many after 1970-01-01: by years that begin in March, so that a leap day is the last
/// (Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
const fn civil(days: u64) -> (u64, u64, u64) {
    /// Days of 400 years, after which the calendar repeats itself.
    const ERA: u64 = 146_097;
    /// From 0000-03-01 to 1970-01-01.
    const EPOCH: u64 = 719_468;
    let days = days + EPOCH;
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let year = year + era * 400;
    match month < 10 {
        true => (year, month + 3, day_of_month),
        false => (year + 1, month - 9, day_of_month),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (19_782, (2024, 2, 29)),
            (20_454, (2026, 1, 1)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil(days), date);
        }
    }

    #[test]
    fn an_instant_before_and_after_the_readings_has_its_date() {
        let calendar = Calendar::test(Instant::from_millis(10_000), 1_767_225_599_900);
        let at = |ms| calendar.date(Instant::from_millis(ms));
        assert_eq!(at(10_000), "2025-12-31T23:59:59.900Z");
        assert_eq!(at(10_101), "2026-01-01T00:00:00.001Z");
        assert_eq!(at(8_899), "2025-12-31T23:59:58.799Z");
    }
}
