//! ICMP errors: translated in every mode and direction, about tunnels, about what is not known, and made
//! where a next hop does not answer.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::fragment::{self, Cut};
use uvs_core::service::{Forwarding, ServerSpec, Tunnel, TunnelKind};
use uvs_core::testing::bed::{
    Bed, CLIENT, CLIENTS, LOCAL, SERVER, SERVER_PORT, SERVERS, SERVERS_MAC, Sent, VIP,
};
use uvs_core::testing::packets::{ACK, PacketBuilder, SYN, TestFrame, check, icmp, tcp, udp};
use uvs_core::verdict::{DropReason, Verdict};
use uvs_core::wire::ethernet;
use uvs_core::wire::tcp::flag::RST;

const ROUTER: Addr = Addr::v4([10, 0, 2, 200]);
const UNREACHABLE: u8 = 3;
const PORT: u8 = 3;
const TOO_BIG: u8 = 4;

fn bed(protocol: Protocol, forwarding: Forwarding) -> Bed {
    Bed::with_service(uvs_modes::BUILTIN, protocol, forwarding, Tunnel::default())
}

fn frame(p: &PacketBuilder) -> TestFrame {
    TestFrame::finished(&p.frame())
}

/// Outer ends, type, code and second word of an ICMP error, and the ends of what it quotes.
#[derive(Debug, PartialEq, Eq)]
struct Error {
    from: Addr,
    to: Addr,
    kind: (u8, u8, u32),
    about: (Endpoint, Endpoint),
}

fn read(sent: &Sent) -> Error {
    assert_eq!(check(&sent.bytes), Ok(()));
    let b = &sent.bytes[ethernet::LEN..];
    let addr = |at: usize| Addr::v4([b[at], b[at + 1], b[at + 2], b[at + 3]]);
    let port = |at: usize| u16::from_be_bytes([b[at], b[at + 1]]);
    let end = |a: usize, p: usize| Endpoint::new(addr(a), port(p));
    Error {
        from: addr(12),
        to: addr(16),
        kind: (
            b[20],
            b[21],
            u32::from_be_bytes([b[24], b[25], b[26], b[27]]),
        ),
        about: (end(40, 48), end(44, 50)),
    }
}

fn only(sent: Vec<Sent>) -> Error {
    assert_eq!(sent.len(), 1, "{sent:?}");
    read(&sent[0])
}

#[test]
fn a_clients_error_about_an_answer_reaches_the_server() {
    let server = Endpoint::new(SERVER, SERVER_PORT);
    for (forwarding, to, from, about) in [
        (Forwarding::Dr, VIP.addr, CLIENT.addr, (VIP, CLIENT)),
        (Forwarding::Nat, SERVER, CLIENT.addr, (server, CLIENT)),
        (Forwarding::FullNat, SERVER, LOCAL, (server, Endpoint::NONE)),
    ] {
        let mut bed = bed(Protocol::Udp, forwarding);
        bed.from_client(frame(&udp(CLIENT, VIP)));
        let (conns, _) = bed.engine.report_connections(bed.now, 0, 1);
        let about = (about.0, conns[0].local.unwrap_or(about.1));
        let answer = udp(VIP, CLIENT).packet();
        let error = icmp(CLIENT.addr, VIP.addr, UNREACHABLE, PORT, 0).payload(&answer);
        let sent = bed.from_client(frame(&error));
        assert_eq!(sent[0].port, SERVERS);
        let want = Error {
            from,
            to,
            kind: (UNREACHABLE, PORT, 0),
            about,
        };
        assert_eq!(only(sent), want, "{forwarding:?}");
    }
}

#[test]
fn a_servers_or_routers_error_about_a_request_reaches_the_client() {
    for forwarding in [Forwarding::Nat, Forwarding::FullNat] {
        for from in [SERVER, ROUTER] {
            let mut bed = bed(Protocol::Tcp, forwarding);
            let request = bed.from_client(frame(&tcp(CLIENT, VIP, SYN)));
            let quote = &request[0].bytes[ethernet::LEN..];
            let to = Addr::v4([quote[12], quote[13], quote[14], quote[15]]);
            let error = icmp(from, to, UNREACHABLE, TOO_BIG, 1400)
                .payload(quote)
                .to_mac(SERVERS_MAC);
            let sent = bed.from_server(frame(&error));
            assert_eq!(sent[0].port, CLIENTS);
            let want = Error {
                from: VIP.addr,
                to: CLIENT.addr,
                kind: (UNREACHABLE, TOO_BIG, 1400),
                about: (CLIENT, VIP),
            };
            assert_eq!(only(sent), want, "{forwarding:?}");
        }
    }
}

