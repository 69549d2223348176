//! The other directors: what they are told of connections, and what they have told.

use super::Engine;
use super::flows::Destination;
use crate::flow::{Flow, Protocol};
use crate::peer::{NotTakenUp, TakenUp, Told};
use crate::service::TunnelKind;
use crate::time::Instant;
use crate::trace::Recorder;

impl<R: Recorder> Engine<R> {
    /// What other directors are to be told since this was asked last, and how much more there was than is kept.
    pub fn take_told(&mut self) -> (Vec<Told>, u64) {
        self.flows.take_told()
    }

    /// All that other directors are told of, for one that asks: the connections and templates from place `from` on, at
    /// most `max` places looked at, and where to go on. Nothing while they are told nothing.
    pub fn tell_all(&self, now: Instant, from: u32, max: u32) -> (Vec<Told>, Option<u32>) {
        self.flows.tell_all(now, from, max)
    }

    /// How many connections and templates other directors have told of.
    pub fn taken_up(&self) -> u32 {
        self.flows.table().told()
    }

    /// Takes up a connection or template that another director has told of. It goes on with its next packet as if
    /// it had been made here, to its server where that is known, else as it was told.
    ///
    /// # Errors
    /// Why it is not; nothing is changed.
    pub fn take_up(&mut self, now: Instant, told: &TakenUp) -> Result<(), NotTakenUp> {
        // A tunnel's kind is not told: that of an unknown server is the first there was.
        let mode = |method| self.catalog.mode_for(method, TunnelKind::Ipip);
        let protocol = told.protocol.unwrap_or(Protocol::Tcp);
        let flow = Flow::new(protocol, told.client, told.vip);
        let to = Destination {
            slot: self.desired.service_for(&flow, told.mark, &self.routes.fib),
            mode: told.method.and_then(mode),
        };
        let timeouts = self.desired.timeouts();
        let taken = self.flows.take_up(now, told, &to, timeouts);
        if taken.is_ok()
            && !told.template
            && let Some((id, _)) = self.flows.find(&flow)
        {
            self.note_come(id);
        }
        // What is known better is not refused.
        let refused = taken.is_err_and(|why| why != NotTakenUp::Older);
        self.counters.not_taken_up += u64::from(refused);
        taken
    }
}
