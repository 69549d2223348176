//! FULLNAT's local ports: which (local address, port) a connection to a server may use.
//!
//! The key that must be unique is (protocol, local address, local port, server), so one port serves
//! every server at once. A bitmap per local address and server; its ports are taken in an order of its own,
//! a secret permutation. So nobody who knows some of them can guess the next, after a restart the order is
//! another one than before, and one just released comes last: not again while the server's TIME_WAIT may
//! last. That is what RFC 6056 asks for in §3.1; its algorithm 3 makes only the start a secret.

use std::collections::HashMap;

use siphasher::sip::SipHasher13;

use serde::{Deserialize, Serialize};

use crate::crew::Crew;
use crate::flow::{Addr, Endpoint, Protocol};
use crate::narrow;

/// Ports in use that are stepped over; then the next free one in the bitmap is looked for.
const STEPS: u32 = 16;
/// Rounds of the permutation. Four make it one that cannot be told from a random one (Luby and Rackoff,
/// "How to construct pseudorandom permutations from pseudorandom functions", 1988).
const ROUNDS: u8 = 4;

/// Which of the ports are one worker's: a port names, by its remainder, the worker that gives it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    number: u32,
    of: u32,
}

impl Share {
    /// All of them.
    pub const WHOLE: Self = Self { number: 0, of: 1 };

    /// Those of a worker.
    pub fn of(crew: Option<&Crew>) -> Self {
        crew.map_or(Self::WHOLE, |crew| Self {
            number: crew.number,
            of: crew.fan.workers(),
        })
    }

    /// Its first port from `first` on.
    const fn first(self, first: u16) -> u32 {
        let first = first as u32;
        first + (self.number + self.of - first % self.of) % self.of
    }
}

/// The local ports.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LocalPorts {
    /// The first and the last, whoever's they are.
    range: (u16, u16),
    share: Share,
    /// The first that is given out here, and how many are.
    first: u32,
    count: u32,
    secret: (u64, u64),
    maps: HashMap<(Addr, Endpoint, Protocol), Bitmap>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Bitmap {
    words: Vec<u64>,
    order: Order,
    /// Its next place in the order.
    next: u32,
    used: u32,
}

/// A permutation of the numbers below `count`: a Feistel network over the next even number of bits, walked
/// until it comes to one of them (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Order {
    count: u32,
    /// Bits of half a number.
    half: u32,
    key: (u64, u64),
}

impl LocalPorts {
    /// Ports `first` to `last`, both included; `secret` must be random, and another one at each start.
    pub fn new(range: (u16, u16), secret: (u64, u64), share: Share) -> Self {
        let last = u32::from(range.1.max(range.0));
        let first = share.first(range.0);
        let count = (last + share.of).saturating_sub(first) / share.of;
        Self {
            range,
            share,
            first,
            count,
            secret,
            maps: HashMap::new(),
        }
    }

    /// Those that another process had, where they are the same ports; else `None`, and each that is in use is to be
    /// [claimed](Self::claim).
    pub(crate) fn succeed(estate: Self, range: (u16, u16), share: Share) -> Option<Self> {
        ((estate.range, estate.share) == (range, share)).then_some(estate)
    }

    /// How many ports each local address has for each server.
    pub const fn capacity(&self) -> u32 {
        self.count
    }

    /// Whether `port` is one of them, whichever worker gives it out.
    pub const fn contains(&self, port: u16) -> bool {
        port >= self.range.0 && port <= self.range.1
    }

    /// The place of a port that is given out here.
    fn place(&self, port: u16) -> Option<u32> {
        let behind = u32::from(port).checked_sub(self.first)?;
        let place = behind / self.share.of;
        (self.contains(port) && behind.is_multiple_of(self.share.of)).then_some(place)
    }

    /// Ports of a local address in use towards a server.
    pub fn in_use(&self, local: Addr, server: Endpoint, protocol: Protocol) -> u32 {
        self.maps
            .get(&(local, server, protocol))
            .map_or(0, |m| m.used)
    }

    /// Takes a free port, `None` where all are in use.
    pub fn take(&mut self, local: Addr, server: Endpoint, protocol: Protocol) -> Option<u16> {
        let map = self.map(local, server, protocol);
        let n = map.take()?;
        u16::try_from(self.first + n * self.share.of).ok()
    }

    /// Takes this very port; `false` where it is in use, or another worker's. One that is not among them is nobody's to give, and
    /// nobody's to refuse.
    pub fn claim(&mut self, local: Endpoint, server: Endpoint, protocol: Protocol) -> bool {
        let Some(n) = self.place(local.port) else {
            return !self.contains(local.port);
        };
        let map = self.map(local.addr, server, protocol);
        let free = !map.is_used(n);
        if free {
            map.mark(n);
        }
        free
    }

