//! What a rule can look at in a packet, and how `nft list` is told about it.
//!
//! A set's key is a list of fields. The kernel knows of it no more than its length; its type and the
//! userdata beside it are nft's own (libnftnl's udata.h, nftables' datatype.h and proto.h). Without them
//! `nft list ruleset > f; nft -f f` would fail at our table, and with it the whole file.

use uvs_core::wire::{icmp, ipv4, ipv6, ports, protocol, tcp};

use super::expression;
use super::message::Attributes;

/// NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// NFT_META_PROTOCOL, NFT_META_MARK, NFT_META_L4PROTO, NFT_META_PKTTYPE.
const META_PROTOCOL: u32 = 1;
pub(super) const META_MARK: u32 = 3;
const META_L4PROTO: u32 = 16;
const META_PKTTYPE: u32 = 19;

/// Where a field's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// In a header (NFT_PAYLOAD_*), from that byte on.
    Payload { base: u32, offset: u32 },
    /// In an IPv6 extension header of this protocol number, wherever that is, from that byte on.
    Extension { header: u8, offset: u32 },
    /// Whether there is such a header: 1 or 0.
    HasExtension { header: u8 },
    /// Beside the packet (NFT_META_*).
    Meta(u32),
}

/// What must be so of a packet that has the field, as nft's own rules check before they look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    Ip,
    Ip6,
    /// This protocol above IP, of either version.
    Carrying(u8),
    /// IPv4, and this protocol in it.
    IpCarrying(u8),
    /// IPv6, and this protocol in it.
    Ip6Carrying(u8),
}

impl Needs {
    /// The version of IP that the packet must be of.
    pub(super) const fn ip(self) -> Option<Self> {
        match self {
            Self::Ip | Self::IpCarrying(_) => Some(Self::Ip),
            Self::Ip6 | Self::Ip6Carrying(_) => Some(Self::Ip6),
            Self::Nothing | Self::Carrying(_) => None,
        }
    }

    /// The protocol above it.
    pub(super) const fn carried(self) -> Option<u8> {
        match self {
            Self::Carrying(p) | Self::IpCarrying(p) | Self::Ip6Carrying(p) => Some(p),
            Self::Nothing | Self::Ip | Self::Ip6 => None,
        }
    }
}

/// nft's types of values (enum datatypes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Integer = 4,
    Ipv4Address = 7,
    Ipv6Address = 8,
    Protocol = 12,
    Service = 13,
    Icmp = 14,
    Icmpv6 = 29,
}

/// How nft names a field: by a place in one of its protocols' descriptions, or by raw bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    /// PROTO_DESC_* and the field's place there.
    Described(u32, u32),
    /// EXTHDR_DESC_* and the field's place there.
    Extension(u32, u32),
    Raw,
    /// Never part of a set's key.
    None,
}

/// A field of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::guard) struct Field {
    pub(super) load: Load,
    /// Bytes.
    pub(super) length: u8,
    pub(super) needs: Needs,
    of: Type,
    name: Name,
}

const fn ip(offset: usize, length: u8, of: Type, place: u32) -> Field {
    let name = Name::Described(12, place);
    payload(NETWORK, offset, length, Needs::Ip, of, name)
}

const fn ip6(offset: usize, place: u32) -> Field {
    let name = Name::Described(13, place);
    payload(NETWORK, offset, 16, Needs::Ip6, Type::Ipv6Address, name)
}

const fn frag(offset: u32, length: u8, place: u32) -> Field {
    Field {
        load: Load::Extension {
            header: protocol::FRAGMENT,
            offset,
        },
        length,
        needs: Needs::Ip6,
        of: Type::Integer,
        name: Name::Extension(6, place),
    }
}

const fn transport(offset: usize, length: u8, of: Type, needs: Needs, name: Name) -> Field {
    payload(TRANSPORT, offset, length, needs, of, name)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a place in a header; `try_from` is not const"
)]
const fn payload(
    base: u32,
    offset: usize,
    length: u8,
    needs: Needs,
    of: Type,
    name: Name,
) -> Field {
    Field {
        load: Load::Payload {
            base,
            offset: offset as u32,
        },
        length,
        needs,
        of,
        name,
    }
}

const fn meta(key: u32, length: u8, of: Type) -> Field {
    Field {
        load: Load::Meta(key),
        length,
        needs: Needs::Nothing,
        of,
        name: Name::None,
    }
}

/// Bytes of the transport header, whatever it is: nft's `@th`.
pub(in crate::guard) const fn th(offset: usize, length: u8) -> Field {
    transport(offset, length, Type::Integer, Needs::Nothing, Name::Raw)
}

