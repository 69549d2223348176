//! A connection's two ends: counted at its server when it is made, taken off when its time is over. After
//! `ip_vs_bind_dest`, `ip_vs_conn_expire`, `ip_vs_conn_del` and `ip_vs_unbind_dest` of
//! `net/netfilter/ipvs/ip_vs_conn.c`.

use super::Engine;
use super::schedule::Refused;
use crate::backend::Backend;
use crate::conn::{self, Conn, ConnId, InsertError, NONE};
use crate::time::Instant;
use crate::trace::Recorder;
use crate::verdict::DropReason;

impl<R: Recorder> Engine<R> {
    /// Inserts and counts at the server (`ip_vs_bind_dest`).
    pub(super) fn insert(
        &mut self,
        now: Instant,
        c: Conn,
        replies: bool,
    ) -> Result<ConnId, Refused> {
        // Each round but the last ends an entry. No template has the key that one to be inserted has: it
        // would have been found before.
        let id = loop {
            match self.conns.insert(now, c, replies) {
                Ok(id) => break id,
                Err(InsertError::Taken(old)) => self.give_way(now, old),
                Err(InsertError::Full) if self.make_room(now) => {}
                Err(InsertError::Full) => return Err(Refused::Drop(DropReason::TableFull)),
            }
        };
        let server = self.servers.get_mut(c.backend);
        server.references += 1;
        if c.has(conn::TEMPLATE) {
            server.numbers.persistent += 1;
            return Ok(id);
        }
        let upper = server.spec.upper;
        let load = self.load_mut(c.backend);
        load.inactive += 1;
        if upper != 0 && load.active + load.inactive >= upper {
            load.flags |= Backend::OVERLOADED;
        }
        Ok(id)
    }

    /// A connection's time is over. A template waits while it controls connections.
    pub(super) fn expire(&mut self, now: Instant, id: ConnId) {
        /// Seconds that such a template is kept for from then on, by each new connection too
        /// (`ip_vs_conn_expire`).
        const LATER: u32 = 60;
        if self.conns.get(id).controlled > 0 {
            self.conns.get_mut(id).timeout = LATER;
            self.conns.touch(now, id);
            return;
        }
        let c = self.conns.remove(id);
        self.counters.expired += 1;
        if c.control != NONE {
            self.release_template(ConnId(c.control));
        }
        self.give_back_local(&c);
        self.uncount(&c);
        self.release(c.backend);
    }

    /// Ends an entry before its time, and with it its template where no connection of that was ever
    /// established and none is left (`ip_vs_conn_del`).
    pub(super) fn give_up(&mut self, now: Instant, id: ConnId) {
        let control = self.conns.get(id).control;
        self.expire(now, id);
        if control != NONE && self.conns.get(ConnId(control)).is_unproven() {
            self.expire(now, ConnId(control));
        }
    }

    /// The reverse of counting; makes room under the threshold (`ip_vs_unbind_dest`).
    fn uncount(&mut self, c: &Conn) {
        let server = self.servers.get_mut(c.backend);
        let (upper, lower) = (server.spec.upper, server.spec.lower);
        server.over -= u32::from(c.is_over());
        if c.has(conn::TEMPLATE) {
            server.numbers.persistent -= 1;
        }
        let load = self.load_mut(c.backend);
        if !c.has(conn::TEMPLATE) {
            let count = if c.has(conn::INACTIVE) {
                &mut load.inactive
            } else {
                &mut load.active
            };
            *count -= 1;
        }
        let total = u64::from(load.active + load.inactive);
        let roomy = match (upper, lower) {
            (0, 0) => true,
            (_, 0) => total * 4 < u64::from(upper) * 3,
            _ => total < u64::from(lower),
        };
        if roomy {
            load.flags &= !Backend::OVERLOADED;
        }
    }
}
