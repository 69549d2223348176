//! Services that share a real server: a client that uses one port towards two of them is never refused. What
//! is over gives way, what lives is left alone where another server can be had, and else the newer one counts.
//! And a server that was removed while its connections go on.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::service::{Forwarding, Persistence, ServerSpec, ServiceKey, ServiceSpec, Tunnel};
use uvs_core::snapshot::Limits;
use uvs_core::testing::bed::{Bed, CLIENT, CLIENTS, SERVER, SERVER_PORT, SERVERS_MAC, Sent, VIP};
use uvs_core::testing::packets::{PacketBuilder, TestFrame, check, sctp, tcp, udp};
use uvs_core::verdict::Verdict;
use uvs_core::wire::ethernet;
use uvs_core::wire::sctp::chunk;
use uvs_core::wire::tcp::flag::{ACK, FIN, RST, SYN};

const KEY: ServiceKey = ServiceKey::address(Protocol::Tcp, VIP);
const REAL: Endpoint = Endpoint::new(SERVER, SERVER_PORT);
const OTHER: Endpoint = Endpoint::new(Addr::v4([10, 0, 2, 12]), SERVER_PORT);
/// The second service's port, of the same VIP.
const SECOND: Endpoint = Endpoint::new(VIP.addr, VIP.port + 1);

fn bed(protocol: Protocol, forwarding: Forwarding) -> Bed {
    let mut bed = Bed::new(uvs_modes::BUILTIN, Limits::default());
    bed.add_service(protocol, forwarding, Tunnel::default());
    bed.change_fib(|f| f.set_neighbour(3, OTHER.addr, [2, 0, 0, 0, 2, 0x12]));
    bed
}

/// Two services with these servers.
fn shared(protocol: Protocol, forwarding: Forwarding, servers: &[Endpoint]) -> Bed {
    let mut bed = bed(protocol, forwarding);
    let mut first = ServiceSpec::clone(&bed.snapshot.services[0]);
    let specs = servers.iter().map(|s| ServerSpec::new(*s, forwarding));
    first.servers = specs.collect();
    let mut second = first.clone();
    second.key = ServiceKey::address(protocol, SECOND);
    bed.snapshot.services = vec![Arc::new(first), Arc::new(second)].into();
    bed.apply();
    bed
}

fn packet(protocol: Protocol, from: Endpoint, to: Endpoint, flags: u8) -> PacketBuilder {
    match protocol {
        Protocol::Tcp => tcp(from, to, flags),
        Protocol::Udp => udp(from, to).payload(b"?"),
        Protocol::Sctp => sctp(from, to, flags),
    }
}

/// Hands a packet of the client's in, which must be forwarded; the server it went to.
fn ask(bed: &mut Bed, protocol: Protocol, vip: Endpoint, flags: u8) -> Endpoint {
    bed.sent.clear();
    let frame = packet(protocol, CLIENT, vip, flags).frame();
    let verdict = bed.receive(CLIENTS, TestFrame::finished(&frame));
    assert!(
        matches!(verdict, Verdict::Send(_) | Verdict::SendOutbox),
        "{verdict:?}"
    );
    let to = bed.sent.last().unwrap();
    assert_eq!(check(&to.bytes), Ok(()));
    ends(to).1
}

/// Hands a packet of a server's in; the VIP that the client sees it come from.
fn answer(bed: &mut Bed, protocol: Protocol, server: Endpoint, flags: u8) -> Endpoint {
    let frame = packet(protocol, server, CLIENT, flags)
        .to_mac(SERVERS_MAC)
        .frame();
    let sent = bed.from_server(TestFrame::finished(&frame));
    ends(&sent[0]).0
}

/// Source and destination of a frame.
fn ends(sent: &Sent) -> (Endpoint, Endpoint) {
    let b = &sent.bytes[ethernet::LEN..];
    let end = |addr: usize, port: usize| {
        let addr = Addr::v4([b[addr], b[addr + 1], b[addr + 2], b[addr + 3]]);
        Endpoint::new(addr, u16::from_be_bytes([b[port], b[port + 1]]))
    };
    (end(12, 20), end(16, 22))
}

