//! Whole conversations while every leg between client, director and server loses, repeats and reorders: what each end has
//! at last is what the other sent, and before it, at the server, one header.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use uvs_core::narrow;
use uvs_core::random::Random;
use uvs_core::time::Instant;
use uvs_core::wire::tcp::flag::PSH;

use super::*;

/// When what is not acknowledged goes again.
const TIMEOUT: Duration = Duration::from_millis(200);
/// Within this time all must be there.
const LONGEST: Duration = Duration::from_secs(300);
/// Bytes under way at most.
const WINDOW: u32 = 8_000;

/// No two numbers of one conversation are so far apart.
const FAR: u32 = 1 << 20;

/// An end of a TCP connection, as simple as one can be that is right.
struct End {
    isn: u32,
    /// What it has to say, and how much of it by now.
    stream: Vec<u8>,
    ready: usize,
    /// What the other has acknowledged, and what was sent.
    una: u32,
    next: u32,
    /// The other's next number; `None` before its SYN.
    expected: Option<u32>,
    received: Vec<u8>,
    /// What has come early, by where it belongs in that.
    early: BTreeMap<usize, Vec<u8>>,
    sent_at: Instant,
    answers: bool,
}

impl End {
    fn new(isn: u32, stream: &[u8]) -> Self {
        Self {
            isn,
            stream: stream.to_vec(),
            ready: 0,
            una: isn,
            next: isn,
            expected: None,
            received: Vec::new(),
            early: BTreeMap::new(),
            sent_at: Instant::ZERO,
            answers: false,
        }
    }

    /// Whether all of its stream has arrived.
    fn is_done(&self) -> bool {
        self.una.wrapping_sub(self.isn) as usize == 1 + self.stream.len()
    }

    /// What it sends now: flags, number, acknowledgement, data.
    fn says(&mut self, now: Instant, active: bool, size: usize) -> Vec<(u8, u32, u32, Vec<u8>)> {
        let ack = self.expected.unwrap_or_default();
        let acks = if self.expected.is_some() { ACK } else { 0 };
        let due = now.since(self.sent_at) >= TIMEOUT;
        if self.una == self.isn {
            if !due || !active && self.expected.is_none() {
                return Vec::new();
            }
            (self.sent_at, self.next) = (now, self.isn.wrapping_add(1));
            return vec![(SYN | acks, self.isn, ack, Vec::new())];
        }
        let mut out = Vec::new();
        if due && self.una != self.next {
            self.sent_at = now;
            out.push(self.piece(self.una, size, ack));
        }
        while ((self.next.wrapping_sub(self.isn) - 1) as usize) < self.ready
            && self.next.wrapping_sub(self.una) < WINDOW
        {
            let piece = self.piece(self.next, size, ack);
            self.next = self.next.wrapping_add(narrow::to_u32(piece.3.len()));
            self.sent_at = now;
            out.push(piece);
        }
        if out.is_empty() && std::mem::take(&mut self.answers) {
            out.push((ACK, self.next, ack, Vec::new()));
        }
        self.answers = false;
        out
    }

    fn piece(&self, seq: u32, size: usize, ack: u32) -> (u8, u32, u32, Vec<u8>) {
        let at = (seq.wrapping_sub(self.isn) - 1) as usize;
        let data = self.stream[at..self.ready.min(at + size)].to_vec();
        (ACK | PSH, seq, ack, data)
    }

    /// An option that says what has come early.
    fn blocks(&self) -> Vec<u8> {
        let early = self.early.iter().next();
        let Some(((at, data), expected)) = early.zip(self.expected) else {
            return Vec::new();
        };
        let left = expected.wrapping_add(narrow::to_u32(at - self.received.len()));
        let right = left.wrapping_add(narrow::to_u32(data.len()));
        [
            &[1, 1, 5, 10][..],
            &left.to_be_bytes(),
            &right.to_be_bytes(),
        ]
        .concat()
    }

    fn hears(&mut self, s: &Segment) {
        if s.flags & SYN != 0 {
            self.expected.get_or_insert_with(|| s.seq.wrapping_add(1));
            self.answers = true;
        }
        if s.flags & ACK != 0 {
            self.hears_ack(s);
        }
        if !s.data.is_empty() && self.expected.is_some() {
            self.answers = true;
            self.hears_data(s);
        }
    }

    fn hears_ack(&mut self, s: &Segment) {
        let acked = s.ack.wrapping_sub(self.una);
        if acked <= self.next.wrapping_sub(self.una) {
            self.una = s.ack;
        } else {
            let old = self.una.wrapping_sub(s.ack);
            assert!(old < FAR, "{s:?} acknowledges what was never sent");
        }
        if let [_, _, 5, 10, ..] = s.options[..] {
            let edge = |at: usize| u32::from_be_bytes(s.options[at..at + 4].try_into().unwrap());
            let sent = self.next.wrapping_sub(self.isn);
            for edge in [edge(4), edge(8)] {
                assert!(edge.wrapping_sub(self.isn) <= sent, "{s:?}");
            }
        }
    }

    fn hears_data(&mut self, s: &Segment) {
        let Some(mut expected) = self.expected else {
            return;
        };
        let ahead = s.seq.wrapping_sub(expected);
        let old = if ahead < FAR { 0 } else { ahead.wrapping_neg() };
        if let Some(data) = s.data.get(old as usize..) {
            // By how far ahead of the first byte it is.
            let at = self.received.len() + if old == 0 { ahead as usize } else { 0 };
            let kept = self.early.entry(at).or_default();
            if kept.len() < data.len() {
                *kept = data.to_vec();
            }
        }
        while let Some((at, data)) = self.early.pop_first() {
            let Some(old) = self.received.len().checked_sub(at) else {
                self.early.insert(at, data);
                break;
            };
            if let Some(new) = data.get(old..) {
                self.received.extend_from_slice(new);
                expected = expected.wrapping_add(narrow::to_u32(new.len()));
            }
        }
        self.expected = Some(expected);
    }
}

