//! Ending the connections whose server has left, or whose client is denied: a walk round the table, a share
//! of it a call and as fast as the connections' ends may be told.

use super::{Timer, Upkeep};
use crate::conn::{self, Conn, ConnId};
use crate::engine::flows::{Cause, Flows};
use crate::engine::{Engine, farewell};
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

    const fn is_over(&self) -> bool {
        self.left == 0
    }

    fn step(&mut self, places: u32) {
        self.left -= 1;
        self.at = if self.at + 1 < places { self.at + 1 } else { 0 };
    }
}

impl Upkeep {
    /// Connections have to end.
    pub(in crate::engine) fn begin_sweep(&mut self, flows: &Flows) {
        self.sweep.begin(flows.table().places());
        self.timers.set(Timer::Sweep, Some(Instant::ZERO));
    }
}

impl<R: Recorder> Engine<R> {
    /// Ends connections whose client is denied or whose server has left, looking at `budget` places and
    /// telling as many as may be told; whether to go on at once.
    pub(in crate::engine) fn sweep(&mut self, now: Instant, budget: u32, out: &mut Outbox) -> bool {
        let places = self.flows.table().places();
        let mut silent = false;
        for _ in 0..budget.min(self.upkeep.sweep.left) {
            let id = ConnId(self.upkeep.sweep.at);
            silent = !self.sweep_place(now, id, out);
            if silent {
                break;
            }
            self.upkeep.sweep.step(places);
        }
        let goes_on = !self.upkeep.sweep.is_over();
        let next = goes_on.then(|| self.farewells.next());
        self.upkeep.timers.set(Timer::Sweep, next);
        goes_on && !silent
    }

    /// Ends the connection at a place where it has to; `false` where that must wait until its ends may be
    /// told.
    fn sweep_place(&mut self, now: Instant, id: ConnId, out: &mut Outbox) -> bool {
        let Some(c) = self.flows.table().at(id.0).copied() else {
            return true;
        };
        if c.controlled > 0 {
            return true;
        }
        if self.is_denied(&c) {
            self.cut_off(now, id, &c, out);
        } else if let Some(told) = self.fate(&c) {
            if told && farewell::is_told(&c) {
                if !self.farewells.allows(now) {
                    return false;
                }
                self.tell(now, &c, out);
            }
            self.flows.end(now, id, Cause::ServerLeft);
        }
        true
    }

    /// Whether a running connection's client is kept out. A template is no connection: it may stand for a
    /// whole network.
    fn is_denied(&self, c: &Conn) -> bool {
        let (service, _) = self.flows.server_of(c).key;
        !c.has(conn::TEMPLATE) && self.desired.denies(&service, c.client.addr)
    }

    /// Ends a denied client's connection at once. Its server is told where that may be, so that it does not
    /// wait for the client, who is not: nothing is sent to a denied client.
    fn cut_off(&mut self, now: Instant, id: ConnId, c: &Conn, out: &mut Outbox) {
        if c.protocol == Protocol::Tcp && farewell::is_told(c) && self.farewells.allows(now) {
            self.tell_server(now, c, out);
        }
        self.flows.end(now, id, Cause::Denied);
    }

    /// Whether a connection ends because of its server, and then whether that is said.
    fn fate(&self, c: &Conn) -> Option<bool> {
        let server = self.flows.server_of(c);
        if !server.is_removed() {
            return server.is_timed_out().then_some(true);
        }
        match server.care.on_removal {
            OnRemoval::Tell => Some(true),
            OnRemoval::Drop => Some(false),
            OnRemoval::Keep => (self.desired.sysctls().expire_nodest_conn != 0).then_some(false),
        }
    }
}
