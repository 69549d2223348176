//! ICMP errors about packets of connections, from clients, servers and routers. After `ip_vs_in_icmp` and
//! `ip_vs_out_icmp`.

use super::Engine;
use super::flows::Refused;
use super::transit::Transit;
use super::transmit::{By, Leg, to_client};
use crate::conn::{ConnId, Side};
use crate::flow::{Addr, Endpoint, Flow, Protocol};
use crate::frame::Frame;
use crate::packet::{Packet, Transport};
use crate::rewrite::{self, Ends};
use crate::trace::{Recorder, Step};
use crate::verdict::{DropReason, Verdict};
use crate::wire::ports::Ports;
use crate::wire::{icmp, ipv4};

/// The ICMP errors that IPVS looks into (`ip_vs_in_icmp`, `ip_vs_out_icmp`).
pub(super) const RELATED: [u8; 3] = [icmp::UNREACHABLE, icmp::SOURCE_QUENCH, icmp::TIME_EXCEEDED];

/// The packet that an ICMP error quotes.
pub(super) struct Quote {
    /// Offset of its IP header in the frame.
    ip: usize,
    pub(super) flow: Flow,
}

impl<R: Recorder> Engine<R> {
    pub(super) fn handle_icmp(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        // Of these the guard keeps none from the host.
        if self.desired.is_absent(t.packet.flow.dst) {
            self.record(|_| Step::Absent);
            return Verdict::Pass;
        }
        if is_icmp(t.packet, &icmp::ERRORS) && self.claims_to_be_ours(t.frame, &t.packet.flow) {
            return self.refuse_source(t);
        }
        if is_icmp(t.packet, &RELATED)
            && let Some(verdict) = self.outer_error(t)
        {
            return verdict;
        }
        let Some(quote) = quoted(t.frame, t.packet, &RELATED) else {
            return self.unrelated(t);
        };
        // The quoted packet went the other way.
        let flow = quote.flow.reversed();
        let known = self.flows.find(&flow);
        self.record(|e| e.looked_up(t.now, known));
        match known {
            Some((id, Side::Client)) => self.icmp_to_server(t, id, &quote),
            Some((id, Side::Server)) => self.icmp_to_client(t, id, &quote),
            None if self.desired.sysctls().schedule_icmp != 0 => self.schedule_icmp(t, &quote),
            None => self.unrelated(t),
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
        match self.schedule(t.now, slot, &flow) {
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
        let quote = quoted(t.frame, t.packet, &icmp::ERRORS)
            .filter(|q| ipv4::Header::new(&t.frame.bytes()[q.ip..]).header_len() == ipv4::MIN_LEN);
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
        if !rewrite::checksum_is_right(t.frame, t.packet) {
            return Verdict::Drop(DropReason::BadChecksum);
        }
        self.flows
            .count_packet(c.backend, false, u64::from(t.packet.ip_len));
        if t.packet.ttl <= 1 {
            return Verdict::Drop(DropReason::TtlExceeded);
        }
        let mode = self.catalog.mode(c.mode());
        let path = self.path(id);
        let hop = self.routes.fib.lookup(self.to_server(&c));
        self.counters.icmp_translated += 1;
        if !mode.forwarding.passes_replies() {
            let leg = Leg {
                by: By::Mode(mode),
                path,
                forward: true,
                answer_from: c.vip.addr,
            };
            return self.transmit(t, leg, hop);
        }
        let far = if c.local.port == 0 { c.client } else { c.local };
        rewrite_quote(
            t.frame,
            t.packet,
            quote,
            Ends {
                src: Some(c.server),
                dst: Some(far),
            },
        );
        let ends = Ends {
            src: (c.local.port != 0).then(|| address(c.local.addr)),
            dst: Some(address(c.server.addr)),
        };
        let leg = Leg {
            by: By::Addresses(ends),
            path,
            forward: true,
            answer_from: c.vip.addr,
        };
        self.transmit(t, leg, hop)
    }

    /// About a forwarded packet: to the client that sent it, from the VIP.
    fn icmp_to_client(&mut self, t: &mut Transit<'_, '_>, id: ConnId, quote: &Quote) -> Verdict {
        let c = *self.flows.conn(id);
        if t.packet.ttl <= 1 {
            return Verdict::Drop(DropReason::TtlExceeded);
        }
        if !rewrite::checksum_is_right(t.frame, t.packet) {
            return Verdict::Drop(DropReason::BadChecksum);
        }
        self.flows
            .count_packet(c.backend, true, u64::from(t.packet.ip_len));
        let path = self.path(id);
        let hop = self.routes.fib.lookup(to_client(&c));
        self.counters.icmp_translated += 1;
        rewrite_quote(
            t.frame,
            t.packet,
            quote,
            Ends {
                src: Some(c.client),
                dst: Some(c.vip),
            },
        );
        let ends = Ends {
            src: Some(address(c.vip.addr)),
            dst: Some(address(c.client.addr)),
        };
        let leg = Leg {
            by: By::Addresses(ends),
            path,
            forward: true,
            answer_from: Addr::UNSPECIFIED,
        };
        self.transmit(t, leg, hop)
    }
}

/// An endpoint without a port.
const fn address(addr: Addr) -> Endpoint {
    Endpoint::new(addr, 0)
}

/// Whether a packet is an ICMP message of one of these types.
fn is_icmp(packet: &Packet, kinds: &[u8]) -> bool {
    matches!(packet.transport, Transport::Icmp { kind, .. } if kinds.contains(&kind))
}

/// What an ICMP message of one of these types quotes.
pub(super) fn quoted(frame: &Frame<'_>, packet: &Packet, kinds: &[u8]) -> Option<Quote> {
    let read = || quote(frame.bytes(), packet.l4() + icmp::LEN);
    is_icmp(packet, kinds).then(read).flatten()
}

/// Reads a quoted packet at `ip`; `None` where it is too short to tell its connection.
pub(super) fn quote(bytes: &[u8], ip: usize) -> Option<Quote> {
    let packet = ipv4::Packet::new_checked(bytes.get(ip..)?).ok()?;
    let header = packet.header;
    // Only a first fragment has ports.
    if header.fragment_offset() != 0 {
        return None;
    }
    // Addresses and ports are all that is needed, as in the kernel.
    let ports = Ports::new_checked(packet.payload).ok()?;
    let protocol = Protocol::from_number(header.protocol())?;
    let src = Endpoint::new(Addr::v4(header.src()), ports.src());
    let dst = Endpoint::new(Addr::v4(header.dst()), ports.dst());
    Some(Quote {
        ip,
        flow: Flow::new(protocol, src, dst),
    })
}

/// Rewrites the quoted packet's ends and seals the message.
fn rewrite_quote(frame: &mut Frame<'_>, packet: &Packet, quote: &Quote, ends: Ends) {
    let bytes = frame.bytes_mut();
    rewrite::set_quoted_ends(&mut bytes[quote.ip..], ends);
    icmp::seal(&mut bytes[packet.l4()..]);
    frame.offload.csum_start = None;
}
