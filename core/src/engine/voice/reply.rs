//! Replies to those who ask whether a VIP is there: to echo requests, to ARP and to neighbour discovery.

use super::TTL;
use crate::engine::transit::Transit;
use crate::fib::{Fib, Query};
use crate::flow::{Addr, Family};
use crate::frame::{Frame, Offload};
use crate::outbox::Outbox;
use crate::rewrite::{self, Ends};
use crate::verdict::{DropReason, Egress, PortId, Verdict};
use crate::wire::ethernet::Mac;
use crate::wire::{arp, icmp, icmpv6, ipv4, ndp};

/// Turns an echo request into its reply and sends it back where its source's route leads.
pub(in crate::engine) fn echo(fib: &Fib, t: &mut Transit<'_, '_>) -> Verdict {
    let query = Query::to(t.packet.flow.src).from(t.packet.flow.dst);
    let Ok(hop) = fib.lookup(query.back(t.frame.arrival)) else {
        return Verdict::Drop(DropReason::NoRoute);
    };
    if !rewrite::checksum_is_right(t.frame, t.packet) {
        return Verdict::Drop(DropReason::BadChecksum);
    }
    let swap = Ends {
        src: Some(t.packet.flow.destination()),
        dst: Some(t.packet.flow.source()),
    };
    rewrite::set_addresses(t.frame, t.packet, swap);
    let (head, message) = t.frame.bytes_mut().split_at_mut(t.packet.l4());
    match t.packet.family {
        Family::V4 => {
            t.packet.ipv4_mut(head).set_ttl(TTL);
            ipv4::seal(&mut head[usize::from(t.packet.ip)..]);
            icmp::Header::new_mut(message).set_kind(icmp::ECHO_REPLY);
            icmp::seal(message);
        }
        Family::V6 => {
            t.packet.ipv6_mut(head).set_hop_limit(TTL);
            icmp::Header::new_mut(message).set_kind(icmpv6::ECHO_REPLY);
            icmpv6::seal(message, t.packet.pseudo_header(head));
        }
    }
    rewrite::set_macs(t.frame, hop.destination_mac(), &hop.source_mac);
    t.out
        .push_copy(t.frame.bytes(), Offload::default(), hop.egress());
    Verdict::Answered
}

/// Answers an ARP request for an address that the director `speaks_for`, on a port with this MAC address.
pub(in crate::engine) fn answer_arp(
    frame: &Frame<'_>,
    (port, mac): (PortId, Mac),
    speaks_for: impl Fn(Addr) -> bool,
    out: &mut Outbox,
) -> Verdict {
    let Some(reply) = arp::answer(frame.bytes(), |a| speaks_for(Addr::v4(a)), mac) else {
        return Verdict::Pass;
    };
    let egress = Egress {
        port,
        unresolved: None,
    };
    out.push_copy(&reply, Offload::default(), egress);
    Verdict::Answered
}

/// Answers a neighbour solicitation for an address that the director `speaks_for`, on a port with this MAC address.
pub(in crate::engine) fn answer_discovery(
    frame: &Frame<'_>,
    (port, mac): (PortId, Mac),
    router: bool,
    speaks_for: impl Fn(Addr) -> bool,
    out: &mut Outbox,
) -> Verdict {
    let owned = |addr| speaks_for(Addr::v6(addr));
    let Some(advertisement) = ndp::answer(frame.bytes(), owned, mac, router) else {
        return Verdict::Pass;
    };
    let egress = Egress {
        port,
        unresolved: None,
    };
    out.push_copy(&advertisement, Offload::default(), egress);
    Verdict::Answered
}
