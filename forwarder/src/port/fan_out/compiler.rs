//! Writes the program: a packet's ends are put in their places, whichever header they are from, then they are looked for
//! among the addresses that are known, and what is found says whose address and port are hashed.

use libc::sock_filter;
use uvs_core::crew::{Class, Fan, MULTIPLIERS, SHIFTS, Steering, words};
use uvs_core::flow::{Addr, Family};
use uvs_core::wire::ethernet::ethertype;
use uvs_core::wire::{icmp, icmpv6, ipv4, ipv6, protocol};

use crate::port::filter::{
    AND, Assembler, IF_AT_LEAST, IF_EQUAL, LEAF, LOAD_U8, LOAD_U16, LOAD_U32, RETURN, code, place,
};

pub(super) const LOAD_U8_AT_X: u16 = code(libc::BPF_LD | libc::BPF_B | libc::BPF_IND);
pub(super) const LOAD_U16_AT_X: u16 = code(libc::BPF_LD | libc::BPF_H | libc::BPF_IND);
pub(super) const LOAD_U32_AT_X: u16 = code(libc::BPF_LD | libc::BPF_W | libc::BPF_IND);
pub(super) const LOAD_X: u16 = code(libc::BPF_LDX | libc::BPF_W | libc::BPF_MEM);
pub(super) const LOAD_X_NUMBER: u16 = code(libc::BPF_LDX | libc::BPF_IMM);
pub(super) const LOAD_HEADER_LENGTH: u16 = code(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH);
pub(super) const LOAD: u16 = code(libc::BPF_LD | libc::BPF_MEM);
pub(super) const LOAD_NUMBER: u16 = code(libc::BPF_LD | libc::BPF_IMM);
pub(super) const STORE: u16 = code(libc::BPF_ST);
pub(super) const X_FROM_A: u16 = code(libc::BPF_MISC | libc::BPF_TAX);
pub(super) const A_FROM_X: u16 = code(libc::BPF_MISC | libc::BPF_TXA);
pub(super) const ADD: u16 = code(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K);
pub(super) const ADD_X: u16 = code(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X);
pub(super) const MULTIPLY: u16 = code(libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K);
pub(super) const SHIFT_LEFT: u16 = code(libc::BPF_ALU | libc::BPF_LSH | libc::BPF_K);
pub(super) const SHIFT_RIGHT: u16 = code(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K);
pub(super) const XOR: u16 = code(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_K);
pub(super) const XOR_X: u16 = code(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X);
pub(super) const REMAINDER: u16 = code(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K);
pub(super) const IF_ANY_BIT: u16 = code(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K);
pub(super) const IF_ABOVE: u16 = code(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K);
pub(super) const RETURN_A: u16 = code(libc::BPF_RET | libc::BPF_A);

pub(super) const PROTOCOL: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL).cast_unsigned();
/// More fragments, or not the first one.
pub(super) const FRAGMENT: u32 = 0x3fff;

/// Where the words of the packet's ends are kept: the source's, the destination's, their ports.
pub(super) const SOURCE: u32 = 0;
pub(super) const DESTINATION: u32 = 4;
pub(super) const SOURCE_PORT: u32 = 8;
pub(super) const DESTINATION_PORT: u32 = 9;

/// Whose address says which worker's a packet is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Client {
    /// Its source's.
    Source,
    /// Its destination's.
    Destination,
}

/// A packet's end that is looked for among addresses: the other one than its client.
#[derive(Clone, Copy)]
struct Sought {
    family: Family,
    client: Client,
}

impl Sought {
    /// The first word of an address that counts: an IPv4 one has its only word last.
    const fn first_word(self) -> usize {
        match self.family {
            Family::V4 => 3,
            Family::V6 => 0,
        }
    }

    /// Where a word of it is kept.
    fn place_of(self, n: usize) -> u32 {
        let end = match self.client {
            Client::Source => DESTINATION,
            Client::Destination => SOURCE,
        };
        end + place(n - self.first_word())
    }
}

/// What is to be done where a jump of these arrives.
struct Exit {
    client: Client,
    class: Class,
    jumps: Vec<usize>,
}

