//! ICMP errors of both families about packets of connections, from clients, servers and routers. After
//! `ip_vs_in_icmp`, `ip_vs_out_icmp` and their twins for IPv6.

use super::Engine;
use super::flows::Refused;
use super::leg::{By, Leg};
use super::transit::Transit;
use super::transmit::{to_client, to_server};
use crate::conn::{ConnId, Side};
use crate::flow::{Addr, Endpoint, Family, Flow, Protocol};
use crate::frame::Frame;
use crate::glance::Glance;
use crate::packet::{Packet, Transport};
use crate::rewrite::{self, Ends};
use crate::service::Tunnel;
use crate::trace::{Recorder, Step};
use crate::verdict::{DropReason, Verdict};
use crate::wire::{icmp, icmpv6, ipv4, ipv6};

/// IPv4's ICMP errors that IPVS looks into (`ip_vs_in_icmp`, `ip_vs_out_icmp`); of IPv6's, all.
const RELATED: [u8; 3] = [icmp::UNREACHABLE, icmp::SOURCE_QUENCH, icmp::TIME_EXCEEDED];

/// The packet that an ICMP error quotes.
pub(super) struct Quote {
    /// Offset of its IP header in the frame.
    pub(super) ip: usize,
    /// Whether nothing lies between its IP header and its transport: no options, no extension headers.
    plain: bool,
    pub(super) flow: Flow,
}

impl<R: Recorder> Engine<R> {
    pub(super) fn handle_icmp(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        // Of these the guard keeps none from the host.
        if self.desired.is_absent(t.packet.flow.dst, &self.routes.fib) {
            self.record(|_| Step::Absent);
            return Verdict::Pass;
        }
        if is_error(t.packet) && self.claims_to_be_ours(t.frame, &t.packet.flow) {
            return self.refuse_source(t);
        }
        if is_related(t.packet)
            && let Some(verdict) = self.outer_error(t)
        {
            return verdict;
        }
        let Some(quote) = quoted(t.frame, t.packet) else {
            return self.unrelated(t);
        };
        // The quoted packet went the other way.
        let flow = quote.flow.reversed();
        let known = self.flows.find(&flow);
        self.record(|e| e.looked_up(t.now, known));
        match known {
            Some((id, Side::Client)) => self.icmp_to_server(t, id, &quote),
            Some((id, Side::Server)) => self.icmp_to_client(t, id, &quote),
            None => match self.elsewhere(t, &flow) {
                Some(handing) => Verdict::Elsewhere(handing),
                None if self.desired.sysctls().schedule_icmp != 0 => self.schedule_icmp(t, &quote),
                None => self.unrelated(t),
            },
        }
    }

    /// About a packet of a service's that belongs to no connection: with schedule_icmp, one is made for
    /// it, so that the error reaches the server that its client will get (`ip_vs_try_to_schedule`).
    fn schedule_icmp(&mut self, t: &mut Transit<'_, '_>, quote: &Quote) -> Verdict {
        let flow = quote.flow.reversed();
        let Some(slot) = self.service_for(&flow, t.frame.mark) else {
            return self.unrelated(t);
        };
        if flow.src.is_martian() || self.claims_to_be_ours(t.frame, &flow) {
            return Verdict::Drop(DropReason::MartianSource);
        }
        if self.denies(slot, flow.src) {
            self.count_failure(slot, &Refused::Drop(DropReason::Denied));
            return Verdict::Drop(DropReason::Denied);
        }
        match self.schedule(t.now, slot, (&flow, &[])) {
            Ok(id) => {
                let verdict = self.icmp_to_server(t, id, quote);
                self.flows.end_one_packet(t.now, id);
                verdict
            }
            Err(Refused::NotForUs) => self.unrelated(t),
            // There is nobody to tell: no error is sent about an error.
            Err(Refused::NoServer) => Verdict::Drop(DropReason::NoConnection),
            Err(Refused::Drop(reason)) => Verdict::Drop(reason),
        }
    }

    fn unrelated(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        if self.is_kept(t) {
            return Verdict::Local;
        }
        self.answer_as_host(t)
    }

    /// Whether the guard keeps an ICMP error from the host's stack, since it is about a packet to a NAT
    /// server's port, whoever it comes from, the server itself or a router before it: the guard cannot tell
    /// whose packet that was.
    fn is_kept(&self, t: &Transit<'_, '_>) -> bool {
        let at = t.packet.l4() + icmp::LEN;
        let quote = is_error(t.packet).then(|| quote(t.frame.bytes(), at));
        let quote = quote.flatten().filter(|quote| quote.plain);
        quote.is_some_and(|q| {
            self.desired
                .is_nat_server(q.flow.protocol, q.flow.destination())
        }) && !self.routes.fib.is_local(t.packet.flow.dst)
            && !self.desired.owns(t.packet.flow.dst)
    }

