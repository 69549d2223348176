//! How connections of servers that leave are ended, in virtual time: by IPVS's way, silently, or with both
//! ends told, byte by byte; at once, paced, on expiry, and when a drain times out.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use uvs_core::engine::EventKind;
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::service::{
    Forwarding, OnExpiry, OnRemoval, Persistence, Replies, ServerSpec, ServiceSpec, TeardownPolicy,
    Tunnel,
};
use uvs_core::snapshot::Limits;
use uvs_core::testing::bed::{
    Bed, CLIENT, CLIENTS, LOCAL, SERVER, SERVER_PORT, SERVERS, Sent, VIP,
};
use uvs_core::testing::packets::{ACK, PacketBuilder, SYN, TestFrame, check, tcp, udp};
use uvs_core::verdict::{DropReason, Verdict};
use uvs_core::wire::ethernet;
use uvs_core::wire::tcp::flag::{FIN, RST};

const OTHER: Endpoint = Endpoint::new(Addr::v4([10, 0, 2, 12]), SERVER_PORT);
const TELL: TeardownPolicy = teardown(OnRemoval::Tell);
/// FULLNAT's only local port.
const LOCAL_PORT: u16 = 1024;
/// What the client and the server of [`talk`] expect next.
const CLIENT_NEXT: u32 = 9_000 + 1 + 100;
const SERVER_NEXT: u32 = 5_000 + 1 + 10;

const fn teardown(on_removal: OnRemoval) -> TeardownPolicy {
    TeardownPolicy {
        on_removal,
        on_expiry: OnExpiry::Drop,
        drain_timeout: 0,
    }
}

fn bed(protocol: Protocol, forwarding: Forwarding, teardown: TeardownPolicy) -> Bed {
    let limits = Limits {
        local_ports: (LOCAL_PORT, LOCAL_PORT),
        ..Limits::default()
    };
    let mut bed = Bed::new(uvs_modes::BUILTIN, limits);
    bed.add_service(protocol, forwarding, Tunnel::default());
    change(&mut bed, |s| s.teardown = teardown);
    bed.change_fib(|f| f.set_neighbour(3, OTHER.addr, [2, 0, 0, 0, 2, 0x12]));
    bed
}

fn change(bed: &mut Bed, edit: impl FnOnce(&mut ServiceSpec)) {
    edit(Arc::make_mut(&mut bed.snapshot.services[0]));
    bed.apply();
}

/// The service's only server is replaced by another.
fn replace_server(bed: &mut Bed) {
    change(bed, |s| {
        let forwarding = s.servers[0].forwarding;
        s.servers = vec![ServerSpec::new(OTHER, forwarding)];
    });
}

fn frame(p: &PacketBuilder) -> TestFrame {
    TestFrame::finished(&p.frame())
}

fn client(bed: &mut Bed, from: Endpoint, flags: u8, seq: (u32, u32), data: usize) -> Verdict {
    let segment = tcp(from, VIP, flags).seq(seq.0, seq.1);
    bed.receive(CLIENTS, frame(&segment.payload(&vec![7; data])))
}

fn server(bed: &mut Bed, to: Endpoint, flags: u8, seq: (u32, u32), data: usize) {
    let from = Endpoint::new(SERVER, SERVER_PORT);
    let segment = tcp(from, to, flags)
        .seq(seq.0, seq.1)
        .payload(&vec![7; data]);
    bed.receive(
        SERVERS,
        frame(&segment.to_mac(uvs_core::testing::bed::SERVERS_MAC)),
    );
}

/// A handshake, ten bytes of request, a hundred of answer; servers answer only where replies pass.
fn talk(bed: &mut Bed, from: Endpoint, replies: Option<Endpoint>) {
    client(bed, from, SYN, (5_000, 0), 0);
    if let Some(to) = replies {
        server(bed, to, SYN | ACK, (9_000, 5_001), 0);
    }
    client(bed, from, ACK, (5_001, 9_001), 0);
    client(bed, from, ACK, (5_001, 9_001), 10);
    if let Some(to) = replies {
        server(bed, to, ACK, (9_001, SERVER_NEXT), 100);
    }
    client(bed, from, ACK, (SERVER_NEXT, CLIENT_NEXT), 0);
    bed.sent.clear();
}

