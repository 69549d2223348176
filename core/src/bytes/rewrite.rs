//! Changing a packet in place and keeping its checksums true, finished or not.
//!
//! The IPv4 header checksum is always finished; IPv6 has none. A transport checksum is either finished (then every
//! changed word is a difference, RFC 1624 eqn. 3) or, where the sender left it to an offload, holds the
//! plain sum of the pseudo-header: then addresses are a difference to that sum and ports are none of it.

use crate::flow::{Addr, Endpoint, Family};
use crate::frame::Frame;
use crate::packet::{Packet, Transport};
use crate::wire::checksum::{self, Delta};
use crate::wire::ethernet::{self, Mac};
use crate::wire::ports::{self, Ports};
use crate::wire::{icmp, ipv4, ipv6, sctp, tcp, udp};

/// One or both ends of a packet's flow to be replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// The new source.
    pub src: Option<Endpoint>,
    /// The new destination.
    pub dst: Option<Endpoint>,
}

impl Ends {
    /// The new source's address and port, where there is one of IPv4.
    #[inline(always)]
    fn src_v4(&self) -> Option<([u8; 4], u16)> {
        self.src.and_then(|end| Some((end.addr.as_v4()?, end.port)))
    }

    /// The new destination's address and port, where there is one of IPv4.
    #[inline(always)]
    fn dst_v4(&self) -> Option<([u8; 4], u16)> {
        self.dst.and_then(|end| Some((end.addr.as_v4()?, end.port)))
    }
}

/// Replaces addresses and ports of a packet and updates its checksums.
///
/// Both new endpoints must be of the packet's family.
// In line, so that the end which a mode keeps costs nothing.
#[inline(always)]
pub fn set_ends(frame: &mut Frame<'_>, packet: &Packet, ends: Ends) {
    let partial = frame.offload.is_partial_at(packet.l4());
    let (head, l4) = frame.bytes_mut().split_at_mut(packet.l4());
    let addresses = set_ip_ends(head, packet, ends);
    let pseudo = || packet.pseudo_header(head);
    set_l4_ends(l4, packet, ends, partial, addresses, pseudo);
}

/// Replaces the ports of a packet whose addresses become others of either family: `addresses` is what that
/// changes of its pseudo-header, whose sum is `pseudo` then.
pub(crate) fn set_transport_ends(
    frame: &mut Frame<'_>,
    packet: &Packet,
    ends: Ends,
    addresses: Delta,
    pseudo: u16,
) {
    let partial = frame.offload.is_partial_at(packet.l4());
    let l4 = &mut frame.bytes_mut()[packet.l4()..];
    set_l4_ends(l4, packet, ends, partial, addresses, || pseudo);
}

#[inline(always)]
fn set_l4_ends(
    l4: &mut [u8],
    packet: &Packet,
    ends: Ends,
    partial: bool,
    addresses: Delta,
    pseudo: impl FnOnce() -> u16,
) {
    let (ports, new_ports) = set_ports(l4, ends);
    let change = Change {
        partial,
        addresses,
        ports,
    };
    match packet.transport {
        Transport::Tcp { .. } => {
            let mut tcp = tcp::Header::new_mut(l4);
            tcp.set_checksum(change.apply(tcp.checksum()));
        }
        Transport::Udp => fix_udp_checksum(&mut l4[..packet.l4_len()], change, pseudo),
        Transport::Sctp { .. } if new_ports => sctp::seal(l4),
        Transport::Sctp { .. }
        | Transport::Icmp { .. }
        | Transport::Icmpv6 { .. }
        | Transport::Fragment
        | Transport::Other => {}
    }
}