    /// About a reply: to the server whose packet it was.
    fn icmp_to_server(&mut self, t: &mut Transit<'_, '_>, id: ConnId, quote: &Quote) -> Verdict {
        let c = *self.flows.conn(id);
        if self.flows.server_of(&c).is_removed()
            && self.service_for(&c.client_flow(), t.frame.mark).is_none()
        {
            return self.unrelated(t);
        }
        // Of IPv6 the kernel looks at no checksum here.
        if t.packet.family == Family::V4 && !rewrite::checksum_is_right(t.frame, t.packet) {
            return Verdict::Drop(DropReason::BadChecksum);
        }
        self.flows
            .count_packet(id, false, u64::from(t.packet.ip_len));
        if t.packet.ttl <= 1 {
            return Verdict::Drop(DropReason::TtlExceeded);
        }
        let (mode, tunnel) = self.mode_of(&c);
        let path = self.path(id, tunnel);
        let hop = self.routes.fib.lookup(to_server(&c, mode.forwarding));
        self.counters.icmp_translated += 1;
        if !mode.forwarding.passes_replies() {
            let mut leg = Leg {
                by: By::Mode(mode),
                path,
                forward: true,
                answer_from: c.ends.vip.addr,
                edits: None,
                prefix: None,
            };
            return self.transmit(t, &mut leg, &hop);
        }
        self.renumber_quote(t.frame, id, quote, false);
        let far = *c.ends.facing_server();
        if c.ends.client.addr.family() != c.ends.server.addr.family() {
            let to = c.ends.server.addr;
            return self.pass_on(t, quote, (far.addr, to), (c.ends.server, far));
        }
        rewrite_quote(
            t.frame,
            t.packet,
            quote,
            Ends {
                src: Some(c.ends.server),
                dst: Some(far),
            },
        );
        let ends = Ends {
            src: c.ends.local_end().map(|local| address(local.addr)),
            dst: Some(address(c.ends.server.addr)),
        };
        let mut leg = Leg {
            by: By::Addresses(ends),
            path,
            forward: true,
            answer_from: c.ends.vip.addr,
            edits: None,
            prefix: None,
        };
        self.transmit(t, &mut leg, &hop)
    }

    /// About a forwarded packet: to the client that sent it, from the VIP.
    fn icmp_to_client(&mut self, t: &mut Transit<'_, '_>, id: ConnId, quote: &Quote) -> Verdict {
        let c = *self.flows.conn(id);
        if t.packet.ttl <= 1 {
            return Verdict::Drop(DropReason::TtlExceeded);
        }
        // The kernel leaves the pseudo-header out of ICMPv6's, and so passes on what is wrong and nothing else.
        if !rewrite::checksum_is_right(t.frame, t.packet) {
            return Verdict::Drop(DropReason::BadChecksum);
        }
        self.flows
            .count_packet(id, true, u64::from(t.packet.ip_len));
        let path = self.path(id, Tunnel::default());
        let hop = self.routes.fib.lookup(to_client(&c, t.frame.arrival));
        self.counters.icmp_translated += 1;
        self.renumber_quote(t.frame, id, quote, true);
        if c.ends.client.addr.family() != c.ends.server.addr.family() {
            let to = c.ends.client.addr;
            return self.pass_on(t, quote, (c.ends.vip.addr, to), (c.ends.client, c.ends.vip));
        }
        rewrite_quote(
            t.frame,
            t.packet,
            quote,
            Ends {
                src: Some(c.ends.client),
                dst: Some(c.ends.vip),
            },
        );
        let ends = Ends {
            src: Some(address(c.ends.vip.addr)),
            dst: Some(address(c.ends.client.addr)),
        };
        let mut leg = Leg {
            by: By::Addresses(ends),
            path,
            forward: true,
            answer_from: Addr::UNSPECIFIED,
            edits: None,
            prefix: None,
        };
        self.transmit(t, &mut leg, &hop)
    }
}

/// An endpoint without a port.
const fn address(addr: Addr) -> Endpoint {
    Endpoint::new(addr, 0)
}

/// Whether a packet is an ICMP error.
fn is_error(packet: &Packet) -> bool {
    match packet.transport {
        Transport::Icmp { kind, .. } => icmp::ERRORS.contains(&kind),
        Transport::Icmpv6 { kind, .. } => icmpv6::ERRORS.contains(&kind),
        _ => false,
    }
}

/// Whether a packet is an ICMP error that is looked into.
fn is_related(packet: &Packet) -> bool {
    match packet.transport {
        Transport::Icmp { kind, .. } => RELATED.contains(&kind),
        _ => is_error(packet),
    }
}

/// What an ICMP error quotes that is looked into.
pub(super) fn quoted(frame: &Frame<'_>, packet: &Packet) -> Option<Quote> {
    let read = || quote(frame.bytes(), packet.l4() + icmp::LEN);
    is_related(packet).then(read).flatten()
}

/// Reads a quoted packet at `ip`; `None` where it is too short to tell its connection.
pub(super) fn quote(bytes: &[u8], ip: usize) -> Option<Quote> {
    let seen = Glance::of_packet(bytes.get(ip..)?)?;
    // Addresses and ports are all that is needed, as in the kernel.
    let (src_port, dst_port) = seen.ports?;
    let src = Endpoint::new(seen.src, src_port);
    let dst = Endpoint::new(seen.dst, dst_port);
    let plain = match seen.src.family() {
        Family::V4 => ipv4::MIN_LEN,
        Family::V6 => ipv6::LEN,
    };
    Some(Quote {
        ip,
        plain: seen.l4 == Some(plain),
        flow: Flow::new(Protocol::from_number(seen.protocol)?, src, dst),
    })
}

/// Rewrites the quoted packet's ends and seals the message.
fn rewrite_quote(frame: &mut Frame<'_>, packet: &Packet, quote: &Quote, ends: Ends) {
    let bytes = frame.bytes_mut();
    rewrite::set_quoted_ends(&mut bytes[quote.ip..], ends);
    let (head, message) = bytes.split_at_mut(packet.l4());
    match packet.family {
        Family::V4 => icmp::seal(message),
        Family::V6 => icmpv6::seal(message, packet.pseudo_header(head)),
    }
    frame.offload.csum_start = None;
}