/// One family's part of a program, once the ends are in their places.
pub(super) struct Compiler<'a> {
    a: Assembler,
    steering: &'a Steering,
    fan: Fan,
    local_ports: (u16, u16),
    /// Where the network header begins.
    base: u32,
    exits: Vec<Exit>,
}

impl<'a> Compiler<'a> {
    /// The program, over packets whose network header begins at `base`.
    pub(super) fn compile(
        steering: &'a Steering,
        fan: Fan,
        local_ports: (u16, u16),
        base: u32,
    ) -> Vec<sock_filter> {
        let mut compiler = Self {
            a: Assembler::default(),
            steering,
            fan,
            local_ports,
            base,
            exits: Vec::new(),
        };
        match base {
            0 => compiler.a.emit(LOAD_U32, PROTOCOL),
            _ => compiler.a.emit(LOAD_U16, base - 2),
        }
        for family in Family::ALL {
            let ethertype = match family {
                Family::V4 => ethertype::IPV4,
                Family::V6 => ethertype::IPV6,
            };
            compiler.a.branch(IF_EQUAL, ethertype.into(), 1, 0);
            let other = compiler.a.jump();
            match family {
                Family::V4 => compiler.read_ipv4(),
                Family::V6 => compiler.read_ipv6(),
            }
            compiler.decide(family);
            compiler.a.land(other);
        }
        // ARP, and what nobody knows.
        compiler.a.emit(RETURN, 0);
        compiler.a.code
    }

    /// Puts the ends of an IPv4 packet in their places, or of one that an ICMP error quotes the other way round.
    fn read_ipv4(&mut self) {
        let (a, base) = (&mut self.a, self.base);
        let at = |offset: usize| base + place(offset);
        for (from, to) in [
            (ipv4::offset::SRC, SOURCE),
            (ipv4::offset::DST, DESTINATION),
        ] {
            a.emit(LOAD_U32, at(from));
            a.emit(STORE, to);
        }
        no_ports(a);
        a.emit(LOAD_U16, at(ipv4::offset::FRAGMENT));
        a.branch(IF_ANY_BIT, FRAGMENT, 0, 1);
        let fragment = a.jump();
        a.emit(LOAD_HEADER_LENGTH, base);
        a.emit(LOAD_U8, at(ipv4::offset::PROTOCOL));
        let ported = jump_if_ported(a);
        a.branch(IF_EQUAL, protocol::ICMP.into(), 1, 0);
        let other = a.jump();
        a.emit(LOAD_U8_AT_X, base + place(icmp::offset::KIND));
        let mut errors = Vec::new();
        for kind in icmp::ERRORS {
            a.branch(IF_EQUAL, kind.into(), 0, 1);
            errors.push(a.jump());
        }
        let no_error = a.jump();
        errors.into_iter().for_each(|jump| a.land(jump));
        // X is where the quoted packet begins.
        a.emit(A_FROM_X, 0);
        a.emit(ADD, base + place(icmp::LEN));
        a.emit(X_FROM_A, 0);
        for (from, to) in [
            (ipv4::offset::SRC, DESTINATION),
            (ipv4::offset::DST, SOURCE),
        ] {
            a.emit(LOAD_U32_AT_X, place(from));
            a.emit(STORE, to);
        }
        a.emit(LOAD_U8_AT_X, 0);
        a.emit(AND, 0xf);
        a.emit(SHIFT_LEFT, 2);
        a.emit(ADD_X, 0);
        a.emit(X_FROM_A, 0);
        load_ports(a, 0, (DESTINATION_PORT, SOURCE_PORT));
        let read = a.jump();
        a.land(ported);
        load_ports(a, base, (SOURCE_PORT, DESTINATION_PORT));
        for jump in [fragment, other, no_error, read] {
            a.land(jump);
        }
    }