/// Replaces the addresses of a packet's IP header, and the checksum that IPv4's has.
#[inline(always)]
fn set_ip_ends(head: &mut [u8], packet: &Packet, ends: Ends) -> Delta {
    let mut delta = Delta::ZERO;
    match packet.family {
        Family::V4 => {
            let mut header = packet.ipv4_mut(head);
            if let Some((addr, _)) = ends.src_v4() {
                delta = delta.v4(header.src(), addr);
                header.set_src(addr);
            }
            if let Some((addr, _)) = ends.dst_v4() {
                delta = delta.v4(header.dst(), addr);
                header.set_dst(addr);
            }
            header.set_checksum(delta.apply(header.checksum()));
        }
        Family::V6 => {
            let mut header = packet.ipv6_mut(head);
            if let Some(Endpoint { addr, .. }) = ends.src {
                let addr = addr.v6_octets();
                delta = delta.v6(header.src(), addr);
                header.set_src(addr);
            }
            if let Some(Endpoint { addr, .. }) = ends.dst {
                let addr = addr.v6_octets();
                delta = delta.v6(header.dst(), addr);
                header.set_dst(addr);
            }
        }
    }
    delta
}

/// Replaces a transport's ports; the difference that makes, and whether one is another than before.
#[inline(always)]
fn set_ports(l4: &mut [u8], ends: Ends) -> (Delta, bool) {
    let (mut delta, mut new) = (Delta::ZERO, false);
    let mut ports = Ports::new_mut(l4);
    if let Some(Endpoint { port, .. }) = ends.src {
        delta = delta.word(ports.src(), port);
        new |= ports.src() != port;
        ports.set_src(port);
    }
    if let Some(Endpoint { port, .. }) = ends.dst {
        delta = delta.word(ports.dst(), port);
        new |= ports.dst() != port;
        ports.set_dst(port);
    }
    (delta, new)
}

/// Finishes an SCTP checksum that the sender left to an offload: a virtio_net_hdr cannot ask for a CRC.
#[inline(always)]
pub fn finish_crc(frame: &mut Frame<'_>, packet: &Packet) {
    let l4 = packet.l4();
    if matches!(packet.transport, Transport::Sctp { .. }) && frame.offload.is_partial_at(l4) {
        frame.offload.csum_start = None;
        sctp::seal(&mut frame.bytes_mut()[l4..]);
    }
}

/// Replaces the addresses of a packet whose transport has no ports. ICMP has no pseudo-header, ICMPv6 has one,
/// and keeps as true or as wrong a checksum as it had.
pub fn set_addresses(frame: &mut Frame<'_>, packet: &Packet, ends: Ends) {
    let (head, l4) = frame.bytes_mut().split_at_mut(packet.l4());
    let delta = set_ip_ends(head, packet, ends);
    if matches!(packet.transport, Transport::Icmpv6 { .. }) {
        let mut icmp = icmp::Header::new_mut(l4);
        icmp.set_checksum(delta.apply(icmp.checksum()));
    }
}

/// Replaces addresses and ports of the packet that an ICMP error quotes, as far as it is quoted, and seals IPv4's
/// header; its transport checksum stays as it was, as in the kernel.
pub(crate) fn set_quoted_ends(quoted: &mut [u8], ends: Ends) {
    if ends == Ends::default() {
        return;
    }
    match quoted.first().map_or(0, |first| first >> 4) {
        4 => set_quoted_ends_v4(quoted, ends),
        6 => set_quoted_ends_v6(quoted, ends),
        _ => {}
    }
}

fn set_quoted_ends_v6(quoted: &mut [u8], ends: Ends) {
    let Some((_, l4)) = ipv6::first_transport(quoted) else {
        return;
    };
    let (head, l4) = quoted.split_at_mut(l4);
    if l4.len() < ports::LEN {
        return;
    }
    let (mut header, mut ports) = (ipv6::Header::new_mut(head), Ports::new_mut(l4));
    if let Some(end) = ends.src {
        header.set_src(end.addr.v6_octets());
        ports.set_src(end.port);
    }
    if let Some(end) = ends.dst {
        header.set_dst(end.addr.v6_octets());
        ports.set_dst(end.port);
    }
}

fn set_quoted_ends_v4(quoted: &mut [u8], ends: Ends) {
    let Ok(packet) = ipv4::Packet::new_checked(quoted) else {
        return;
    };
    if packet.payload.len() < ports::LEN {
        return;
    }
    let (head, l4) = quoted.split_at_mut(packet.header.header_len());
    let (mut header, mut ports) = (ipv4::Header::new_mut(head), Ports::new_mut(l4));
    if let Some((addr, port)) = ends.src_v4() {
        header.set_src(addr);
        ports.set_src(port);
    }
    if let Some((addr, port)) = ends.dst_v4() {
        header.set_dst(addr);
        ports.set_dst(port);
    }
    ipv4::seal(head);
}

