//! A frame as its receiver would look at it.

use pnet_packet::Packet as _;
use pnet_packet::ethernet::{EtherTypes, EthernetPacket};
use pnet_packet::gre::GrePacket;
use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols as Protocols};
use pnet_packet::ipv4::{Ipv4Flags, Ipv4Packet};
use pnet_packet::ipv6::Ipv6Packet;
use pnet_packet::udp::UdpPacket;
use pnet_packet::util;

use crate::wire::checksum;

/// Looks at a frame as its receiver would, tunnels opened: lengths, header checksums, transport checksums.
///
/// It reads by pnet_packet's views and sums by its sums, so that what [`wire`](crate::wire) has wrong is not
/// right here; only the CRC of SCTP, which that library has not, is ours.
///
/// # Errors
/// What is wrong, in words.
pub fn check(frame: &[u8]) -> Result<(), String> {
    let ethernet = EthernetPacket::new(frame).ok_or("not an Ethernet frame")?;
    match ethernet.get_ethertype() {
        EtherTypes::Ipv4 => check_ipv4(ethernet.payload()),
        EtherTypes::Ipv6 => check_ipv6(ethernet.payload()),
        _ => Err("not an IP frame".to_owned()),
    }
}

/// A skipped word that is none: the checksum takes part in its own sum, which is then 0.
const NOTHING: usize = usize::MAX;

fn check_ipv4(bytes: &[u8]) -> Result<(), String> {
    let ip = Ipv4Packet::new(bytes).filter(|ip| ip.get_version() == 4);
    let ip = ip.ok_or("not an IPv4 packet")?;
    if usize::from(ip.get_total_length()) != bytes.len() {
        let (total, len) = (ip.get_total_length(), bytes.len());
        return Err(format!("total length {total} of {len}"));
    }
    let split = bytes.split_at_checked(usize::from(ip.get_header_length()) * 4);
    let (header, l4) = split.ok_or("header cut off")?;
    if util::checksum(header, NOTHING) != 0 {
        return Err("wrong IP checksum".to_owned());
    }
    if ip.get_flags() & Ipv4Flags::MoreFragments != 0 || ip.get_fragment_offset() != 0 {
        return Ok(());
    }
    let protocol = ip.get_next_level_protocol();
    let (src, dst) = (ip.get_source(), ip.get_destination());
    if protocol == Protocols::Icmp {
        return match util::checksum(l4, NOTHING) {
            0 => Ok(()),
            _ => Err("wrong ICMP checksum".to_owned()),
        };
    }
    let is_wrong = util::ipv4_checksum(l4, NOTHING, &[], &src, &dst, protocol) != 0;
    check_transport(protocol, l4, is_wrong, true)
}

fn check_ipv6(bytes: &[u8]) -> Result<(), String> {
    let ip = Ipv6Packet::new(bytes).filter(|ip| ip.get_version() == 6);
    let ip = ip.ok_or("not an IPv6 packet")?;
    let mut rest = bytes.get(40..).ok_or("header cut off")?;
    if usize::from(ip.get_payload_length()) != rest.len() {
        let (said, len) = (ip.get_payload_length(), rest.len());
        return Err(format!("payload length {said} of {len}"));
    }
    let mut next = ip.get_next_header();
    loop {
        let unit = match next {
            Protocols::Hopopt | Protocols::Ipv6Route | Protocols::Ipv6Opts => (8, 1),
            Protocols::Ah => (4, 2),
            Protocols::Ipv6Frag => {
                let [_, _, offset, flags, ..] = *rest else {
                    return Err("extension header cut off".to_owned());
                };
                if (offset, flags & 0xf9) != (0, 0) {
                    return Ok(());
                }
                (8, 1)
            }
            _ => break,
        };
        let [then, length, ..] = *rest else {
            return Err("extension header cut off".to_owned());
        };
        let length = if next == Protocols::Ipv6Frag {
            0
        } else {
            length
        };
        let len = (usize::from(length) + unit.1) * unit.0;
        rest = rest.get(len..).ok_or("extension header cut off")?;
        next = IpNextHeaderProtocol(then);
    }
    let (src, dst) = (ip.get_source(), ip.get_destination());
    let is_wrong = util::ipv6_checksum(rest, NOTHING, &[], &src, &dst, next) != 0;
    if next == Protocols::Icmpv6 {
        return match is_wrong {
            false => Ok(()),
            true => Err("wrong ICMPv6 checksum".to_owned()),
        };
    }
    check_transport(next, rest, is_wrong, false)
}

/// What of a transport is the same over both; `may_be_none` where UDP may go without a checksum.
fn check_transport(
    protocol: IpNextHeaderProtocol,
    l4: &[u8],
    is_wrong: bool,
    may_be_none: bool,
) -> Result<(), String> {
    match protocol {
        Protocols::Tcp if is_wrong => Err("wrong TCP checksum".to_owned()),
        Protocols::Udp => {
            let udp = UdpPacket::new(l4).ok_or("no UDP header")?;
            if usize::from(udp.get_length()) != l4.len() {
                return Err("wrong UDP length".to_owned());
            }
            // Tunnels may go without one over IPv6 too (RFC 6935).
            let none = udp.get_checksum() == 0 && (may_be_none || is_gue(&udp));
            if !none && is_wrong {
                return Err("wrong UDP checksum".to_owned());
            }
            Ok(())
        }
        Protocols::Sctp => check_sctp(l4),
        Protocols::IpIp => check_ipv4(l4),
        Protocols::Ipv6 => check_ipv6(l4),
        Protocols::Gre => check_gre(l4),
        _ => Ok(()),
    }
}

/// Whether a datagram looks like GUE: version 0, no options, and an IP packet within.
fn is_gue(udp: &UdpPacket<'_>) -> bool {
    matches!(*udp.payload(), [0, 4, 0, 0, first, ..] if first >> 4 == 4)
        || matches!(*udp.payload(), [0, 41, 0, 0, first, ..] if first >> 4 == 6)
}

fn check_sctp(l4: &[u8]) -> Result<(), String> {
    let mut copy = l4.to_vec();
    copy[8..12].fill(0);
    if checksum::crc32c(&copy).to_le_bytes() == l4[8..12] {
        Ok(())
    } else {
        Err("wrong SCTP checksum".to_owned())
    }
}

fn check_gre(bytes: &[u8]) -> Result<(), String> {
    let gre = GrePacket::new(bytes).ok_or("no GRE header")?;
    let summed = gre.get_checksum_present() == 1;
    if summed && util::checksum(bytes, NOTHING) != 0 {
        return Err("wrong GRE checksum".to_owned());
    }
    let inner = &bytes[if summed { 8 } else { 4 }..];
    match gre.get_protocol_type() {
        0x0800 => check_ipv4(inner),
        0x86dd => check_ipv6(inner),
        other => Err(format!("GRE of protocol {other:#x}")),
    }
}
