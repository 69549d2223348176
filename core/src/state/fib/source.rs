//! The director's own address on a way: IPv4's first one of the interface, and IPv6's choice among all.
//!
//! After `ipv6_dev_get_saddr` (net/ipv6/addrconf.c), which is RFC 6724 §5. Of its rules those count that the
//! addresses themselves decide: what is temporary or deprecated is the shell's to leave out.

use super::HashMap;
use crate::flow::{Addr, Family};
use crate::narrow;

/// The addresses that packets of the director's own come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sources {
    /// The first IPv4 address of each interface.
    first: HashMap<u32, Addr>,
    ipv6: Vec<Candidate>,
}

/// An IPv6 address of the host's.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    ifindex: u32,
    addr: Addr,
    /// Length of the prefix that it was given with.
    prefix: u8,
    /// What the address alone says.
    scope: u8,
    label: u8,
}

/// How far an address reaches, in multicast's numbers (RFC 4291 §2.7).
mod scope {
    pub(super) const LINK: u8 = 2;
    pub(super) const SITE: u8 = 5;
    pub(super) const GLOBAL: u8 = 14;
}

impl Sources {
    pub(super) fn add(&mut self, ifindex: u32, addr: Addr, prefix: u8) {
        match addr.family() {
            Family::V4 => {
                self.first.entry(ifindex).or_insert(addr);
            }
            Family::V6 => self.ipv6.push(Candidate {
                ifindex,
                addr,
                prefix,
                scope: scope_of(addr),
                label: label(addr),
            }),
        }
    }

    /// The first IPv4 address of an interface.
    pub(super) fn first(&self, ifindex: u32) -> Option<Addr> {
        self.first.get(&ifindex).copied()
    }

    /// The source of a packet to `dst`, of this family, that leaves by an interface.
    pub(super) fn towards(&self, family: Family, ifindex: u32, dst: Addr) -> Option<Addr> {
        match family {
            Family::V4 => self.first(ifindex),
            Family::V6 => self.ipv6_towards(ifindex, dst),
        }
    }

    /// Of equals the kernel takes the one that was added last.
    fn ipv6_towards(&self, ifindex: u32, dst: Addr) -> Option<Addr> {
        let (wanted, wanted_label) = (scope_of(dst), label(dst));
        let on_link = wanted <= scope::LINK;
        let may = self
            .ipv6
            .iter()
            .filter(|c| c.ifindex == ifindex || !on_link);
        let best = may.max_by_key(|c| {
            (
                reach(c.scope, wanted),
                c.ifindex == ifindex,
                c.label == wanted_label,
                common_bits(c.addr, dst).min(c.prefix),
            )
        });
        best.map(|c| c.addr)
    }
}

/// Rule 2: the smallest scope that reaches as far as the destination's, else the largest.
const fn reach(own: u8, wanted: u8) -> u8 {
    if own >= wanted { u8::MAX - own } else { own }
}

const fn scope_of(a: Addr) -> u8 {
    match a.0 {
        [0xff, flags, ..] => flags & 0x0f,
        [0xfe, second, ..] if second & 0xc0 == 0x80 => scope::LINK,
        [0xfe, second, ..] if second & 0xc0 == 0xc0 => scope::SITE,
        _ if u128::from_be_bytes(a.0) == 1 => scope::LINK,
        _ => scope::GLOBAL,
    }
}

/// Rule 6: the labels of RFC 6724 §2.1, which the kernel has too (net/ipv6/addrlabel.c).
const fn label(a: Addr) -> u8 {
    let n = u128::from_be_bytes(a.0);
    match (n >> 96) as u32 {
        0 if n == 1 => 0,
        0xffff_ffff => 4,
        0 if n >> 32 == 0 => 3,
        0x2001_0000 => 6,
        top if top & 0xffff_fff0 == 0x2001_0010 => 7,
        top if top >> 16 == 0x2002 => 2,
        top if top >> 25 == 0xfc >> 1 => 5,
        _ => 1,
    }
}

/// Rule 8: the bits that two addresses begin with alike.
const fn common_bits(a: Addr, b: Addr) -> u8 {
    narrow::to_u8((u128::from_be_bytes(a.0) ^ u128::from_be_bytes(b.0)).leading_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn a(text: &str) -> Addr {
        Addr::from(text.parse::<IpAddr>().expect("an address"))
    }

    fn sources(all: &[(u32, &str, u8)]) -> Sources {
        let mut sources = Sources::default();
        for (ifindex, addr, prefix) in all {
            sources.add(*ifindex, a(addr), *prefix);
        }
        sources
    }

    #[test]
    fn ipv6_sources_are_chosen_as_the_kernel_chooses() {
        let host = sources(&[
            (2, "fe80::1", 64),
            (2, "2001:db8:1::1", 64),
            (2, "fd00::1", 64),
            (3, "2001:db8:2::1", 64),
            (3, "fe80::2", 64),
        ]);
        for (ifindex, dst, source) in [
            (2, "2001:db8:1::9", "2001:db8:1::1"),
            (2, "2001:db8:7::9", "2001:db8:1::1"),
            (3, "2001:db8:1::9", "2001:db8:2::1"),
            (2, "fd00:1::9", "fd00::1"),
            (2, "fe80::9", "fe80::1"),
            (3, "ff02::1", "fe80::2"),
            // An interface without one of its own lends another's.
            (4, "2001:db8:2::9", "2001:db8:2::1"),
        ] {
            let chosen = host.towards(Family::V6, ifindex, a(dst));
            assert_eq!(chosen, Some(a(source)), "{dst} by {ifindex}");
        }
        assert_eq!(host.towards(Family::V6, 4, a("fe80::9")), None);
    }

    #[test]
    fn a_vip_of_128_bits_wins_by_its_length_and_the_last_of_two() {
        let one_arm = sources(&[
            (2, "2001:db8:1::1", 64),
            (2, "2001:db8:1::100", 128),
            (2, "2001:db8:1::101", 128),
        ]);
        let chosen = one_arm.towards(Family::V6, 2, a("2001:db8:1::11"));
        assert_eq!(chosen, Some(a("2001:db8:1::101")));
    }
}
