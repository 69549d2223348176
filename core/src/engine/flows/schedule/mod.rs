//! New connections: a server for each, its local port with FULLNAT, its place in the table. After
//! `ip_vs_schedule` of `net/netfilter/ipvs/ip_vs_core.c`.

mod persistence;
mod pick;
mod sharing;

use std::sync::Arc;

use super::Flows;
use crate::backend::Backend;
use crate::conn::{self, Conn, ConnId, InsertError, NONE};
use crate::counters::ScheduleFailure;
use crate::flow::{Endpoint, Flow, Protocol};
use crate::service::{Replies, ServerSpec, ServiceKey, ServiceSpec};
use crate::time::Instant;
use crate::trace::{Recorder, Step};
use crate::verdict::DropReason;

/// Why a connection was not made.
pub(in crate::engine) enum Refused {
    /// No server: the client is told.
    NoServer,
    /// The service does not take this one: the host's own stack would answer.
    NotForUs,
    Drop(DropReason),
}

impl Refused {
    /// What it counts as at a service with these servers, `None` where the service is not to blame.
    pub(super) fn failure(&self, backends: &[Backend]) -> Option<ScheduleFailure> {
        Some(match self {
            Self::NotForUs => return None,
            Self::Drop(DropReason::SchedulerFault) => ScheduleFailure::SchedulerFault,
            Self::Drop(DropReason::TableFull) => ScheduleFailure::TableFull,
            Self::Drop(DropReason::PortsExhausted) => ScheduleFailure::PortsExhausted,
            Self::Drop(DropReason::Denied) => ScheduleFailure::Denied,
            Self::Drop(DropReason::ClientRate) => ScheduleFailure::ClientRate,
            Self::Drop(DropReason::ServiceRate) => ScheduleFailure::ServiceRate,
            Self::Drop(DropReason::DropPacket) => ScheduleFailure::DropPacket,
            Self::Drop(DropReason::NoCallId) => ScheduleFailure::NoCallId,
            Self::Drop(_) => return None,
            Self::NoServer => {
                let mut weighty = backends.iter().filter(|b| b.weight > 0).peekable();
                if weighty.peek().is_some() && weighty.all(|b| !b.is_available()) {
                    ScheduleFailure::AllOverloaded
                } else {
                    ScheduleFailure::NoBackend
                }
            }
        })
    }
}

/// A new connection that a packet asks for, while it is being made.
pub(in crate::engine) struct Scheduling<'a, R> {
    pub(in crate::engine) flows: &'a mut Flows,
    pub(in crate::engine) recorder: &'a mut R,
    pub(in crate::engine) now: Instant,
    /// The slot of its service.
    pub(in crate::engine) slot: u32,
    pub(in crate::engine) flow: &'a Flow,
    /// What the packet has behind the transport's header, of a datagram.
    pub(in crate::engine) data: &'a [u8],
    /// The sysctl expire_quiescent_template.
    pub(in crate::engine) expire_quiescent: bool,
}

impl<R: Recorder> Scheduling<'_, R> {
    /// Makes the connection, to the server at a place where it is that one who begins it, else to one that is found.
    pub(in crate::engine) fn run(mut self, begins: Option<u32>) -> Result<ConnId, Refused> {
        self.flows.replaced = None;
        self.flows.catch_up();
        if let Some(p) = self.spec().persistence {
            return self.open_persistent(p, begins);
        }
        let server = begins.map_or_else(|| self.choose(), Ok)?;
        self.open(server, NONE)
    }

    fn spec(&self) -> &Arc<ServiceSpec> {
        self.flows.service(self.slot)
    }

    fn record(&mut self, step: impl FnOnce(&Self) -> Step) {
        if R::ON {
            let step = step(self);
            self.recorder.note(step);
        }
    }

    /// The port that the connection uses at this server.
    fn server_port(&self, server: &ServerSpec) -> u16 {
        let spec = self.spec();
        match (server.endpoint.port, spec.key) {
            (0, _) => self.flow.dst_port,
            (own, ServiceKey::Address { port, .. }) if self.flow.dst_port == port => own,
            // A mark's service has no port: its server's counts, but for those of a template.
            (own, ServiceKey::Mark { .. })
                if self.flow.dst_port == 0 || spec.persistence.is_none() =>
            {
                own
            }
            _ => self.flow.dst_port,
        }
    }

    /// Makes the connection to `server`, under the template `control`.
    fn open(&mut self, server: u32, control: u32) -> Result<ConnId, Refused> {
        let flow = self.flow;
        let protocol = Protocol::from_number(flow.protocol).ok_or(Refused::NoServer)?;
        let (spec, mode) = {
            let server = self.flows.pool.servers.get(server);
            (server.spec, server.mode)
        };
        let one_packet = self.spec().one_packet && protocol == Protocol::Udp;
        let end = Endpoint::new(spec.endpoint.addr, self.server_port(&spec));
        let mut c = Conn::new(protocol, flow.source(), flow.destination(), end);
        c.flags = conn::INACTIVE | if one_packet { conn::ONE_PACKET } else { 0 };
        c.bind(mode);
        c.backend = server;
        c.control = control;
        if spec.forwarding.takes_local() {
            let local = self.flows.take_local(self.slot, c.ends.server, protocol);
            c.ends.local = local.ok_or(Refused::Drop(DropReason::PortsExhausted))?;
        }
        let replies = spec.forwarding.passes_replies();
        if !replies {
            c.flags |= conn::NO_OUTPUT;
        }
        let id = self
            .insert(|flows, now| flows.insert(now, &c, replies))
            .inspect_err(|_| self.flows.release_local_port(&c))?;
        self.flows.log_start(self.now, id);
        if spec.forwarding.replies() == Replies::Gateway {
            self.flows.note_client(id);
        }
        self.record(|_| Step::Opened {
            server: c.ends.server,
            local: c.ends.local_end(),
        });
        self.flows
            .pool
            .servers
            .get_mut(server)
            .numbers
            .stats
            .connections += 1;
        self.flows.pool.service_mut(self.slot).stats.connections += 1;
        Ok(id)
    }

    /// Inserts a connection or template, by `insert`, in the place of those that have to go for it.
    fn insert(
        &mut self,
        insert: impl Fn(&mut Flows, Instant) -> Result<ConnId, InsertError>,
    ) -> Result<ConnId, Refused> {
        // Each round but the last ends an entry. No template has the key that one to be inserted has: it
        // would have been found before.
        loop {
            match insert(self.flows, self.now) {
                Ok(id) => return Ok(id),
                Err(InsertError::Taken(old)) => self.give_way(old),
                Err(InsertError::Full) if self.flows.make_room(self.now) => {}
                Err(InsertError::Full) => return Err(Refused::Drop(DropReason::TableFull)),
            }
        }
    }
}

impl Flows {
    /// A free local endpoint of the server's family, the addresses in turn.
    fn take_local(&mut self, slot: u32, server: Endpoint, protocol: Protocol) -> Option<Endpoint> {
        let service = self.pool.service_mut(slot);
        let local = &service.spec.local;
        for _ in 0..local.len() {
            let addr = local[service.next_local % local.len()];
            service.next_local = (service.next_local + 1) % local.len();
            if addr.family() != server.addr.family() {
                continue;
            }
            if let Some(port) = self.ports.take(addr, server, protocol) {
                return Some(Endpoint::new(addr, port));
            }
        }
        None
    }

    pub(super) fn release_local_port(&mut self, c: &Conn) {
        if let Some(local) = c.ends.local_end() {
            self.ports.release(local, c.ends.server, c.protocol);
        }
    }
}
