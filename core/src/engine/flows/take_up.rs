//! Connections that another director has told of. After `ip_vs_proc_conn` of `net/netfilter/ipvs/ip_vs_sync.c`.

use std::time::Duration;

use super::Flows;
use super::event::{Cause, Standing};
use crate::conn::{self, Conn, ConnId, InsertError};
use crate::flow::{Endpoint, Protocol};
use crate::peer::{NotTakenUp, TakenUp};
use crate::ranks::Rank;
use crate::sctp::SctpState;
use crate::service::{Replies, ServiceKey, ServiceSpec};
use crate::snapshot::Timeouts;
use crate::tcp::TcpState;
use crate::time::Instant;

/// Seconds that a template lives of which no time-out was told.
const TEMPLATE: u32 = 180;
/// The longest time-out, seconds: the kernel's timers go no further (`WHEEL_TIMEOUT_MAX` at 250 Hz).
const LONGEST: u32 = 4_294_967;

/// Where a connection that is taken up goes.
pub(in crate::engine) struct Destination {
    /// The slot of its service, where that is known here.
    pub(in crate::engine) slot: Option<u32>,
    /// The place of the mode for a server that is not.
    pub(in crate::engine) mode: Option<u8>,
}

impl Flows {
    /// Takes up what another director has told of a connection or template.
    pub(in crate::engine) fn take_up(
        &mut self,
        now: Instant,
        told: &TakenUp,
        to: &Destination,
        timeouts: &Timeouts,
    ) -> Result<(), NotTakenUp> {
        let c = conn_of(told, timeouts);
        let known = self.find_of(&c.client_flow(), told.call.as_deref());
        if told
            .idle
            .is_some_and(|idle| !self.is_news(now, &c, known, idle))
        {
            return Err(NotTakenUp::Older);
        }
        let known = match known {
            Some(id) if !told.template && self.conns.get(id).ends.server != told.server => {
                if told.inactive {
                    return Err(NotTakenUp::Replaced);
                }
                self.end(now, id, Cause::Superseded);
                None
            }
            known => known,
        };
        let id = match known {
            Some(id) => {
                self.find_server_of(id, told, to);
                id
            }
            None => self.insert_told(now, c, told, to)?,
        };
        self.catch_up_with(id);
        let before = *self.conns.get(id);
        self.update(now, id, &c, told);
        self.take_up_introduction(id, &told.shifts);
        // Where the kernel has moved it meanwhile, that holds.
        self.put(id, &before);
        if let Some(telling) = &mut self.telling {
            telling.taken_up(now, id, c.state);
        }
        Ok(())
    }

    /// Whether a copy of a connection that had its last packet so long ago is still alive, and newer than what is known.
    fn is_news(&mut self, now: Instant, c: &Conn, known: Option<ConnId>, idle: Duration) -> bool {
        if idle >= c.lifetime() {
            return false;
        }
        known.is_none_or(|id| {
            self.catch_up_with(id);
            self.conns.get(id).last_packet() < now - idle
        })
    }

    /// Inserts a connection that is new here, inactive and not looked at yet.
    fn insert_told(
        &mut self,
        now: Instant,
        mut c: Conn,
        told: &TakenUp,
        to: &Destination,
    ) -> Result<ConnId, NotTakenUp> {
        let server = to.slot.and_then(|slot| self.server_at(slot, told));
        let (place, mode) = match (server, told.method.zip(to.mode)) {
            (Some(place), _) => (place, self.pool.servers.get(place).mode),
            (None, Some((method, mode))) => (self.pool.unbound(method, mode), mode),
            (None, None) => return Err(NotTakenUp::NoWay),
        };
        c.backend = place;
        c.bind(mode);
        c.state = 0;
        if !told.template {
            c.flags |= conn::INACTIVE;
        }
        let method = self.pool.servers.get(place).spec.forwarding;
        if server.is_some() {
            // The server's method holds, whatever was told (`ip_vs_bind_dest`).
            let seen = method.passes_replies() || told.template;
            c.flags = c.flags & !conn::NO_OUTPUT | if seen { 0 } else { conn::NO_OUTPUT };
        }
        let replies = method.passes_replies() && !told.template;
        loop {
            let inserted = match &told.call {
                Some(call) => self.insert_call(now, &c, call),
                None => self.insert(now, &c, replies),
            };
            match inserted {
                Ok(id) => {
                    self.conns.note_told(id);
                    self.log_taken_up(id);
                    self.ports.claim(c.ends.local, c.ends.server, c.protocol);
                    if method.replies() == Replies::Gateway && !told.template {
                        self.note_client(id);
                    }
                    return Ok(id);
                }
                Err(InsertError::Full) if self.make_room(now) => {}
                Err(InsertError::Full) => return Err(NotTakenUp::Full),
                Err(InsertError::Taken(_)) => return Err(NotTakenUp::Taken),
            }
        }
    }

