//! The table's name, and what the guard looks at in each address family: fields, and names of sets and chains.
//! The families' rules are the same, over sets of their own. Pure.

use uvs_core::flow::Family;
use uvs_core::wire::{ethernet, icmp, icmpv6, ipv4, ipv6, ports};

use super::nft::field::{
    FRAG_ID, FRAG_MORE, FRAG_OFF, Field, ICMP_TYPE, ICMPV6_TYPE, IP_DADDR, IP_FRAG_OFF, IP_ID,
    IP_PROTOCOL, IP_SADDR, IP6_DADDR, IP6_SADDR, L4_PROTOCOL, TH_DPORT, TH_SPORT, th,
};
use super::nft::table::Set;

/// The table's name.
pub(super) const TABLE: &str = "uvs";

/// What is looked up in a set: address and protocol, and the port where the set has ports.
pub(super) struct Key {
    pub(super) with_port: &'static [Field],
    pub(super) any_port: &'static [Field],
}

/// Bits of a field.
pub(super) struct Bits {
    pub(super) field: Field,
    pub(super) mask: u32,
}

/// What the guard looks at in packets of a family.
pub(super) struct Side {
    pub(super) family: Family,
    pub(super) ether_type: u32,
    pub(super) daddr: &'static [Field],
    pub(super) protocol: &'static [Field],
    /// The sender, and the receiver.
    pub(super) source: Key,
    pub(super) destination: Key,
    /// What the fragments of one datagram have in common (RFC 791 §3.2, RFC 8200 §4.5).
    pub(super) datagram: &'static [Field],
    /// The kernel's own reassembly time (net.ipv4.ipfrag_time, net.ipv6.ip6frag_time).
    pub(super) fragment_seconds: u32,
    /// Bits of which one is set in a fragment after which more come, and in one that is not the first.
    pub(super) more_fragments: Bits,
    pub(super) fragment_offset: Bits,
    pub(super) icmp_type: &'static [Field],
    /// Types of ICMP's errors.
    pub(super) icmp_errors: &'static [u8],
    /// The receiver of the packet within an ICMP error, whose header has no options and no extensions.
    pub(super) inner: Key,
    /// Bits of the inner header's first byte, and what they are.
    pub(super) inner_first: Bits,
    pub(super) inner_is: u32,
    pub(super) names: Names,
}

/// Both families'.
pub(super) const SIDES: [&Side; 2] = [&IPV4, &IPV6];

/// Where the packet within an ICMP error begins; the ICMP header is as long in both families (RFC 792, RFC 4443).
const INNER: usize = icmp::LEN;
const INNER_FIRST: Field = th(INNER, 1);

pub(super) const IPV4: Side = Side {
    family: Family::V4,
    ether_type: ethernet::ethertype::IPV4 as u32,
    daddr: &[IP_DADDR],
    protocol: &[IP_PROTOCOL],
    source: Key {
        with_port: &[IP_SADDR, IP_PROTOCOL, TH_SPORT],
        any_port: &[IP_SADDR, IP_PROTOCOL],
    },
    destination: Key {
        with_port: &[IP_DADDR, IP_PROTOCOL, TH_DPORT],
        any_port: &[IP_DADDR, IP_PROTOCOL],
    },
    datagram: &[IP_SADDR, IP_DADDR, IP_ID, IP_PROTOCOL],
    fragment_seconds: 30,
    more_fragments: Bits {
        field: IP_FRAG_OFF,
        mask: ipv4::MORE_FRAGMENTS as u32,
    },
    fragment_offset: Bits {
        field: IP_FRAG_OFF,
        mask: ipv4::FRAGMENT_OFFSET as u32,
    },
    icmp_type: &[ICMP_TYPE],
    icmp_errors: &icmp::ERRORS,
    inner: Key {
        with_port: &[INNER_DADDR, INNER_PROTOCOL, INNER_DPORT],
        any_port: &[INNER_DADDR, INNER_PROTOCOL],
    },
    inner_first: Bits {
        field: INNER_FIRST,
        mask: 0xff,
    },
    // IPv4, five words.
    inner_is: 0x45,
    names: Names::IPV4,
};
const INNER_DADDR: Field = th(INNER + ipv4::offset::DST, 4);
const INNER_PROTOCOL: Field = th(INNER + ipv4::offset::PROTOCOL, 1);
const INNER_DPORT: Field = th(INNER + ipv4::MIN_LEN + ports::offset::DST, 2);

pub(super) const IPV6: Side = Side {
    family: Family::V6,
    ether_type: ethernet::ethertype::IPV6 as u32,
    daddr: &[IP6_DADDR],
    // nf_tables walks the extension headers for it, as it does for the ports.
    protocol: &[L4_PROTOCOL],
    source: Key {
        with_port: &[IP6_SADDR, L4_PROTOCOL, TH_SPORT],
        any_port: &[IP6_SADDR, L4_PROTOCOL],
    },
    destination: Key {
        with_port: &[IP6_DADDR, L4_PROTOCOL, TH_DPORT],
        any_port: &[IP6_DADDR, L4_PROTOCOL],
    },
    datagram: &[IP6_SADDR, IP6_DADDR, FRAG_ID],
    fragment_seconds: 60,
    more_fragments: Bits {
        field: FRAG_MORE,
        mask: 0x01,
    },
    fragment_offset: Bits {
        field: FRAG_OFF,
        mask: 0xfff8,
    },
    icmp_type: &[ICMPV6_TYPE],
    icmp_errors: &icmpv6::ERRORS,
    inner: Key {
        with_port: &[INNER6_DADDR, INNER6_PROTOCOL, INNER6_DPORT],
        any_port: &[INNER6_DADDR, INNER6_PROTOCOL],
    },
    inner_first: Bits {
        field: INNER_FIRST,
        mask: 0xf0,
    },
    inner_is: 0x60,
    names: Names::IPV6,
};
const INNER6_DADDR: Field = th(INNER + ipv6::offset::DST, 16);
const INNER6_PROTOCOL: Field = th(INNER + ipv6::offset::NEXT_HEADER, 1);
const INNER6_DPORT: Field = th(INNER + ipv6::LEN + ports::offset::DST, 2);

/// Names of sets and chains: IPv6's end in a 6.
macro_rules! names {
    ($($name:ident)*) => {
        pub(super) struct Names {
            $(pub(super) $name: &'static str,)*
        }

        impl Names {
            const IPV4: Self = Self { $($name: stringify!($name),)* };
            const IPV6: Self = Self { $($name: concat!(stringify!($name), "6"),)* };
        }
    };
}

names! {
    service service_any_port
    nat_service nat_service_any_port
    nat_server nat_server_any_port
    own_server own_server_any_port
    caller caller_any_port
    fullnat_server fullnat_server_any_port
    inner inner_any_port
    fullnat_local ftp owned vips local icmp_errors
    clients closing unsure fragments
    drop_service drop_nat_reply drop_fullnat_reply
    remember reply stray untold ours
}

/// A set of these elements, which no rule changes.
pub(super) fn set(name: &'static str, key: &'static [Field], elements: Vec<Vec<u8>>) -> Set {
    Set {
        name,
        key,
        elements,
        dynamic: None,
    }
}
