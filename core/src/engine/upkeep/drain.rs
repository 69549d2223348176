//! Real servers of weight 0: when their drain began, is over, or timed out.
//!
//! A drain is over when none of the server's connections is open any more. It times out when its service's
//! time for it is over; the sweep then ends those that are left.

use std::time::Duration;

use super::{Timer, Upkeep};
use crate::engine::flows::{EventKind, Flows};
use crate::time::Instant;

/// How often servers of weight 0 are looked at.
const LOOK: Duration = Duration::from_millis(100);

impl Upkeep {
    /// Notes which of these servers, in order, have weight 0; nothing else has changed since this was asked last. When
    /// they began is noted with the next [`Upkeep::pass`].
    pub(in crate::engine) fn note_drains(&mut self, flows: &mut Flows, touched: &[u32]) {
        if touched.is_empty() {
            return;
        }
        self.draining
            .retain(|place| touched.binary_search(place).is_err());
        let draining = touched.iter().filter(|place| flows.note_drain(**place));
        self.draining.extend(draining);
        self.timers.set(Timer::DrainLook, Some(Instant::ZERO));
        self.set_drain_timer(Instant::ZERO, flows);
    }

    /// Looks at the servers of weight 0.
    pub(super) fn drain(&mut self, now: Instant, flows: &mut Flows) {
        if !self.timers.is_due(Timer::DrainLook, now, LOOK) {
            return;
        }
        let mut timed_out = false;
        for place in &self.draining {
            let happened = flows.drain(now, *place);
            timed_out |= matches!(happened, Some(EventKind::TimedOut(_)));
        }
        if timed_out {
            self.begin_sweep(flows, false);
        }
        self.set_drain_timer(now + LOOK, flows);
    }

    /// Servers are looked at from `look` on: when the next drain has to begin or time out then.
    fn set_drain_timer(&mut self, look: Instant, flows: &Flows) {
        let times = self.draining.iter().filter_map(|p| flows.next_drain(*p));
        let next = times.min().map(|at| at.max(look));
        self.timers.set(Timer::Drain, next);
    }
}
