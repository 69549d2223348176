//! New connections: the scheduler's pick, persistence, FULLNAT's local ports. After `ip_vs_schedule` and
//! `ip_vs_sched_persist` of `net/netfilter/ipvs/ip_vs_core.c`.

use super::{Engine, describe};
use crate::backend::Backend;
use crate::conn::{self, Conn, ConnId, NONE};
use crate::counters::ScheduleFailure;
use crate::flow::{Addr, Endpoint, Flow, Protocol};
use crate::service::{Forwarding, Persistence, ServiceKey};
use crate::time::Instant;
use crate::trace::{Recorder, Step};
use crate::verdict::DropReason;

/// FTP's control port: its templates stand for all ports.
pub(super) const FTP: u16 = 21;
/// FTP's data port: a server of active FTP opens from it, and that is never scheduled.
pub(super) const FTP_DATA: u16 = 20;
/// The port that an invalidated template shows.
const INVALID: u16 = 0xffff;

/// What a client's template is found by.
pub(super) struct TemplateKey {
    protocol: Protocol,
    client: Endpoint,
    vip: Endpoint,
    /// Whether it stands for the service's port alone.
    own_port: bool,
    /// Whether it stands for all that has a firewall mark, of all protocols.
    marked: bool,
}

impl TemplateKey {
    pub(super) const fn flow(&self) -> Flow {
        self.template().client_flow()
    }

    /// A template that leads nowhere yet.
    const fn template(&self) -> Conn {
        let mut t = Conn::new(self.protocol, self.client, self.vip, Endpoint::NONE);
        t.flags = conn::TEMPLATE | if self.marked { conn::MARKED } else { 0 };
        t
    }
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
        let flags = if one_packet { conn::ONE_PACKET } else { 0 };
        if let Some(p) = spec.persistence {
            return self.schedule_persistent(now, slot, flow, p, flags);
        }
        let server = self.pick(now, slot, flow)?;
        self.open(now, slot, server, flow, flags, NONE)
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
            Refused::Drop(DropReason::ReplyTupleTaken) => ScheduleFailure::ReplyTupleTaken,
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

    /// Asks the service's scheduler; checks what it says.
    fn pick(&mut self, now: Instant, slot: u32, flow: &Flow) -> Result<u32, Refused> {
        let service = self.services[slot as usize]
            .as_mut()
            .ok_or(Refused::NoServer)?;
        service.slow_start.hold_back(now, &mut service.backends);
        let mut picked = service.scheduler.pick(flow, &service.backends);
        // Rather a server before its time than none.
        if picked.is_none() && service.slow_start.let_go(&mut service.backends) {
            picked = service.scheduler.pick(flow, &service.backends);
        }
        if R::ON {
            let step = describe::scheduled(service, &self.servers, picked);
            self.recorder.note(step);
        }
        let allowed = |i: usize| service.backends.get(i).is_some_and(Backend::is_available);
        let is_allowed = picked.is_none_or(allowed);
        service.slow_start.let_go(&mut service.backends);
        let picked = picked.ok_or(Refused::NoServer)?;
        if !is_allowed {
            self.counters.scheduler_faults += 1;
            return Err(Refused::Drop(DropReason::SchedulerFault));
        }
        service.slow_start.charge(service.backends[picked].id);
        Ok(service.servers[picked])
    }

    /// One client stays with one server by a template (`ip_vs_sched_persist`).
    fn schedule_persistent(
        &mut self,
        now: Instant,
        slot: u32,
        flow: &Flow,
        p: Persistence,
        flags: u8,
    ) -> Result<ConnId, Refused> {
        let key = self.template_key(slot, flow, p).ok_or(Refused::NoServer)?;
        let known = self.conns.find(&key.flow()).map(|(id, _)| id);
        self.record(|e| e.persisted(now, key.client.addr, p, known));
        let template = match known.filter(|id| self.template_is_valid(*id)) {
            Some(id) => id,
            None => {
                if let Some(id) = known {
                    self.conns.invalidate(id, INVALID);
                }
                let server = self.pick(now, slot, flow)?;
                let port = if key.own_port {
                    self.servers.get(server).key.1.port
                } else {
                    0
                };
                let addr = self.servers.get(server).key.1.addr;
                let mut t = key.template();
                t.server = Endpoint::new(addr, port);
                t.timeout = p.timeout;
                t.backend = server;
                self.insert(now, t, false)?
            }
        };
        let server = self.conns.get(template).backend;
        let id = self.open(now, slot, server, flow, flags, template.0)?;
        self.conns.get_mut(template).controlled += 1;
        self.conns.touch(now, template);
        Ok(id)
    }

