//! Going on with the connections of an engine before this one, which the kernel has forwarded meanwhile.

use std::fmt;
use std::sync::Arc;

use super::{Flows, Held};
use crate::conn::{self, Conn, ConnId, NONE};
use crate::engine::flows::event::{Cause, Standing};
use crate::engine::flows::templates::Template;
use crate::flow::{Flow, Protocol};
use crate::offload::{Found, Reach, Released, ServerOrder};
use crate::ranks::Rank;
use crate::service::ServiceKey;
use crate::tcp::TcpState;
use crate::time::Instant;

/// What has become of connections that were found in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// They go on.
    pub connections: u32,
    /// Servers whose numbers go on.
    pub servers: u32,
    /// Their service or their server is no more.
    pub without_server: u32,
    /// There was no room in the table, or their local port, their cell or their flow is another's.
    pub without_room: u32,
    /// Nothing is taken any more.
    pub unwanted: u32,
    /// Their servers were told of their clients, and the engine that knew how has ended.
    pub introduced: u32,
}

impl fmt::Display for Adopted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connections of {} servers go on; {} end as their server is no more, {} for want of room, {} \
             as nothing is taken any more, {} as their servers were told of their clients",
            self.connections,
            self.servers,
            self.without_server,
            self.without_room,
            self.unwanted,
            self.introduced
        )
    }
}

/// Why a connection does not go on.
enum Lost {
    Server,
    Room,
    Unwanted,
    Introduced,
}

impl Flows {
    /// Goes on with what was found. `slot` says where a service is, `modes` how many modes there are.
    pub(in crate::engine) fn adopt(
        &mut self,
        now: Instant,
        (servers, found): (&[ServerOrder], &[Found]),
        slot: impl Fn(&ServiceKey) -> Option<u32>,
        modes: usize,
    ) -> Adopted {
        let mut adopted = Adopted::default();
        for order in servers {
            let place = slot(&order.service).and_then(|slot| self.place_of(slot, order));
            if place.is_some_and(|place| self.adopt_server(place, order)) {
                adopted.servers += 1;
            }
        }
        for one in found {
            let place = slot(&one.kept.service).and_then(|slot| self.member(slot, one));
            let outcome = place.ok_or(Lost::Server).and_then(|place| {
                let fits = usize::from(one.kept.mode) < modes;
                fits.then_some(()).ok_or(Lost::Server)?;
                self.adopt_connection(now, one, place)
            });
            match outcome {
                Ok(()) => adopted.connections += 1,
                Err(lost) => {
                    match lost {
                        Lost::Server => adopted.without_server += 1,
                        Lost::Room => adopted.without_room += 1,
                        Lost::Unwanted => adopted.unwanted += 1,
                        Lost::Introduced => adopted.introduced += 1,
                    }
                    self.give_up(one);
                }
            }
        }
        adopted
    }

    /// The place of the server that an order is about.
    fn place_of(&self, slot: u32, order: &ServerOrder) -> Option<u32> {
        let mut places = self.pool.service(slot).servers.iter().copied();
        places.find(|place| self.pool.servers.get(*place).key.1 == order.server)
    }

    /// The place of the server that a connection was scheduled to.
    fn member(&self, slot: u32, found: &Found) -> Option<u32> {
        let mut places = self.pool.service(slot).servers.iter().copied();
        places.find(|place| self.pool.servers.get(*place).key.1 == found.kept.member)
    }

    /// A server's numbers go on from what was kept of them.
    fn adopt_server(&mut self, place: u32, order: &ServerOrder) -> bool {
        let Some(handover) = &mut self.handover else {
            return false;
        };
        let cell = (order.cell, order.generation);
        let pool = &self.pool;
        if !handover.servers.adopt(pool, cell, place, order.settled) {
            return false;
        }
        self.pool.count_forwarded(place, order.stats);
        true
    }

