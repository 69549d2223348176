//! Persistence templates, in virtual time: what they show, how long they are kept, and what goes first when
//! somebody fills the table.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use uvs_core::engine::ConnReport;
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::service::{Forwarding, Persistence, ServiceKey, ServiceSpec, Tunnel};
use uvs_core::snapshot::Limits;
use uvs_core::testing::bed::{
    Bed, CLIENT, CLIENTS, SERVER, SERVER_PORT, SERVERS, SERVERS_MAC, VIP,
};
use uvs_core::testing::packets::{PacketBuilder, TestFrame, sctp, tcp, udp};
use uvs_core::verdict::{DropReason, Verdict};
use uvs_core::wire::sctp::chunk;
use uvs_core::wire::tcp::flag::{ACK, RST, SYN};

const REAL: Endpoint = Endpoint::new(SERVER, SERVER_PORT);
/// A second service, without persistence.
const PLAIN: Endpoint = Endpoint::new(VIP.addr, VIP.port + 1);
const LIMIT: u32 = 1000;

fn bed(protocol: Protocol, forwarding: Forwarding, timeout: u32, limit: u32) -> Bed {
    let limits = Limits {
        connections: limit,
        ..Limits::default()
    };
    let mut bed = Bed::new(uvs_modes::BUILTIN, limits);
    bed.add_service(protocol, forwarding, Tunnel::default());
    let mut second = ServiceSpec::clone(&bed.snapshot.services[0]);
    second.key = ServiceKey::address(protocol, PLAIN);
    bed.snapshot.services.push(Arc::new(second));
    change(&mut bed, |s| {
        s.persistence = Some(Persistence {
            timeout,
            mask: u32::MAX,
        });
    });
    bed
}

fn change(bed: &mut Bed, edit: impl FnOnce(&mut ServiceSpec)) {
    edit(Arc::make_mut(&mut bed.snapshot.services[0]));
    bed.apply();
}

/// Client number `n`, no two alike.
fn client(n: u32) -> Endpoint {
    let [_, b, c, d] = n.to_be_bytes();
    Endpoint::new(Addr::v4([100, b, c, d]), 40_000)
}

fn send(bed: &mut Bed, packet: &PacketBuilder) -> Verdict {
    bed.sent.clear();
    bed.receive(CLIENTS, TestFrame::finished(&packet.frame()))
}

fn reply(bed: &mut Bed, packet: PacketBuilder) {
    let frame = packet.to_mac(SERVERS_MAC).frame();
    bed.receive(SERVERS, TestFrame::finished(&frame));
}

fn establish(bed: &mut Bed, from: Endpoint, vip: Endpoint) {
    for flags in [SYN, ACK] {
        let verdict = send(bed, &tcp(from, vip, flags));
        assert!(matches!(verdict, Verdict::Send(_)), "{verdict:?}");
    }
}

fn all(bed: &Bed) -> Vec<ConnReport> {
    bed.engine.report_connections(bed.now, 0, u32::MAX).0
}

/// Templates' states and seconds to live.
fn templates(bed: &Bed) -> Vec<(&'static str, u32)> {
    let all = all(bed).into_iter().filter(|c| c.client.port == 0);
    all.map(|c| (c.state, c.expires)).collect()
}

fn state(bed: &Bed) -> &'static str {
    let [(state, _)] = templates(bed)[..] else {
        panic!("{:?}", all(bed));
    };
    state
}

fn connection_states(bed: &Bed, state: &str) -> usize {
    all(bed).iter().filter(|c| c.state == state).count()
}

#[test]
fn a_template_is_assured_once_a_connection_was_established() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat, 300, LIMIT);
    send(&mut bed, &tcp(CLIENT, VIP, SYN));
    assert_eq!(state(&bed), "NONE");
    reply(&mut bed, tcp(REAL, CLIENT, RST));
    bed.wait(Duration::from_secs(61));
    assert_eq!(
        templates(&bed),
        [("NONE", 239)],
        "refused: it proves nothing"
    );
    establish(&mut bed, CLIENT, VIP);
    assert_eq!(state(&bed), "ASSURED");
    bed.wait(Duration::from_secs(250));
    send(&mut bed, &tcp(client(0), VIP, SYN));
    let mut both = templates(&bed);
    both.sort_unstable();
    assert_eq!(both, [("ASSURED", 50), ("NONE", 300)]);
}