#[test]
fn a_routers_error_about_no_connection_goes_on_to_whom_it_is_for() {
    let server = Endpoint::new(SERVER, SERVER_PORT);
    let about = |to| tcp(CLIENT, to, ACK).packet();
    let error = |kind| icmp(ROUTER, CLIENT.addr, kind, 0, 0).to_mac(SERVERS_MAC);
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat);
    for kind in [3, 4, 11, 12] {
        // The guard keeps it from the kernel, which is to send it on: it is about an address of the service's.
        let verdict = bed.receive(SERVERS, frame(&error(kind).payload(&about(server))));
        assert_eq!(verdict, Verdict::Local, "type {kind}");
        // The kernel has this one.
        let other = about(Endpoint::new(SERVER, 1));
        let verdict = bed.receive(SERVERS, frame(&error(kind).payload(&other)));
        assert_eq!(verdict, Verdict::Pass, "type {kind}");
    }
}

#[test]
fn resets_and_errors_about_size_have_no_limit_and_other_errors_the_kernels() {
    const MANY: u16 = 4000;
    let owned = Addr::v4([10, 0, 1, 101]);
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat);
    bed.snapshot.owned_vips = vec![owned];
    bed.apply();
    for port in 1..=MANY {
        let to = Endpoint::new(owned, port);
        let scanned = bed.receive(CLIENTS, frame(&tcp(CLIENT, to, SYN)));
        let from = Endpoint::new(CLIENT.addr, port);
        // After a restart, when no connection is known.
        let unknown = bed.receive(CLIENTS, frame(&tcp(from, VIP, ACK)));
        assert_eq!((scanned, unknown), (Verdict::Answered, Verdict::Answered));
    }
    bed.sent.clear();
    for _ in 0..60 {
        bed.receive(CLIENTS, frame(&udp(CLIENT, Endpoint::new(owned, 1))));
    }
    let limited = bed.engine.counters().drops[DropReason::IcmpRateLimited as usize];
    assert_eq!((bed.sent.len(), limited), (50, 10));
    bed.from_client(frame(&tcp(CLIENT, VIP, SYN)));
    let long = tcp(CLIENT, VIP, ACK).payload(&[1; 1600]);
    let told = only(bed.from_client(frame(&long)));
    assert_eq!(told.kind, (UNREACHABLE, TOO_BIG, 1500));
}

#[test]
fn an_error_that_comes_in_fragments_is_translated_too() {
    let mut bed = bed(Protocol::Udp, Forwarding::Nat);
    bed.from_client(frame(&udp(CLIENT, VIP)));
    let answer = udp(VIP, CLIENT).payload(&[1; 700]).packet();
    let error = icmp(CLIENT.addr, VIP.addr, UNREACHABLE, PORT, 0)
        .may_fragment()
        .payload(&answer);
    let mut out = uvs_core::outbox::Outbox::new();
    fragment::cut(&error.frame(), &Cut::to(400), Default::default(), &mut out);
    let pieces: Vec<Vec<u8>> = out.iter().map(|(b, _, _)| b.to_vec()).collect();
    for piece in &pieces {
        bed.receive(CLIENTS, TestFrame::finished(piece));
    }
    assert_eq!((pieces.len(), bed.sent.len()), (2, 2));
    assert!(bed.sent.iter().all(|s| s.port == SERVERS));
}

#[test]
fn only_errors_about_transport_are_related() {
    for (kind, related) in [(3, true), (4, true), (5, false), (11, true), (12, false)] {
        let mut bed = bed(Protocol::Udp, Forwarding::Nat);
        bed.from_client(frame(&udp(CLIENT, VIP)));
        let error = icmp(CLIENT.addr, VIP.addr, kind, 0, 0).payload(&udp(VIP, CLIENT).packet());
        let verdict = bed.receive(CLIENTS, frame(&error));
        assert_eq!(matches!(verdict, Verdict::Send(_)), related, "type {kind}");
        let last = bed.receive(CLIENTS, frame(&error.ttl(1)));
        let want = if related {
            Verdict::Drop(DropReason::TtlExceeded)
        } else {
            Verdict::Pass
        };
        assert_eq!(last, want, "type {kind}, TTL 1");
    }
}

#[test]
fn four_bytes_of_the_transport_are_enough() {
    let quote = udp(VIP, CLIENT).packet();
    for (bytes, related) in [(20, false), (23, false), (24, true), (28, true)] {
        let mut bed = bed(Protocol::Udp, Forwarding::Nat);
        bed.from_client(frame(&udp(CLIENT, VIP)));
        let error = icmp(CLIENT.addr, VIP.addr, UNREACHABLE, PORT, 0).payload(&quote[..bytes]);
        let verdict = bed.receive(CLIENTS, frame(&error));
        assert_eq!(
            matches!(verdict, Verdict::Send(_)),
            related,
            "{bytes} bytes"
        );
    }
}

