//! Packets from servers that replies must pass (NAT, FULLNAT). After `ip_vs_out` and `handle_response`.

use super::Engine;
use super::leg::{By, Leg};
use super::reopen::is_opening;
use super::replaced::behind;
use super::sizes::{room_between, wire_len};
use super::transit::Transit;
use super::transmit::to_client;
use super::voice::Error;
use crate::conn::ConnId;
use crate::fib::{NextHop, Query, Refusal, Towards, Unreachable};
use crate::flow::{Addr, Family, Flow};
use crate::packet::{Packet, Transport};
use crate::rewrite;
use crate::service::Tunnel;
use crate::trace::{Recorder, Step};
use crate::verdict::{DropReason, Verdict};
use crate::wire::sctp::chunk::ABORT;
use crate::wire::tcp::flag;

impl<R: Recorder> Engine<R> {
    /// A packet from the server of a known connection.
    #[inline(always)]
    pub(super) fn reply(&mut self, t: &mut Transit<'_, '_>, id: ConnId) -> Verdict {
        let hop = self.hop_to_client(&t.packet.flow, t.frame.arrival, id);
        // The host's routing comes before IPVS: a packet that may travel no further changes nothing.
        let client = self.flows.conn(id).ends.client.addr.family();
        if let Some(verdict) = self.refuse_routing(t, &hop, client) {
            return verdict;
        }
        let turned = match &hop {
            Ok(hop) if self.flows.conn(id).ends.local.port == 0 => self.redirect(t, hop),
            _ => false,
        };
        let c = self.flows.conn(id);
        let mode = self.catalog.mode(c.mode());
        if is_opening(c)
            && let Some(verdict) = self.reopen(t, id)
        {
            return verdict;
        }
        self.flows
            .count_packet(id, true, u64::from(t.packet.ip_len));
        self.flows.measure_handshake(t.now, id, t.packet);
        self.follow(t, id, true);
        let mut leg = Leg {
            by: By::Mode(mode),
            path: self.path(id, Tunnel::default()),
            forward: false,
            answer_from: Addr::UNSPECIFIED,
            edits: None,
            prefix: None,
        };
        let verdict = match self.flows.conn(id).is_introduced() {
            true => self.reply_introduced(t, id, &mut leg, &hop),
            false => self.transmit_here(t, &mut leg, &hop),
        };
        if turned { behind(t, verdict) } else { verdict }
    }

    /// The way of a server's packet to its client, of this flow and come in by the interface `arrival`. The kernel routes it twice: as it came, before IPVS, and then
    /// by the VIP, unless snat_reroute is 0 (`ip_vs_route_me_harder`). Without rules both are one way.
    #[inline(always)]
    pub(super) fn hop_to_client(
        &mut self,
        flow: &Flow,
        arrival: u32,
        id: ConnId,
    ) -> Result<NextHop, Unreachable> {
        // With rules none is kept.
        if let Some(kept) = self.routes.kept(self.flows.ways(id), Towards::Client) {
            return kept;
        }
        self.find_hop_to_client(flow, arrival, id)
    }

    #[cold]
    fn find_hop_to_client(
        &mut self,
        flow: &Flow,
        arrival: u32,
        id: ConnId,
    ) -> Result<NextHop, Unreachable> {
        let c = self.flows.conn(id);
        // What comes to a local address of FULLNAT's has arrived.
        if c.ends.local.port == 0 && self.routes.fib.has_rules(flow.family()) {
            let came = Query::to(flow.dst).from(flow.src).by(arrival);
            let came = came.back(arrival).of(c.ends.client);
            let first = self.routes.fib.lookup(came);
            let refused = matches!(first, Err(Unreachable::NoRoute | Unreachable::Refused(_)));
            if refused || self.desired.sysctls().snat_reroute == 0 {
                return first;
            }
        }
        let query = to_client(c, arrival);
        let ways = (self.flows.ways_mut(id), Towards::Client);
        self.routes.lookup_for(ways, &query)
    }

