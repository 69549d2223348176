//! When what is due: one deadline for each kind of upkeep.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Instant;

/// What is done when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// A drain begins or times out.
    Drain,
    /// The sweep may tell ends of connections again.
    Sweep,
    /// The defences' level is set, and a share of the table looked at.
    Defence,
    /// Servers of weight 0 are looked at.
    DrainLook,
    /// Schedulers are told the time.
    SchedulerTick,
    /// What is known of servers' handshakes loses weight.
    HandshakeDecay,
}

impl Timer {
    const COUNT: usize = Self::HandshakeDecay as usize + 1;
    /// Those that are a reason to wake up. The others wait until there is another one: where no frame
    /// comes and no connection expires, nothing depends on them.
    const WAKING: [Self; 3] = [Self::Drain, Self::Sweep, Self::Defence];
}

/// The next time of each timer, `None` while it is not set.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Timers([Option<Instant>; Timer::COUNT]);

impl Timers {
    /// Those that always go round are due at once, the others not set.
    pub(super) fn new() -> Self {
        let mut timers = Self([None; Timer::COUNT]);
        for timer in [
            Timer::DrainLook,
            Timer::SchedulerTick,
            Timer::HandshakeDecay,
        ] {
            timers.set(timer, Some(Instant::ZERO));
        }
        timers
    }

    pub(super) fn set(&mut self, timer: Timer, at: Option<Instant>) {
        self.0[timer as usize] = at;
    }

    pub(super) fn at(&self, timer: Timer) -> Option<Instant> {
        self.0[timer as usize]
    }

    /// Whether a timer's time has come; it is set to come again after `period`.
    pub(super) fn is_due(&mut self, timer: Timer, now: Instant, period: Duration) -> bool {
        let due = self.at(timer).is_some_and(|at| at <= now);
        if due {
            self.set(timer, Some(now + period));
        }
        due
    }

    /// The next time that is a reason to wake up.
    pub(super) fn next(&self) -> Option<Instant> {
        let times = Timer::WAKING.into_iter().filter_map(|timer| self.at(timer));
        times.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_that_wakes_is_next_and_a_due_timer_goes_round() {
        let second = Instant::from_secs;
        let mut timers = Timers::new();
        assert_eq!(timers.next(), None, "what always goes round wakes nobody");
        timers.set(Timer::Drain, Some(second(5)));
        timers.set(Timer::Defence, Some(second(3)));
        assert_eq!(timers.next(), Some(second(3)));
        let period = Duration::from_secs(10);
        assert!(!timers.is_due(Timer::Defence, second(2), period));
        assert!(timers.is_due(Timer::Defence, second(4), period));
        assert_eq!(timers.at(Timer::Defence), Some(second(14)));
        assert_eq!(timers.next(), Some(second(5)));
        timers.set(Timer::Drain, None);
        assert!(!timers.is_due(Timer::Drain, second(100), period));
        assert_eq!(timers.next(), Some(second(14)));
    }
}
