//! Ends connections whose server releases them, or whose client is denied: a walk round the table, a
//! share of it a call and as fast as the connections' ends may be told.

use super::Engine;
use super::drain::Happened;
use super::farewell;
use super::servers::Server;
use crate::backend::Backend;
use crate::conn::{self, Conn, ConnId, NONE};
use crate::flow::Protocol;
use crate::outbox::Outbox;
use crate::service::OnRemoval;
use crate::time::Instant;
use crate::trace::Recorder;

/// A walk round the table.
#[derive(Default)]
pub(super) struct Sweep {
    /// The next place.
    at: u32,
    /// Places that are still to be looked at.
    left: u32,
}

impl Sweep {
    /// Goes round twice from here: templates wait until what they control has ended.
    pub(super) fn begin(&mut self, places: u32) {
        self.left = 2 * places;
    }

    pub(super) const fn is_over(&self) -> bool {
        self.left == 0
    }

    fn step(&mut self, places: u32) {
        self.left -= 1;
        self.at = if self.at + 1 < places { self.at + 1 } else { 0 };
    }
}

impl<R: Recorder> Engine<R> {
    /// Ends connections whose client is denied or whose server lets them go, looking at `budget` places and
    /// telling as many as may be told; whether to go on at once.
    pub(super) fn sweep(&mut self, now: Instant, budget: u32, out: &mut Outbox) -> bool {
        let places = self.conns.places();
        for _ in 0..budget.min(self.sweep.left) {
            let id = ConnId(self.sweep.at);
            if let Some(c) = self.conns.at(id.0).copied()
                && c.controlled == 0
            {
                if self.is_denied(&c) {
                    self.cut_off(now, id, &c, out);
                } else if let Some(told) = self.fate(&c) {
                    if told && farewell::is_told(&c) {
                        if !self.voice.teardown_limit.allows(now) {
                            return false;
                        }
                        self.tell(now, &c, out);
                    }
                    self.end(now, id);
                }
            }
            self.sweep.step(places);
        }
        !self.sweep.is_over()
    }

    /// Ends a denied client's connection at once. Its server is told where that may be, so that it does not
    /// wait for the client, who is not: nothing is sent to a denied client.
    fn cut_off(&mut self, now: Instant, id: ConnId, c: &Conn, out: &mut Outbox) {
        if c.protocol == Protocol::Tcp
            && farewell::is_told(c)
            && self.voice.teardown_limit.allows(now)
        {
            self.tell_server(now, c, out);
        }
        self.expire(now, id);
    }

    /// Ends a connection because its server left.
    pub(super) fn end(&mut self, now: Instant, id: ConnId) {
        let c = self.conns.get(id);
        let counted = u32::from(!c.has(conn::TEMPLATE));
        self.servers.get_mut(c.backend).ended += counted;
        self.expire(now, id);
    }

    /// Whether a connection ends because of its server, and then whether that is said.
    fn fate(&self, c: &Conn) -> Option<bool> {
        let server = self.servers.get(c.backend);
        if server.service != NONE {
            return server.is_timed_out().then_some(true);
        }
        match server.care.on_removal {
            OnRemoval::Tell => Some(true),
            OnRemoval::Drop => Some(false),
            OnRemoval::Keep => (self.snapshot.sysctls.expire_nodest_conn != 0).then_some(false),
        }
    }

    /// Whether the connections of this removed server end with their next packet at the latest.
    pub(super) fn lets_go(&self, server: &Server) -> bool {
        server.care.on_removal != OnRemoval::Keep || self.snapshot.sysctls.expire_nodest_conn != 0
    }

    /// Takes a server out of its service.
    pub(super) fn detach(&mut self, place: u32, load: Backend) {
        if self.lets_go(self.servers.get(place)) {
            self.sweep.begin(self.conns.places());
        }
        self.servers.get_mut(place).ended = 0;
        self.servers.detach(place, load);
    }

    /// A server may have ended: says what became of its connections.
    pub(super) fn release(&mut self, place: u32) {
        if let Some(gone) = self.servers.release(place)
            && gone.ended > 0
        {
            self.note_event(&gone.key, Happened::Ended(gone.ended));
        }
    }
}