    /// A packet of no service and no connection: a server's that is too late for its FULLNAT connection, or
    /// one to an address that UVS owns. All else is the kernel's, a NAT server's own traffic too.
    pub(super) fn stray(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        let from_server = self
            .desired
            .is_replier(t.packet.protocol, t.packet.flow.source());
        if from_server && let Some(verdict) = self.begin(t) {
            return verdict;
        }
        self.record(|e| e.strayed(&t.packet.flow, from_server));
        if !from_server {
            return self.answer_as_host(t);
        }
        if self.desired.is_local(t.packet.flow.dst)
            && self.flows.is_local_port(t.packet.flow.dst_port)
        {
            return match t.packet.transport {
                Transport::Tcp { .. } => self.reset(t),
                _ => self.refuse(t, Error::PortUnreachable, t.packet.flow.dst),
            };
        }
        let (protocol, from) = (t.packet.protocol, t.packet.flow.source());
        if self.routes.fib.is_local(t.packet.flow.dst)
            || !self.desired.is_nat_server(protocol, from)
        {
            return Verdict::Pass;
        }
        if self.desired.sysctls().nat_icmp_send != 0 && wants_an_answer(t.packet) {
            return self.answer_stray(t);
        }
        let udp = t.packet.transport == Transport::Udp;
        let is_caller = udp && self.desired.services_of_caller(from).next().is_some();
        let client = t.packet.flow.destination();
        match is_caller || self.flows.of_client(protocol, client).is_some() {
            true => Verdict::Local,
            false => Verdict::Pass,
        }
    }

    /// A server's packet of a call, which it may begin by that, goes to its client as the service's; `None` for another packet.
    fn begin(&mut self, t: &mut Transit<'_, '_>) -> Option<Verdict> {
        if self.routes.fib.is_local(t.packet.flow.dst) {
            return None;
        }
        let data = t.packet.datagram(t.frame.bytes());
        let caller = self.caller(t.packet, data)?;
        self.record(|e| Step::Begun {
            service: e.desired.service(caller.slot).key,
        });
        let id = self.schedule_from(t.now, &caller, data).ok()?;
        let verdict = self.reply(t, id);
        self.flows.end_one_packet(t.now, id);
        Some(verdict)
    }

    /// A server's packet of no connection, which nat_icmp_send has answered (`ip_vs_out`): after the host's
    /// routing, which it follows up to there.
    fn answer_stray(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        if !self.routes.fib.forwards(t.packet.family) {
            return Verdict::Drop(DropReason::NoConnection);
        }
        let flow = &t.packet.flow;
        let query = Query::to(flow.dst).from(flow.src).by(t.frame.arrival);
        let hop = self.routes.fib.lookup(query);
        if let Some(verdict) = self.refuse_routing(t, &hop, t.packet.family) {
            return verdict;
        }
        // Routing has lowered the TTL before IPVS sees the packet.
        rewrite::decrement_ttl(t.frame, t.packet);
        self.refuse(t, Error::PortUnreachable, Addr::UNSPECIFIED)
    }

    /// What the host's routing refuses of a packet to a client of this family, before IPVS sees it (`ip_route_input_slow`, `ip_forward`).
    #[inline(always)]
    fn refuse_routing(
        &mut self,
        t: &mut Transit<'_, '_>,
        hop: &Result<NextHop, Unreachable>,
        client: Family,
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
            Ok(_) if !t.packet.dont_fragment => return None,
            Ok(hop) => {
                let mtu = match hop.mtu as usize {
                    mtu if client == t.packet.family => mtu,
                    // It is to become one of the other family.
                    mtu => room_between(t.packet, client, mtu),
                };
                if wire_len(t.frame, t.packet) <= mtu {
                    return None;
                }
                Error::FragmentationNeeded { mtu }
            }
        };
        Some(self.refuse(t, error, Addr::UNSPECIFIED))
    }
}

/// Whether a server is told that its packet belongs to no connection: not of a reset, nor of ICMP.
fn wants_an_answer(packet: &Packet) -> bool {
    match packet.transport {
        Transport::Tcp { flags, .. } => flags & flag::RST == 0,
        Transport::Sctp { chunk } => chunk != ABORT,
        Transport::Udp => true,
        Transport::Icmp { .. }
        | Transport::Icmpv6 { .. }
        | Transport::Fragment
        | Transport::Other => false,
    }
}