    fn adopt_connection(&mut self, now: Instant, found: &Found, place: u32) -> Result<(), Lost> {
        let kept = &found.kept;
        if self.reach() == Reach::Guard || kept.protocol == Protocol::Sctp {
            return Err(Lost::Unwanted);
        }
        if kept.introduced {
            return Err(Lost::Introduced);
        }
        let mut c = Conn::new(kept.protocol, kept.client, kept.vip, kept.server);
        c.flags = conn::INACTIVE;
        c.ends.local = kept.local;
        c.backend = place;
        c.bind(kept.mode);
        let replies = self
            .pool
            .servers
            .get(place)
            .spec
            .forwarding
            .passes_replies();
        let has_local = kept.local.port != 0;
        let claimed = !has_local || self.ports.claim(kept.local, kept.server, kept.protocol);
        if !claimed {
            return Err(Lost::Room);
        }
        c.control = self.adopt_template(now, found, place).map_or(NONE, |t| t.0);
        let Ok(id) = self.insert(now, &c, replies) else {
            if c.control != NONE {
                self.release_template(ConnId(c.control));
            }
            self.release_local_port(&c);
            return Err(Lost::Room);
        };
        let held = Held {
            conn: id,
            birth: found.birth,
            terms: None,
            watched: false,
            last: found.seen.last,
            client_packets: found.seen.client_packets,
        };
        let handover = self.handover.as_mut();
        if !handover.is_some_and(|h| h.cells.adopt(found.cell, held)) {
            self.end(now, id, Cause::TimedOut);
            return Err(Lost::Room);
        }
        self.resume(id, found);
        self.log_taken_up(id);
        Ok(())
    }

    /// Makes a connection what was seen of it.
    fn resume(&mut self, id: ConnId, found: &Found) {
        let (kept, seen) = (&found.kept, &found.seen);
        let timeouts = self
            .handover
            .as_ref()
            .map(|h| h.timeouts)
            .unwrap_or_default();
        let c = self.conns.get_mut(id);
        let before = Standing::of(c);
        let packets = u8::try_from(seen.client_packets).unwrap_or(u8::MAX);
        c.in_packets = kept.client_packets.saturating_add(packets);
        c.flags |= conn::MEASURED;
        if seen.tracked.no_output {
            c.flags |= conn::NO_OUTPUT;
        }
        let mut rank = Rank::Protected;
        if kept.protocol == Protocol::Tcp {
            let state = TcpState::from_number(seen.tracked.state);
            (c.state, rank) = (state as u8, state.rank());
            c.client_expects = seen.tracked.client_expects;
            c.server_expects = seen.tracked.server_expects;
            if state.is_active() {
                c.flags &= !conn::INACTIVE;
            }
        }
        c.timeout = super::truth::timeout_of(c, &timeouts);
        let control = c.control;
        self.conns.touch(seen.last, id);
        self.conns.set_rank(id, rank);
        if Standing::of(self.conns.get(id)) != before {
            self.changed(id, before);
        }
        let established = kept.protocol == Protocol::Tcp && rank == Rank::Protected;
        if control != NONE && (seen.proven || established) {
            self.assure_template(ConnId(control));
        }
        self.offer_again(id);
    }

    /// The template that holds a client to its server, made anew where it is not there.
    fn adopt_template(&mut self, now: Instant, found: &Found, place: u32) -> Option<ConnId> {
        let kept = &found.kept;
        let slot = self.pool.servers.get(place).service;
        let flow = Flow::new(kept.protocol, kept.client, kept.vip);
        let spec = Arc::clone(self.service(slot));
        let persistence = spec.persistence.filter(|_| kept.persistent)?;
        if spec.engine.is_some() {
            // The kernel does not know of which call it was.
            return None;
        }
        let mut wanted = Template::by_address(&spec, &flow, persistence)?;
        let template = match self.find_template(&wanted) {
            Some(id) => id,
            None => {
                wanted.lead_to(self.pool.servers.get(place).key.1, place);
                self.insert_template(now, &wanted).ok()?
            }
        };
        self.hold_template(template);
        Some(template)
    }

    /// A connection does not go on: the kernel forgets it.
    fn give_up(&mut self, found: &Found) {
        let kept = &found.kept;
        let mut c = Conn::new(kept.protocol, kept.client, kept.vip, kept.server);
        c.ends.local = kept.local;
        if let Some(handover) = &mut self.handover {
            handover.orders.released.push(Released {
                cell: found.cell,
                birth: found.birth,
                client: Some(c.client_flow()),
                server: Some(c.server_flow()),
            });
        }
    }
}
