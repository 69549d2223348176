//! A connection's two ends. After `ip_vs_conn_expire` and `ip_vs_conn_del` of
//! `net/netfilter/ipvs/ip_vs_conn.c`.

use super::Flows;
use super::event::{Cause, FlowEvent, Standing};
use super::logged;
use crate::conn::{Conn, ConnId, InsertError, NONE};
use crate::flow::Protocol;
use crate::ranks::Rank;
use crate::tcp::TcpState;
use crate::time::Instant;

impl Flows {
    /// Inserts a connection or template; with `replies`, it is found by the server's flow as well.
    ///
    /// # Errors
    /// The table is full, or a key is taken; nothing is changed.
    pub(super) fn insert(
        &mut self,
        now: Instant,
        c: &Conn,
        replies: bool,
    ) -> Result<ConnId, InsertError> {
        self.get_room();
        let id = self.conns.insert(now, *c, replies)?;
        self.opened(now, id);
        Ok(id)
    }

    /// A connection or template was inserted.
    pub(super) fn opened(&mut self, now: Instant, id: ConnId) {
        let opened = FlowEvent::Opened(self.conns.get(id));
        self.stream.tell(&mut self.pool, &opened);
        self.note_opened(id);
        if let Some(telling) = &mut self.telling {
            telling.begin(now, id);
        }
    }

    /// A connection of another table, with its template's place in this one. Its server counts it already.
    pub(in crate::engine) fn copy_in(
        &mut self,
        now: Instant,
        c: Conn,
        control: u32,
        rank: Rank,
    ) -> ConnId {
        self.conns.adopt(now, c, control, rank)
    }

    /// A packet of a connection was seen: it lives for its time-out from then on.
    #[inline]
    pub(in crate::engine) fn seen(&mut self, at: Instant, id: ConnId) {
        self.conns.touch(at, id);
    }

    /// The next connection whose time is over; each look at one takes of the budget.
    pub(in crate::engine) fn expired(&mut self, now: Instant, budget: &mut u32) -> Option<ConnId> {
        loop {
            let id = self.conns.expired(now, budget)?;
            if !self.conns.get(id).is_taken() || !self.lives_on(now, id) {
                return Some(id);
            }
        }
    }

    /// When [`Flows::expired`] has work again, `None` where there is no connection.
    pub(in crate::engine) fn next_expiry(&self) -> Option<Instant> {
        self.conns.next_expiry()
    }

    /// A connection has moved on from what it was.
    pub(super) fn changed(&mut self, id: ConnId, before: Standing) {
        let c = self.conns.get(id);
        if c.protocol == Protocol::Tcp
            && c.ends.local.port != 0
            && before.state == TcpState::SynRecv as u8
            && c.state != before.state
        {
            // Its server has answered, perhaps in the kernel.
            self.forget_syn(id);
        }
        let changed = FlowEvent::Changed(self.conns.get(id), before);
        self.stream.tell(&mut self.pool, &changed);
        self.note_changed(id);
    }

    /// Ends a connection. A template waits while it controls connections.
    pub(in crate::engine) fn end(&mut self, now: Instant, id: ConnId, cause: Cause) {
        /// Seconds that such a template is kept for from then on, by each new connection too
        /// (`ip_vs_conn_expire`).
        const LATER: u32 = 60;
        if self.conns.get(id).controlled > 0 {
            self.conns.get_mut(id).timeout = LATER;
            self.conns.touch(now, id);
            return;
        }
        self.note_unanswered(now, id, cause);
        self.log_end(now, id, |c| logged::why(c, cause));
        self.calls.remove(id, &self.conns);
        let c = self.conns.remove(id);
        self.give_room();
        self.note_ended(id, &c);
        if c.is_introduced() {
            self.introductions.remove(id);
        }
        if c.control != NONE {
            self.release_template(ConnId(c.control));
        }
        self.release_local_port(&c);
        self.stream
            .tell(&mut self.pool, &FlowEvent::Ended(&c, cause));
    }

    /// Ends an entry before its time, and with it its template where no connection of that was ever
    /// established and none is left (`ip_vs_conn_del`).
    pub(in crate::engine) fn evict(&mut self, now: Instant, id: ConnId, cause: Cause) {
        self.catch_up_with(id);
        let control = self.conns.get(id).control;
        self.end(now, id, cause);
        if control != NONE && self.conns.get(ConnId(control)).is_unproven() {
            self.end(now, ConnId(control), Cause::Unproven);
        }
    }

    /// Evicts one connection or template for a new one; `false` where none may go.
    pub(super) fn make_room(&mut self, now: Instant) -> bool {
        while let Some(id) = self.conns.eviction_candidate() {
            // One that looks half-open may have been established in the kernel.
            self.catch_up_with(id);
            if self.conns.eviction_candidate() == Some(id) {
                self.evict(now, id, Cause::Evicted);
                return true;
            }
        }
        false
    }

    /// One-packet scheduling's connection ends with its packet, which its template counts (`ip_vs_in_hook`).
    pub(in crate::engine) fn end_one_packet(&mut self, now: Instant, id: ConnId) {
        let c = self.conns.get(id);
        if !c.has(crate::conn::ONE_PACKET) {
            return;
        }
        let control = c.control;
        if control != NONE {
            let template = self.conns.get_mut(ConnId(control));
            template.in_packets = template.in_packets.saturating_add(1);
        }
        self.end(now, id, Cause::OnePacket);
    }
}