fn replaced(bed: &Bed) -> (u64, u64) {
    let counters = bed.engine.counters();
    (counters.replaced_over, counters.replaced_live)
}

/// Connections of the first and of the second service.
fn connections(bed: &Bed) -> [u32; 2] {
    let report = bed.engine.report(bed.now);
    [VIP, SECOND].map(|vip| {
        let service = report.services.iter().find(|s| s.key.vip() == vip).unwrap();
        let numbers = service.servers.iter().map(|s| s.numbers);
        numbers.map(|n| n.active + n.inactive).sum()
    })
}

fn establish(bed: &mut Bed, vip: Endpoint) -> Endpoint {
    let server = ask(bed, Protocol::Tcp, vip, SYN);
    answer(bed, Protocol::Tcp, server, SYN | ACK);
    ask(bed, Protocol::Tcp, vip, ACK);
    server
}

#[test]
fn a_connection_that_both_ends_closed_or_one_reset_gives_way_at_once() {
    for (ends_it, told) in [
        (&[(true, FIN | ACK), (false, FIN | ACK)][..], true),
        (&[(false, RST)], false),
    ] {
        let mut bed = shared(Protocol::Tcp, Forwarding::Nat, &[REAL, OTHER]);
        let server = establish(&mut bed, VIP);
        for (from_client, flags) in ends_it {
            if *from_client {
                ask(&mut bed, Protocol::Tcp, VIP, *flags);
            } else {
                answer(&mut bed, Protocol::Tcp, server, *flags);
            }
        }
        // The scheduler's own choice stands. A server that may be in TIME_WAIT is told, and no client.
        assert_eq!(ask(&mut bed, Protocol::Tcp, SECOND, SYN), server);
        let sent: Vec<_> = bed.sent.iter().map(|s| (ends(s), s.bytes[47])).collect();
        let (reset, syn) = (((CLIENT, server), RST | ACK), ((CLIENT, server), SYN));
        assert_eq!(sent, if told { vec![reset, syn] } else { vec![syn] });
        assert_eq!((replaced(&bed), connections(&bed)), ((1, 0), [0, 1]));
        let from = answer(&mut bed, Protocol::Tcp, server, SYN | ACK);
        assert_eq!(from, SECOND);
    }
}

#[test]
fn what_lives_is_left_alone_where_another_server_can_be_had() {
    for (protocol, first) in [
        (Protocol::Tcp, SYN),
        (Protocol::Udp, 0),
        (Protocol::Sctp, chunk::INIT),
    ] {
        let mut bed = shared(protocol, Forwarding::Nat, &[REAL, OTHER]);
        let one = ask(&mut bed, protocol, VIP, first);
        let two = ask(&mut bed, protocol, SECOND, first);
        assert_ne!(one, two, "{protocol:?}");
        assert_eq!((replaced(&bed), connections(&bed)), ((0, 0), [1, 1]));
        assert_eq!(answer(&mut bed, protocol, one, first | ACK), VIP);
        assert_eq!(answer(&mut bed, protocol, two, first | ACK), SECOND);
        // Nothing is left of the first choice's being passed over.
        let report = bed.engine.report(bed.now);
        assert!(
            report
                .services
                .iter()
                .flat_map(|s| &s.servers)
                .all(|s| !s.numbers.overloaded)
        );
    }
}

#[test]
fn a_half_closed_connection_still_lives() {
    for from_client in [true, false] {
        let mut bed = shared(Protocol::Tcp, Forwarding::Nat, &[REAL, OTHER]);
        let server = establish(&mut bed, VIP);
        if from_client {
            ask(&mut bed, Protocol::Tcp, VIP, FIN | ACK);
        } else {
            answer(&mut bed, Protocol::Tcp, server, FIN | ACK);
        }
        assert_ne!(ask(&mut bed, Protocol::Tcp, SECOND, SYN), server);
    }
}