/// Where the server's replies go, as the server sees it.
const fn far(forwarding: Forwarding, from: Endpoint) -> Option<Endpoint> {
    match forwarding.replies() {
        Replies::Gateway => Some(from),
        Replies::Local => Some(Endpoint::new(LOCAL, LOCAL_PORT)),
        Replies::Direct => None,
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Reset {
    from: Endpoint,
    to: Endpoint,
    seq: u32,
    ack: u32,
}

/// Reads a RST, of which the outer header of a tunnel is left off.
fn reset(sent: &Sent) -> Reset {
    assert_eq!(check(&sent.bytes), Ok(()));
    let mut b = &sent.bytes[ethernet::LEN..];
    if b[9] == 4 {
        b = &b[20..];
    }
    let word = |at: usize| u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
    let end = |addr: usize, port: usize| {
        let addr = Addr::v4(word(addr).to_be_bytes());
        Endpoint::new(addr, u16::from_be_bytes([b[port], b[port + 1]]))
    };
    assert_eq!((b[9], b[33], b.len()), (6, RST | ACK, 40), "{b:?}");
    Reset {
        from: end(12, 20),
        to: end(16, 22),
        seq: word(24),
        ack: word(28),
    }
}

#[test]
fn both_ends_are_told_in_every_mode() {
    for &forwarding in Forwarding::ALL {
        let mut bed = bed(Protocol::Tcp, forwarding, TELL);
        talk(&mut bed, CLIENT, far(forwarding, CLIENT));
        replace_server(&mut bed);
        bed.expire();
        let sent = std::mem::take(&mut bed.sent);
        assert_eq!(sent.len(), 2, "{forwarding:?}");
        let to_client = Reset {
            from: VIP,
            to: CLIENT,
            seq: CLIENT_NEXT,
            ack: SERVER_NEXT,
        };
        assert_eq!((sent[0].port, reset(&sent[0])), (CLIENTS, to_client));
        let to_server = Reset {
            from: far(forwarding, CLIENT).unwrap_or(CLIENT),
            to: match forwarding.passes_replies() {
                true => Endpoint::new(SERVER, SERVER_PORT),
                false => VIP,
            },
            seq: SERVER_NEXT,
            ack: CLIENT_NEXT,
        };
        assert_eq!((sent[1].port, reset(&sent[1])), (SERVERS, to_server));
        assert_eq!(bed.engine.connections().len(), 0);
        let counters = bed.engine.counters();
        assert_eq!((counters.told_clients, counters.told_servers), (1, 1));
        assert_eq!(bed.engine.take_events()[0].what, EventKind::Ended(1));
    }
}

#[test]
fn the_clients_reset_is_exact_to_the_byte() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat, TELL);
    talk(&mut bed, CLIENT, Some(CLIENT));
    replace_server(&mut bed);
    bed.expire();
    let expected: [u8; 54] = [
        2, 0, 0, 0, 1, 0xfe, 2, 0, 0, 0, 1, 1, 8, 0, // the gateway, the director, IPv4
        0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0x6d, 0x65, 10, 0, 1, 100, 192, 0, 2, 7, // DF
        0, 80, 0x9c, 0x40, 0, 0, 0x23, 0x8d, 0, 0, 0x13, 0x93, 0x50, 0x14, 0, 0, 0x0e, 0xb5, 0, 0,
    ];
    assert_eq!(bed.sent[0].bytes, expected, "{:02x?}", bed.sent[0].bytes);
}

#[test]
fn a_udp_client_is_told_by_icmp_to_the_byte() {
    let mut bed = bed(Protocol::Udp, Forwarding::Nat, TELL);
    bed.from_client(frame(&udp(CLIENT, VIP).payload(b"query")));
    replace_server(&mut bed);
    bed.expire();
    assert_eq!(bed.sent.len(), 1);
    let sent = &bed.sent[0].bytes;
    assert_eq!(check(sent), Ok(()));
    // Type 3, code 3; about 28 bytes of UDP from the client to the VIP.
    assert_eq!(sent[14 + 12..14 + 22], [10, 0, 1, 100, 192, 0, 2, 7, 3, 3]);
    let about: [u8; 28] = [
        0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0xad, 0x66, 192, 0, 2, 7, 10, 0, 1, 100, // header
        0x9c, 0x40, 0, 80, 0, 8, 0, 0,
    ];
    assert_eq!(sent[14 + 28..], about, "{:02x?}", &sent[14 + 28..]);
    assert_eq!(bed.engine.connections().len(), 0);
}

#[test]
fn by_default_they_are_kept_and_silent() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat, TeardownPolicy::default());
    talk(&mut bed, CLIENT, Some(CLIENT));
    replace_server(&mut bed);
    bed.wait(Duration::from_secs(10));
    assert!(bed.sent.is_empty());
    let verdict = client(&mut bed, CLIENT, ACK, (SERVER_NEXT, CLIENT_NEXT), 1);
    assert_eq!(verdict, Verdict::Drop(DropReason::ServerGone));
    assert_eq!(bed.engine.connections().len(), 1);
}

