//! Packets from servers that replies must pass (NAT, FULLNAT). After `ip_vs_out` and `handle_response`.

use std::collections::HashSet;

use super::Engine;
use super::answer::icmp;
use super::reopen::is_opening;
use super::transmit::{By, Way, to_client, wire_len};
use crate::conn::ConnId;
use crate::fib::{NextHop, Query, Refusal, Unreachable};
use crate::flow::{Addr, Endpoint, Protocol};
use crate::frame::Frame;
use crate::outbox::Outbox;
use crate::packet::{Packet, Transport, tcp_flags};
use crate::rewrite;
use crate::sctp::chunk::ABORT;
use crate::time::Instant;
use crate::trace::Recorder;
use crate::verdict::{DropReason, Verdict};

impl<R: Recorder> Engine<R> {
    /// A packet from the server of a known connection.
    pub(super) fn reply(
        &mut self,
        now: Instant,
        id: ConnId,
        frame: &mut Frame<'_>,
        packet: &Packet,
        out: &mut Outbox,
    ) -> Verdict {
        let hop = self.hop_to_client(id, frame, packet);
        // The host's routing comes before IPVS: a packet that may travel no further changes nothing.
        if let Some(verdict) = self.refuse_routing(now, frame, packet, hop, out) {
            return verdict;
        }
        let c = self.conns.get(id);
        let (place, mode) = (c.backend, &self.modes[usize::from(c.mode)]);
        if is_opening(c)
            && let Some(verdict) = self.reopen(now, id, frame, packet, out)
        {
            return verdict;
        }
        self.count_packet(place, true, u64::from(packet.ip_len));
        self.measure_handshake(now, id, packet);
        self.follow(now, id, frame, packet, true);
        let path = self.path(id);
        let way = Way {
            by: By::Mode(mode),
            path,
            forward: false,
            answer_from: Addr::UNSPECIFIED,
        };
        self.transmit(now, frame, packet, way, hop, out)
    }

    /// The way of a server's packet to its client. The kernel routes it twice: as it came, before IPVS, and then
    /// by the VIP, unless snat_reroute is 0 (`ip_vs_route_me_harder`). Without rules both are one way.
    fn hop_to_client(
        &mut self,
        id: ConnId,
        frame: &Frame<'_>,
        packet: &Packet,
    ) -> Result<NextHop, Unreachable> {
        let c = self.conns.get(id);
        // What comes to a local address of FULLNAT's has arrived.
        if self.fib.has_rules() && c.local.port == 0 {
            let flow = &packet.flow;
            let came = Query::to(flow.dst).from(flow.src).by(frame.arrival);
            let first = self.fib.lookup(came.of(c.client));
            let refused = matches!(first, Err(Unreachable::NoRoute | Unreachable::Refused(_)));
            if refused || self.snapshot.sysctls.snat_reroute == 0 {
                return first;
            }
        }
        self.ways.lookup(&self.fib, to_client(c))
    }

    /// A packet of no service and no connection: a server's that is too late for its FULLNAT connection, or
    /// one to an address that UVS owns. All else is the kernel's, a NAT server's own traffic too.
    pub(super) fn stray(
        &mut self,
        now: Instant,
        frame: &mut Frame<'_>,
        packet: &Packet,
        out: &mut Outbox,
    ) -> Verdict {
        let from_server = self.is_replier(packet.protocol, packet.flow.source());
        self.record(|e| e.strayed(&packet.flow, from_server));
        if !from_server {
            return self.answer_as_host(now, frame, packet, out);
        }
        if self.locals.contains(&packet.flow.dst) && self.is_local_port(packet.flow.dst_port) {
            return match packet.transport {
                Transport::Tcp { .. } => self.reset(frame, packet, out),
                _ => self.port_unreachable(now, frame, packet, packet.flow.dst, out),
            };
        }
        let (protocol, from) = (packet.protocol, packet.flow.source());
        if self.fib.is_local(packet.flow.dst) || !is_one_of(&self.nat_servers, protocol, from) {
            return Verdict::Pass;
        }
        if self.snapshot.sysctls.nat_icmp_send != 0 && wants_an_answer(packet) {
            return self.answer_stray(now, frame, packet, out);
        }
        match self.of_client(protocol, packet.flow.destination()) {
            Some(_) => Verdict::Local,
            None => Verdict::Pass,
        }
    }

