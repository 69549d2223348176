//! Packets from servers that replies must pass (NAT, FULLNAT). After `ip_vs_out` and `handle_response`.

use std::collections::HashSet;

use super::Engine;
use super::reopen::is_opening;
use super::transit::Transit;
use super::transmit::{By, Way, to_client, wire_len};
use super::voice::Error;
use crate::conn::ConnId;
use crate::fib::{NextHop, Query, Refusal, Unreachable};
use crate::flow::{Addr, Endpoint, Protocol};
use crate::packet::{Packet, Transport};
use crate::rewrite;
use crate::trace::Recorder;
use crate::verdict::{DropReason, Verdict};
use crate::wire::sctp::chunk::ABORT;
use crate::wire::tcp::flag;

impl<R: Recorder> Engine<R> {
    /// A packet from the server of a known connection.
    pub(super) fn reply(&mut self, t: &mut Transit<'_, '_>, id: ConnId) -> Verdict {
        let hop = self.hop_to_client(t, id);
        // The host's routing comes before IPVS: a packet that may travel no further changes nothing.
        if let Some(verdict) = self.refuse_routing(t, hop) {
            return verdict;
        }
        let c = self.conns.get(id);
        let (place, mode) = (c.backend, &self.modes[usize::from(c.mode)]);
        if is_opening(c)
            && let Some(verdict) = self.reopen(t, id)
        {
            return verdict;
        }
        self.count_packet(place, true, u64::from(t.packet.ip_len));
        self.measure_handshake(t, id);
        self.follow(t, id, true);
        let path = self.path(id);
        let way = Way {
            by: By::Mode(mode),
            path,
            forward: false,
            answer_from: Addr::UNSPECIFIED,
        };
        self.transmit(t, way, hop)
    }

    /// The way of a server's packet to its client. The kernel routes it twice: as it came, before IPVS, and then
    /// by the VIP, unless snat_reroute is 0 (`ip_vs_route_me_harder`). Without rules both are one way.
    fn hop_to_client(&mut self, t: &Transit<'_, '_>, id: ConnId) -> Result<NextHop, Unreachable> {
        let c = self.conns.get(id);
        // What comes to a local address of FULLNAT's has arrived.
        if self.fib.has_rules() && c.local.port == 0 {
            let flow = &t.packet.flow;
            let came = Query::to(flow.dst).from(flow.src).by(t.frame.arrival);
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
    pub(super) fn stray(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        let from_server = self.is_replier(t.packet.protocol, t.packet.flow.source());
        self.record(|e| e.strayed(&t.packet.flow, from_server));
        if !from_server {
            return self.answer_as_host(t);
        }
        if self.locals.contains(&t.packet.flow.dst) && self.is_local_port(t.packet.flow.dst_port) {
            return match t.packet.transport {
                Transport::Tcp { .. } => self.reset(t),
                _ => self.refuse(t, Error::PortUnreachable, t.packet.flow.dst),
            };
        }
        let (protocol, from) = (t.packet.protocol, t.packet.flow.source());
        if self.fib.is_local(t.packet.flow.dst) || !is_one_of(&self.nat_servers, protocol, from) {
            return Verdict::Pass;
        }
        if self.snapshot.sysctls.nat_icmp_send != 0 && wants_an_answer(t.packet) {
            return self.answer_stray(t);
        }
        match self.of_client(protocol, t.packet.flow.destination()) {
            Some(_) => Verdict::Local,
            None => Verdict::Pass,
        }
    }

    /// A server's packet of no connection, which nat_icmp_send has answered (`ip_vs_out`): after the host's
    /// routing, which it follows up to there.
    fn answer_stray(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        if !self.fib.forwarding {
            return Verdict::Drop(DropReason::NoConnection);
        }
        let flow = &t.packet.flow;
        let query = Query::to(flow.dst).from(flow.src).by(t.frame.arrival);
        let hop = self.fib.lookup(query);
        if let Some(verdict) = self.refuse_routing(t, hop) {
            return verdict;
        }
        // Routing has lowered the TTL before IPVS sees the packet.
        rewrite::decrement_ttl(t.frame, t.packet);
        self.refuse(t, Error::PortUnreachable, Addr::UNSPECIFIED)
    }

    /// What the host's routing refuses, before IPVS sees it (`ip_route_input_slow`, `ip_forward`).
    fn refuse_routing(
        &mut self,
        t: &mut Transit<'_, '_>,
        hop: Result<NextHop, Unreachable>,
    ) -> Option<Verdict> {
        let error = match hop {
            // As `ip_error` (net/ipv4/route.c).
            Err(Unreachable::NoRoute) => Error::NetUnreachable,
            Err(Unreachable::Refused(Refusal::Unreachable)) => Error::HostUnreachable,
            Err(Unreachable::Refused(Refusal::Prohibit)) => Error::Prohibited,
            Err(Unreachable::Refused(Refusal::Blackhole)) => {
                return Some(Verdict::Drop(DropReason::NoRoute));
            }
            Err(Unreachable::Local | Unreachable::NotAPort) => return None,
            Ok(_) if t.packet.ttl <= 1 => Error::TtlExceeded,
            Ok(hop) => {
                let mtu = hop.mtu as usize;
                if !t.packet.dont_fragment || wire_len(t.frame, t.packet) <= mtu {
                    return None;
                }
                Error::FragmentationNeeded { mtu }
            }
        };
        Some(self.refuse(t, error, Addr::UNSPECIFIED))
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
        Transport::Tcp { flags, .. } => flags & flag::RST == 0,
        Transport::Sctp { chunk } => chunk != ABORT,
        Transport::Udp => true,
        Transport::Icmp { .. } | Transport::Fragment | Transport::Other => false,
    }
}
