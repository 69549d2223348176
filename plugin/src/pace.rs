//! Whether a plugin keeps to its budget of time, and when a late pick is its fault.
//!
//! One late pick says little: the host may have had other things to do. So a late pick is a fault where it was watched
//! closely and the time was the plugin's own ([`Stopwatch::own`]), and a plugin is watched closely for its first picks and
//! for those after a late one. Where all of these are in time, what was late before them is forgiven: it is a plugin that is
//! slow again and again which is to lose its service, not one that was slow ten times in a year.

use std::time::Duration;

use crate::fault::Fault;
use crate::stopwatch::Stopwatch;

/// Picks that are watched closely, and that forgive what was late before them.
const CLOSELY: u32 = 1000;

/// A plugin's pace at one service.
pub(crate) struct Pace {
    /// Picks that are still to be watched closely.
    closely: u32,
    /// Late picks that are not forgiven.
    late: u32,
    /// Picks over the budget, whoever was to blame.
    pub(crate) over_budget: u64,
}

impl Pace {
    pub(crate) const fn new() -> Self {
        Self {
            closely: CLOSELY,
            late: 0,
            over_budget: 0,
        }
    }

    /// Another plugin, or another try: what was is forgiven, and is told all the same.
    pub(crate) const fn begin_anew(&mut self) {
        self.closely = CLOSELY;
        self.late = 0;
    }

    /// Late picks that count as faults.
    pub(crate) const fn late(&self) -> u32 {
        self.late
    }

    /// Starts to measure a pick.
    pub(crate) fn start(&self) -> Stopwatch {
        Stopwatch::start(self.closely > 0)
    }

    /// Judges a pick that took so long; a budget of 0 is none.
    pub(crate) fn judge(
        &mut self,
        watch: &Stopwatch,
        took_ns: u64,
        budget: Duration,
    ) -> Option<Fault> {
        let took = Duration::from_nanos(took_ns);
        if budget.is_zero() || took <= budget {
            self.in_time();
            return None;
        }
        let own = watch.own(took_ns);
        self.closely = CLOSELY;
        self.over_budget += 1;
        let took = own.filter(|own| *own > budget)?;
        self.late = self.late.saturating_add(1);
        Some(Fault::Slow { took, budget })
    }

    fn in_time(&mut self) {
        if self.closely == 0 {
            return;
        }
        self.closely -= 1;
        if self.closely == 0 {
            self.late = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_millis(1);
    const IN_TIME: u64 = 1_000_000;

    /// A pick that did nothing but wait.
    fn waited(pace: &mut Pace) -> Option<Fault> {
        let watch = pace.start();
        std::thread::sleep(2 * BUDGET);
        pace.judge(&watch, watch.elapsed_ns(), BUDGET)
    }

    /// A pick that did nothing, and was kept from its end by others.
    fn delayed(pace: &mut Pace) -> Option<Fault> {
        loop {
            let watch = pace.start();
            if watch.own(u64::MAX).is_none_or(|own| own < BUDGET) {
                return pace.judge(&watch, 2 * IN_TIME, BUDGET);
            }
        }
    }

    fn in_time(pace: &mut Pace, picks: u32) {
        for _ in 0..picks {
            let watch = pace.start();
            assert!(pace.judge(&watch, IN_TIME, BUDGET).is_none());
        }
    }

    #[test]
    fn its_own_time_is_a_fault_and_others_time_is_none() {
        let mut pace = Pace::new();
        let Some(Fault::Slow { took, budget }) = waited(&mut pace) else {
            panic!("no fault");
        };
        assert!(took >= 2 * BUDGET && budget == BUDGET, "{took:?}");
        assert_eq!((pace.late(), pace.over_budget), (1, 1));
        assert_eq!(delayed(&mut pace), None);
        assert_eq!((pace.late(), pace.over_budget), (1, 2));
    }

    #[test]
    fn a_thousand_picks_in_time_forgive() {
        let mut pace = Pace::new();
        waited(&mut pace);
        in_time(&mut pace, CLOSELY - 1);
        assert_eq!(pace.late(), 1);
        waited(&mut pace);
        in_time(&mut pace, CLOSELY - 1);
        assert_eq!(pace.late(), 2, "they are counted from the last late one");
        in_time(&mut pace, 1);
        assert_eq!((pace.late(), pace.over_budget), (0, 2));
    }

    #[test]
    fn one_late_pick_among_many_is_looked_at_and_no_fault_yet() {
        let mut pace = Pace::new();
        in_time(&mut pace, CLOSELY);
        assert_eq!(waited(&mut pace), None, "nobody can tell whose time it was");
        assert!(waited(&mut pace).is_some(), "but of the next");
        assert_eq!((pace.late(), pace.over_budget), (1, 2));
    }

    #[test]
    fn without_a_budget_nothing_is_late() {
        let mut pace = Pace::new();
        let watch = pace.start();
        assert_eq!(pace.judge(&watch, u64::MAX, Duration::ZERO), None);
        assert_eq!(pace.over_budget, 0);
    }
}