    /// The same of IPv6, where nothing stands between its header and the transport's.
    fn read_ipv6(&mut self) {
        let (a, base) = (&mut self.a, self.base);
        let ends = |a: &mut Assembler, at: u32, source: u32, destination: u32| {
            for (from, to) in [
                (ipv6::offset::SRC, source),
                (ipv6::offset::DST, destination),
            ] {
                for word in 0..4 {
                    a.emit(LOAD_U32, at + place(from) + 4 * word);
                    a.emit(STORE, to + word);
                }
            }
        };
        ends(a, base, SOURCE, DESTINATION);
        no_ports(a);
        let transport = base + place(ipv6::LEN);
        a.emit(LOAD_U8, base + place(ipv6::offset::NEXT_HEADER));
        let ported = jump_if_ported(a);
        a.branch(IF_EQUAL, protocol::ICMPV6.into(), 1, 0);
        let other = a.jump();
        a.emit(LOAD_U8, transport + place(icmp::offset::KIND));
        // Its errors have the upper bit clear (RFC 4443 §2.1).
        a.branch(IF_ANY_BIT, 0x80, 0, 1);
        let no_error = a.jump();
        let quoted = transport + place(icmpv6::LEN);
        ends(a, quoted, DESTINATION, SOURCE);
        a.emit(LOAD_X_NUMBER, quoted + place(ipv6::LEN));
        load_ports(a, 0, (DESTINATION_PORT, SOURCE_PORT));
        let read = a.jump();
        a.land(ported);
        a.emit(LOAD_X_NUMBER, transport);
        load_ports(a, 0, (SOURCE_PORT, DESTINATION_PORT));
        for jump in [other, no_error, read] {
            a.land(jump);
        }
    }

    /// Whose packet it is, and its worker.
    fn decide(&mut self, family: Family) {
        let of_family = |(addr, class): (&Addr, &Class)| {
            (addr.family() == family).then_some((address(*addr), *class))
        };
        let vips: Vec<_> = self.steering.vips.iter().filter_map(of_family).collect();
        self.find(
            Sought {
                family,
                client: Client::Source,
            },
            &vips,
        );
        let locals = self.steering.locals.iter();
        let locals = locals.filter(|addr| addr.family() == family);
        let locals: Vec<_> = locals.map(|addr| (address(*addr), Class::WHOLE)).collect();
        self.local(family, &locals);
        let servers: Vec<_> = self.steering.servers.iter().filter_map(of_family).collect();
        self.find(
            Sought {
                family,
                client: Client::Destination,
            },
            &servers,
        );
        let otherwise = self.steering.otherwise.unwrap_or(Class::WHOLE);
        self.worker(family, Client::Source, otherwise);
        for exit in std::mem::take(&mut self.exits) {
            exit.jumps.iter().for_each(|jump| self.a.land(*jump));
            self.worker(family, exit.client, exit.class);
        }
    }

    /// A packet to a local address and port is the port's worker's.
    fn local(&mut self, family: Family, locals: &[([u32; 4], Class)]) {
        if locals.is_empty() {
            return;
        }
        let before = std::mem::take(&mut self.exits);
        self.find(
            Sought {
                family,
                client: Client::Source,
            },
            locals,
        );
        let found = std::mem::replace(&mut self.exits, before);
        let not_local = self.a.jump();
        for exit in found {
            exit.jumps.iter().for_each(|jump| self.a.land(*jump));
        }
        let (first, last) = self.local_ports;
        self.a.emit(LOAD, DESTINATION_PORT);
        self.a.branch(IF_AT_LEAST, first.into(), 0, 1);
        self.a.branch(IF_ABOVE, last.into(), 0, 1);
        let no_port = self.a.jump();
        self.a.emit(REMAINDER, self.fan.workers());
        self.a.emit(RETURN_A, 0);
        self.a.land(no_port);
        self.a.land(not_local);
    }

    /// Leaves for an exit where the packet's other end than the client is one of these addresses.
    fn find(&mut self, sought: Sought, known: &[([u32; 4], Class)]) {
        let mut known = known.to_vec();
        known.sort_unstable_by_key(|(words, _)| *words);
        if known.is_empty() {
            return;
        }
        let mut misses = Vec::new();
        self.word(sought, sought.first_word(), &known, &mut misses);
        misses.into_iter().for_each(|miss| self.a.land(miss));
    }

    /// The search from a word on, among addresses that are alike before it.
    fn word(
        &mut self,
        sought: Sought,
        n: usize,
        known: &[([u32; 4], Class)],
        misses: &mut Vec<usize>,
    ) {
        self.a.emit(LOAD, sought.place_of(n));
        let alike: Vec<&[([u32; 4], Class)]> =
            known.chunk_by(|(a, _), (b, _)| a[n] == b[n]).collect();
        self.branches(sought, n, &alike, misses);
    }