#[test]
fn schedule_icmp_finds_a_server_for_an_unknown_connections_error() {
    let error = icmp(CLIENT.addr, VIP.addr, UNREACHABLE, PORT, 0)
        .payload(&tcp(VIP, CLIENT, SYN | ACK).packet());
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat);
    assert_eq!(bed.receive(CLIENTS, frame(&error)), Verdict::Pass);
    bed.sysctl("schedule_icmp", 1);
    let told = only(bed.from_client(frame(&error)));
    assert_eq!(told.to, SERVER);
    let (conns, _) = bed.engine.report_connections(bed.now, 0, 10);
    assert_eq!((conns[0].client, conns[0].state), (CLIENT, "NONE"));
    bed.wait(Duration::from_secs(4));
    assert!(bed.engine.connections().is_empty());
}

#[test]
fn errors_about_tunnels_reach_the_client_and_teach_the_mtu() {
    for (kind, overhead) in [
        (TunnelKind::Ipip, 20),
        (TunnelKind::Gue, 32),
        (TunnelKind::Gre, 24),
    ] {
        let tunnel = Tunnel {
            kind,
            port: 6080,
            ..Tunnel::default()
        };
        let mut bed = Bed::with_service(
            uvs_modes::BUILTIN,
            Protocol::Udp,
            Forwarding::Tunnel,
            tunnel,
        );
        let request = udp(CLIENT, VIP).payload(&[1; 1400]);
        let sent = bed.from_client(frame(&request));
        let error = icmp(ROUTER, LOCAL, UNREACHABLE, TOO_BIG, 1400)
            .payload(&sent[0].bytes[ethernet::LEN..][..548])
            .to_mac(SERVERS_MAC);
        // As the kernel: the first answer still has the link's MTU.
        let told = only(bed.from_server(frame(&error)));
        let want = Error {
            from: VIP.addr,
            to: CLIENT.addr,
            kind: (UNREACHABLE, TOO_BIG, 1480),
            about: (CLIENT, VIP),
        };
        assert_eq!(told, want, "{kind:?}");
        let again = only(bed.from_client(frame(&request)));
        assert_eq!(again.kind, (UNREACHABLE, TOO_BIG, 1400 - overhead));
        bed.wait(Duration::from_secs(601));
        let after = bed.from_client(frame(&request));
        assert_eq!(after[0].port, SERVERS, "{kind:?}: forgotten after 10 min");
    }
}

#[test]
fn a_next_hop_that_does_not_answer_is_told_to_the_sender() {
    let unreachable = (UNREACHABLE, 1, 0);
    for mode in uvs_modes::BUILTIN {
        let tunnel = Tunnel {
            kind: mode.encapsulation.unwrap_or_default(),
            port: 6080,
            ..Tunnel::default()
        };
        let mut bed = Bed::with_service(uvs_modes::BUILTIN, Protocol::Udp, mode.forwarding, tunnel);
        bed.change_fib(|f| f.remove_neighbour(3, SERVER));
        let sent = bed.from_client(frame(&udp(CLIENT, VIP)));
        let told = only(bed.unreachable(&sent[0]));
        let want = Error {
            from: VIP.addr,
            to: CLIENT.addr,
            kind: unreachable,
            about: (CLIENT, VIP),
        };
        assert_eq!(told, want, "{:?}", mode.forwarding);
    }
    // An answer whose client is gone: the server is told.
    let mut bed = bed(Protocol::Udp, Forwarding::Nat);
    bed.from_client(frame(&udp(CLIENT, VIP)));
    let server = Endpoint::new(SERVER, SERVER_PORT);
    let sent = bed.from_server(frame(&udp(server, CLIENT).to_mac(SERVERS_MAC)));
    let told = only(bed.unreachable(&sent[0]));
    assert_eq!((told.to, told.about), (SERVER, (server, CLIENT)));
    // No error about an error.
    let error =
        icmp(CLIENT.addr, VIP.addr, UNREACHABLE, PORT, 0).payload(&udp(VIP, CLIENT).packet());
    let sent = bed.from_client(frame(&error));
    assert!(bed.unreachable(&sent[0]).is_empty());
}

#[test]
fn nat_icmp_send_tells_a_server_of_a_packet_without_a_connection() {
    let server = Endpoint::new(SERVER, SERVER_PORT);
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat);
    let stray = tcp(server, CLIENT, ACK).to_mac(SERVERS_MAC);
    assert_eq!(bed.receive(SERVERS, frame(&stray)), Verdict::Pass);
    bed.sysctl("nat_icmp_send", 1);
    let sent = bed.from_server(frame(&stray));
    assert_eq!(sent[0].bytes[14 + 28 + 8], 63, "TTL of the quoted packet");
    let want = Error {
        from: LOCAL,
        to: SERVER,
        kind: (UNREACHABLE, PORT, 0),
        about: (server, CLIENT),
    };
    assert_eq!(only(sent), want);
    let reset = tcp(server, CLIENT, RST).to_mac(SERVERS_MAC);
    assert_eq!(bed.receive(SERVERS, frame(&reset)), Verdict::Pass);
}