#[test]
fn servers_that_take_no_more_are_not_the_other_one() {
    let mut bed = shared(Protocol::Tcp, Forwarding::Nat, &[REAL, OTHER]);
    for service in bed.snapshot.services.iter_mut() {
        Arc::make_mut(service).servers[1].weight = 0;
    }
    bed.apply();
    assert_eq!(ask(&mut bed, Protocol::Tcp, VIP, SYN), REAL);
    assert_eq!(ask(&mut bed, Protocol::Tcp, SECOND, SYN), REAL);
    assert_eq!((replaced(&bed), connections(&bed)), ((0, 1), [0, 1]));
}

#[test]
fn where_there_is_none_the_newer_counts_and_both_ends_of_the_older_are_told() {
    let mut bed = shared(Protocol::Tcp, Forwarding::Nat, &[REAL]);
    establish(&mut bed, VIP);
    assert_eq!(ask(&mut bed, Protocol::Tcp, SECOND, SYN), REAL);
    // The server has to know before it gets the SYN.
    let sent: Vec<_> = bed.sent.iter().map(|s| (ends(s), s.bytes[47])).collect();
    assert_eq!(
        sent,
        [
            ((VIP, CLIENT), RST | ACK),
            ((CLIENT, REAL), RST | ACK),
            ((CLIENT, REAL), SYN)
        ]
    );
    assert_eq!((replaced(&bed), connections(&bed)), ((0, 1), [0, 1]));
    let counters = bed.engine.counters();
    assert_eq!((counters.told_clients, counters.told_servers), (1, 1));
    assert_eq!(answer(&mut bed, Protocol::Tcp, REAL, SYN | ACK), SECOND);
    // It is no connection any more: its client is told again.
    let late = tcp(CLIENT, VIP, ACK).payload(b"late").frame();
    let sent = bed.from_client(TestFrame::finished(&late));
    assert_eq!((ends(&sent[0]), sent[0].bytes[47]), ((VIP, CLIENT), RST));
}

#[test]
fn a_removed_servers_last_connection_gives_way_untold() {
    let mut bed = shared(Protocol::Tcp, Forwarding::Nat, &[REAL]);
    establish(&mut bed, VIP);
    Arc::make_mut(&mut bed.snapshot.services[0]).servers.clear();
    bed.apply();
    assert_eq!(ask(&mut bed, Protocol::Tcp, SECOND, SYN), REAL);
    assert_eq!((bed.sent.len(), replaced(&bed)), (1, (0, 1)));
    assert_eq!(bed.engine.connections_of(KEY, REAL), 0);
}

#[test]
fn of_a_half_open_one_the_server_alone_is_told() {
    let mut bed = shared(Protocol::Tcp, Forwarding::Nat, &[REAL]);
    ask(&mut bed, Protocol::Tcp, VIP, SYN);
    ask(&mut bed, Protocol::Tcp, SECOND, SYN);
    assert!(bed.sent.iter().all(|s| ends(s) == (CLIENT, REAL)));
    assert_eq!((bed.sent.len(), replaced(&bed)), (2, (0, 1)));
}

#[test]
fn datagrams_to_one_vip_and_the_other_in_turn_are_each_answered_by_the_right_one() {
    let mut bed = shared(Protocol::Udp, Forwarding::Nat, &[REAL]);
    for turn in 0..6 {
        let vip = if turn % 2 == 0 { VIP } else { SECOND };
        ask(&mut bed, Protocol::Udp, vip, 0);
        assert_eq!(bed.sent.len(), 1, "nobody is told");
        assert_eq!(answer(&mut bed, Protocol::Udp, REAL, 0), vip);
    }
    assert_eq!((replaced(&bed), connections(&bed)), ((0, 5), [0, 1]));
}

#[test]
fn an_idle_datagram_exchange_is_over() {
    let mut bed = shared(Protocol::Udp, Forwarding::Nat, &[REAL, OTHER]);
    for (idle, same) in [(29, false), (31, true)] {
        let first = ask(&mut bed, Protocol::Udp, VIP, 0);
        bed.wait(Duration::from_secs(idle));
        let second = ask(&mut bed, Protocol::Udp, SECOND, 0);
        assert_eq!(first == second, same, "after {idle} s");
        bed.wait(Duration::from_secs(301));
    }
    assert_eq!(replaced(&bed), (1, 0));
}

