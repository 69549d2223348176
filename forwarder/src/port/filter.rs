//! The socket filter: a classic BPF program that lets only frames of ours out of the kernel.
//!
//! An ETH_P_ALL socket sees all of an interface's traffic; a foreign packet then costs 0.1 µs with this
//! filter and 1.5 µs without. Addresses are found by binary search: sorted, halved by a comparison, and
//! compared one by one in leaves of [`LEAF`]. Loads count from the MAC header.

mod ipv6;

use std::net::Ipv4Addr;

use libc::sock_filter;
use uvs_core::wire::{arp, ethernet, icmp, ipv4};

pub(crate) use ipv6::Ipv6Spec;
pub(super) use ipv6::NEXT_HEADER;

use super::undescribed;

/// The addresses whose packets are ours. Only untagged frames match, and IP only where it was sent to
/// this host's MAC address, as for the kernel's own forwarding. What is not said to be IPv6's is IPv4's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FilterSpec {
    /// Destinations: VIPs, and FULLNAT local addresses.
    pub(crate) to: Vec<Ipv4Addr>,
    /// Destinations that are networks, with the lengths of their prefixes.
    pub(crate) networks: Vec<(Ipv4Addr, u8)>,
    /// Sources: real servers whose replies pass through (NAT).
    pub(crate) from: Vec<Ipv4Addr>,
    /// Destinations for ICMP only: the director's own addresses, where errors about tunnelled packets go.
    pub(crate) icmp_to: Vec<Ipv4Addr>,
    /// Whether ICMP errors for anyone are ours: those about what a NAT server was sent come from any router
    /// and go to any client. Which of them are is left to the engine, for they are few.
    pub(crate) icmp_errors: bool,
    /// Targets and senders of ARP: the VIPs that are not the host's and that UVS answers for.
    pub(crate) arp_for: Vec<Ipv4Addr>,
    /// What of IPv6 is ours.
    pub(crate) ipv6: Ipv6Spec,
    /// On the loopback interface: whatever MAC address a frame is for, but none with this firewall mark,
    /// which is what UVS itself sent.
    pub(crate) without_mark: Option<u32>,
}

/// A filter program.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(super) code: Vec<sock_filter>,
    pub(super) exact: bool,
    /// As [`FilterSpec::without_mark`].
    pub(super) without_mark: Option<u32>,
}

/// Instructions the kernel takes at most (BPF_MAXINSNS), less those that a port puts before a program.
const MAX_INSTRUCTIONS: usize = 4096 - undescribed::INSTRUCTIONS;
/// Addresses compared one by one at the end of a search: fewer cost more jumps, more cost comparisons.
pub(super) const LEAF: usize = 8;

const ACCEPT: u32 = u32::MAX;
pub(super) const REJECT: u32 = 0;

pub(super) const LOAD_U32: u16 = code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS);
pub(super) const LOAD_U16: u16 = code(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS);
pub(super) const LOAD_U8: u16 = code(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS);
const LOAD_U8_BEHIND: u16 = code(libc::BPF_LD | libc::BPF_B | libc::BPF_IND);
const LOAD_HEADER_LENGTH: u16 = code(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH);
pub(super) const AND: u16 = code(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K);
pub(super) const JUMP: u16 = code(libc::BPF_JMP | libc::BPF_JA);
pub(super) const IF_EQUAL: u16 = code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
pub(super) const IF_AT_LEAST: u16 = code(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K);
pub(super) const RETURN: u16 = code(libc::BPF_RET | libc::BPF_K);

