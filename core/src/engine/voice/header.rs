//! The IP header of a packet of the director's own, of either family.

use super::TTL;
use crate::flow::{Addr, Family};
use crate::narrow;
use crate::wire::{ethernet, ipv4, ipv6};

/// What the header says.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) enum Header {
    V4(ipv4::Repr),
    V6(ipv6::Repr),
}

impl Header {
    /// That of a packet with `len` bytes after it, of the family of `dst`: no service class, no identification, no
    /// flow label, not to be cut. `None` where the addresses are of two families.
    pub(in crate::engine) fn new(protocol: u8, src: Addr, dst: Addr, len: usize) -> Option<Self> {
        match (src.as_v4(), dst.as_v4()) {
            (Some(src), Some(dst)) => Some(Self::V4(ipv4::Repr {
                tos: 0,
                total_len: narrow::to_u16(ipv4::MIN_LEN + len),
                id: 0,
                dont_fragment: true,
                ttl: TTL,
                protocol,
                src,
                dst,
            })),
            (None, None) => Some(Self::V6(ipv6::Repr {
                traffic_class: 0,
                flow_label: 0,
                payload_len: narrow::to_u16(len),
                next_header: protocol,
                hop_limit: TTL,
                src: src.v6_octets(),
                dst: dst.v6_octets(),
            })),
            _ => None,
        }
    }

    /// Bytes of a header of this family.
    pub(in crate::engine) const fn len_of(family: Family) -> usize {
        match family {
            Family::V4 => ipv4::MIN_LEN,
            Family::V6 => ipv6::LEN,
        }
    }

    /// Bytes of it.
    pub(in crate::engine) const fn len(&self) -> usize {
        match self {
            Self::V4(_) => ipv4::MIN_LEN,
            Self::V6(_) => ipv6::LEN,
        }
    }

    /// What says in an Ethernet header that it follows.
    pub(in crate::engine) const fn ethertype(&self) -> u16 {
        match self {
            Self::V4(_) => ethernet::ethertype::IPV4,
            Self::V6(_) => ethernet::ethertype::IPV6,
        }
    }

    /// The sum of the pseudo-header of the transport behind it.
    pub(in crate::engine) fn pseudo_header(&self) -> u16 {
        match self {
            Self::V4(header) => header.pseudo_header(),
            Self::V6(header) => header.pseudo_header(),
        }
    }

    /// Writes it to the beginning of `packet`, which must be as long at least.
    pub(in crate::engine) fn emit(&self, packet: &mut [u8]) {
        match self {
            Self::V4(header) => header.emit(packet),
            Self::V6(header) => header.emit(packet),
        }
    }
}