/// Lowers the TTL by one (RFC 1812 §5.3.1), with the header checksum, or IPv6's hop limit (RFC 8200 §3).
#[inline(always)]
pub fn decrement_ttl(frame: &mut Frame<'_>, packet: &Packet) {
    match packet.family {
        Family::V4 => packet.ipv4_mut(frame.bytes_mut()).decrement_ttl(),
        Family::V6 => {
            let mut header = packet.ipv6_mut(frame.bytes_mut());
            header.set_hop_limit(header.hop_limit().saturating_sub(1));
        }
    }
}

/// Finishes a transport checksum that the sender left to an offload; `frame.offload` says it is done.
pub fn finish_checksum(frame: &mut Frame<'_>) {
    let Some(start) = frame.offload.csum_start.take() else {
        return;
    };
    let (start, offset) = (usize::from(start), usize::from(frame.offload.csum_offset));
    let Some(covered) = frame.bytes_mut().get_mut(start..) else {
        return;
    };
    // The field takes part in the sum: it holds the pseudo-header's share.
    let sum = checksum::of(covered);
    let sum = match offset {
        udp::offset::CHECKSUM => udp::present(sum),
        _ => sum,
    };
    if let Some(field) = covered.get_mut(offset..offset + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// Whether the transport checksum is right, or left to an offload; UDP without a checksum is right.
pub fn checksum_is_right(frame: &Frame<'_>, packet: &Packet) -> bool {
    if frame.offload.is_partial_at(packet.l4()) {
        return true;
    }
    let l4 = &frame.bytes()[packet.l4()..packet.l4() + packet.l4_len()];
    match packet.transport {
        Transport::Udp if udp::Header::new(l4).checksum() == 0 => true,
        Transport::Tcp { .. } | Transport::Udp | Transport::Icmpv6 { .. } => {
            let pseudo = packet.pseudo_header(frame.bytes());
            checksum::add(pseudo, checksum::sum(l4)) == 0xffff
        }
        Transport::Icmp { .. } => checksum::of(l4) == 0,
        Transport::Sctp { .. } | Transport::Fragment | Transport::Other => true,
    }
}

/// Sets the Ethernet addresses.
#[inline(always)]
pub fn set_macs(frame: &mut Frame<'_>, dst: &Mac, src: &Mac) {
    let mut header = ethernet::Header::new_mut(frame.bytes_mut());
    header.set_dst(*dst);
    header.set_src(*src);
}

/// What a rewrite has changed of what a transport checksum covers.
#[derive(Clone, Copy)]
struct Change {
    /// The checksum is not finished.
    partial: bool,
    addresses: Delta,
    ports: Delta,
}

impl Change {
    fn apply(self, checksum: u16) -> u16 {
        if self.partial {
            self.addresses.apply_partial(checksum)
        } else {
            self.addresses.and(self.ports).apply(checksum)
        }
    }
}

/// A datagram without a checksum gets one, as in the kernel's NAT; one that comes out as zero is sent as
/// all ones (RFC 768).
fn fix_udp_checksum(datagram: &mut [u8], change: Change, pseudo: impl FnOnce() -> u16) {
    let checksum = udp::Header::new(datagram).checksum();
    if change.partial {
        udp::Header::new_mut(datagram).set_checksum(change.apply(checksum));
    } else if checksum == 0 {
        udp::seal(datagram, pseudo());
    } else {
        let fixed = udp::present(change.apply(checksum));
        udp::Header::new_mut(datagram).set_checksum(fixed);
    }
}

/// The sum of the pseudo-header of a transport between two addresses of one family.
pub fn pseudo_header(src: Addr, dst: Addr, protocol: u8, len: u32) -> u16 {
    match (src.as_v4(), dst.as_v4()) {
        (Some(src), Some(dst)) => checksum::pseudo_header_v4(src, dst, protocol, len),
        _ => checksum::pseudo_header_v6(src.v6_octets(), dst.v6_octets(), protocol, len),
    }
}