const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
const MARK: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_MARK).cast_unsigned();
/// The interface that a frame is at now, which a macvlan, VLAN or bond makes another than it came by.
const INTERFACE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_IFINDEX).cast_unsigned();
const VLAN_PRESENT: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG_PRESENT).cast_unsigned();
pub(super) const ETHER_TYPE: u32 = place(ethernet::offset::ETHERTYPE);
const IP: u32 = place(ethernet::LEN);
pub(super) const IP_PROTOCOL: u32 = IP + place(ipv4::offset::PROTOCOL);
const IP_SOURCE: u32 = IP + place(ipv4::offset::SRC);
const IP_DESTINATION: u32 = IP + place(ipv4::offset::DST);
const ARP_SENDER: u32 = IP + place(arp::offset::SENDER);
const ARP_TARGET: u32 = IP + place(arp::offset::TARGET);
/// From where LOAD_U8_BEHIND counts, which adds the length of the IP header.
const ICMP_KIND: u32 = IP + place(icmp::offset::KIND);

#[expect(
    clippy::cast_possible_truncation,
    reason = "`sock_filter` has 16 bits for it"
)]
pub(super) const fn code(bits: u32) -> u16 {
    bits as u16
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a place in a header; `try_from` is not const"
)]
pub(super) const fn place(offset: usize) -> u32 {
    offset as u32
}

impl Program {
    /// What the hook has marked with this bit, among what has the EtherType by which it is hidden: others' frames may
    /// come with two tags too.
    pub(super) fn marked(bit: u32) -> Self {
        let mut a = Assembler::default();
        a.emit(LOAD_U32, MARK);
        a.emit(AND, bit);
        a.require(bit);
        a.emit(RETURN, ACCEPT);
        Self {
            code: a.code,
            exact: true,
            without_mark: None,
        }
    }

    /// Whether it lets in nothing but what it was asked for.
    pub(crate) const fn is_exact(&self) -> bool {
        self.exact
    }

    /// Everything that could be ours whatever the addresses are.
    #[cfg(test)]
    pub(crate) fn everything() -> Self {
        Self::all_but(None)
    }

    /// The program to use where the kernel has no memory for this one.
    pub(super) fn without_addresses(&self) -> Self {
        Self::all_but(self.without_mark)
    }

    fn all_but(without_mark: Option<u32>) -> Self {
        let mut a = Assembler::default();
        a.program(without_mark, &Everything);
        Self {
            code: a.code,
            exact: false,
            without_mark,
        }
    }
}

/// Instructions that reject what is at another interface, and let all else go on to what is behind them.
///
/// A socket for one protocol is given what came by its interface although another device has taken it over since (orig_dev
/// in `__netif_receive_skb_core`); a socket on that device has it as well.
pub(super) fn only_at(ifindex: u32) -> Vec<sock_filter> {
    let mut a = Assembler::default();
    a.emit(LOAD_U32, INTERFACE);
    a.require(ifindex);
    a.code
}

impl FilterSpec {
    /// Puts its lists in order, each member once, so that what lets in the same compares equal.
    pub(crate) fn put_in_order(&mut self) {
        fn in_order<T: Ord>(list: &mut Vec<T>) {
            list.sort_unstable();
            list.dedup();
        }
        let Ipv6Spec {
            to,
            networks,
            from,
            solicited,
            icmp_errors: _,
        } = &mut self.ipv6;
        for addresses in [to, from, solicited] {
            in_order(addresses);
        }
        in_order(networks);
        for addresses in [
            &mut self.to,
            &mut self.from,
            &mut self.icmp_to,
            &mut self.arp_for,
        ] {
            in_order(addresses);
        }
        in_order(&mut self.networks);
    }

    /// The program; one for every address where these do not fit.
    pub(crate) fn compile(&self) -> Program {
        if self.to.len() + self.ipv6.to.len() > MAX_INSTRUCTIONS {
            return Program::all_but(self.without_mark);
        }
        let mut a = Assembler::default();
        a.program(self.without_mark, self);
        if a.code.len() > MAX_INSTRUCTIONS {
            return Program::all_but(self.without_mark);
        }
        Program {
            code: a.code,
            exact: true,
            without_mark: self.without_mark,
        }
    }
}