pub(in crate::guard) const IP_SADDR: Field = ip(ipv4::offset::SRC, 4, Type::Ipv4Address, 11);
pub(in crate::guard) const IP_DADDR: Field = ip(ipv4::offset::DST, 4, Type::Ipv4Address, 12);
pub(in crate::guard) const IP_PROTOCOL: Field = ip(ipv4::offset::PROTOCOL, 1, Type::Protocol, 9);
pub(in crate::guard) const IP_ID: Field = ip(ipv4::offset::ID, 2, Type::Integer, 6);
/// Flags and offset (RFC 791 §3.1).
pub(in crate::guard) const IP_FRAG_OFF: Field = ip(ipv4::offset::FRAGMENT, 2, Type::Integer, 7);
pub(in crate::guard) const IP6_SADDR: Field = ip6(ipv6::offset::SRC, 8);
pub(in crate::guard) const IP6_DADDR: Field = ip6(ipv6::offset::DST, 9);
/// Of an IPv6 fragment header (RFC 8200 §4.5): where it belongs, the byte with the bit for "more follow", and what
/// it is of.
pub(in crate::guard) const FRAG_OFF: Field = frag(2, 2, 3);
pub(in crate::guard) const FRAG_MORE: Field = frag(3, 1, 5);
pub(in crate::guard) const FRAG_ID: Field = frag(4, 4, 6);
/// Whether there is a whole one.
pub(in crate::guard) const HAS_FRAG: Field = Field {
    load: Load::HasExtension {
        header: protocol::FRAGMENT,
    },
    ..frag(0, 1, 0)
};
/// What follows the IPv6 header.
pub(in crate::guard) const IP6_NEXT_HEADER: Field = payload(
    NETWORK,
    ipv6::offset::NEXT_HEADER,
    1,
    Needs::Ip6,
    Type::Protocol,
    Name::None,
);
/// The ports of any protocol that has them where TCP has.
pub(in crate::guard) const TH_SPORT: Field = transport(
    ports::offset::SRC,
    2,
    Type::Service,
    Needs::Nothing,
    Name::Described(11, 1),
);
pub(in crate::guard) const TH_DPORT: Field = transport(
    ports::offset::DST,
    2,
    Type::Service,
    Needs::Nothing,
    Name::Described(11, 2),
);
pub(in crate::guard) const TCP_DPORT: Field = transport(
    ports::offset::DST,
    2,
    Type::Service,
    Needs::Carrying(protocol::TCP),
    Name::None,
);
/// The byte of SYN, ACK, FIN and RST (RFC 9293 §3.1).
pub(in crate::guard) const TCP_FLAGS: Field = transport(
    tcp::offset::FLAGS,
    1,
    Type::Integer,
    Needs::Carrying(protocol::TCP),
    Name::None,
);
pub(in crate::guard) const ICMP_TYPE: Field = transport(
    icmp::offset::KIND,
    1,
    Type::Icmp,
    Needs::IpCarrying(protocol::ICMP),
    Name::Described(4, 1),
);
pub(in crate::guard) const ICMPV6_TYPE: Field = transport(
    icmp::offset::KIND,
    1,
    Type::Icmpv6,
    Needs::Ip6Carrying(protocol::ICMPV6),
    Name::Described(14, 1),
);
/// The EtherType.
pub(in crate::guard) const PROTOCOL: Field = meta(META_PROTOCOL, 2, Type::Integer);
/// The protocol above IP, behind all extension headers.
pub(in crate::guard) const L4_PROTOCOL: Field = meta(META_L4PROTO, 1, Type::Protocol);
/// PACKET_HOST and its like (linux/if_packet.h).
pub(in crate::guard) const PACKET_TYPE: Field = meta(META_PKTTYPE, 1, Type::Integer);
pub(in crate::guard) const MARK: Field = meta(META_MARK, 4, Type::Integer);

impl Field {
    /// Bytes that it takes in a key, where every field begins at a register of four.
    pub(in crate::guard) fn padded(&self) -> u32 {
        u32::from(self.length).next_multiple_of(4)
    }

    /// A number as a register holds it that has the field: a packet's bytes are big-endian, a mark is the
    /// host's own number.
    pub(super) fn value(&self, number: u32) -> Vec<u8> {
        if self.load == MARK.load {
            return number.to_ne_bytes().to_vec();
        }
        let bytes = number.to_be_bytes();
        bytes[bytes.len() - usize::from(self.length)..].to_vec()
    }
}

/// nft's type of a key: six bits a field (nftables' datatype.h, TYPE_BITS).
pub(super) fn key_type(key: &[Field]) -> u32 {
    key.iter().fold(0, |all, f| all << 6 | f.of as u32)
}

/// Bytes of a key. A field on its own is not padded.
pub(super) fn key_length(key: &[Field]) -> u32 {
    match key {
        [field] => field.length.into(),
        _ => key.iter().map(Field::padded).sum(),
    }
}

/// The userdata by which nft lists a key as `typeof …`, where `type …` would not be enough: an integer's
/// length is not part of its type.
pub(super) fn userdata(key: &[Field]) -> Option<Vec<u8>> {
    key.iter().find(|f| f.of == Type::Integer)?;
    let mut out = Vec::new();
    // Concatenations have no byte order, and what comes from a packet is big-endian (BYTEORDER_*).
    const BIG_ENDIAN: u32 = 2;
    let order = if key.len() == 1 { BIG_ENDIAN } else { 0 };
    number(&mut out, 0, order);
    nest(&mut out, 3, |out| match key {
        [field] => expression(out, field),
        _ => {
            number(out, 0, 13);
            nest(out, 1, |out| {
                for (place, field) in (0..).zip(key) {
                    nest(out, place, |out| expression(out, field));
                }
            });
        }
    });
    Some(out)
}