#[test]
fn udp_moves_at_once_and_a_tcp_segment_is_answered() {
    for on_removal in [OnRemoval::Drop, OnRemoval::Tell] {
        let mut udps = bed(Protocol::Udp, Forwarding::Nat, teardown(on_removal));
        udps.from_client(frame(&udp(CLIENT, VIP)));
        replace_server(&mut udps);
        // Before the sweep has come to it.
        let moved = udps.from_client(frame(&udp(CLIENT, VIP)));
        assert_eq!(
            moved[0].bytes[ethernet::LEN + 16..ethernet::LEN + 20],
            [10, 0, 2, 12]
        );

        let mut tcps = bed(Protocol::Tcp, Forwarding::Dr, teardown(on_removal));
        talk(&mut tcps, CLIENT, None);
        replace_server(&mut tcps);
        let verdict = client(&mut tcps, CLIENT, ACK, (SERVER_NEXT, 77_777), 1);
        assert_eq!(verdict, Verdict::Answered, "{on_removal:?}");
        // The answer's number is what the segment acknowledged (RFC 9293 §3.5.2).
        let b = &tcps.sent[0].bytes[ethernet::LEN..];
        assert_eq!(b[24..28], 77_777u32.to_be_bytes());
    }
}

#[test]
fn half_open_ones_and_those_that_are_over_are_not_told() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat, TELL);
    client(&mut bed, CLIENT, SYN, (5_000, 0), 0);
    let second = Endpoint::new(CLIENT.addr, 40_001);
    talk(&mut bed, second, Some(second));
    server(&mut bed, second, FIN | ACK, (CLIENT_NEXT, SERVER_NEXT), 0);
    client(
        &mut bed,
        second,
        FIN | ACK,
        (SERVER_NEXT, CLIENT_NEXT + 1),
        0,
    );
    bed.sent.clear();
    replace_server(&mut bed);
    bed.expire();
    assert!(bed.sent.is_empty(), "{:?}", bed.sent);
    assert_eq!(bed.engine.connections().len(), 0);
}

#[test]
fn many_are_told_at_a_bounded_pace_and_all_in_the_end() {
    const MANY: u32 = 3_000;
    let mut bed = bed(Protocol::Tcp, Forwarding::Dr, TELL);
    for n in 0..MANY {
        let from = Endpoint::new(CLIENT.addr, 10_000 + u16::try_from(n).unwrap());
        client(&mut bed, from, SYN, (n, 0), 0);
        client(&mut bed, from, ACK, (n + 1, 9_001), 0);
    }
    bed.sent.clear();
    replace_server(&mut bed);
    bed.expire();
    let first = bed.sent.len();
    assert!((2..=256).contains(&first), "{first} at once");
    let mut ticks = 0;
    while !bed.engine.connections().is_empty() {
        let next = bed.engine.poll_timeout().unwrap();
        assert!(next.since(bed.now) < Duration::from_millis(10));
        bed.jump(Duration::from_millis(1));
        ticks += 1;
    }
    // 50 a millisecond.
    assert!((50..=70).contains(&ticks), "{ticks} ms");
    assert_eq!(bed.sent.len(), 2 * MANY as usize);
    let counters = bed.engine.counters();
    assert_eq!(counters.told_clients, u64::from(MANY));
}

#[test]
fn retransmissions_and_probes_do_not_set_numbers_back() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Dr, TELL);
    talk(&mut bed, CLIENT, None);
    client(&mut bed, CLIENT, ACK, (SERVER_NEXT - 1, CLIENT_NEXT), 0);
    client(&mut bed, CLIENT, SYN, (1, 0), 0);
    client(&mut bed, CLIENT, ACK, (5_001, 9_001), 10);
    bed.sent.clear();
    replace_server(&mut bed);
    bed.expire();
    assert_eq!(reset(&bed.sent[0]).seq, CLIENT_NEXT);
    assert_eq!(reset(&bed.sent[1]).seq, SERVER_NEXT);
}

#[test]
fn a_server_whose_next_hop_is_silent_is_not_asked_for() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Dr, TELL);
    talk(&mut bed, CLIENT, None);
    bed.change_fib(|f| f.remove_neighbour(3, SERVER));
    replace_server(&mut bed);
    bed.expire();
    assert_eq!(bed.sent.len(), 1);
    assert_eq!(reset(&bed.sent[0]).to, CLIENT);
    assert_eq!(bed.engine.counters().told_servers, 0);
}

/// Farewells were never received, and an answer's frame ended in its answer: neither is `sent`.
#[test]
fn what_is_lost_on_the_way_out_is_a_sum_of_its_own() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat, TELL);
    talk(&mut bed, CLIENT, Some(CLIENT));
    replace_server(&mut bed);
    bed.expire();
    let before = bed.engine.counters().clone();
    let lost = bed.sent.len() as u64;
    bed.engine.count_lost(lost, DropReason::SendQueueFull);
    let after = bed.engine.counters();
    assert_eq!(after.lost[DropReason::SendQueueFull as usize], lost);
    assert_eq!((after.sent, after.drops), (before.sent, before.drops));
    assert_eq!(after.accounted(), after.received);
}

