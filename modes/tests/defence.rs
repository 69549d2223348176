//! The connection table under attack, in virtual time: half-open connections go first, established ones
//! stay, and the kernel's defences do what their sysctls say.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::service::{Forwarding, Tunnel};
use uvs_core::snapshot::Limits;
use uvs_core::testing::bed::{Bed, CLIENTS, VIP};
use uvs_core::testing::packets::{TestFrame, tcp, udp};
use uvs_core::verdict::{DropReason, Verdict};
use uvs_core::wire::tcp::flag::{ACK, SYN};

const LIMIT: u32 = 20_000;

fn bed(protocol: Protocol) -> Bed {
    let limits = Limits {
        connections: LIMIT,
        ..Limits::default()
    };
    let mut bed = Bed::new(uvs_modes::BUILTIN, limits);
    bed.add_service(protocol, Forwarding::Nat, Tunnel::default());
    bed
}

/// Client number `n`, no two alike.
fn client(n: u32) -> Endpoint {
    let [a, b, c, d] = n.to_be_bytes();
    Endpoint::new(Addr::v4([100 + a, b, c, d]), 40_000)
}

fn send(bed: &mut Bed, from: Endpoint, flags: u8) -> Verdict {
    bed.sent.clear();
    bed.receive(CLIENTS, TestFrame::finished(&tcp(from, VIP, flags).frame()))
}

fn is_sent(v: Verdict) -> bool {
    matches!(v, Verdict::Send(_))
}

fn establish(bed: &mut Bed, from: Endpoint) {
    assert!(is_sent(send(bed, from, SYN)));
    assert!(is_sent(send(bed, from, ACK)));
}

fn states(bed: &Bed, state: &str) -> usize {
    let (conns, _) = bed.engine.report_connections(bed.now, 0, u32::MAX);
    conns.iter().filter(|c| c.state == state).count()
}

#[test]
fn a_flood_of_a_million_half_open_connections_stops_no_established_one() {
    const FLOOD: u32 = 1_000_000;
    let mut bed = bed(Protocol::Tcp);
    let established: Vec<Endpoint> = (0..1000).map(client).collect();
    for c in &established {
        establish(&mut bed, *c);
    }
    for n in 0..FLOOD {
        assert!(is_sent(send(&mut bed, client(1 << 24 | n), SYN)));
        if n % 10_000 == 0 {
            // Somebody who means it gets through in the midst of it, though a few SYNs later.
            let honest = client(2 << 24 | n);
            send(&mut bed, honest, SYN);
            for later in 0..100 {
                send(&mut bed, client((3 << 24) | (n / 100) | later), SYN);
            }
            assert!(is_sent(send(&mut bed, honest, ACK)), "after {n}");
        }
    }
    assert_eq!(bed.engine.connections().len(), LIMIT);
    assert!(bed.engine.counters().evicted > u64::from(FLOOD - LIMIT));
    for c in &established {
        assert!(is_sent(send(&mut bed, *c, ACK)));
    }
    assert_eq!(states(&bed, "ESTABLISHED"), 1000 + 100);
}

#[test]
fn a_table_full_of_established_connections_takes_no_more() {
    let mut bed = bed(Protocol::Tcp);
    for n in 0..LIMIT {
        establish(&mut bed, client(n));
    }
    let refused = send(&mut bed, client(LIMIT), SYN);
    assert_eq!(refused, Verdict::Drop(DropReason::TableFull));
    assert_eq!(bed.engine.counters().evicted, 0);
    assert_eq!(states(&bed, "ESTABLISHED"), LIMIT as usize);
}

