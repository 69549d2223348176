//! Real servers that part from their connections: removed ones, and those of weight 0.
//!
//! A sweep over the table ends the connections of removed servers and of those whose drain timed out, a
//! share of the table a call and as fast as their ends may be told. A server of weight 0 drains; its drain
//! is over when no connection of its is open any more, or when its service's time for it is over.

use std::time::Duration;

use super::Engine;
use super::farewell;
use super::servers::Server;
use crate::backend::Backend;
use crate::conn::{self, Conn, ConnId, NONE};
use crate::flow::Endpoint;
use crate::outbox::Outbox;
use crate::service::{OnRemoval, ServiceKey};
use crate::time::Instant;

/// What became of a server's connections, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The server's service.
    pub service: ServiceKey,
    /// The server.
    pub server: Endpoint,
    /// What happened.
    pub what: Happened,
}

/// What happened to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Its weight is 0: so many of its connections are open.
    Drains(u32),
    /// None is open any more, so long after.
    Drained(Duration),
    /// Its drain timed out: so many were open, and end now.
    TimedOut(u32),
    /// It was removed, and so many of its connections were ended for that.
    Ended(u32),
}

/// Events that wait to be taken, at most.
const EVENTS: usize = 1024;

/// How often servers of weight 0 are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A server's way out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Drain {
    /// Since when its weight is 0.
    pub(super) since: Instant,
    pub(super) stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Connections are open.
    Open,
    /// None was open any more.
    Drained,
    /// Those left are ended.
    TimedOut,
}

/// A walk round the table.
#[derive(Default)]
pub(super) struct Sweep {
    /// The next place.
    at: u32,
    /// Places that are still to be looked at.
    left: u32,
}

impl Sweep {
    /// Goes round once from here.
    pub(super) fn begin(&mut self, places: u32) {
        self.left = places;
    }

    pub(super) const fn is_over(&self) -> bool {
        self.left == 0
    }

    fn step(&mut self, places: u32) {
        self.left -= 1;
        self.at = if self.at + 1 < places { self.at + 1 } else { 0 };
    }
}

impl Engine {
    /// What happened to servers since this was asked last.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Ends connections whose server lets them go, looking at `budget` places and telling as many as may be
    /// told; whether to go on at once.
    pub(super) fn sweep(&mut self, now: Instant, budget: u32, out: &mut Outbox) -> bool {
        let places = self.conns.places();
        for _ in 0..budget.min(self.sweep.left) {
            let id = ConnId(self.sweep.at);
            if let Some(c) = self.conns.at(id.0).copied()
                && c.controlled == 0
                && let Some(told) = self.fate(&c)
            {
                if told && farewell::is_told(&c) {
                    if !self.farewells.allows(now) {
                        return false;
                    }
                    self.tell(now, &c, out);
                }
                self.end(now, id);
            }
            self.sweep.step(places);
        }
        !self.sweep.is_over()
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

    /// Notes which servers have weight 0. When they began is noted with the next [`Engine::handle_timeout`].
    pub(super) fn note_drains(&mut self) {
        self.draining.clear();
        self.next_look = Instant::ZERO;
        for place in self.services.iter().flatten().flat_map(|s| &s.servers) {
            let server = self.servers.get_mut(*place);
            if server.spec.weight == 0 {
                self.draining.push(*place);
            } else {
                server.drain = None;
            }
        }
    }

    /// Looks at the servers of weight 0.
    pub(super) fn drain(&mut self, now: Instant) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK;
        for i in 0..self.draining.len() {
            let place = self.draining[i];
            let open = self.open_connections(place);
            let server = self.servers.get_mut(place);
            let limit = Duration::from_secs(u64::from(server.care.drain_timeout));
            let Some(drain) = server.drain.as_mut() else {
                let stage = if open > 0 {
                    Stage::Open
                } else {
                    Stage::Drained
                };
                server.drain = Some(Drain { since: now, stage });
                // One that never had connections was not taken out of service.
                if server.stats.connections > 0 || open > 0 {
                    let key = server.key;
                    self.note_event(&key, Happened::Drains(open));
                }
                continue;
            };
            let took = now.since(drain.since);
            let happened = if drain.stage == Stage::Open && open == 0 {
                drain.stage = Stage::Drained;
                Happened::Drained(took)
            } else if drain.stage != Stage::TimedOut && !limit.is_zero() && took >= limit {
                drain.stage = Stage::TimedOut;
                Happened::TimedOut(open)
            } else {
                continue;
            };
            let key = server.key;
            if let Happened::TimedOut(_) = happened {
                self.sweep.begin(self.conns.places());
            }
            if happened != Happened::TimedOut(0) {
                self.note_event(&key, happened);
            }
        }
    }

    /// When a drain times out next.
    pub(super) fn next_drain(&self) -> Option<Instant> {
        let times = self.draining.iter().filter_map(|place| {
            let server = self.servers.get(*place);
            let limit = Duration::from_secs(u64::from(server.care.drain_timeout));
            let Some(drain) = server.drain else {
                return Some(Instant::ZERO);
            };
            (!limit.is_zero() && drain.stage != Stage::TimedOut).then(|| drain.since + limit)
        });
        times.min()
    }

    /// Connections of a server that are not over.
    pub(super) fn open_connections(&mut self, place: u32) -> u32 {
        let over = self.servers.get(place).over;
        let load = self.load_mut(place);
        (load.active + load.inactive).saturating_sub(over)
    }

    fn note_event(&mut self, key: &(ServiceKey, Endpoint), what: Happened) {
        if self.events.len() < EVENTS {
            let (service, server) = *key;
            self.events.push(Event {
                service,
                server,
                what,
            });
        }
    }
}