/// What a program accepts of each kind of frame, once it has checked what every program checks.
trait Accept {
    /// IPv4 to this host.
    fn ipv4(&self, a: &mut Assembler);
    /// IPv6 to this host.
    fn ipv6(&self, a: &mut Assembler);
    /// IPv6 to anybody but another host.
    fn discovery(&self, a: &mut Assembler);
    /// ARP, likewise.
    fn arp(&self, a: &mut Assembler);
}

struct Everything;

impl Accept for Everything {
    fn ipv4(&self, a: &mut Assembler) {
        a.emit(RETURN, ACCEPT);
    }

    fn ipv6(&self, a: &mut Assembler) {
        a.emit(RETURN, ACCEPT);
    }

    fn discovery(&self, a: &mut Assembler) {
        a.emit(RETURN, ACCEPT);
    }

    fn arp(&self, a: &mut Assembler) {
        a.emit(RETURN, ACCEPT);
    }
}

impl Accept for FilterSpec {
    fn ipv4(&self, a: &mut Assembler) {
        a.accept_if_any(IP_DESTINATION, &self.to);
        for &(network, prefix) in &self.networks {
            a.accept_if_in(IP_DESTINATION, network, prefix);
        }
        a.accept_if_any(IP_SOURCE, &self.from);
        if self.icmp_to.is_empty() && !self.icmp_errors {
            return;
        }
        a.emit(LOAD_U8, IP_PROTOCOL);
        a.require(libc::IPPROTO_ICMP as u32);
        if self.icmp_errors {
            a.accept_icmp_errors();
        }
        a.accept_if_any(IP_DESTINATION, &self.icmp_to);
    }

    fn ipv6(&self, a: &mut Assembler) {
        self.ipv6.to_host(a);
    }

    fn discovery(&self, a: &mut Assembler) {
        self.ipv6.discovery(a);
    }

    fn arp(&self, a: &mut Assembler) {
        a.accept_if_any(ARP_TARGET, &self.arp_for);
        a.accept_if_any(ARP_SENDER, &self.arp_for);
    }
}

/// Emits instructions; what is not accepted falls through.
#[derive(Default)]
pub(super) struct Assembler {
    pub(super) code: Vec<sock_filter>,
}

impl Assembler {
    /// A port's program, or the loopback interface's where frames of a mark are left out.
    fn program(&mut self, without_mark: Option<u32>, what: &impl Accept) {
        match without_mark {
            Some(mark) => self.on_loopback(mark, what),
            None => self.on_a_port(what),
        }
    }

    /// The checks that every port's program makes, around those for IP, for neighbour discovery and for ARP.
    fn on_a_port(&mut self, what: &impl Accept) {
        self.emit(LOAD_U32, VLAN_PRESENT);
        self.require(0);
        self.emit(LOAD_U16, ETHER_TYPE);
        self.branch(IF_EQUAL, libc::ETH_P_ARP as u32, 0, 1);
        let to_arp = self.jump();
        self.branch(IF_EQUAL, libc::ETH_P_IPV6 as u32, 0, 1);
        let to_ipv6 = self.jump();
        self.require(libc::ETH_P_IP as u32);
        self.emit(LOAD_U32, PACKET_TYPE);
        self.require(u32::from(libc::PACKET_HOST));
        what.ipv4(self);
        self.emit(RETURN, REJECT);
        self.land(to_ipv6);
        self.reject_other_hosts();
        self.branch(IF_EQUAL, u32::from(libc::PACKET_HOST), 1, 0);
        let to_group = self.jump();
        what.ipv6(self);
        self.land(to_group);
        what.discovery(self);
        self.emit(RETURN, REJECT);
        self.land(to_arp);
        self.reject_other_hosts();
        what.arp(self);
        self.emit(RETURN, REJECT);
    }

    /// Rejects what was sent to somebody else's MAC address, which is seen when the interface is promiscuous.
    fn reject_other_hosts(&mut self) {
        self.emit(LOAD_U32, PACKET_TYPE);
        self.branch(IF_EQUAL, u32::from(libc::PACKET_OTHERHOST), 0, 1);
        self.emit(RETURN, REJECT);
    }