    fn map(&mut self, local: Addr, server: Endpoint, protocol: Protocol) -> &mut Bitmap {
        let (count, secret) = (self.count, self.secret);
        self.maps
            .entry((local, server, protocol))
            .or_insert_with(|| Bitmap::new(Order::new(count, secret, local, server, protocol)))
    }

    /// Gives a port back.
    pub fn release(&mut self, local: Endpoint, server: Endpoint, protocol: Protocol) {
        let place = self.place(local.port);
        let map = self.maps.get_mut(&(local.addr, server, protocol));
        if let Some((map, place)) = map.zip(place) {
            map.release(place);
        }
    }
}

impl Bitmap {
    fn new(order: Order) -> Self {
        Self {
            words: vec![0; order.count.div_ceil(64) as usize],
            order,
            next: 0,
            used: 0,
        }
    }

    fn take(&mut self) -> Option<u32> {
        let count = self.order.count;
        if self.used >= count {
            return None;
        }
        let mut n = 0;
        for _ in 0..STEPS {
            n = self.order.number(self.next);
            self.next = (self.next + 1) % count;
            if !self.is_used(n) {
                return Some(self.mark(n));
            }
        }
        self.free_from(n).map(|n| self.mark(n))
    }

    fn is_used(&self, n: u32) -> bool {
        self.words[n as usize / 64] & 1 << (n % 64) != 0
    }

    fn mark(&mut self, n: u32) -> u32 {
        self.words[n as usize / 64] |= 1 << (n % 64);
        self.used += 1;
        n
    }

    /// The first free one from `start` on, round the end.
    fn free_from(&self, start: u32) -> Option<u32> {
        let words = self.words.len();
        // The first word is looked at twice: from `start` on, and at last from its beginning.
        (0..=words).find_map(|i| {
            let w = (start as usize / 64 + i) % words;
            let from = if i == 0 { start % 64 } else { 0 };
            let free = !self.words[w] & u64::MAX << from;
            let n = narrow::to_u32(w) * 64 + free.trailing_zeros();
            (free != 0 && n < self.order.count).then_some(n)
        })
    }

    fn release(&mut self, n: u32) {
        let Some(word) = self.words.get_mut(n as usize / 64) else {
            return;
        };
        if *word & 1 << (n % 64) != 0 {
            *word &= !(1 << (n % 64));
            self.used -= 1;
        }
    }
}

impl Order {
    fn new(
        count: u32,
        secret: (u64, u64),
        local: Addr,
        server: Endpoint,
        protocol: Protocol,
    ) -> Self {
        let mut whose = [0; 36];
        whose[..16].copy_from_slice(&local.0);
        whose[16..32].copy_from_slice(&server.addr.0);
        whose[32..34].copy_from_slice(&server.port.to_be_bytes());
        whose[34] = protocol as u8;
        let hasher = SipHasher13::new_with_keys(secret.0, secret.1);
        let mut key = |half: u8| {
            whose[35] = half;
            hasher.hash(&whose)
        };
        let bits = count.next_power_of_two().trailing_zeros();
        Self {
            count,
            half: bits.div_ceil(2).max(1),
            key: (key(0), key(1)),
        }
    }

    /// The number at a place of the order, both below `count`.
    fn number(self, place: u32) -> u32 {
        let mut n = place;
        loop {
            n = self.permute(n);
            if n < self.count {
                return n;
            }
        }
    }