/// Frames under way to the director or to an end.
struct Network {
    random: Random,
    /// Of a thousand, how many are lost, and how many come twice.
    lost: u64,
    twice: u64,
    under_way: Vec<(Instant, Packet)>,
}

enum Packet {
    FromClient(PacketBuilder),
    FromServer(PacketBuilder),
    ToClient(Segment),
    ToServer(Segment),
}

impl Network {
    fn carry(&mut self, now: Instant, packet: Packet, copy: impl Fn(&Packet) -> Packet) {
        if self.random.below(1000) < self.lost {
            return;
        }
        if self.random.below(1000) < self.twice {
            let again = copy(&packet);
            self.post(now, again);
        }
        self.post(now, packet);
    }

    fn post(&mut self, now: Instant, packet: Packet) {
        let late = Duration::from_millis(1 + self.random.below(30));
        self.under_way.push((now + late, packet));
    }

    fn arrived(&mut self, now: Instant) -> Vec<Packet> {
        let (there, rest) = std::mem::take(&mut self.under_way)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.under_way = rest;
        let mut there: Vec<(Instant, Packet)> = there;
        there.sort_by_key(|(at, _)| *at);
        there.into_iter().map(|(_, packet)| packet).collect()
    }
}

fn copy(packet: &Packet) -> Packet {
    match packet {
        Packet::FromClient(p) => Packet::FromClient(p.clone()),
        Packet::FromServer(p) => Packet::FromServer(p.clone()),
        Packet::ToClient(s) => Packet::ToClient(s.clone()),
        Packet::ToServer(s) => Packet::ToServer(s.clone()),
    }
}

/// Plays a conversation to its end; what the server received.
fn converse(
    director: &mut Director,
    (client, server): (&mut End, &mut End),
    network: &mut Network,
    server_first: bool,
) -> Vec<u8> {
    let begin = director.bed.now;
    let mut sizes = Random::new(17);
    while !client.is_done() || !server.is_done() {
        let now = director.bed.now;
        assert!(now.since(begin) < LONGEST, "the conversation hangs");
        let header = proxy::read(&server.received).expect("nothing but a header");
        let header = header.map(|(_, len)| len);
        let whole = header.is_some_and(|len| server.received.len() == len + client.stream.len());
        let banner = client.received.len() == server.stream.len();
        client.ready = if !server_first || banner {
            client.stream.len()
        } else {
            0
        };
        server.ready = if header.is_some() && server_first || whole {
            server.stream.len()
        } else {
            0
        };
        let size = 1 + usize::try_from(sizes.below(1400)).unwrap();
        for (flags, seq, ack, data) in client.says(now, true, size) {
            let segment = director.client_segment(flags, seq, ack).payload(&data);
            let packet = Packet::FromClient(segment.tcp_options(&client.blocks()));
            network.carry(now, packet, copy);
        }
        for (flags, seq, ack, data) in server.says(now, false, size) {
            let segment = director.server_segment(flags, seq, ack).payload(&data);
            let packet = Packet::FromServer(segment.tcp_options(&server.blocks()));
            network.carry(now, packet, copy);
        }
        for packet in network.arrived(now) {
            let (to_server, to_client) = match packet {
                Packet::FromClient(segment) => director.client_says(&segment),
                Packet::FromServer(segment) => director.server_says(&segment),
                Packet::ToClient(segment) => {
                    client.hears(&segment);
                    continue;
                }
                Packet::ToServer(segment) => {
                    server.hears(&segment);
                    continue;
                }
            };
            for segment in to_server {
                network.carry(now, Packet::ToServer(segment), copy);
            }
            for segment in to_client {
                network.carry(now, Packet::ToClient(segment), copy);
            }
        }
        director.bed.now = now + Duration::from_millis(1);
    }
    std::mem::take(&mut server.received)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn both_ends_have_what_the_other_sent(
        seed in any::<u64>(),
        lost in 0..300_u64,
        twice in 0..200_u64,
        isns in any::<(u32, u32)>(),
        server_first in any::<bool>(),
        version in any::<bool>(),
        lengths in (1..20_000_usize, 1..5_000_usize),
    ) {
        let address = match version {
            true => ClientAddress::ProxyV1,
            false => ClientAddress::ProxyV2,
        };
        let mut director = Director::plain(proxy(address));
        let stream = |len: usize, by: usize| (0..len).map(|i| narrow::to_u8(i * by % 251)).collect::<Vec<_>>();
        let (asked, answered) = (stream(lengths.0, 7), stream(lengths.1, 11));
        let mut client = End::new(isns.0, &asked);
        let mut server = End::new(isns.1, &answered);
        let mut network = Network { random: Random::new(seed), lost, twice, under_way: Vec::new() };
        let ends = (&mut client, &mut server);
        let received = converse(&mut director, ends, &mut network, server_first);
        let (introduced, len) = proxy::read(&received).unwrap().unwrap();
        prop_assert_eq!(introduced.src.to_string(), director.client().to_string());
        prop_assert!(received[len..] == asked[..], "the server has the client's stream");
        prop_assert!(client.received == answered, "the client has the server's");
    }
}
