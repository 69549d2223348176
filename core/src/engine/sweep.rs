//! Ends connections whose server releases them, or whose client is denied: a share of the table a call, and as
//! fast as the connections' ends may be told.

use super::Engine;
use super::flows::Cause;
use super::teardown;
use crate::conn::{self, Conn, ConnId};
use crate::flow::Protocol;
use crate::outbox::Outbox;
use crate::service::OnRemoval;
use crate::time::Instant;
use crate::trace::Recorder;

impl<R: Recorder> Engine<R> {
    /// Ends connections whose client is denied or whose server has left, looking at `budget` places and
    /// telling as many as may be told; whether to go on at once.
    pub(super) fn sweep(&mut self, now: Instant, budget: u32, out: &mut Outbox) -> bool {
        let places = self.flows.table().places();
        let mut waits = false;
        for _ in 0..budget {
            let Some(id) = self.upkeep.sweep_place() else {
                break;
            };
            waits = !self.sweep_connection(now, id, out);
            if waits {
                break;
            }
            self.upkeep.sweep_on(places);
        }
        let goes_on = self.upkeep.rest_sweep(self.voice.teardown_limit.next());
        goes_on && !waits
    }

    /// Ends the connection at a place where it has to; `false` where that must wait until its ends may be
    /// told.
    fn sweep_connection(&mut self, now: Instant, id: ConnId, out: &mut Outbox) -> bool {
        if self.flows.table().at(id.0).is_none() {
            return true;
        }
        self.flows.catch_up_with(id);
        let c = *self.flows.conn(id);
        if c.controlled > 0 {
            return true;
        }
        if self.is_denied(&c) {
            self.cut_off(now, id, &c, out);
        } else if let Some(told) = self.fate(&c) {
            return self
                .end_and_tell(now, id, (told, Cause::ServerLeft), out)
                .is_some();
        }
        true
    }

    /// Whether a running connection's client is kept out. A template is no connection: it may stand for a
    /// whole network.
    fn is_denied(&self, c: &Conn) -> bool {
        let (service, _) = self.flows.server_of(c).key;
        !c.has(conn::TEMPLATE) && self.desired.denies(&service, c.ends.client.addr)
    }

    /// Ends a denied client's connection at once. Its server is told where that may be, so that it does not
    /// wait for the client, who is not: nothing is sent to a denied client.
    fn cut_off(&mut self, now: Instant, id: ConnId, c: &Conn, out: &mut Outbox) {
        if c.protocol == Protocol::Tcp
            && teardown::is_told(c)
            && self.voice.teardown_limit.allows(now)
        {
            self.tell_server(now, (c, self.flows.edits_of(id)), out);
        }
        self.flows.end(now, id, Cause::Denied);
    }

    /// Whether a connection ends because of its server, and then whether that is said.
    fn fate(&self, c: &Conn) -> Option<bool> {
        let server = self.flows.server_of(c);
        if !server.is_removed() {
            return server.is_timed_out().then_some(true);
        }
        match server.teardown.on_removal {
            OnRemoval::Tell => Some(true),
            OnRemoval::Drop => Some(false),
            OnRemoval::Keep => {
                let expires = self.desired.sysctls().expire_nodest_conn != 0;
                (expires && self.upkeep.sweep_releases()).then_some(false)
            }
        }
    }
}
