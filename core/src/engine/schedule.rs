//! New connections: the scheduler's pick, FULLNAT's local ports. After `ip_vs_schedule` of
//! `net/netfilter/ipvs/ip_vs_core.c`.

use super::{Engine, describe, shared};
use crate::backend::Backend;
use crate::conn::{self, Conn, ConnId, NONE};
use crate::counters::ScheduleFailure;
use crate::flow::{Endpoint, Flow, Protocol};
use crate::service::{Replies, ServerSpec, ServiceKey};
use crate::time::Instant;
use crate::trace::{Recorder, Step};
use crate::verdict::DropReason;

/// FTP's control port: its templates stand for all ports.
pub(super) const FTP: u16 = 21;
/// FTP's data port: a server of active FTP opens from it, and that is never scheduled.
pub(super) const FTP_DATA: u16 = 20;
/// A new connection that a packet asks for.
pub(super) struct Opening<'a> {
    /// The place of its service.
    pub(super) slot: u32,
    pub(super) flow: &'a Flow,
    /// [`conn::ONE_PACKET`] or none.
    pub(super) flags: u8,
    /// Whether it is to have a template.
    pub(super) persistent: bool,
}

/// Why a connection was not made.
pub(super) enum Refused {
    /// No server: the client is told.
    NoServer,
    /// The service does not take this one: the host's own stack would answer.
    NotForUs,
    Drop(DropReason),
}

impl<R: Recorder> Engine<R> {
    /// Finds a server and makes the connection.
    pub(super) fn schedule(
        &mut self,
        now: Instant,
        slot: u32,
        flow: &Flow,
    ) -> Result<ConnId, Refused> {
        if flow.src_port == FTP_DATA {
            return Err(Refused::NotForUs);
        }
        self.admit(now, slot, flow.src)?;
        if self.defence.drops() {
            return Err(Refused::Drop(DropReason::DropPacket));
        }
        let service = self.services[slot as usize]
            .as_ref()
            .ok_or(Refused::NoServer)?;
        let spec = &service.spec;
        let one_packet = spec.one_packet && flow.protocol == Protocol::Udp as u8;
        let persistence = spec.persistence;
        let new = Opening {
            slot,
            flow,
            flags: if one_packet { conn::ONE_PACKET } else { 0 },
            persistent: persistence.is_some(),
        };
        self.replaced = None;
        if let Some(p) = persistence {
            return self.schedule_persistent(now, &new, p);
        }
        let server = self.choose(now, &new)?;
        self.open(now, &new, server, NONE)
    }

    /// Counts a connection that a service wanted and could not make.
    pub(super) fn count_failure(&mut self, slot: u32, refused: &Refused) {
        let Some(service) = self.services[slot as usize].as_mut() else {
            return;
        };
        let failure = match refused {
            Refused::NotForUs => return,
            Refused::Drop(DropReason::SchedulerFault) => ScheduleFailure::SchedulerFault,
            Refused::Drop(DropReason::TableFull) => ScheduleFailure::TableFull,
            Refused::Drop(DropReason::PortsExhausted) => ScheduleFailure::PortsExhausted,
            Refused::Drop(DropReason::Denied) => ScheduleFailure::Denied,
            Refused::Drop(DropReason::ClientRate) => ScheduleFailure::ClientRate,
            Refused::Drop(DropReason::ServiceRate) => ScheduleFailure::ServiceRate,
            Refused::Drop(DropReason::DropPacket) => ScheduleFailure::DropPacket,
            Refused::Drop(_) => return,
            Refused::NoServer => {
                let mut weighty = service.backends.iter().filter(|b| b.weight > 0).peekable();
                if weighty.peek().is_some() && weighty.all(|b| !b.is_available()) {
                    ScheduleFailure::AllOverloaded
                } else {
                    ScheduleFailure::NoBackend
                }
            }
        };
        service.failures[failure as usize] += 1;
        self.record(|_| Step::Refused {
            why: failure.meaning().to_owned(),
        });
    }