/// A payload expression: description and place there, or base, offset and length in bits. An extension
/// header's: place and description.
fn expression(out: &mut Vec<u8>, field: &Field) {
    const PAYLOAD: u32 = 7;
    const EXTENSION: u32 = 8;
    if let Name::Extension(description, place) = field.name {
        number(out, 0, EXTENSION);
        return nest(out, 1, |out| {
            number(out, 1, place);
            number(out, 0, description);
        });
    }
    number(out, 0, PAYLOAD);
    nest(out, 1, |out| {
        let bits = u32::from(field.length) * 8;
        match (field.name, field.load) {
            (Name::Described(description, place), _) => {
                number(out, 0, description);
                number(out, 1, place);
                if field.of == Type::Integer {
                    number(out, 4, bits);
                }
            }
            (_, Load::Payload { base, offset }) => {
                number(out, 0, 0);
                number(out, 1, 0);
                // nft counts from the link layer, which it gives the first place.
                number(out, 2, base + 1);
                number(out, 3, offset * 8);
                number(out, 4, bits);
            }
            (_, Load::Extension { .. } | Load::HasExtension { .. } | Load::Meta(_)) => {}
        }
    });
}

/// Type and length are bytes, numbers the host's own, and nothing is padded.
fn number(out: &mut Vec<u8>, kind: u8, value: u32) {
    out.extend([kind, 4]);
    out.extend(value.to_ne_bytes());
}

fn nest(out: &mut Vec<u8>, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    fill(&mut inner);
    out.extend([kind, u8::try_from(inner.len()).unwrap_or(u8::MAX)]);
    out.extend(inner);
}

/// The expression that loads a field into a register.
pub(super) fn load(out: &mut Attributes, field: &Field, register: u32) {
    expression::add(out, name_of(field.load), |data| match field.load {
        // NFTA_PAYLOAD_DREG, _BASE, _OFFSET, _LEN
        Load::Payload { base, offset } => {
            data.number(1, register).number(2, base);
            data.number(3, offset).number(4, u32::from(field.length));
        }
        // NFTA_EXTHDR_DREG, _TYPE, _OFFSET, _LEN
        Load::Extension { header, offset } => {
            data.number(1, register).bytes(2, &[header]);
            data.number(3, offset).number(4, u32::from(field.length));
        }
        // NFTA_EXTHDR_FLAGS: NFT_EXTHDR_F_PRESENT
        Load::HasExtension { header } => {
            data.number(1, register).bytes(2, &[header]);
            data.number(3, 0).number(4, 1).number(5, 1);
        }
        // NFTA_META_DREG, _KEY
        Load::Meta(key) => {
            data.number(1, register).number(2, key);
        }
    });
}

fn name_of(load: Load) -> &'static str {
    match load {
        Load::Payload { .. } => "payload",
        Load::Extension { .. } | Load::HasExtension { .. } => "exthdr",
        Load::Meta(_) => "meta",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_userdata_are_nfts_own() {
        // As nft 1.0.6 sends them for `typeof ip daddr . ip protocol . th dport` and the others.
        let service = [IP_DADDR, IP_PROTOCOL, TH_DPORT];
        assert_eq!((key_type(&service), key_length(&service)), (0x730d, 12));
        assert_eq!(userdata(&service), None, "`type` says it all");
        let inner = [th(24, 4), th(17, 1)];
        let hex = |bytes: Vec<u8>| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        assert_eq!(
            userdata(&inner).map(hex).unwrap_or_default(),
            "000400000000035800040d00000001500026000407000000011e000400000000010400000000020403000000\
             0304c00000000404200000000126000407000000011e000400000000010400000000020403000000030488\
             000000040408000000"
        );
        let service = [IP6_DADDR, L4_PROTOCOL, TH_DPORT];
        assert_eq!((key_type(&service), key_length(&service)), (0x830d, 24));
        assert_eq!(userdata(&service), None, "`type` says it all");
        let datagram = [IP6_SADDR, IP6_DADDR, FRAG_ID];
        assert_eq!((key_type(&datagram), key_length(&datagram)), (0x8204, 36));
        assert_eq!(
            userdata(&datagram).map(hex).unwrap_or_default(),
            "000400000000034a00040d00000001420014000407000000010c00040d00000001040800000001140004\
             07000000010c00040d0000000104090000000214000408000000010c010406000000000406000000"
        );
        let datagram = [IP_SADDR, IP_DADDR, IP_ID, IP_PROTOCOL];
        assert_eq!(key_type(&datagram), 0x001c_710c);
        assert_eq!(
            userdata(&datagram).map(hex).unwrap_or_default(),
            "000400000000036600040d000000015e0014000407000000010c00040c00000001040b00000001140004\
             07000000010c00040c00000001040c000000021a000407000000011200040c0000000104060000000404\
             100000000314000407000000010c00040c000000010409000000"
        );
    }
}
