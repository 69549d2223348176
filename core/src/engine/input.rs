//! Packets from clients: known connections, new ones, persistence. After `ip_vs_in` and `ip_vs_schedule`
//! of `net/netfilter/ipvs/ip_vs_core.c`.

use super::Engine;
use super::transmit::Way;
use crate::backend::Backend;
use crate::conn::{self, Conn, ConnId, InsertError, NONE};
use crate::counters::ScheduleFailure;
use crate::flow::{Addr, Endpoint, Flow, Protocol};
use crate::frame::Frame;
use crate::outbox::Outbox;
use crate::packet::{Packet, Transport, tcp_flags};
use crate::service::{Forwarding, Persistence, ServiceKey};
use crate::tcp::{self, Direction, TcpState};
use crate::time::Instant;
use crate::verdict::{DropReason, Verdict};

/// FTP's control port: its templates stand for all ports.
const FTP: u16 = 21;
/// The port that an invalidated template shows.
const INVALID: u16 = 0xffff;

/// Why a connection was not made.
#[derive(Clone, Copy)]
enum Refused {
    /// No server: the client is told.
    NoServer,
    Drop(DropReason),
}

impl Engine {
    /// A packet from the client of a known connection.
    pub(super) fn continue_connection(
        &mut self,
        now: Instant,
        id: ConnId,
        frame: &mut Frame<'_>,
        packet: &Packet,
        refragment: Option<usize>,
        out: &mut Outbox,
    ) -> Verdict {
        let conn = *self.conns.get(id);
        let server = self.servers.get(conn.backend);
        let removed = server.service == NONE;
        // Without its service the packet is none of IPVS's: the host answers.
        if removed && self.service_for(&packet.flow).is_none() {
            return self.answer_as_host(now, frame, packet, out);
        }
        let syn =
            matches!(packet.transport, Transport::Tcp { flags, .. } if flags & tcp_flags::SYN != 0);
        let quiesced =
            self.snapshot.sysctls.expire_nodest_conn != 0 && !removed && server.spec.weight == 0;
        if syn && (quiesced || self.is_reusable(&conn)) {
            if conn.controlled == 0 {
                self.expire(now, id);
            }
            return self.start_connection(now, frame, packet, refragment, out);
        }
        if removed {
            if self.snapshot.sysctls.expire_nodest_conn == 0 {
                return Verdict::Drop(DropReason::ServerGone);
            }
            self.expire(now, id);
            return self.start_connection(now, frame, packet, refragment, out);
        }
        self.forward(now, id, frame, packet, refragment, out)
    }

    /// Whether a SYN on this connection starts a new one (`is_new_conn_expected`).
    fn is_reusable(&self, conn: &Conn) -> bool {
        let mode = self.snapshot.sysctls.conn_reuse_mode;
        if mode == 0 || conn.control != NONE {
            return false;
        }
        conn.state == TcpState::TimeWait as u8
            || conn.state == TcpState::Close as u8
            || (mode & 2 != 0 && conn.state == TcpState::FinWait as u8 && conn.has(conn::NO_OUTPUT))
    }

    /// A packet that belongs to no connection: of a service, of a server, or not ours.
    pub(super) fn start_connection(
        &mut self,
        now: Instant,
        frame: &mut Frame<'_>,
        packet: &Packet,
        refragment: Option<usize>,
        out: &mut Outbox,
    ) -> Verdict {
        let Some(slot) = self.service_for(&packet.flow) else {
            return self.stray(now, frame, packet, refragment, out);
        };
        if !self.may_start(packet) {
            return match packet.transport {
                Transport::Tcp { .. } => self.reset(now, frame, packet, out),
                _ => Verdict::Drop(DropReason::NoConnection),
            };
        }
        match self.schedule(now, slot, &packet.flow) {
            Ok(id) => {
                let verdict = self.forward(now, id, frame, packet, refragment, out);
                if self.conns.get(id).has(conn::ONE_PACKET) {
                    self.expire(now, id);
                }
                verdict
            }
            Err(refused) => {
                self.count_failure(slot, refused);
                match refused {
                    Refused::NoServer => {
                        self.port_unreachable(now, frame, packet, packet.flow.dst, out)
                    }
                    Refused::Drop(reason) => Verdict::Drop(reason),
                }
            }
        }
    }