#[test]
fn a_datagram_that_is_answered_assures_and_one_that_is_not_does_not() {
    for (forwarding, want) in [(Forwarding::Nat, "ASSURED"), (Forwarding::Dr, "NONE")] {
        let mut bed = bed(Protocol::Udp, forwarding, 300, LIMIT);
        for _ in 0..2 {
            send(&mut bed, &udp(CLIENT, VIP).payload(b"?"));
            assert_eq!(state(&bed), "NONE");
        }
        // With DR the answer goes past the director.
        if forwarding == Forwarding::Nat {
            reply(&mut bed, udp(REAL, CLIENT).payload(b"!"));
        }
        assert_eq!(state(&bed), want);
    }
}

#[test]
fn an_association_assures_when_it_is_established() {
    let mut bed = bed(Protocol::Sctp, Forwarding::Nat, 300, LIMIT);
    send(&mut bed, &sctp(CLIENT, VIP, chunk::INIT));
    reply(&mut bed, sctp(REAL, CLIENT, chunk::INIT_ACK));
    send(&mut bed, &sctp(CLIENT, VIP, chunk::COOKIE_ECHO));
    assert_eq!(state(&bed), "NONE");
    reply(&mut bed, sctp(REAL, CLIENT, chunk::COOKIE_ACK));
    assert_eq!(state(&bed), "ASSURED");
}

#[test]
fn a_template_whose_time_is_over_is_kept_for_a_minute_while_it_has_connections() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat, 1, LIMIT);
    establish(&mut bed, CLIENT, VIP);
    assert_eq!(templates(&bed), [("ASSURED", 1)]);
    bed.wait(Duration::from_secs(3));
    let [(_, left)] = templates(&bed)[..] else {
        panic!("it is gone");
    };
    assert!((57..60).contains(&left), "{left} s");
    // From then on a new connection keeps it for a minute too, not for the second it had.
    bed.wait(Duration::from_secs(20));
    let other = Endpoint::new(CLIENT.addr, CLIENT.port + 1);
    establish(&mut bed, other, VIP);
    assert_eq!(templates(&bed), [("ASSURED", 60)]);
    // And it goes when its connections have: their resets, 10 s, then its own minute.
    for port in [CLIENT, other] {
        reply(&mut bed, tcp(REAL, port, RST));
    }
    bed.wait(Duration::from_secs(55));
    assert_eq!(templates(&bed).len(), 1);
    bed.wait(Duration::from_secs(10));
    assert!(bed.engine.connections().is_empty());
}

#[test]
fn a_flood_at_one_persistent_service_denies_nobody_anything() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat, 300, LIMIT);
    for n in 0..100 {
        establish(&mut bed, client(n), VIP);
    }
    for n in 0..LIMIT * 5 {
        let verdict = send(&mut bed, &tcp(client(1 << 16 | n), VIP, SYN));
        assert!(matches!(verdict, Verdict::Send(_)), "SYN {n}: {verdict:?}");
    }
    assert_eq!(bed.engine.connections().len(), LIMIT);
    for (from, vip) in [(CLIENT, VIP), (client(100), PLAIN)] {
        establish(&mut bed, from, vip);
    }
    // Who was there is still there, with the server it has.
    assert_eq!(connection_states(&bed, "ESTABLISHED"), 100 + 2);
    assert_eq!(connection_states(&bed, "ASSURED"), 100 + 1);
    assert_eq!(
        bed.engine.counters().drops[DropReason::TableFull as usize],
        0
    );
    // No template is left behind by a connection that was given up.
    assert_eq!(
        connection_states(&bed, "NONE"),
        connection_states(&bed, "SYN_RECV")
    );
    must_be_counted(&bed);
}

/// The servers count the connections and templates that there are.
fn must_be_counted(bed: &Bed) {
    let servers = bed.engine.report(bed.now).services;
    let servers = servers.iter().flat_map(|s| &s.servers);
    let (conns, templates) = servers.fold((0, 0), |(conns, templates), s| {
        let n = s.numbers;
        (conns + n.active + n.inactive, templates + n.persistent)
    });
    let shown = all(bed);
    let of = |template: bool| {
        shown
            .iter()
            .filter(|c| (c.client.port == 0) == template)
            .count()
    };
    assert_eq!((conns as usize, templates as usize), (of(false), of(true)));
}

