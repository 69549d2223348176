//! IPv6's part of the socket filter.
//!
//! An address is four words, each found among those that stand there by binary search, the more the later: VIPs and
//! servers share their first ones. A classic program cannot walk extension headers, so that of ICMPv6 only what
//! follows the IPv6 header at once is told from the rest: neighbour discovery, which never has any in practice, and
//! routers' errors.

use std::net::Ipv6Addr;

use uvs_core::wire::{icmp, icmpv6, ipv6, ndp, protocol};

use super::{
    ACCEPT, AND, Assembler, IF_AT_LEAST, IF_EQUAL, IP, LEAF, LOAD_U8, LOAD_U32, RETURN, place,
};

/// What of IPv6 is ours; see [`FilterSpec`](super::FilterSpec).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ipv6Spec {
    /// Destinations: VIPs, and FULLNAT local addresses.
    pub(crate) to: Vec<Ipv6Addr>,
    /// Destinations that are networks, with the lengths of their prefixes.
    pub(crate) networks: Vec<(Ipv6Addr, u8)>,
    /// Sources: real servers whose replies pass through (NAT).
    pub(crate) from: Vec<Ipv6Addr>,
    /// Whether ICMPv6 errors for anyone are ours.
    pub(crate) icmp_errors: bool,
    /// Targets of neighbour discovery: the VIPs that are not the host's and that UVS answers for. Solicitations
    /// come to their groups, and others' advertisements to all nodes.
    pub(crate) solicited: Vec<Ipv6Addr>,
}

const SOURCE: u32 = IP + place(ipv6::offset::SRC);
const DESTINATION: u32 = IP + place(ipv6::offset::DST);
pub(in crate::port) const NEXT_HEADER: u32 = IP + place(ipv6::offset::NEXT_HEADER);
/// Of a message that follows the IPv6 header at once.
const ICMP_KIND: u32 = IP + place(ipv6::LEN + icmp::offset::KIND);
const ND_TARGET: u32 = IP + place(ipv6::LEN + ndp::offset::TARGET);

impl Ipv6Spec {
    /// Accepts what is sent to this host's MAC address and is ours.
    pub(super) fn to_host(&self, a: &mut Assembler) {
        a.accept_if_any_v6(DESTINATION, &self.to);
        for &(network, prefix) in &self.networks {
            a.accept_if_in_v6(DESTINATION, network, prefix);
        }
        a.accept_if_any_v6(SOURCE, &self.from);
        if !self.icmp_errors {
            return;
        }
        a.emit(LOAD_U8, NEXT_HEADER);
        a.branch(IF_EQUAL, protocol::ICMPV6.into(), 1, 0);
        let past = a.jump();
        a.emit(LOAD_U8, ICMP_KIND);
        for kind in icmpv6::ERRORS {
            a.branch(IF_EQUAL, kind.into(), 0, 1);
            a.emit(RETURN, ACCEPT);
        }
        a.land(past);
    }

    /// Accepts neighbour discovery about owned VIPs, whatever MAC address it was sent to.
    pub(super) fn discovery(&self, a: &mut Assembler) {
        if self.solicited.is_empty() {
            return;
        }
        a.emit(LOAD_U8, NEXT_HEADER);
        a.branch(IF_EQUAL, protocol::ICMPV6.into(), 1, 0);
        let other_protocol = a.jump();
        a.emit(LOAD_U8, ICMP_KIND);
        a.branch(IF_EQUAL, ndp::SOLICITATION.into(), 2, 0);
        a.branch(IF_EQUAL, ndp::ADVERTISEMENT.into(), 1, 0);
        let other_kind = a.jump();
        a.accept_if_any_v6(ND_TARGET, &self.solicited);
        a.land(other_kind);
        a.land(other_protocol);
    }
}

impl Assembler {
    /// Accepts where the address at `offset` is one of these.
    fn accept_if_any_v6(&mut self, offset: u32, addresses: &[Ipv6Addr]) {
        let mut sorted: Vec<[u32; 4]> = addresses.iter().map(words).collect();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.is_empty() {
            return;
        }
        let mut misses = Vec::new();
        self.word(offset, 0, &sorted, &mut misses);
        for miss in misses {
            self.land(miss);
        }
    }

    /// The search from a word on, among addresses that are alike before it.
    fn word(&mut self, offset: u32, n: usize, sorted: &[[u32; 4]], misses: &mut Vec<usize>) {
        self.emit(LOAD_U32, offset + 4 * place(n));
        if n == 3 {
            let last: Vec<u32> = sorted.iter().map(|address| address[3]).collect();
            return self.search(&last, misses);
        }
        let alike: Vec<&[[u32; 4]]> = sorted.chunk_by(|a, b| a[n] == b[n]).collect();
        self.branches(offset, n, &alike, misses);
    }

    /// Halves the values of a word until few are left, and goes on to the next word behind each.
    fn branches(&mut self, offset: u32, n: usize, alike: &[&[[u32; 4]]], misses: &mut Vec<usize>) {
        if alike.len() > LEAF {
            let (low, high) = alike.split_at(alike.len() / 2);
            self.branch(IF_AT_LEAST, high[0][0][n], 0, 1);
            let to_high = self.jump();
            self.branches(offset, n, low, misses);
            self.land(to_high);
            return self.branches(offset, n, high, misses);
        }
        for group in alike {
            self.branch(IF_EQUAL, group[0][n], 1, 0);
            let to_next = self.jump();
            self.word(offset, n + 1, group, misses);
            self.land(to_next);
        }
        misses.push(self.jump());
    }

    /// Accepts where the address at `offset` is one of the network's.
    fn accept_if_in_v6(&mut self, offset: u32, network: Ipv6Addr, prefix: u8) {
        let bits = u128::MAX
            .checked_shl(128 - u32::from(prefix))
            .unwrap_or_default();
        let mask = words(&Ipv6Addr::from_bits(bits));
        let mut misses = Vec::new();
        for (n, (word, mask)) in words(&network).into_iter().zip(mask).enumerate() {
            if mask == 0 {
                break;
            }
            self.emit(LOAD_U32, offset + 4 * place(n));
            self.emit(AND, mask);
            self.branch(IF_EQUAL, word & mask, 1, 0);
            misses.push(self.jump());
        }
        self.emit(RETURN, ACCEPT);
        for miss in misses {
            self.land(miss);
        }
    }
}

fn words(address: &Ipv6Addr) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h] = address.segments().map(u32::from);
    [a << 16 | b, c << 16 | d, e << 16 | f, g << 16 | h]
}