    /// What was told becomes the connection's own.
    fn update(&mut self, now: Instant, id: ConnId, new: &Conn, told: &TakenUp) {
        let c = self.conns.get_mut(id);
        let before = Standing::of(c);
        (c.state, c.timeout) = (new.state, new.timeout);
        if !told.template {
            c.flags = c.flags & !conn::INACTIVE | new.flags & conn::INACTIVE;
        }
        let rank = rank_of(c);
        self.conns.touch(now, id);
        if let Some(idle) = told.idle {
            self.conns.hasten(now, id, now - idle + new.lifetime());
        }
        self.conns.set_rank(id, rank);
        if Standing::of(self.conns.get(id)) != before {
            self.changed(id, before);
        }
    }

    /// A connection whose server was not known is its server's, once that is there (`ip_vs_try_bind_dest`).
    fn find_server_of(&mut self, id: ConnId, told: &TakenUp, to: &Destination) {
        if !self.server_of(self.conns.get(id)).is_unbound() {
            return;
        }
        let found = to.slot.and_then(|slot| self.server_at(slot, told));
        if let Some(place) = found {
            self.pool.rebind(self.conns.get(id), place);
            self.conns.get_mut(id).backend = place;
        }
    }

    /// The place of the server that was told, among those of the service at a slot (`ip_vs_find_dest`).
    fn server_at(&self, slot: u32, told: &TakenUp) -> Option<u32> {
        let place_of = |port| self.server_in(slot, Endpoint::new(told.server.addr, port));
        let first = first_port(self.service(slot), told);
        let other = first ^ told.server.port;
        place_of(first).or_else(|| place_of(other))
    }
}

/// The port by which a server is looked for first: a mark's that keeps the client's port has none.
fn first_port(spec: &ServiceSpec, told: &TakenUp) -> u16 {
    let maps = told.method.is_some_and(|m| m.def().maps_port);
    match spec.key {
        ServiceKey::Mark { .. } if !maps => 0,
        _ => told.server.port,
    }
}

/// The connection that was told of, as it would be in the table.
fn conn_of(told: &TakenUp, timeouts: &Timeouts) -> Conn {
    // A mark's template stands for all protocols, whichever it says.
    let protocol = told.protocol.unwrap_or(Protocol::Tcp);
    let mut c = Conn::new(protocol, told.client, told.vip, told.server);
    c.ends.local = told.local.unwrap_or(Endpoint::NONE);
    c.state = told.state;
    let flag = |on: bool, flag: u8| if on { flag } else { 0 };
    c.flags = flag(told.inactive && !told.template, conn::INACTIVE)
        | flag(told.no_output && !told.template, conn::NO_OUTPUT)
        | flag(told.template, conn::TEMPLATE)
        | flag(told.template && told.protocol.is_none(), conn::MARKED);
    c.timeout = match told.timeout {
        0 if told.template => TEMPLATE,
        0 => own_timeout(protocol, told.state, timeouts),
        seconds => seconds.min(LONGEST),
    };
    c
}

fn own_timeout(protocol: Protocol, state: u8, timeouts: &Timeouts) -> u32 {
    match protocol {
        Protocol::Tcp => TcpState::from_number(state).timeout(timeouts),
        Protocol::Sctp => SctpState::from_number(state).timeout(),
        Protocol::Udp => timeouts.udp,
    }
}

/// How willingly a connection is given up that was told of in its state: the other director thought it worth it.
fn rank_of(c: &Conn) -> Rank {
    match c.protocol {
        _ if c.has(conn::TEMPLATE) => Rank::Protected,
        Protocol::Tcp => TcpState::from_number(c.state).rank(),
        Protocol::Sctp => SctpState::from_number(c.state).rank(),
        Protocol::Udp => Rank::Protected,
    }
}
