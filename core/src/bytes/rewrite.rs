//! Changing a packet in place and keeping its checksums true, finished or not.
//!
//! The IPv4 header checksum is always finished. A transport checksum is either finished (then every
//! changed word is a difference, RFC 1624 eqn. 3) or, where the sender left it to an offload, holds the
//! plain sum of the pseudo-header: then addresses are a difference to that sum and ports are none of it.

use crate::flow::Endpoint;
use crate::frame::Frame;
use crate::packet::{Packet, Transport};
use crate::wire::checksum::{self, Delta};

/// Offsets within the IPv4 header (RFC 791 §3.1).
mod ipv4 {
    pub(super) const TTL: usize = 8;
    pub(super) const CHECKSUM: usize = 10;
    pub(super) const SRC: usize = 12;
    pub(super) const DST: usize = 16;
}

/// Offset of the checksum in a TCP header (RFC 9293 §3.1).
pub const TCP_CHECKSUM: usize = 16;
/// Offset of the checksum in a UDP header (RFC 768).
pub const UDP_CHECKSUM: usize = 6;
/// Offset of the CRC32c in an SCTP common header (RFC 9260 §3.1).
const SCTP_CHECKSUM: usize = 8;

/// One or both ends of a packet's flow to be replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// The new source.
    pub src: Option<Endpoint>,
    /// The new destination.
    pub dst: Option<Endpoint>,
}

/// Replaces addresses and ports of an IPv4 packet and mends its checksums.
///
/// Both new endpoints must be IPv4; others leave their end as it is.
pub fn set_ends(frame: &mut Frame<'_>, packet: &Packet, ends: Ends) {
    let (ip, l4) = (usize::from(packet.ip), packet.l4());
    let partial = frame.offload.is_partial_at(l4);
    let bytes = frame.bytes_mut();
    let mut addresses = Delta::ZERO;
    let mut ports = Delta::ZERO;
    let mut new_ports = false;
    for (end, addr_at, port_at) in [
        (ends.src, ip + ipv4::SRC, l4),
        (ends.dst, ip + ipv4::DST, l4 + 2),
    ] {
        let Some((new_addr, new_port)) = end.and_then(|e| Some((e.addr.as_v4()?, e.port))) else {
            continue;
        };
        addresses = addresses.v4(read4(bytes, addr_at), new_addr);
        bytes[addr_at..addr_at + 4].copy_from_slice(&new_addr);
        ports = ports.word(read2(bytes, port_at), new_port);
        new_ports |= read2(bytes, port_at) != new_port;
        write2(bytes, port_at, new_port);
    }
    let sum = read2(bytes, ip + ipv4::CHECKSUM);
    write2(bytes, ip + ipv4::CHECKSUM, addresses.apply(sum));
    match packet.transport {
        Transport::Tcp { .. } => mend(bytes, l4 + TCP_CHECKSUM, partial, addresses, ports),
        Transport::Udp => mend_udp(bytes, packet, partial, addresses, ports),
        Transport::Sctp { .. } if new_ports => seal_sctp(&mut bytes[l4..]),
        Transport::Sctp { .. } => {}
        Transport::Icmp { .. } | Transport::Fragment | Transport::Other => {}
    }
}

/// Finishes an SCTP checksum that the sender left to an offload: a virtio_net_hdr cannot ask for a CRC.
pub fn finish_crc(frame: &mut Frame<'_>, packet: &Packet) {
    let l4 = packet.l4();
    if matches!(packet.transport, Transport::Sctp { .. }) && frame.offload.is_partial_at(l4) {
        frame.offload.csum_start = None;
        seal_sctp(&mut frame.bytes_mut()[l4..]);
    }
}

/// Replaces the addresses of an IPv4 packet whose transport has neither ports nor a pseudo-header (ICMP).
pub fn set_addresses(frame: &mut Frame<'_>, packet: &Packet, ends: Ends) {
    let ip = usize::from(packet.ip);
    let bytes = frame.bytes_mut();
    let mut delta = Delta::ZERO;
    for (end, at) in [(ends.src, ip + ipv4::SRC), (ends.dst, ip + ipv4::DST)] {
        if let Some(new) = end.and_then(|e| e.addr.as_v4()) {
            delta = delta.v4(read4(bytes, at), new);
            bytes[at..at + 4].copy_from_slice(&new);
        }
    }
    let sum = read2(bytes, ip + ipv4::CHECKSUM);
    write2(bytes, ip + ipv4::CHECKSUM, delta.apply(sum));
}

/// Replaces addresses and ports of the IPv4 packet that an ICMP error quotes, as far as it is quoted, and
/// seals its header; its transport checksum stays as it was, as in the kernel.
pub(crate) fn set_quoted_ends(quoted: &mut [u8], ends: Ends) {
    let l4 = usize::from(quoted[0] & 0x0f) * 4;
    if ends == Ends::default() || quoted.len() < l4 + 4 {
        return;
    }
    for (end, addr_at, port_at) in [(ends.src, ipv4::SRC, l4), (ends.dst, ipv4::DST, l4 + 2)] {
        if let Some((addr, port)) = end.and_then(|e| Some((e.addr.as_v4()?, e.port))) {
            quoted[addr_at..addr_at + 4].copy_from_slice(&addr);
            write2(quoted, port_at, port);
        }
    }
    write2(quoted, ipv4::CHECKSUM, 0);
    let sum = checksum::of(&quoted[..l4]);
    write2(quoted, ipv4::CHECKSUM, sum);
}