    /// Where persistence looks for this client's server; `None` for a protocol that has none.
    pub(super) fn template_key(
        &self,
        slot: u32,
        flow: &Flow,
        p: Persistence,
    ) -> Option<TemplateKey> {
        let service_port = self.service_port(slot);
        let own_port = flow.dst_port == service_port && service_port != FTP;
        let mark = self.mark_of(slot);
        let vip = match mark {
            Some(mark) => Endpoint::new(Addr::v4(mark.to_be_bytes()), 0),
            None => Endpoint::new(flow.dst, if own_port { flow.dst_port } else { 0 }),
        };
        Some(TemplateKey {
            protocol: Protocol::from_number(flow.protocol)?,
            client: Endpoint::new(mask(flow.src, p.mask), 0),
            vip,
            own_port,
            marked: mark.is_some(),
        })
    }

    fn service_port(&self, slot: u32) -> u16 {
        match self.services[slot as usize].as_ref().map(|s| s.spec.key) {
            Some(ServiceKey::Address { port, .. }) => port,
            Some(ServiceKey::Mark { .. }) | None => 0,
        }
    }

    fn mark_of(&self, slot: u32) -> Option<u32> {
        match self.services[slot as usize].as_ref()?.spec.key {
            ServiceKey::Mark { mark, .. } => Some(mark),
            ServiceKey::Address { .. } => None,
        }
    }

    /// A template holds while its server is there (`ip_vs_check_template`).
    pub(super) fn template_is_valid(&self, id: ConnId) -> bool {
        let server = self.servers.get(self.conns.get(id).backend);
        let quiesced =
            server.spec.weight == 0 && self.snapshot.sysctls.expire_quiescent_template != 0;
        server.service != NONE && !quiesced && !server.is_timed_out()
    }

    /// Makes the connection of `flow` to `server`.
    fn open(
        &mut self,
        now: Instant,
        slot: u32,
        server: u32,
        flow: &Flow,
        flags: u8,
        control: u32,
    ) -> Result<ConnId, Refused> {
        let protocol = Protocol::from_number(flow.protocol).ok_or(Refused::NoServer)?;
        let (spec, mode) = (self.servers.get(server).spec, self.servers.get(server).mode);
        let port = match spec.endpoint.port {
            0 => flow.dst_port,
            own if flow.dst_port == self.service_port(slot) => own,
            // A mark's service has no port: its server's counts, but for those of a template.
            own if control == NONE && self.mark_of(slot).is_some() => own,
            _ => flow.dst_port,
        };
        let mut c = Conn::new(
            protocol,
            flow.source(),
            flow.destination(),
            Endpoint::new(spec.endpoint.addr, port),
        );
        c.flags = flags | conn::INACTIVE;
        c.mode = mode;
        c.backend = server;
        c.control = control;
        if spec.forwarding == Forwarding::FullNat {
            c.local = self
                .take_local(slot, c.server, protocol)
                .ok_or(Refused::Drop(DropReason::PortsExhausted))?;
        }
        let replies = matches!(spec.forwarding, Forwarding::Nat | Forwarding::FullNat);
        if !replies {
            c.flags |= conn::NO_OUTPUT;
        }
        let id = self
            .insert(now, c, replies)
            .inspect_err(|_| self.give_back_local(&c))?;
        self.record(|_| describe::opened(&c));
        self.servers.get_mut(server).stats.connections += 1;
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

/// A client's address as a service's persistence sees it: an IPv4 netmask of any form, an IPv6 prefix.
fn mask(addr: Addr, mask: u32) -> Addr {
    match addr.as_v4() {
        Some(b) => Addr::v4((u32::from_be_bytes(b) & mask).to_be_bytes()),
        None => addr.masked(mask.min(128) as u8),
    }
}