#[test]
fn single_datagrams_make_room_and_conversations_do_not() {
    let mut bed = bed(Protocol::Udp);
    let datagram = |bed: &mut Bed, from| {
        bed.sent.clear();
        let frame = udp(from, VIP).payload(b"?").frame();
        assert!(is_sent(bed.receive(CLIENTS, TestFrame::finished(&frame))));
    };
    for n in 0..100 {
        datagram(&mut bed, client(n));
        datagram(&mut bed, client(n));
    }
    for n in 0..LIMIT * 2 {
        datagram(&mut bed, client(1 << 24 | n));
    }
    let (conns, _) = bed.engine.report_connections(bed.now, 0, u32::MAX);
    let talking = (0..100).filter(|n| conns.iter().any(|c| c.client == client(*n)));
    assert_eq!(talking.count(), 100);
}

#[test]
fn drop_packet_3_drops_one_new_connection_in_am_droprate() {
    let mut bed = bed(Protocol::Tcp);
    bed.sysctl("am_droprate", 4);
    bed.sysctl("drop_packet", 3);
    bed.wait(Duration::from_secs(1));
    syns(&mut bed, 100);
    let dropped = bed.engine.counters().drops[DropReason::DropPacket as usize];
    assert_eq!((dropped, bed.engine.connections().len()), (25, 75));
    bed.sysctl("drop_packet", 0);
    syns(&mut bed, 100);
    assert_eq!(
        bed.engine.counters().drops[DropReason::DropPacket as usize],
        25
    );
}

/// New connections, each of another client.
fn syns(bed: &mut Bed, count: u32) {
    let first = 1 << 24 | u32::try_from(bed.engine.counters().received).unwrap();
    for n in first..first + count {
        send(bed, client(n), SYN);
    }
}

#[test]
fn drop_entry_3_ends_half_open_and_idle_connections_within_a_round() {
    let mut bed = bed(Protocol::Tcp);
    bed.sysctl("drop_entry", 3);
    for n in 0..1000 {
        establish(&mut bed, client(n));
        for _ in 0..if n < 500 { 8 } else { 0 } {
            send(&mut bed, client(n), ACK);
        }
    }
    syns(&mut bed, 1000);
    bed.wait(Duration::from_secs(35));
    assert_eq!(states(&bed, "SYN_RECV"), 0);
    assert_eq!(states(&bed, "ESTABLISHED"), 1000, "they are young");
    bed.wait(Duration::from_secs(100));
    // Two packets and idle: one in two a round. Ten packets: spared.
    let left = states(&bed, "ESTABLISHED");
    assert!((500..800).contains(&left), "{left} left");
    assert_eq!(
        bed.engine.counters().dropped_entries,
        1000 + (1000 - left as u64)
    );
}

#[test]
fn automatic_defences_wait_until_places_are_scarce() {
    let mut bed = bed(Protocol::Tcp);
    for name in ["drop_entry", "drop_packet", "secure_tcp"] {
        bed.sysctl(name, 1);
    }
    for n in 0..LIMIT / 2 {
        establish(&mut bed, client(n));
    }
    bed.wait(Duration::from_secs(5));
    assert_eq!(bed.engine.counters().dropped_entries, 0);
    for n in LIMIT / 2..LIMIT {
        send(&mut bed, client(n), SYN);
    }
    assert_eq!(
        bed.engine.counters().drops[DropReason::DropPacket as usize],
        0
    );
    // A tick makes it scarce: a handshake's ACK alone establishes nothing, and SYNs are dropped.
    bed.wait(Duration::from_secs(1));
    send(&mut bed, client(LIMIT - 1), ACK);
    assert_eq!(states(&bed, "ESTABLISHED"), LIMIT as usize / 2);
    syns(&mut bed, 100);
    assert!(bed.engine.counters().drops[DropReason::DropPacket as usize] > 0);
    bed.wait(Duration::from_secs(25));
    assert!(bed.engine.counters().dropped_entries > 0);
    // With room again they rest.
    bed.wait(Duration::from_secs(60));
    let before = bed.engine.counters().drops[DropReason::DropPacket as usize];
    syns(&mut bed, 100);
    let after = bed.engine.counters().drops[DropReason::DropPacket as usize];
    assert_eq!(before, after);
    assert_eq!(states(&bed, "ESTABLISHED"), LIMIT as usize / 2);
}
