//! ICMPv6 where UVS is better than the kernel (the recorded cases have the rest): errors from servers are translated by
//! a checksum that is right, and errors about a tunnel's outer packet reach the client in every pair of families.

use uvs_core::flow::{Addr, Endpoint, Family, Protocol};
use uvs_core::packet::{self, Parsed};
use uvs_core::service::{Forwarding, ServiceKey, ServiceSpec, Tunnel};
use uvs_core::testing::bed::{Bed, SERVERS, SERVERS_MAC, Sent};
use uvs_core::testing::net::{SERVER_PORT, client, local, server, vip};
use uvs_core::testing::packets::{PacketBuilder, TestFrame, check, icmp, udp};
use uvs_core::verdict::{DropReason, Verdict};
use uvs_core::wire::{ethernet, icmp as wire_icmp, icmpv6, ipv4, ipv6, ndp};

use Family::{V4, V6};

/// The pairs of which the kernel passes no outer error on.
const PAIRS: [(Family, Family); 3] = [(V6, V6), (V6, V4), (V4, V6)];
const MTU: usize = 1500;
/// The director's on the servers' side.
const LINK_LOCAL: Addr = Addr::v6([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

fn bed(forwarding: Forwarding, families: (Family, Family)) -> Bed {
    let modes = uvs_modes::BUILTIN;
    Bed::between(
        modes,
        Protocol::Udp,
        forwarding,
        Tunnel::default(),
        families,
    )
}

fn frame(packet: &PacketBuilder) -> TestFrame {
    TestFrame::finished(&packet.frame())
}

const fn header_len(family: Family) -> usize {
    match family {
        V4 => ipv4::MIN_LEN,
        V6 => ipv6::LEN,
    }
}

/// A client's datagram that is an IP packet of so many bytes.
fn datagram(family: Family, len: usize) -> TestFrame {
    let payload = vec![7; len - header_len(family) - 8];
    frame(&udp(client(family), vip(family)).payload(&payload))
}

/// The type, the code and the rest of the header of the only frame that left, which is an ICMP error; and what it quotes.
fn error(sent: &[Sent], family: Family) -> ((u8, u8, u32), &[u8]) {
    let [sent] = sent else {
        panic!("{} frames", sent.len());
    };
    assert_eq!(check(&sent.bytes), Ok(()));
    let message = &sent.bytes[ethernet::LEN + header_len(family)..];
    let icmp = wire_icmp::Header::new(message);
    let quote = &message[wire_icmp::LEN..];
    ((icmp.kind(), icmp.code(), icmp.rest()), quote)
}

/// What says that a packet is too big, with this MTU.
const fn too_big(family: Family, mtu: u32) -> (u8, u8, u32) {
    match family {
        V4 => (wire_icmp::UNREACHABLE, wire_icmp::FRAGMENTATION_NEEDED, mtu),
        V6 => (icmpv6::TOO_BIG, 0, mtu),
    }
}

/// A router between sends an error about a packet that left, as much of which is quoted as its family quotes.
fn router(about: &Sent, family: Family, (kind, code, rest): (u8, u8, u32)) -> TestFrame {
    let from = match family {
        V4 => Addr::v4([10, 0, 2, 200]),
        V6 => Addr::v6([0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 200]),
    };
    let most = if family == V4 { 548 } else { 1232 };
    let packet = &about.bytes[ethernet::LEN..];
    let quote = &packet[..packet.len().min(most)];
    let error = icmp(from, local(family), kind, code, rest).to_mac(SERVERS_MAC);
    frame(&error.payload(quote))
}

#[test]
fn a_servers_error_is_translated_where_its_checksum_is_right_and_only_then() {
    let mut bed = bed(Forwarding::Nat, (V6, V6));
    let sent = bed.from_client(datagram(V6, 100));
    let about = &sent[0].bytes[ethernet::LEN..];
    let (kind, code) = (icmpv6::UNREACHABLE, icmpv6::PORT_UNREACHABLE);
    let told = icmp(server(V6), client(V6).addr, kind, code, 0).to_mac(SERVERS_MAC);
    let told = told.payload(about);
    for (what, told) in [
        ("finished", frame(&told)),
        ("left to an offload", told.partial()),
    ] {
        let passed = bed.from_server(told);
        let (said, quote) = error(&passed, V6);
        assert_eq!(said, (kind, code, 0), "{what}");
        let outer = ipv6::Header::new(&passed[0].bytes[ethernet::LEN..]);
        assert_eq!(
            (outer.src(), outer.hop_limit()),
            (vip(V6).addr.v6_octets(), 63)
        );
        let quoted = ipv6::Header::new(quote);
        assert_eq!(quoted.dst(), vip(V6).addr.v6_octets());
        assert_eq!(quote[ipv6::LEN + 2..][..2], vip(V6).port.to_be_bytes());
    }
    let mut wrong = told.frame();
    wrong[ethernet::LEN + ipv6::LEN + wire_icmp::offset::CHECKSUM] ^= 1;
    let verdict = bed.receive(SERVERS, TestFrame::finished(&wrong));
    assert_eq!(verdict, Verdict::Drop(DropReason::BadChecksum));
    let late = told.ttl(1);
    let verdict = bed.receive(SERVERS, frame(&late));
    assert_eq!(verdict, Verdict::Drop(DropReason::TtlExceeded));
}

#[test]
fn a_path_that_narrows_behind_the_director_is_learnt_and_told() {
    for families @ (inside, outside) in PAIRS {
        let mut bed = bed(Forwarding::Tunnel, families);
        let full = MTU - header_len(outside);
        let sent = bed.from_client(datagram(inside, full));
        assert_eq!(sent.len(), 1, "{families:?}");
        let reported = 1400;
        let told = bed.from_server(router(&sent[0], outside, too_big(outside, reported)));
        let room = reported as usize - header_len(outside);
        let (said, quote) = error(&told, inside);
        assert_eq!(
            said,
            too_big(inside, uvs_core::narrow::to_u32(room)),
            "{families:?}"
        );
        assert_eq!(
            quote[0] >> 4,
            if inside == V4 { 4 } else { 6 },
            "its own packet"
        );
        // From then on the director says so itself, and what fits goes through.
        let told = bed.from_client(datagram(inside, room + 1));
        assert_eq!(
            error(&told, inside).0,
            too_big(inside, uvs_core::narrow::to_u32(room))
        );
        let sent = bed.from_client(datagram(inside, room));
        assert_eq!(sent[0].port, SERVERS, "{families:?}");
        assert_eq!(check(&sent[0].bytes), Ok(()));
    }
}

#[test]
fn what_is_wrong_within_a_tunnel_is_told_as_a_server_out_of_reach() {
    for families @ (inside, outside) in PAIRS {
        let mut bed = bed(Forwarding::Tunnel, families);
        let sent = bed.from_client(datagram(inside, 200));
        let errors = match outside {
            V4 => [(3, 2), (3, 1), (11, 0)],
            V6 => [(4, 1), (1, 0), (3, 0)],
        };
        let expected = match inside {
            V4 => (wire_icmp::UNREACHABLE, wire_icmp::HOST_UNREACHABLE, 0),
            V6 => (icmpv6::UNREACHABLE, icmpv6::ADDRESS_UNREACHABLE, 0),
        };
        for (kind, code) in errors {
            let told = bed.from_server(router(&sent[0], outside, (kind, code, 0)));
            assert_eq!(
                error(&told, inside).0,
                expected,
                "{families:?} {kind}/{code}"
            );
        }
    }
}

#[test]
fn nobody_is_told_of_an_ipv6_next_hop_that_does_not_answer() {
    for (forwarding, families) in [
        (Forwarding::Dr, (V6, V6)),
        (Forwarding::Nat, (V6, V6)),
        (Forwarding::Tunnel, (V6, V4)),
        (Forwarding::Tunnel, (V4, V6)),
    ] {
        let mut bed = bed(forwarding, families);
        let sent = bed.from_client(datagram(families.0, 100));
        assert_eq!(bed.unreachable(&sent[0]), [], "{forwarding:?} {families:?}");
    }
}

/// What left is of IPv4 in one direction, so that an error could be made; its receiver is of IPv6.
#[test]
fn nobody_is_told_of_a_next_hop_between_the_families_that_does_not_answer() {
    for families in [(V6, V4), (V4, V6)] {
        let mut bed = bed(Forwarding::FullNat, families);
        let sent = bed.from_client(datagram(families.0, 100));
        assert_eq!(bed.unreachable(&sent[0]), [], "{families:?}: a packet");
        let mut seen = TestFrame::finished(&sent[0].bytes);
        let Parsed::Ip(packet) = packet::parse(&mut seen.frame()) else {
            panic!("{families:?}: what left is a packet");
        };
        let (local, server) = (packet.flow.source(), packet.flow.destination());
        let sent = bed.from_server(frame(&udp(server, local).to_mac(SERVERS_MAC)));
        assert_eq!(bed.unreachable(&sent[0]), [], "{families:?}: a reply");
    }
}

/// The host would forward the reply by the link that it came from, and say so; the guard keeps it.
#[test]
fn a_server_on_its_clients_link_is_told_of_the_shorter_way_at_most_as_often_as_of_errors() {
    let mut bed = bed(Forwarding::Nat, (V6, V6));
    let neighbour = Endpoint::new(server(V6), 40_000);
    let mac = [2, 0, 0, 0, 2, 0x77];
    let near = Endpoint::new(
        Addr::v6([0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77]),
        neighbour.port,
    );
    bed.change_fib(|fib| {
        fib.set_neighbour(3, near.addr, mac);
        fib.add_address(3, LINK_LOCAL, 64);
    });
    bed.from_server(frame(&udp(near, vip(V6)).to_mac(SERVERS_MAC)));
    let answer = udp(Endpoint::new(server(V6), SERVER_PORT), near).to_mac(SERVERS_MAC);
    let sent = bed.from_server(frame(&answer));
    let [redirect, passed] = &sent[..] else {
        panic!("{} frames", sent.len());
    };
    assert_eq!(check(&redirect.bytes), Ok(()));
    let ip = ipv6::Header::new(&redirect.bytes[ethernet::LEN..]);
    assert_eq!((ip.src(), ip.hop_limit()), (LINK_LOCAL.v6_octets(), 255));
    let message = ndp::Message::new(&redirect.bytes[ethernet::LEN + ipv6::LEN..]);
    assert_eq!(
        (message.kind(), message.target()),
        (ndp::REDIRECT, near.addr.v6_octets())
    );
    assert_eq!(passed.bytes[..6], mac);
    let alone = (0..100).filter(|_| bed.from_server(frame(&answer)).len() == 1);
    assert!(alone.count() >= 50, "limited, and the replies are not");
}

#[test]
fn so_is_who_asks_here_for_a_vip_that_another_host_of_its_link_has() {
    let on_link = |last| Addr::v6([0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    let mut bed = bed(Forwarding::Dr, (V6, V6));
    let elsewhere = Endpoint::new(on_link(0x99), 53);
    let key = ServiceKey::address(Protocol::Udp, elsewhere);
    bed.snapshot
        .services
        .push(ServiceSpec::new(key, "first").into());
    bed.snapshot.absent_vips = vec![elsewhere.addr];
    bed.apply();
    let near = Endpoint::new(on_link(0x77), 40_000);
    bed.change_fib(|fib| {
        fib.set_neighbour(3, near.addr, [2, 0, 0, 0, 2, 0x77]);
        fib.add_address(3, LINK_LOCAL, 64);
    });
    let asked = frame(&udp(near, elsewhere).to_mac(SERVERS_MAC));
    assert_eq!(
        bed.receive(SERVERS, asked.clone()),
        Verdict::Local,
        "the host's"
    );
    let message = ndp::Message::new(&bed.sent[0].bytes[ethernet::LEN + ipv6::LEN..]);
    let told = (message.kind(), message.target());
    assert_eq!(told, (ndp::REDIRECT, elsewhere.addr.v6_octets()));
    // Who does not forward does not say how to.
    bed.change_fib(|fib| fib.forwarding_ipv6 = false);
    bed.sent.clear();
    assert_eq!(bed.receive(SERVERS, asked), Verdict::Local);
    assert_eq!(bed.sent, []);
}