    /// As [`Assembler::on_a_port`], for frames that the host sends itself.
    fn on_loopback(&mut self, mark: u32, what: &impl Accept) {
        self.emit(LOAD_U32, MARK);
        self.branch(IF_EQUAL, mark, 0, 1);
        self.emit(RETURN, REJECT);
        self.emit(LOAD_U16, ETHER_TYPE);
        self.branch(IF_EQUAL, libc::ETH_P_IPV6 as u32, 0, 1);
        let to_ipv6 = self.jump();
        self.require(libc::ETH_P_IP as u32);
        what.ipv4(self);
        self.emit(RETURN, REJECT);
        self.land(to_ipv6);
        what.ipv6(self);
        self.emit(RETURN, REJECT);
    }

    /// Accepts where the word at `offset` is one of `addresses`.
    fn accept_if_any(&mut self, offset: u32, addresses: &[Ipv4Addr]) {
        if addresses.is_empty() {
            return;
        }
        let mut sorted: Vec<u32> = addresses.iter().map(|a| a.to_bits()).collect();
        sorted.sort_unstable();
        sorted.dedup();
        self.emit(LOAD_U32, offset);
        let mut misses = Vec::new();
        self.search(&sorted, &mut misses);
        for miss in misses {
            self.land(miss);
        }
    }

    /// Accepts where the word at `offset` is an address of the network.
    fn accept_if_in(&mut self, offset: u32, network: Ipv4Addr, prefix: u8) {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        self.emit(LOAD_U32, offset);
        self.emit(AND, mask);
        self.branch(IF_EQUAL, network.to_bits() & mask, 0, 1);
        self.emit(RETURN, ACCEPT);
    }

    /// Accepts an ICMP message of a type that is an error.
    fn accept_icmp_errors(&mut self) {
        self.emit(LOAD_HEADER_LENGTH, IP);
        self.emit(LOAD_U8_BEHIND, ICMP_KIND);
        for kind in icmp::ERRORS {
            self.branch(IF_EQUAL, kind.into(), 0, 1);
            self.emit(RETURN, ACCEPT);
        }
    }

    /// Conditional jumps reach 255 instructions, so anything far away is reached by a plain jump.
    fn search(&mut self, sorted: &[u32], misses: &mut Vec<usize>) {
        if sorted.len() > LEAF {
            let (low, high) = sorted.split_at(sorted.len() / 2);
            self.branch(IF_AT_LEAST, high[0], 0, 1);
            let to_high = self.jump();
            self.search(low, misses);
            self.land(to_high);
            self.search(high, misses);
            return;
        }
        for (i, &address) in sorted.iter().enumerate() {
            // They are LEAF at most.
            let past_the_others_and_the_miss = u8::try_from(sorted.len() - i).unwrap_or(u8::MAX);
            self.branch(IF_EQUAL, address, past_the_others_and_the_miss, 0);
        }
        misses.push(self.jump());
        self.emit(RETURN, ACCEPT);
    }

    /// Rejects unless the accumulator is `value`.
    fn require(&mut self, value: u32) {
        self.branch(IF_EQUAL, value, 1, 0);
        self.emit(RETURN, REJECT);
    }

    pub(super) fn emit(&mut self, code: u16, k: u32) {
        self.code.push(sock_filter {
            code,
            jt: 0,
            jf: 0,
            k,
        });
    }

    /// Skips `jt` or `jf` instructions.
    pub(super) fn branch(&mut self, code: u16, k: u32, jt: u8, jf: u8) {
        self.code.push(sock_filter { code, jt, jf, k });
    }

    /// A jump to where [`Assembler::land`] says.
    pub(super) fn jump(&mut self) -> usize {
        self.emit(JUMP, 0);
        self.code.len() - 1
    }

    /// Makes the jump at `from` arrive at the next instruction.
    pub(super) fn land(&mut self, from: usize) {
        let skipped = self.code.len() - from - 1;
        self.code[from].k = u32::try_from(skipped).unwrap_or(u32::MAX);
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
