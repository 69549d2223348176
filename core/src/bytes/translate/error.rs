//! ICMP errors between the families: which becomes which (RFC 7915 §4.2 and §5.2), and what they quote.

use super::{Common, Target, emit, header_len};
use crate::flow::Family;
use crate::wire::icmp::Repr;
use crate::wire::ports::{self, Ports};
use crate::wire::{icmp, icmpv6, ipv4, ipv6};

/// Bytes that IPv6's header has more than IPv4's.
const LONGER: u32 = 20;

/// No field of the other family's header is the one that a pointer shows.
const NOWHERE: u8 = 0xff;

/// Where IPv6 has the fields that IPv4 has at these bytes (RFC 7915 §4.2, figure 3).
#[rustfmt::skip]
const FROM_V4: [u8; 20] = [
    0, 1, 4, 4, NOWHERE, NOWHERE, NOWHERE, NOWHERE, 7, 6, NOWHERE, NOWHERE, 8, 8, 8, 8, 24, 24, 24, 24,
];

/// What an error of `family` is in the other one, about a packet of which `len` bytes were too many; `None` for one
/// that is not passed on. `rest` holds an MTU or a pointer, where there is one.
pub fn message(family: Family, error: Repr, len: u32) -> Option<Repr> {
    match family {
        Family::V4 => to_v6(error, len),
        Family::V6 => to_v4(error),
    }
}

#[rustfmt::skip]
fn to_v6(error: Repr, len: u32) -> Option<Repr> {
    use icmpv6 as v6;
    let (kind, code, rest) = match (error.kind, error.code) {
        (icmp::UNREACHABLE, 0 | 1 | 5..=8 | 11 | 12) => (v6::UNREACHABLE, v6::NO_ROUTE, 0),
        (icmp::UNREACHABLE, 2) => (v6::PARAMETER_PROBLEM, v6::UNKNOWN_NEXT_HEADER, 6),
        (icmp::UNREACHABLE, 3) => (v6::UNREACHABLE, v6::PORT_UNREACHABLE, 0),
        (icmp::UNREACHABLE, 4) => (v6::TOO_BIG, 0, mtu_to_v6(error.rest & 0xffff, len)),
        (icmp::UNREACHABLE, 9 | 10 | 13 | 15) => (v6::UNREACHABLE, v6::PROHIBITED, 0),
        (icmp::TIME_EXCEEDED, code) => (v6::TIME_EXCEEDED, code, 0),
        (icmp::PARAMETER_PROBLEM, 0 | 2) => (v6::PARAMETER_PROBLEM, v6::ERRONEOUS_FIELD, pointer_to_v6(error.rest)?),
        _ => return None,
    };
    Some(Repr { kind, code, rest })
}

#[rustfmt::skip]
fn to_v4(error: Repr) -> Option<Repr> {
    use icmpv6 as v6;
    let (kind, code, rest) = match (error.kind, error.code) {
        (v6::UNREACHABLE, v6::NO_ROUTE | 2 | v6::ADDRESS_UNREACHABLE) => (icmp::UNREACHABLE, icmp::HOST_UNREACHABLE, 0),
        (v6::UNREACHABLE, v6::PROHIBITED) => (icmp::UNREACHABLE, 10, 0),
        (v6::UNREACHABLE, v6::PORT_UNREACHABLE) => (icmp::UNREACHABLE, icmp::PORT_UNREACHABLE, 0),
        (v6::TOO_BIG, _) => {
            let mtu = error.rest.saturating_sub(LONGER).min(0xffff);
            (icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED, mtu)
        }
        (v6::TIME_EXCEEDED, code) => (icmp::TIME_EXCEEDED, code, 0),
        (v6::PARAMETER_PROBLEM, v6::ERRONEOUS_FIELD) => (icmp::PARAMETER_PROBLEM, 0, pointer_to_v4(error.rest)? << 24),
        (v6::PARAMETER_PROBLEM, v6::UNKNOWN_NEXT_HEADER) => (icmp::UNREACHABLE, icmp::PROTOCOL_UNREACHABLE, 0),
        _ => return None,
    };
    Some(Repr { kind, code, rest })
}

/// An MTU of 0 was not told: then the next smaller one that there is (RFC 1191 §7.1).
fn mtu_to_v6(told: u32, len: u32) -> u32 {
    const PLATEAUS: [u32; 11] = [
        65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68,
    ];
    let mtu = if told == 0 {
        PLATEAUS.into_iter().find(|mtu| *mtu < len).unwrap_or(0)
    } else {
        told
    };
    (mtu + LONGER).max(ipv6::MIN_MTU as u32)
}

/// IPv4's pointer is in the first byte.
fn pointer_to_v6(rest: u32) -> Option<u32> {
    let at = *FROM_V4.get((rest >> 24) as usize)?;
    (at != NOWHERE).then_some(at.into())
}

/// RFC 7915 §5.2, figure 6.
const fn pointer_to_v4(rest: u32) -> Option<u32> {
    Some(match rest {
        0 => 0,
        1 => 1,
        4 | 5 => 2,
        6 => 9,
        7 => 8,
        8..=23 => 12,
        24..=39 => 16,
        _ => return None,
    })
}

/// Writes the packet that an error quotes as one of its target's family to `out`, as far as it is quoted and has
/// room; returns how long it is. As in the kernel's NAT its transport checksum stays what it was.
///
/// `None` where its headers and ports are not all there, or cannot be left out.
pub fn quote(quoted: &[u8], to: &Target, out: &mut [u8]) -> Option<usize> {
    let (common, transport) = read(quoted)?;
    let header = header_len(to.dst.addr.family());
    let room = out.len().checked_sub(header)?;
    let transport = &transport[..transport.len().min(room)];
    let len = header + transport.len();
    if transport.len() < ports::LEN {
        return None;
    }
    emit(out, to, &common, true);
    out[header..len].copy_from_slice(transport);
    let mut ends = Ports::new_mut(&mut out[header..]);
    ends.set_src(to.src.port);
    ends.set_dst(to.dst.port);
    Some(len)
}

/// Bytes of the whole IPv4 packet that an error quotes; 0 where it is none.
pub fn len_of(quoted: &[u8]) -> u32 {
    ipv4::Packet::new_checked(quoted).map_or(0, |packet| packet.header.total_len().into())
}

/// The headers of a quoted packet of either family, and what is there of its transport.
fn read(quoted: &[u8]) -> Option<(Common, &[u8])> {
    if let Ok(packet) = ipv4::Packet::new_checked(quoted) {
        let header = packet.header;
        let total = usize::from(header.total_len());
        let common = Common {
            class: header.tos(),
            ttl: header.ttl(),
            protocol: header.protocol(),
            payload: total.checked_sub(header.header_len())?,
        };
        let whole = header.fragment_offset() == 0;
        return whole.then_some((common, packet.payload));
    }
    let header = ipv6::Header::new_checked(quoted).ok()?;
    let (protocol, at) = ipv6::first_transport(quoted)?;
    let total = ipv6::LEN + usize::from(header.payload_len());
    let common = Common {
        class: header.traffic_class(),
        ttl: header.hop_limit(),
        protocol,
        payload: total.checked_sub(at)?,
    };
    (header.version() == 6).then(|| (common, &quoted[at..]))
}
