//! Slow start: a server that is new, or had weight 0, comes to its weight over the time its service gives.
//!
//! A server of weight `w` counts for `w · t / T` when `t` of the time `T` has passed since it came, and gets
//! no more of the new connections than that share of all servers' weights. Schedulers need not know: as
//! long as a server has had its share it is shown to them as overloaded. That works for those that look at
//! weights, at load, or at neither. (A scaled weight would not: rr and lc ignore weights, ovf and lblc
//! compare them with counts, and wrr starts its round again with each change.)
//!
//! Nobody is held back where no available server has come to its weight: a service that has just been made
//! has none to lean on. The linear growth is nginx's (`slow_start`) and Envoy's default.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::time::Instant;

/// Connections a server may be behind its share; more are lost to it, so that they do not come in a burst.
const MOST_CREDIT: f64 = 2.0;

/// The servers of one service that are on their way.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct SlowStart {
    time: Duration,
    /// By the server's id.
    ramps: BTreeMap<u64, Ramp>,
    /// Indices of those held back from the pick at hand.
    held: Vec<usize>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ramp {
    /// What the service gave when the server came.
    time: Duration,
    /// Unknown until the engine is next told the time.
    since: Option<Instant>,
    /// Connections it may take.
    credit: f64,
}

impl SlowStart {
    /// Sets the time for servers that come from now on; 0 lets all have their weight at once.
    pub(super) fn set_time(&mut self, seconds: u32) {
        self.time = Duration::from_secs(u64::from(seconds));
        if seconds == 0 {
            self.ramps.clear();
        }
    }

    /// A server's weight was set: it begins where it had none before, and stops where it has none now.
    pub(super) fn weight_set(&mut self, id: u64, before: u32, now: u32) {
        if now == 0 {
            self.ramps.remove(&id);
        } else if before == 0 && !self.time.is_zero() {
            let ramp = Ramp {
                time: self.time,
                since: None,
                credit: 0.0,
            };
            self.ramps.insert(id, ramp);
        }
    }

    /// A server was removed.
    pub(super) fn removed(&mut self, id: u64) {
        self.ramps.remove(&id);
    }

    /// Time goes on: those that just came begin now, those that have come to their weight are done.
    pub(super) fn advance(&mut self, now: Instant) {
        self.ramps
            .retain(|_, ramp| now.since(*ramp.since.get_or_insert(now)) < ramp.time);
    }

    /// Whether a server is on its way.
    pub(super) fn is_under_way(&self) -> bool {
        !self.ramps.is_empty()
    }

    /// Marks the servers that have had their share as overloaded, for one pick.
    pub(super) fn hold_back(&mut self, now: Instant, backends: &mut [Backend]) {
        if self.ramps.is_empty() {
            return;
        }
        self.advance(now);
        if !self.is_felt(backends) {
            return;
        }
        let available = || backends.iter().filter(|b| b.is_available());
        let all: f64 = available().map(|b| self.weight(now, b)).sum();
        for (i, backend) in backends.iter_mut().enumerate() {
            let share = self.weight(now, backend) / all;
            let Some(ramp) = self.ramps.get_mut(&backend.id) else {
                continue;
            };
            if !backend.is_available() {
                continue;
            }
            ramp.credit = (ramp.credit + share).min(MOST_CREDIT);
            if ramp.credit < 1.0 {
                backend.flags |= Backend::OVERLOADED;
                self.held.push(i);
            }
        }
    }

    /// Whether a server is held back from the pick at hand.
    pub(super) fn holds(&self, index: usize) -> bool {
        self.held.contains(&index)
    }

    /// Takes the marks away; whether there were any.
    pub(super) fn let_go(&mut self, backends: &mut [Backend]) -> bool {
        let any = !self.held.is_empty();
        for i in self.held.drain(..) {
            backends[i].flags &= !Backend::OVERLOADED;
        }
        any
    }

    /// A server was picked.
    pub(super) fn charge(&mut self, id: u64) {
        if let Some(ramp) = self.ramps.get_mut(&id) {
            ramp.credit = (ramp.credit - 1.0).max(0.0);
        }
    }

    /// What a server counts for now, where that is less than its weight.
    pub(super) fn reduced(&self, now: Instant, b: &Backend, all: &[Backend]) -> Option<f64> {
        (self.ramps.contains_key(&b.id) && self.is_felt(all)).then(|| self.weight(now, b))
    }

    fn weight(&self, now: Instant, backend: &Backend) -> f64 {
        let weight = f64::from(backend.weight);
        match self.ramps.get(&backend.id) {
            Some(ramp) => {
                let passed = ramp.since.map_or(Duration::ZERO, |since| now.since(since));
                weight * passed.as_secs_f64() / ramp.time.as_secs_f64()
            }
            None => weight,
        }
    }

    /// Whether an available server has its whole weight.
    fn is_felt(&self, backends: &[Backend]) -> bool {
        let mut whole = backends
            .iter()
            .filter(|b| b.is_available() && !self.ramps.contains_key(&b.id));
        whole.next().is_some()
    }
}