    fn count_failure(&mut self, slot: u32, refused: Refused) {
        let Some(service) = self.services[slot as usize].as_mut() else {
            return;
        };
        let failure = match refused {
            Refused::Drop(DropReason::SchedulerFault) => ScheduleFailure::SchedulerFault,
            Refused::Drop(DropReason::TableFull) => ScheduleFailure::TableFull,
            Refused::Drop(_) => ScheduleFailure::PortsExhausted,
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
    }

    /// Whether a packet may start a connection (`tcp_conn_schedule` and its like).
    fn may_start(&self, packet: &Packet) -> bool {
        /// SCTP's INIT chunk (RFC 9260 §3.3.2).
        const INIT: u8 = 1;
        let sysctls = &self.snapshot.sysctls;
        match packet.transport {
            Transport::Tcp { flags, .. } => {
                flags & tcp_flags::RST == 0
                    && (flags & tcp_flags::SYN != 0 || sysctls.sloppy_tcp != 0)
            }
            Transport::Udp => true,
            Transport::Sctp { chunk } => chunk == INIT || sysctls.sloppy_sctp != 0,
            Transport::Icmp { .. } | Transport::Fragment | Transport::Other => false,
        }
    }

    /// Finds a server and makes the connection.
    fn schedule(&mut self, now: Instant, slot: u32, flow: &Flow) -> Result<ConnId, Refused> {
        let service = self.services[slot as usize]
            .as_ref()
            .ok_or(Refused::NoServer)?;
        let spec = &service.spec;
        let one_packet = spec.one_packet && flow.protocol == Protocol::Udp as u8;
        let flags = if one_packet { conn::ONE_PACKET } else { 0 };
        if let Some(p) = spec.persistence {
            return self.schedule_persistent(now, slot, flow, p, flags);
        }
        let server = self.pick(slot, flow)?;
        self.open(now, slot, server, flow, flags, NONE)
    }

    /// Asks the service's scheduler; checks what it says.
    fn pick(&mut self, slot: u32, flow: &Flow) -> Result<u32, Refused> {
        let service = self.services[slot as usize]
            .as_mut()
            .ok_or(Refused::NoServer)?;
        let picked = service
            .scheduler
            .pick(flow, &service.backends)
            .ok_or(Refused::NoServer)?;
        if !service
            .backends
            .get(picked)
            .is_some_and(Backend::is_available)
        {
            self.counters.scheduler_faults += 1;
            return Err(Refused::Drop(DropReason::SchedulerFault));
        }
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
        let protocol = Protocol::from_number(flow.protocol).ok_or(Refused::NoServer)?;
        let service_port = self.service_port(slot);
        let own_port = flow.dst_port == service_port && service_port != FTP;
        let client = Endpoint::new(mask(flow.src, p.mask), 0);
        let vip = Endpoint::new(flow.dst, if own_port { flow.dst_port } else { 0 });
        let known = self
            .conns
            .find(&conn::template_flow(protocol, client, vip))
            .map(|(id, _)| id);
        let template = match known.filter(|id| self.template_is_valid(*id)) {
            Some(id) => id,
            None => {
                if let Some(id) = known {
                    self.conns.invalidate(id, INVALID);
                }
                let server = self.pick(slot, flow)?;
                let port = if own_port {
                    self.servers.get(server).key.1.port
                } else {
                    0
                };
                let addr = self.servers.get(server).key.1.addr;
                let mut t = Conn::new(protocol, client, vip, Endpoint::new(addr, port));
                t.flags = conn::TEMPLATE;
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

    fn service_port(&self, slot: u32) -> u16 {
        match self.services[slot as usize].as_ref().map(|s| s.spec.key) {
            Some(ServiceKey::Address { port, .. }) => port,
            Some(ServiceKey::Mark { .. }) | None => 0,
        }
    }

    /// A template holds while its server is there (`ip_vs_check_template`).
    fn template_is_valid(&self, id: ConnId) -> bool {
        let server = self.servers.get(self.conns.get(id).backend);
        let quiesced =
            server.spec.weight == 0 && self.snapshot.sysctls.expire_quiescent_template != 0;
        server.service != NONE && !quiesced
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
            _ if flow.dst_port == self.service_port(slot) => spec.endpoint.port,
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

    fn give_back_local(&mut self, c: &Conn) {
        if c.local.port != 0 {
            self.ports.give_back(c.local, c.server, c.protocol);
        }
    }

    /// Inserts and counts at the server (`ip_vs_bind_dest`).
    fn insert(&mut self, now: Instant, c: Conn, replies: bool) -> Result<ConnId, Refused> {
        let id = self.conns.insert(now, c, replies).map_err(|e| {
            Refused::Drop(match e {
                InsertError::Full => DropReason::TableFull,
                InsertError::Taken => DropReason::PortsExhausted,
            })
        })?;
        let server = self.servers.get_mut(c.backend);
        server.references += 1;
        if c.has(conn::TEMPLATE) {
            server.persistent += 1;
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
        /// Seconds until such a template is looked at again (`ip_vs_conn_expire`).
        const LATER: u32 = 60;
        if self.conns.get(id).controlled > 0 {
            let timeout = std::mem::replace(&mut self.conns.get_mut(id).timeout, LATER);
            self.conns.touch(now, id);
            self.conns.get_mut(id).timeout = timeout;
            return;
        }
        let c = self.conns.remove(id);
        self.counters.expired += 1;
        if c.control != NONE {
            let template = self.conns.get_mut(ConnId(c.control));
            template.controlled = template.controlled.saturating_sub(1);
        }
        self.give_back_local(&c);
        self.uncount(&c);
        self.servers.release(c.backend);
    }

    /// Ends connections of removed servers, `budget` places a call (`ip_vs_expire_nodest_conn_flush`).
    pub(super) fn sweep(&mut self, now: Instant, budget: u32) {
        let Some(from) = self.sweep else {
            return;
        };
        let to = from.saturating_add(budget).min(self.conns.places());
        for id in from..to {
            if let Some(c) = self.conns.at(id)
                && c.controlled == 0
                && self.servers.get(c.backend).service == NONE
            {
                self.expire(now, ConnId(id));
            }
        }
        self.sweep = (to < self.conns.places()).then_some(to);
    }

    /// The reverse of counting; makes room under the threshold (`ip_vs_unbind_dest`).
    fn uncount(&mut self, c: &Conn) {
        let server = self.servers.get_mut(c.backend);
        let (upper, lower) = (server.spec.upper, server.spec.lower);
        if c.has(conn::TEMPLATE) {
            server.persistent -= 1;
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

    /// Counts, tracks and sends a client's packet to its server.
    fn forward(
        &mut self,
        now: Instant,
        id: ConnId,
        frame: &mut Frame<'_>,
        packet: &Packet,
        refragment: Option<usize>,
        out: &mut Outbox,
    ) -> Verdict {
        let bytes = u64::from(packet.ip_len);
        let c = self.conns.get_mut(id);
        c.in_packets = c.in_packets.saturating_add(1);
        let (place, to, vip, mode) = (
            c.backend,
            c.server.addr,
            c.vip.addr,
            self.modes[usize::from(c.mode)],
        );
        let server = self.servers.get_mut(place);
        server.stats.in_packets += 1;
        server.stats.in_bytes += bytes;
        if let Some(s) = self
            .services
            .get_mut(server.service as usize)
            .and_then(Option::as_mut)
        {
            s.stats.in_packets += 1;
            s.stats.in_bytes += bytes;
        }
        self.track(id, packet, false);
        self.conns.touch(now, id);
        let path = self.path(id);
        let way = Way {
            mode,
            path,
            forward: true,
            refragment,
        };
        let hop = self.fib.lookup(to);
        self.transmit(now, frame, packet, way, hop, vip, out)
    }

    /// Moves the connection's state on and sets its time-out; counts it as active or inactive.
    pub(super) fn track(&mut self, id: ConnId, packet: &Packet, output: bool) {
        let timeouts = self.snapshot.timeouts;
        let strict = self.snapshot.sysctls.secure_tcp & 1 != 0;
        let c = self.conns.get_mut(id);
        match packet.transport {
            Transport::Tcp { flags, .. } => {
                let direction = match (output, c.has(conn::NO_OUTPUT)) {
                    (true, _) => Direction::Output,
                    (false, true) => Direction::InputOnly,
                    (false, false) => Direction::Input,
                };
                let state = tcp::next(tcp_state(c.state), direction, flags, strict);
                c.state = state as u8;
                c.timeout = state.timeout(&timeouts);
                let (place, was_inactive) = (c.backend, c.has(conn::INACTIVE));
                if state.is_active() == was_inactive {
                    c.flags ^= conn::INACTIVE;
                    let load = self.load_mut(place);
                    if was_inactive {
                        (load.active, load.inactive) = (load.active + 1, load.inactive - 1);
                    } else {
                        (load.active, load.inactive) = (load.active - 1, load.inactive + 1);
                    }
                }
            }
            Transport::Udp => c.timeout = timeouts.udp,
            Transport::Sctp { .. }
            | Transport::Icmp { .. }
            | Transport::Fragment
            | Transport::Other => {}
        }
    }
}

/// The state with this discriminant.
pub(super) fn tcp_state(n: u8) -> TcpState {
    use TcpState as S;
    const ALL: [TcpState; 11] = [
        S::None,
        S::Established,
        S::SynSent,
        S::SynRecv,
        S::FinWait,
        S::TimeWait,
        S::Close,
        S::CloseWait,
        S::LastAck,
        S::Listen,
        S::SynAck,
    ];
    ALL.get(usize::from(n)).copied().unwrap_or(S::None)
}

/// A client's address as a service's persistence sees it: an IPv4 netmask of any form, an IPv6 prefix.
fn mask(addr: Addr, mask: u32) -> Addr {
    match addr.as_v4() {
        Some(b) => Addr::v4((u32::from_be_bytes(b) & mask).to_be_bytes()),
        None => addr.masked(mask.min(128) as u8),
    }
}
