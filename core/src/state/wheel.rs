//! The timer wheel of the connection table: lists of connections by the tick in which they are due.

use serde::{Deserialize, Serialize};

use crate::time::Instant;

/// No connection, no server: the null of 32-bit references.
pub const NONE: u32 = u32::MAX;

/// A timer wheel of lists through the connections; deadlines beyond its span wait in its last slot.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Wheel {
    /// The first of each slot's list.
    pub(crate) heads: Box<[u32]>,
    /// The tick whose slot is being emptied.
    tick: u64,
}

impl Wheel {
    /// Length of a tick: expiry is late by at most this.
    pub(crate) const TICK_NS: u64 = 250_000_000;
    /// Slots: 1024 s, so that ESTABLISHED's 900 s fit.
    const SLOTS: u64 = 4096;

    pub(crate) fn new() -> Self {
        Self {
            heads: (0..Self::SLOTS).map(|_| NONE).collect(),
            tick: 0,
        }
    }

    /// Begins at `now`: an empty wheel need not be turned to it.
    pub(crate) fn start(&mut self, now: Instant) {
        self.tick = now.0 / Self::TICK_NS;
    }

    /// The slot for a deadline: that of the first tick that begins after it, within the span.
    pub(crate) fn slot_of(&mut self, now: Instant, deadline: Instant) -> u16 {
        let earliest = self.tick.max(now.0 / Self::TICK_NS) + 1;
        let latest = self.tick + Self::SLOTS - 1;
        let tick = (deadline.0 / Self::TICK_NS + 1).max(earliest).min(latest);
        (tick % Self::SLOTS) as u16
    }

    /// Whether the turn of a deadline's slot has come.
    pub(crate) const fn has_come(&self, deadline: Instant) -> bool {
        deadline.0 / Self::TICK_NS < self.tick
    }

    /// A connection in the current slot.
    pub(crate) fn due(&self, now: Instant) -> Option<u32> {
        let id = self.heads[(self.tick % Self::SLOTS) as usize];
        (id != NONE && self.tick <= now.0 / Self::TICK_NS).then_some(id)
    }

    /// Goes on to the next slot, `None` where `now` has not reached it.
    pub(crate) fn advance(&mut self, now: Instant) -> Option<()> {
        let current = now.0 / Self::TICK_NS;
        if self.tick >= current {
            return None;
        }
        self.tick += 1;
        Some(())
    }

    pub(crate) fn next_turn(&self) -> Instant {
        Instant((self.tick + 1) * Self::TICK_NS)
    }
}