#[test]
fn idle_expiry_is_told_where_that_is_asked_for() {
    for (on_expiry, frames) in [(OnExpiry::Drop, 0), (OnExpiry::Tell, 2)] {
        let teardown = TeardownPolicy {
            on_expiry,
            ..TeardownPolicy::default()
        };
        let mut bed = bed(Protocol::Tcp, Forwarding::Nat, teardown);
        talk(&mut bed, CLIENT, Some(CLIENT));
        bed.wait(Duration::from_secs(899));
        assert!(bed.sent.is_empty());
        bed.wait(Duration::from_secs(2));
        assert_eq!(bed.sent.len(), frames, "{on_expiry:?}");
        assert_eq!(bed.engine.connections().len(), 0);
    }
}

#[test]
fn a_removed_service_tells_too() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat, TELL);
    talk(&mut bed, CLIENT, Some(CLIENT));
    bed.snapshot.services.clear();
    bed.apply();
    bed.expire();
    assert_eq!(reset(&bed.sent[0]).to, CLIENT);
    assert_eq!(bed.engine.connections().len(), 0);
}

#[test]
fn a_drain_says_when_it_begins_and_ends() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat, TeardownPolicy::default());
    talk(&mut bed, CLIENT, Some(CLIENT));
    change(&mut bed, |s| s.servers[0].weight = 0);
    bed.expire();
    bed.wait(Duration::from_secs(30));
    let begun = bed.engine.take_events();
    assert_eq!(begun.len(), 1);
    assert_eq!(begun[0].what, EventKind::Drains(1));
    let at_rest = bed.engine.report(bed.now).services[0].servers[0].numbers;
    assert_eq!((at_rest.open, at_rest.draining), (1, Some(30)));
    // The entry stays in TIME_WAIT, but nothing is open any more.
    server(&mut bed, CLIENT, FIN | ACK, (CLIENT_NEXT, SERVER_NEXT), 0);
    client(
        &mut bed,
        CLIENT,
        FIN | ACK,
        (SERVER_NEXT, CLIENT_NEXT + 1),
        0,
    );
    bed.wait(Duration::from_secs(1));
    assert_eq!(bed.engine.connections().len(), 1);
    let over = bed.engine.report(bed.now).services[0].servers[0].numbers;
    assert_eq!((over.open, over.draining), (0, Some(31)));
    let [ended] = bed.engine.take_events()[..] else {
        panic!("one event");
    };
    let EventKind::Drained(took) = ended.what else {
        panic!("{ended:?}");
    };
    assert_eq!(took.as_secs(), 30);
    assert_eq!(ended.server, Endpoint::new(SERVER, SERVER_PORT));
}

#[test]
fn a_drain_that_takes_too_long_is_ended() {
    let teardown = TeardownPolicy {
        drain_timeout: 60,
        ..TeardownPolicy::default()
    };
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat, teardown);
    change(&mut bed, |s| {
        s.persistence = Some(Persistence {
            timeout: 600,
            mask: u32::MAX,
        });
        s.servers.push(ServerSpec::new(OTHER, Forwarding::Nat));
    });
    talk(&mut bed, CLIENT, Some(CLIENT));
    change(&mut bed, |s| s.servers[0].weight = 0);
    bed.wait(Duration::from_secs(59));
    assert!(bed.sent.is_empty());
    bed.wait(Duration::from_secs(2));
    assert_eq!(bed.sent.len(), 2);
    assert_eq!(reset(&bed.sent[0]).to, CLIENT);
    let events: Vec<_> = bed.engine.take_events().iter().map(|e| e.what).collect();
    assert_eq!(events, [EventKind::Drains(1), EventKind::TimedOut(1)]);
    // Persistence releases the server as well.
    let again = Endpoint::new(CLIENT.addr, 40_009);
    let moved = bed.from_client(frame(&tcp(again, VIP, SYN)));
    assert_eq!(
        moved[0].bytes[ethernet::LEN + 16..ethernet::LEN + 20],
        [10, 0, 2, 12]
    );
}

#[test]
fn a_server_that_comes_back_keeps_what_was_not_ended() {
    let limits = Limits {
        connections: 4096,
        ..Limits::default()
    };
    let mut bed = Bed::new(uvs_modes::BUILTIN, limits);
    bed.add_service(Protocol::Tcp, Forwarding::Nat, Tunnel::default());
    change(&mut bed, |s| s.teardown = TELL);
    talk(&mut bed, CLIENT, Some(CLIENT));
    let before = bed.snapshot.services.clone();
    change(&mut bed, |s| s.servers.clear());
    bed.snapshot.services = before;
    bed.apply();
    bed.expire();
    assert!(bed.sent.is_empty());
    assert_eq!(bed.engine.connections().len(), 1);
}