    /// Halves the values of a word until few are left, and goes on to the next word behind each.
    fn branches(
        &mut self,
        sought: Sought,
        n: usize,
        alike: &[&[([u32; 4], Class)]],
        misses: &mut Vec<usize>,
    ) {
        if alike.len() > LEAF {
            let (low, high) = alike.split_at(alike.len() / 2);
            self.a.branch(IF_AT_LEAST, high[0][0].0[n], 0, 1);
            let to_high = self.a.jump();
            self.branches(sought, n, low, misses);
            self.a.land(to_high);
            return self.branches(sought, n, high, misses);
        }
        for group in alike {
            let (words, class) = group[0];
            if n == 3 {
                self.a.branch(IF_EQUAL, words[n], 0, 1);
                let jump = self.a.jump();
                self.leave(sought.client, class, jump);
            } else {
                self.a.branch(IF_EQUAL, words[n], 1, 0);
                let to_next = self.a.jump();
                self.word(sought, n + 1, group, misses);
                self.a.land(to_next);
            }
        }
        misses.push(self.a.jump());
    }

    fn leave(&mut self, client: Client, class: Class, jump: usize) {
        let same = |exit: &&mut Exit| (exit.client, exit.class) == (client, class);
        match self.exits.iter_mut().find(same) {
            Some(exit) => exit.jumps.push(jump),
            None => self.exits.push(Exit {
                client,
                class,
                jumps: vec![jump],
            }),
        }
    }

    /// The worker of a client of this class, as [`Fan::of`] has it.
    fn worker(&mut self, family: Family, client: Client, class: Class) {
        let (at, port) = match client {
            Client::Source => (SOURCE, SOURCE_PORT),
            Client::Destination => (DESTINATION, DESTINATION_PORT),
        };
        let a = &mut self.a;
        let masks: &[u32] = match family {
            Family::V4 => &[class.v4],
            Family::V6 => &words(class.v6),
        };
        a.emit(LOAD_X_NUMBER, 0);
        for (word, mask) in (0..).zip(masks) {
            a.emit(LOAD, at + word);
            if *mask != u32::MAX {
                a.emit(AND, *mask);
            }
            a.emit(XOR_X, 0);
            a.emit(X_FROM_A, 0);
        }
        a.emit(XOR, self.fan.secret());
        for (step, (by, shift)) in MULTIPLIERS.into_iter().zip(SHIFTS).enumerate() {
            a.emit(MULTIPLY, by);
            a.emit(X_FROM_A, 0);
            a.emit(SHIFT_RIGHT, shift);
            a.emit(XOR_X, 0);
            if step == 0 && class.port {
                a.emit(LOAD_X, port);
                a.emit(XOR_X, 0);
            }
        }
        a.emit(REMAINDER, self.fan.workers());
        a.emit(RETURN_A, 0);
    }
}

/// An address as the program compares it: an IPv4 one has its only word last.
fn address(addr: Addr) -> [u32; 4] {
    match addr.as_v4() {
        Some(v4) => [0, 0, 0, u32::from_be_bytes(v4)],
        None => words(u128::from_be_bytes(addr.v6_octets())),
    }
}

fn no_ports(a: &mut Assembler) {
    a.emit(LOAD_NUMBER, 0);
    a.emit(STORE, SOURCE_PORT);
    a.emit(STORE, DESTINATION_PORT);
}

/// A jump that is taken where the accumulator is a protocol with ports.
fn jump_if_ported(a: &mut Assembler) -> usize {
    let protocols = [protocol::TCP, protocol::UDP, protocol::SCTP];
    for (left, protocol) in (1..=3).rev().zip(protocols) {
        a.branch(IF_EQUAL, protocol.into(), left, 0);
    }
    let other = a.jump();
    let ported = a.jump();
    a.land(other);
    ported
}

/// Puts the ports of the transport header at X and so many bytes into these places.
fn load_ports(a: &mut Assembler, base: u32, (source, destination): (u32, u32)) {
    for (from, to) in [(0, source), (2, destination)] {
        a.emit(LOAD_U16_AT_X, base + from);
        a.emit(STORE, to);
    }
}