    /// Asks the service's scheduler, as if the servers at the places `avoid` were overloaded; checks what it
    /// says.
    pub(super) fn pick(
        &mut self,
        now: Instant,
        new: &Opening<'_>,
        avoid: &[u32],
    ) -> Result<u32, Refused> {
        let flow = new.flow;
        let service = self.services[new.slot as usize]
            .as_mut()
            .ok_or(Refused::NoServer)?;
        shared::mark(&mut service.backends, &service.servers, avoid, true);
        service.slow_start.hold_back(now, &mut service.backends);
        let mut picked = service.scheduler.pick(flow, &service.backends);
        // Rather a server before its time than none.
        if picked.is_none() && service.slow_start.let_go(&mut service.backends) {
            picked = service.scheduler.pick(flow, &service.backends);
        }
        if R::ON {
            let step = describe::scheduled(service, &self.servers, picked, avoid);
            self.recorder.note(step);
        }
        let allowed = |i: usize| service.backends.get(i).is_some_and(Backend::is_available);
        let is_allowed = picked.is_none_or(allowed);
        service.slow_start.let_go(&mut service.backends);
        shared::mark(&mut service.backends, &service.servers, avoid, false);
        let picked = picked.ok_or(Refused::NoServer)?;
        if !is_allowed {
            self.counters.scheduler_faults += 1;
            return Err(Refused::Drop(DropReason::SchedulerFault));
        }
        service.slow_start.charge(service.backends[picked].id);
        Ok(service.servers[picked])
    }

    pub(super) fn service_port(&self, slot: u32) -> u16 {
        match self.services[slot as usize].as_ref().map(|s| s.spec.key) {
            Some(ServiceKey::Address { port, .. }) => port,
            Some(ServiceKey::Mark { .. }) | None => 0,
        }
    }

    pub(super) fn mark_of(&self, slot: u32) -> Option<u32> {
        match self.services[slot as usize].as_ref()?.spec.key {
            ServiceKey::Mark { mark, .. } => Some(mark),
            ServiceKey::Address { .. } => None,
        }
    }

    /// The port that a connection uses at this server.
    pub(super) fn server_port(&self, new: &Opening<'_>, spec: &ServerSpec) -> u16 {
        match spec.endpoint.port {
            0 => new.flow.dst_port,
            own if new.flow.dst_port == self.service_port(new.slot) => own,
            // A mark's service has no port: its server's counts, but for those of a template.
            own if !new.persistent && self.mark_of(new.slot).is_some() => own,
            _ => new.flow.dst_port,
        }
    }

    /// Makes the connection to `server`, under the template `control`.
    pub(super) fn open(
        &mut self,
        now: Instant,
        new: &Opening<'_>,
        server: u32,
        control: u32,
    ) -> Result<ConnId, Refused> {
        let (slot, flow) = (new.slot, new.flow);
        let protocol = Protocol::from_number(flow.protocol).ok_or(Refused::NoServer)?;
        let (spec, mode) = (self.servers.get(server).spec, self.servers.get(server).mode);
        let port = self.server_port(new, &spec);
        let mut c = Conn::new(
            protocol,
            flow.source(),
            flow.destination(),
            Endpoint::new(spec.endpoint.addr, port),
        );
        c.flags = new.flags | conn::INACTIVE;
        c.mode = mode;
        c.backend = server;
        c.control = control;
        if spec.forwarding.takes_local() {
            c.local = self
                .take_local(slot, c.server, protocol)
                .ok_or(Refused::Drop(DropReason::PortsExhausted))?;
        }
        let replies = spec.forwarding.passes_replies();
        if !replies {
            c.flags |= conn::NO_OUTPUT;
        }
        let id = self
            .insert(now, c, replies)
            .inspect_err(|_| self.give_back_local(&c))?;
        if spec.forwarding.replies() == Replies::Gateway {
            self.clients.note(&self.conns, id);
        }
        self.record(|_| describe::opened(&c));
        self.servers.get_mut(server).numbers.stats.connections += 1;
        if let Some(s) = self.services[slot as usize].as_mut() {
            s.stats.connections += 1;
        }
        Ok(id)
    }

    /// A free local endpoint, the addresses in turn.
    fn take_local(&mut self, slot: u32, server: Endpoint, protocol: Protocol) -> Option<Endpoint> {
        let service = self.services[slot as usize].as_mut()?;
        let local = &service.spec.local;
        for _ in 0..local.len() {
            let addr = local[service.next_local % local.len()];
            service.next_local = (service.next_local + 1) % local.len();
            if let Some(port) = self.ports.take(addr, server, protocol) {
                return Some(Endpoint::new(addr, port));
            }
        }
        None
    }

    pub(super) fn give_back_local(&mut self, c: &Conn) {
        if c.local.port != 0 {
            self.ports.give_back(c.local, c.server, c.protocol);
        }
    }
}