    fn permute(self, n: u32) -> u32 {
        let mask = (1 << self.half) - 1;
        let hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        let (mut left, mut right) = (n >> self.half, n & mask);
        for round in 0..ROUNDS {
            let [a, b, _, _] = right.to_le_bytes();
            let mixed = (hasher.hash(&[round, a, b]) & 0xffff_ffff) as u32 & mask;
            (left, right) = (right, left ^ mixed);
        }
        left << self.half | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: Addr = Addr::v4([10, 0, 0, 1]);
    const SERVER: Endpoint = Endpoint::new(Addr::v4([10, 0, 0, 2]), 80);
    const SECRET: (u64, u64) = (1, 2);

    fn some(p: &mut LocalPorts, count: usize) -> Vec<u16> {
        let ports = (0..count).map_while(|_| p.take(LOCAL, SERVER, Protocol::Tcp));
        ports.collect()
    }

    #[test]
    fn every_port_is_given_once_and_then_none() {
        for count in [1, 2, 3, 17, 100, 4096, 31_744, 65_535] {
            let mut p = LocalPorts::new((1, count), SECRET, Share::WHOLE);
            let mut got = some(&mut p, usize::from(count) + 1);
            assert_eq!(p.in_use(LOCAL, SERVER, Protocol::Tcp), u32::from(count));
            got.sort_unstable();
            assert!(got.into_iter().eq(1..=count), "of {count}");
            p.release(Endpoint::new(LOCAL, count), SERVER, Protocol::Tcp);
            assert_eq!(some(&mut p, 2), [count]);
        }
    }

    #[test]
    fn each_worker_gives_out_ports_that_name_it_and_all_together_give_out_all() {
        for of in [1, 2, 3, 8] {
            let mut all = Vec::new();
            for number in 0..of {
                let share = Share { number, of };
                let mut p = LocalPorts::new((1001, 1100), SECRET, share);
                let own = some(&mut p, 200);
                assert_eq!(own.len(), p.capacity() as usize);
                assert!(own.iter().all(|port| u32::from(*port) % of == number));
                let local = |port| Endpoint::new(LOCAL, port);
                assert!(
                    !p.claim(local(own[0]), SERVER, Protocol::Tcp),
                    "it is in use"
                );
                p.release(local(own[0]), SERVER, Protocol::Tcp);
                assert!(p.claim(local(own[0]), SERVER, Protocol::Tcp));
                all.extend(own);
            }
            all.sort_unstable();
            assert!(all.into_iter().eq(1001..=1100), "of {of}");
        }
        let none = LocalPorts::new((1000, 1000), SECRET, Share { number: 1, of: 2 });
        assert_eq!(none.capacity(), 0);
    }

    #[test]
    fn a_port_given_back_comes_last() {
        let mut p = LocalPorts::new((1000, 1999), SECRET, Share::WHOLE);
        let all = some(&mut p.clone(), 1000);
        for port in &all[..300] {
            assert_eq!(some(&mut p, 1), [*port]);
            p.release(Endpoint::new(LOCAL, *port), SERVER, Protocol::Tcp);
        }
        assert_eq!(some(&mut p, 700), all[300..]);
        assert_eq!(some(&mut p, 300), all[..300]);
    }

    #[test]
    fn ports_in_use_are_stepped_over() {
        let mut p = LocalPorts::new((1000, 1999), SECRET, Share::WHOLE);
        let all = some(&mut p, 1000);
        // One is free, far from where the order stands.
        p.release(Endpoint::new(LOCAL, all[500]), SERVER, Protocol::Tcp);
        assert_eq!(some(&mut p, 2), [all[500]]);
    }

    #[test]
    fn the_order_is_another_for_each_secret_address_server_and_protocol() {
        let order = |secret, local, server, protocol| {
            let mut p = LocalPorts::new((1024, 32_767), secret, Share::WHOLE);
            let ports: Vec<u16> = (0..200)
                .filter_map(|_| p.take(local, server, protocol))
                .collect();
            ports
        };
        let one = order(SECRET, LOCAL, SERVER, Protocol::Tcp);
        let steps = one.windows(2).map(|w| w[1].wrapping_sub(w[0]));
        let kinds: std::collections::BTreeSet<u16> = steps.collect();
        assert!(kinds.len() > 150, "{kinds:?}");
        let other_server = Endpoint::new(SERVER.addr, 81);
        for other in [
            order((1, 3), LOCAL, SERVER, Protocol::Tcp),
            order(SECRET, SERVER.addr, SERVER, Protocol::Tcp),
            order(SECRET, LOCAL, other_server, Protocol::Tcp),
            order(SECRET, LOCAL, SERVER, Protocol::Udp),
        ] {
            // Of 200 among 31744, 1.3 are in both by chance.
            let both = other.iter().filter(|port| one.contains(port)).count();
            assert!(both < 12, "{both} in both");
            assert!(one.iter().zip(&other).filter(|(a, b)| a == b).count() < 3);
        }
    }

    #[test]
    fn servers_do_not_share() {
        let mut p = LocalPorts::new((1000, 1000), SECRET, Share::WHOLE);
        let other = Endpoint::new(SERVER.addr, 81);
        assert_eq!(p.take(LOCAL, SERVER, Protocol::Tcp), Some(1000));
        assert_eq!(p.take(LOCAL, other, Protocol::Tcp), Some(1000));
        assert_eq!(p.take(LOCAL, SERVER, Protocol::Udp), Some(1000));
        assert_eq!(p.take(LOCAL, SERVER, Protocol::Tcp), None);
    }
}