    /// A server's packet of no connection, which nat_icmp_send has answered (`ip_vs_out`): after the host's
    /// routing, which it follows up to there.
    fn answer_stray(
        &mut self,
        now: Instant,
        frame: &mut Frame<'_>,
        packet: &Packet,
        out: &mut Outbox,
    ) -> Verdict {
        if !self.fib.forwarding {
            return Verdict::Drop(DropReason::NoConnection);
        }
        let flow = &packet.flow;
        let query = Query::to(flow.dst).from(flow.src).by(frame.arrival);
        let hop = self.fib.lookup(query);
        if let Some(verdict) = self.refuse_routing(now, frame, packet, hop, out) {
            return verdict;
        }
        // Routing has lowered the TTL before IPVS sees the packet.
        rewrite::decrement_ttl(frame, packet);
        self.port_unreachable(now, frame, packet, Addr::UNSPECIFIED, out)
    }

    /// What the host's routing refuses, before IPVS sees it (`ip_route_input_slow`, `ip_forward`).
    fn refuse_routing(
        &mut self,
        now: Instant,
        frame: &Frame<'_>,
        packet: &Packet,
        hop: Result<NextHop, Unreachable>,
        out: &mut Outbox,
    ) -> Option<Verdict> {
        let from = Addr::UNSPECIFIED;
        let mut tell = |code| Some(self.no_route(now, frame, packet, code, out));
        match hop {
            // As `ip_error` (net/ipv4/route.c).
            Err(Unreachable::NoRoute) => tell(icmp::NET_UNREACHABLE),
            Err(Unreachable::Refused(Refusal::Unreachable)) => tell(icmp::HOST_UNREACHABLE),
            Err(Unreachable::Refused(Refusal::Prohibit)) => tell(icmp::PROHIBITED),
            Err(Unreachable::Refused(Refusal::Blackhole)) => {
                Some(Verdict::Drop(DropReason::NoRoute))
            }
            Err(Unreachable::Local | Unreachable::NotAPort) => None,
            Ok(_) if packet.ttl <= 1 => Some(self.time_exceeded(now, frame, packet, from, out)),
            Ok(hop) => {
                let mtu = hop.mtu as usize;
                (packet.dont_fragment && wire_len(frame, packet) > mtu)
                    .then(|| self.too_big(now, frame, packet, mtu, from, out))
            }
        }
    }

    /// Whether packets from this endpoint, of this IP protocol, reach clients only through the director.
    pub(super) fn is_replier(&self, protocol: u8, from: Endpoint) -> bool {
        is_one_of(&self.repliers, protocol, from)
    }

    fn is_local_port(&self, port: u16) -> bool {
        self.ports.contains(port)
    }
}

/// Whether an endpoint is one of these servers, or of one that has every port.
pub(super) fn is_one_of(
    servers: &HashSet<(Protocol, Endpoint)>,
    protocol: u8,
    end: Endpoint,
) -> bool {
    Protocol::from_number(protocol).is_some_and(|p| {
        servers.contains(&(p, end)) || servers.contains(&(p, Endpoint::new(end.addr, 0)))
    })
}

/// Whether a server is told that its packet belongs to no connection: not of a reset, nor of ICMP.
fn wants_an_answer(packet: &Packet) -> bool {
    match packet.transport {
        Transport::Tcp { flags, .. } => flags & tcp_flags::RST == 0,
        Transport::Sctp { chunk } => chunk != ABORT,
        Transport::Udp => true,
        Transport::Icmp { .. } | Transport::Fragment | Transport::Other => false,
    }
}
