//! What is done as time goes by, beside the frames: defences, drains, the sweep, and the servers' clocks.

mod defence;
mod drain;
mod sweep;
mod timers;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::flows::Flows;
use crate::snapshot::Sysctls;
use crate::time::Instant;
use defence::Defence;
use sweep::Sweep;
use timers::{Timer, Timers};

/// How often schedulers are told the time, as the kernel's lblc and lblcr look at theirs.
const SCHEDULER_TICK: Duration = Duration::from_secs(60);
/// How often what is known of servers' handshakes loses weight.
const HANDSHAKE_DECAY: Duration = Duration::from_secs(1);

/// What is under way, and when it goes on.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Upkeep {
    timers: Timers,
    defence: Defence,
    /// The search for connections whose server left, or whose client is denied.
    sweep: Sweep,
    /// Servers of weight 0.
    draining: Vec<u32>,
}

impl Upkeep {
    /// Nothing is under way.
    pub(super) fn new() -> Self {
        Self {
            timers: Timers::new(),
            defence: Defence::new(),
            sweep: Sweep::default(),
            draining: Vec::new(),
        }
    }

    /// A copy without the sweep, which goes over the table.
    pub(super) fn fork(&self) -> Self {
        let mut timers = self.timers.clone();
        timers.set(Timer::Sweep, None);
        Self {
            timers,
            defence: self.defence.clone(),
            sweep: Sweep::default(),
            draining: self.draining.clone(),
        }
    }

    /// When there is work, `None` while there is nothing to wait for.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.defence.is_at_work() {
            return Some(Instant::ZERO);
        }
        self.timers.next()
    }

    /// Time has come to `now`: servers move on.
    pub(super) fn pass(&mut self, now: Instant, flows: &mut Flows) {
        flows.advance_slow_starts(now);
        self.drain(now, flows);
        let timers = &mut self.timers;
        if timers.is_due(Timer::SchedulerTick, now, SCHEDULER_TICK) {
            flows.tick_schedulers(now);
        }
        if timers.is_due(Timer::HandshakeDecay, now, HANDSHAKE_DECAY) {
            flows.decay_handshakes(now);
        }
    }

    /// Takes changed sysctls up.
    pub(super) fn configure(&mut self, sysctls: &Sysctls) {
        if !self.defence.configure(sysctls) {
            self.timers.set(Timer::Defence, None);
        } else if self.timers.at(Timer::Defence).is_none() {
            self.timers.set(Timer::Defence, Some(Instant::ZERO));
        }
    }

    /// Whether TCP's states are tracked as secure_tcp's setting says for now.
    #[inline]
    pub(super) fn is_strict(&self, sysctls: &Sysctls) -> bool {
        self.defence.is_on(sysctls.secure_tcp)
    }

    /// Whether this new connection is one of those that drop_packet drops.
    pub(super) fn drops(&mut self) -> bool {
        self.defence.drops()
    }
}