/// Lowers the TTL by one (RFC 1812 §5.3.1) and mends the header checksum.
pub fn decrement_ttl(frame: &mut Frame<'_>, packet: &Packet) {
    let ip = usize::from(packet.ip);
    let bytes = frame.bytes_mut();
    let old = read2(bytes, ip + ipv4::TTL);
    bytes[ip + ipv4::TTL] = bytes[ip + ipv4::TTL].saturating_sub(1);
    let delta = Delta::ZERO.word(old, read2(bytes, ip + ipv4::TTL));
    let sum = read2(bytes, ip + ipv4::CHECKSUM);
    write2(bytes, ip + ipv4::CHECKSUM, delta.apply(sum));
}

/// Finishes a transport checksum that the sender left to an offload; `frame.offload` says it is done.
pub fn finish_checksum(frame: &mut Frame<'_>) {
    let Some(start) = frame.offload.csum_start.take() else {
        return;
    };
    let start = usize::from(start);
    let at = start + usize::from(frame.offload.csum_offset);
    let udp = usize::from(frame.offload.csum_offset) == UDP_CHECKSUM;
    let bytes = frame.bytes_mut();
    if at + 2 > bytes.len() {
        return;
    }
    // The field takes part in the sum: it holds the pseudo-header's share.
    let sum = checksum::of(&bytes[start..]);
    write2(bytes, at, if udp && sum == 0 { 0xffff } else { sum });
}

/// Whether the transport checksum is right, or left to an offload; UDP without a checksum is right.
pub fn checksum_is_right(frame: &Frame<'_>, packet: &Packet) -> bool {
    if frame.offload.is_partial_at(packet.l4()) {
        return true;
    }
    let l4 = &frame.bytes()[packet.l4()..packet.l4() + packet.l4_len()];
    match packet.transport {
        Transport::Udp if read2(l4, UDP_CHECKSUM) == 0 => true,
        Transport::Tcp { .. } | Transport::Udp => {
            let (Some(src), Some(dst)) = (packet.flow.src.as_v4(), packet.flow.dst.as_v4()) else {
                return false;
            };
            let pseudo = checksum::pseudo_header_v4(src, dst, packet.protocol, l4.len() as u32);
            checksum::add(pseudo, checksum::sum(l4)) == 0xffff
        }
        Transport::Icmp { .. } => checksum::of(l4) == 0,
        Transport::Sctp { .. } | Transport::Fragment | Transport::Other => true,
    }
}

/// Sets the Ethernet addresses.
pub fn set_macs(frame: &mut Frame<'_>, dst: [u8; 6], src: [u8; 6]) {
    let bytes = frame.bytes_mut();
    bytes[..6].copy_from_slice(&dst);
    bytes[6..12].copy_from_slice(&src);
}

fn mend(bytes: &mut [u8], at: usize, partial: bool, addresses: Delta, ports: Delta) {
    let old = read2(bytes, at);
    let new = if partial {
        addresses.apply_partial(old)
    } else {
        addresses.and(ports).apply(old)
    };
    write2(bytes, at, new);
}

/// A datagram without a checksum gets one, as in the kernel's NAT; one that comes out as zero is sent as
/// all ones (RFC 768).
fn mend_udp(bytes: &mut [u8], packet: &Packet, partial: bool, addresses: Delta, ports: Delta) {
    let at = packet.l4() + UDP_CHECKSUM;
    if !partial && read2(bytes, at) == 0 {
        let ip = usize::from(packet.ip);
        let (src, dst) = (read4(bytes, ip + ipv4::SRC), read4(bytes, ip + ipv4::DST));
        let l4 = &bytes[packet.l4()..packet.l4() + packet.l4_len()];
        let pseudo = checksum::pseudo_header_v4(src, dst, packet.protocol, l4.len() as u32);
        let sum = !checksum::add(pseudo, checksum::sum(l4));
        write2(bytes, at, sum);
    } else {
        mend(bytes, at, partial, addresses, ports);
    }
    if !partial && read2(bytes, at) == 0 {
        write2(bytes, at, 0xffff);
    }
}

/// Computes the CRC (RFC 9260 appendix A). Addresses are no part of it.
fn seal_sctp(l4: &mut [u8]) {
    l4[SCTP_CHECKSUM..SCTP_CHECKSUM + 4].fill(0);
    let crc = checksum::crc32c(l4);
    l4[SCTP_CHECKSUM..SCTP_CHECKSUM + 4].copy_from_slice(&crc.to_le_bytes());
}

/// The 16-bit word at `at`, network byte order.
pub(crate) fn read2(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Writes a 16-bit word at `at` in network byte order.
pub(crate) fn write2(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// The four bytes at `at`.
pub(crate) fn read4(bytes: &[u8], at: usize) -> [u8; 4] {
    [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]
}