#[test]
fn a_nat_servers_own_traffic_is_the_kernels() {
    let mut bed = bed(Protocol::Udp, Forwarding::Nat);
    bed.from_client(frame(&udp(CLIENT, VIP)));
    let from = |port, to| udp(Endpoint::new(SERVER, port), to).to_mac(SERVERS_MAC);
    let elsewhere = Endpoint::new(CLIENT.addr, CLIENT.port + 1);
    for (packet, ours) in [
        (from(SERVER_PORT, CLIENT), true),
        (from(SERVER_PORT, elsewhere), false),
        (from(SERVER_PORT + 1, CLIENT), false),
    ] {
        let verdict = bed.receive(SERVERS, frame(&packet));
        let want = matches!(verdict, Verdict::Send(_));
        assert_eq!(
            (want, verdict == Verdict::Pass),
            (ours, !ours),
            "{packet:?}"
        );
    }
}

#[test]
fn what_another_server_sends_to_a_client_goes_back_to_the_hosts_stack() {
    // The guard keeps it from there: it knows the client, and not from which server it is served.
    let mut bed = bed(Protocol::Udp, Forwarding::Nat);
    let mut service = (*bed.snapshot.services[0]).clone();
    let other = Endpoint::new(ROUTER, SERVER_PORT);
    let spec = ServerSpec::new(other, Forwarding::Nat);
    service.servers.push(spec);
    bed.snapshot.services[0] = service.into();
    bed.apply();
    let stray = udp(other, CLIENT).to_mac(SERVERS_MAC);
    assert_eq!(bed.receive(SERVERS, frame(&stray)), Verdict::Pass);
    bed.from_client(frame(&udp(CLIENT, VIP)));
    assert_eq!(bed.receive(SERVERS, frame(&stray)), Verdict::Local);
    bed.jump(Duration::from_secs(301));
    assert_eq!(bed.receive(SERVERS, frame(&stray)), Verdict::Pass);
}

#[test]
fn a_nat_servers_error_about_no_connection_goes_back_to_the_hosts_stack() {
    let mut bed = bed(Protocol::Udp, Forwarding::Nat);
    let about = |port| {
        let sent = udp(CLIENT, Endpoint::new(SERVER, port)).packet();
        icmp(SERVER, CLIENT.addr, UNREACHABLE, PORT, 0)
            .payload(&sent)
            .to_mac(SERVERS_MAC)
    };
    for (port, verdict) in [
        (SERVER_PORT, Verdict::Local),
        (SERVER_PORT + 1, Verdict::Pass),
    ] {
        assert_eq!(bed.receive(SERVERS, frame(&about(port))), verdict);
    }
}

#[test]
fn a_reply_too_long_for_the_client_changes_nothing_but_is_answered() {
    let mut bed = bed(Protocol::Udp, Forwarding::Nat);
    bed.change_fib(|f| {
        let mut i = f.interface(CLIENTS).unwrap().clone();
        i.mtu = 1300;
        f.set_interface(i);
    });
    bed.from_client(frame(&udp(CLIENT, VIP)));
    let server = Endpoint::new(SERVER, SERVER_PORT);
    let reply = udp(server, CLIENT).payload(&[1; 1400]).to_mac(SERVERS_MAC);
    let told = only(bed.from_server(frame(&reply)));
    let want = Error {
        from: LOCAL,
        to: SERVER,
        kind: (UNREACHABLE, TOO_BIG, 1300),
        about: (server, CLIENT),
    };
    assert_eq!(told, want);
    let stats = bed.engine.report(bed.now).services[0].numbers.stats;
    assert_eq!(stats.out_packets, 0);
}

#[test]
fn an_error_about_nothing_that_is_known_ends_by_the_name_of_what_it_is() {
    for (kind, code, want) in [
        (UNREACHABLE, TOO_BIG, DropReason::UnknownFragNeeded),
        (UNREACHABLE, PORT, DropReason::NoConnection),
        (11, 0, DropReason::NoConnection),
        // A redirect is not an error about a connection.
        (5, 1, DropReason::UnsupportedProtocol),
    ] {
        let mut bed = bed(Protocol::Tcp, Forwarding::Nat);
        bed.snapshot.owned_vips = vec![VIP.addr];
        bed.apply();
        let about = tcp(VIP, CLIENT, SYN | ACK).packet();
        let error = icmp(ROUTER, VIP.addr, kind, code, 1400).payload(&about);
        let verdict = bed.receive(CLIENTS, frame(&error));
        assert_eq!(verdict, Verdict::Drop(want), "type {kind} code {code}");
    }
}