#[test]
fn an_association_that_was_aborted_gives_way() {
    let mut bed = shared(Protocol::Sctp, Forwarding::Nat, &[REAL, OTHER]);
    let server = ask(&mut bed, Protocol::Sctp, VIP, chunk::INIT);
    answer(&mut bed, Protocol::Sctp, server, chunk::ABORT);
    assert_eq!(ask(&mut bed, Protocol::Sctp, SECOND, chunk::INIT), server);
    assert_eq!(replaced(&bed), (1, 0));
}

#[test]
fn a_new_client_of_a_persistent_service_gets_another_server_and_a_known_one_stays() {
    let mut bed = shared(Protocol::Tcp, Forwarding::Nat, &[REAL, OTHER]);
    let mut second = ServiceSpec::clone(&bed.snapshot.services[1]);
    second.persistence = Some(Persistence {
        timeout: 300,
        mask: u32::MAX,
    });
    bed.snapshot.services[1] = Arc::new(second);
    bed.apply();
    let first = ask(&mut bed, Protocol::Tcp, VIP, SYN);
    let kept = ask(&mut bed, Protocol::Tcp, SECOND, SYN);
    assert_ne!(first, kept);
    assert_eq!(replaced(&bed), (0, 0));
    // Its template says where to: what is there gives way, over or not.
    for server in [first, kept] {
        answer(&mut bed, Protocol::Tcp, server, RST);
    }
    for service in bed.snapshot.services.iter_mut() {
        Arc::make_mut(service)
            .servers
            .retain(|s| s.endpoint == kept);
    }
    bed.apply();
    bed.wait(Duration::from_secs(11));
    for (vip, want) in [(SECOND, (0, 0)), (VIP, (0, 1)), (SECOND, (0, 2))] {
        assert_eq!(ask(&mut bed, Protocol::Tcp, vip, SYN), kept);
        assert_eq!(replaced(&bed), want);
    }
    let report = bed.engine.report(bed.now);
    let servers = report.services.iter().flat_map(|s| &s.servers);
    assert_eq!(servers.map(|s| s.numbers.persistent).sum::<u32>(), 1);
}

#[test]
fn it_gives_way_where_the_table_is_full_as_well() {
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let mut bed = Bed::new(uvs_modes::BUILTIN, limits);
    bed.add_service(Protocol::Tcp, Forwarding::Nat, Tunnel::default());
    let mut second = ServiceSpec::clone(&bed.snapshot.services[0]);
    second.key = ServiceKey::address(Protocol::Tcp, SECOND);
    bed.snapshot.services.push(Arc::new(second));
    bed.apply();
    ask(&mut bed, Protocol::Tcp, VIP, SYN);
    ask(&mut bed, Protocol::Tcp, SECOND, SYN);
    assert_eq!(
        (bed.engine.connections().len(), connections(&bed)),
        (1, [0, 1])
    );
}

#[test]
fn fullnat_tells_them_apart_by_the_local_port() {
    let mut bed = shared(Protocol::Tcp, Forwarding::FullNat, &[REAL]);
    for vip in [VIP, SECOND] {
        ask(&mut bed, Protocol::Tcp, vip, SYN);
    }
    assert_eq!((replaced(&bed), connections(&bed)), ((0, 0), [1, 1]));
}

#[test]
fn a_removed_server_is_known_for_as_long_as_it_has_connections() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat);
    let connections = |bed: &Bed| bed.engine.connections_of(KEY, REAL);
    assert_eq!(connections(&bed), 0);
    ask(&mut bed, Protocol::Tcp, VIP, SYN);
    assert_eq!(connections(&bed), 1);
    let with = bed.snapshot.services[0].clone();
    for without in [
        vec![Arc::new(ServiceSpec::new(KEY, "first"))],
        Vec::new(),
        vec![with],
    ] {
        bed.snapshot.services = without.into();
        bed.apply();
        assert_eq!(connections(&bed), 1);
    }
    bed.snapshot.services.clear();
    bed.apply();
    bed.wait(Duration::from_secs(61));
    assert_eq!(connections(&bed), 0, "SYN_RECV is over");
}