#[test]
fn templates_that_outlived_their_half_open_connections_go_first() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat, 3600, LIMIT);
    for n in 0..LIMIT / 2 {
        send(&mut bed, &tcp(client(n), VIP, SYN));
    }
    // SYN_RECV is over, the templates have an hour.
    bed.wait(Duration::from_secs(62));
    assert_eq!(templates(&bed).len(), LIMIT as usize / 2);
    for n in 0..LIMIT {
        let verdict = send(&mut bed, &tcp(client(1 << 16 | n), PLAIN, SYN));
        assert!(matches!(verdict, Verdict::Send(_)));
    }
    assert!(templates(&bed).is_empty());
    assert_eq!(connection_states(&bed, "SYN_RECV"), LIMIT as usize);
}

#[test]
fn a_table_of_two_places_serves_one_persistent_client_after_another() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat, 300, 2);
    for n in 0..10 {
        let verdict = send(&mut bed, &tcp(client(n), VIP, SYN));
        assert!(matches!(verdict, Verdict::Send(_)), "client {n}");
        assert_eq!(all(&bed).len(), 2);
        must_be_counted(&bed);
    }
    // One place only: the template that was made for nothing is no reason to keep the table full.
    let mut bed = self::bed(Protocol::Tcp, Forwarding::Nat, 300, 1);
    let refused = send(&mut bed, &tcp(CLIENT, VIP, SYN));
    assert_eq!(refused, Verdict::Drop(DropReason::TableFull));
    let verdict = send(&mut bed, &tcp(CLIENT, PLAIN, SYN));
    assert!(matches!(verdict, Verdict::Send(_)));
    must_be_counted(&bed);
}

#[test]
fn drop_entry_takes_the_templates_of_what_it_drops_and_leaves_the_assured() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat, 3600, LIMIT);
    bed.sysctl("drop_entry", 3);
    for n in 0..50 {
        establish(&mut bed, client(n), VIP);
        reply(&mut bed, tcp(REAL, client(n), RST));
    }
    for n in 50..150 {
        send(&mut bed, &tcp(client(n), VIP, SYN));
    }
    bed.wait(Duration::from_secs(40));
    let left = templates(&bed);
    assert_eq!(left.len(), 50);
    assert!(left.iter().all(|(state, _)| *state == "ASSURED"));
    assert_eq!(bed.engine.connections().len(), 50);
}

#[test]
fn drop_entry_takes_templates_without_connections_unless_assured() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat, 3600, LIMIT);
    for n in 0..50 {
        send(&mut bed, &tcp(client(n), VIP, SYN));
    }
    bed.wait(Duration::from_secs(62));
    assert_eq!((templates(&bed).len(), all(&bed).len()), (50, 50));
    bed.sysctl("drop_entry", 3);
    bed.wait(Duration::from_secs(40));
    assert!(bed.engine.connections().is_empty());
    assert_eq!(bed.engine.counters().dropped_entries, 50);
}

#[test]
fn one_packet_schedulings_templates_count_their_datagrams() {
    let mut bed = bed(Protocol::Udp, Forwarding::Nat, 3600, LIMIT);
    change(&mut bed, |s| s.one_packet = true);
    for n in 0..100 {
        // The first ten come often.
        for _ in 0..if n < 10 { 9 } else { 1 } {
            send(&mut bed, &udp(client(n), VIP).payload(b"?"));
        }
    }
    assert_eq!(templates(&bed).len(), 100);
    bed.sysctl("drop_entry", 3);
    bed.wait(Duration::from_secs(50));
    assert_eq!(templates(&bed).len(), 100, "they are young");
    bed.wait(Duration::from_secs(60));
    assert_eq!(templates(&bed).len(), 10);
    // At the limit those of one datagram make room, too.
    bed.sysctl("drop_entry", 0);
    for n in 100..100 + LIMIT * 2 {
        let verdict = send(&mut bed, &udp(client(n), VIP).payload(b"?"));
        assert!(matches!(verdict, Verdict::Send(_)));
    }
    let (shown, often) = (all(&bed), client(3).addr);
    assert!(shown.iter().any(|c| c.client.addr == often));
}
