//! IPv6, and clients and servers of two families: what goes forward comes back, every packet that leaves is sound for
//! its receiver, and what is too long is cut or told about in the words of its sender's family.

#![allow(clippy::unwrap_used)]

mod common;

use proptest::prelude::*;
use uvs_core::conn::Conn;
use uvs_core::fib::Interface;
use uvs_core::flow::{Addr, Endpoint, Endpoints, Family, Flow, Protocol};
use uvs_core::frame::Gso;
use uvs_core::mode::Path;
use uvs_core::packet::{Packet, Transport};
use uvs_core::service::{Forwarding, Tunnel, TunnelChecksum, TunnelKind};
use uvs_core::testing::bed::{Bed, CLIENTS, SERVERS, SERVERS_MAC, Sent};
use uvs_core::testing::net::{client, local, server, vip};
use uvs_core::testing::packets::{self, ACK, PacketBuilder, SYN, TestFrame, check, tcp, udp};
use uvs_core::verdict::{DropReason, Verdict};
use uvs_core::wire::tcp::flag::{FIN, PSH};
use uvs_core::wire::{ethernet, icmp, icmpv6, ipv6, protocol};

use Family::{V4, V6};
use common::{PROTOCOLS, finished, mode, packet_of, parse, through};

const PAIRS: [(Family, Family); 4] = [(V4, V4), (V6, V6), (V6, V4), (V4, V6)];
const MIXED: [(Family, Family); 2] = [(V6, V4), (V4, V6)];
/// The MTU of the links in the bed.
const MTU: usize = 1500;

fn bed(protocol: Protocol, forwarding: Forwarding, families: (Family, Family)) -> Bed {
    let tunnel = Tunnel::default();
    Bed::between(uvs_modes::BUILTIN, protocol, forwarding, tunnel, families)
}

/// What a frame that left holds, its checksum finished.
fn read(sent: &Sent) -> (Packet, Vec<u8>) {
    let bytes = sent.finished();
    assert_eq!(check(&bytes), Ok(()));
    (parse(&mut TestFrame::finished(&bytes)), bytes)
}

fn only(sent: &[Sent]) -> &Sent {
    let [sent] = sent else {
        panic!("{} frames", sent.len())
    };
    sent
}

fn endpoint(family: Family) -> impl Strategy<Value = Endpoint> {
    (any::<[u8; 16]>(), any::<u16>()).prop_map(move |(octets, port)| {
        let addr = match family {
            V4 => Addr::v4([octets[0], octets[1], octets[2], octets[3]]),
            V6 => Addr::v6(octets),
        };
        Endpoint::new(addr, port)
    })
}

fn path(pair: usize) -> impl Strategy<Value = Path> {
    let (clients, servers) = PAIRS[pair];
    let ends = (
        endpoint(clients),
        endpoint(clients),
        endpoint(servers),
        endpoint(servers),
    );
    ends.prop_map(|(client, vip, server, local)| Path {
        ends: Endpoints {
            client,
            vip,
            server,
            // One without a port is that of no connection.
            local: Endpoint::new(local.addr, local.port.max(1)),
        },
        ip_id: 0x1234,
        ..Path::plain(&Flow::new(Protocol::Tcp, client, vip))
    })
}

proptest! {
    /// A reply that mirrors the forwarded packet comes back as the mirror of what the client sent.
    #[test]
    fn reverse_undoes_forward(
        (pair, path) in (0..PAIRS.len()).prop_flat_map(|pair| (Just(pair), path(pair))),
        protocol in 0usize..3,
        nat in any::<bool>(),
        partial in any::<bool>(),
        ttl in 1u8..,
        tos in any::<u8>(),
        payload in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let (clients, servers) = PAIRS[pair];
        let protocol = PROTOCOLS[protocol];
        let method = if nat && clients == servers { Forwarding::Nat } else { Forwarding::FullNat };
        let mode = mode(method);
        let of = |src, dst| packet_of(protocol, src, dst, &payload).ttl(ttl).tos(tos);
        let made = |packet: PacketBuilder| match partial {
            true => packet.partial(),
            false => TestFrame::finished(&packet.frame()),
        };
        let sent = made(of(path.ends.client, path.ends.vip));
        let forwarded = through(&sent, |f, p| mode.forward(f, p, &path).unwrap());
        prop_assert_eq!(check(&finished(&forwarded)), Ok(()));
        let p = parse(&mut forwarded.clone());
        prop_assert_eq!((p.family, p.ttl), (servers, ttl));
        let mut conn = Conn::new(protocol, path.ends.client, path.ends.vip, path.ends.server);
        if method.takes_local() {
            conn.ends.local = path.ends.local;
        }
        prop_assert_eq!(p.flow.reversed(), conn.server_flow(), "what the engine knows replies by");
        let answer = made(of(p.flow.destination(), p.flow.source()));
        let back = finished(&through(&answer, |f, p| mode.reverse(f, p, &path).unwrap()));
        prop_assert_eq!(check(&back), Ok(()));
        let mirror = of(path.ends.vip, path.ends.client).frame();
        let p = parse(&mut TestFrame::finished(&back));
        let l4 = p.l4();
        prop_assert_eq!(p.ttl, ttl);
        prop_assert_eq!(comparable(protocol, &back[l4..]), comparable(protocol, &mirror[l4..]));
        if clients == V6 || clients == servers {
            prop_assert_eq!(back.len(), mirror.len());
            prop_assert_eq!(&back[..l4], &mirror[..l4]);
        }
    }

    /// A wrong checksum is not made right: the receiver must notice.
    #[test]
    fn corruption_is_not_hidden(
        path in (1..PAIRS.len()).prop_flat_map(path),
        protocol in 0usize..2,
        bit in 0usize..64,
    ) {
        let mode = mode(Forwarding::FullNat);
        let mut bytes = packet_of(PROTOCOLS[protocol], path.ends.client, path.ends.vip, &[7; 40]).frame();
        let at = bytes.len() - 1 - bit / 8;
        bytes[at] ^= 1 << (bit % 8);
        let forwarded = through(&TestFrame::finished(&bytes), |f, p| mode.forward(f, p, &path).unwrap());
        prop_assert!(check(forwarded.bytes()).is_err());
    }

    /// A super-frame leaves as its segments would have left, had the sender cut them itself.
    #[test]
    fn a_super_frame_is_its_segments(
        pair in 0..PAIRS.len(),
        tunnel in any::<bool>(),
        size in 100u16..1300,
        len in 1usize..20_000,
        is_udp in any::<bool>(),
    ) {
        let (from, to) = (client(PAIRS[pair].0), vip(PAIRS[pair].0));
        let (protocol, forwarding) = (
            if is_udp { Protocol::Udp } else { Protocol::Tcp },
            if tunnel { Forwarding::Tunnel } else { Forwarding::FullNat },
        );
        let payload: Vec<u8> = (0..len).map(|i| uvs_core::narrow::to_u8(i * 7 % 251)).collect();
        let of = |flags| if is_udp { udp(from, to) } else { tcp(from, to, flags) };
        let mut whole = bed(protocol, forwarding, PAIRS[pair]);
        let mut parts = bed(protocol, forwarding, PAIRS[pair]);
        for b in [&mut whole, &mut parts] {
            b.from_client(TestFrame::finished(&of(SYN).frame()));
        }
        let frame = of(ACK | PSH | FIN).seq(7, 1).payload(&payload).super_frame(size);
        let got = cut(&whole.from_client(frame));
        let mut want = Vec::new();
        for (i, chunk) in payload.chunks(size.into()).enumerate() {
            let last = (i + 1) * usize::from(size) >= len;
            let passed = u32::try_from(i).unwrap() * u32::from(size);
            let segment = of(if last { ACK | PSH | FIN } else { ACK })
                .seq(7 + passed, 1)
                .id(0x1234 + u16::try_from(i).unwrap())
                .payload(chunk);
            want.extend(cut(&parts.from_client(TestFrame::finished(&segment.frame()))));
        }
        prop_assert_eq!(got, want);
    }
}

/// A transport's bytes, with its sum as a number of its own: 0 and 0xffff are the same one, and either is sent.
fn comparable(protocol: Protocol, l4: &[u8]) -> (u16, Vec<u8>) {
    let at = match protocol {
        Protocol::Tcp => 16,
        Protocol::Udp => 6,
        // A CRC is no sum.
        Protocol::Sctp => return (0, l4.to_vec()),
    };
    let mut bytes = l4.to_vec();
    let sum: Vec<u8> = bytes.splice(at..at + 2, [0, 0]).collect();
    (u16::from_be_bytes([sum[0], sum[1]]) % 0xffff, bytes)
}

/// Frames as a link has them: super-frames are cut, checksums finished. Of each what no identification is in.
fn cut(sent: &[Sent]) -> Vec<(Flow, Vec<u8>)> {
    let mut all = Vec::new();
    for sent in sent {
        let mut whole = TestFrame::new(&sent.bytes, sent.offload);
        let p = parse(&mut whole);
        if sent.offload.gso == Gso::None {
            let (p, bytes) = read(sent);
            all.push((p.flow, bytes[p.l4()..].to_vec()));
            continue;
        }
        let frame = whole.frame();
        let mut segments = uvs_core::segment::segments(&frame, &p).unwrap();
        while let Some(len) = segments.next_len() {
            let mut out = vec![0; len];
            let (offload, p) = segments.write(&mut out);
            let bytes = finished(&TestFrame::new(&out, offload));
            assert_eq!(check(&bytes), Ok(()));
            all.push((p.flow, bytes[p.l4()..].to_vec()));
        }
    }
    all
}

#[test]
fn in_every_mode_and_pair_the_hop_limit_falls_by_one_and_the_rest_stays() {
    for def in uvs_modes::BUILTIN {
        let mixed = def.forwarding.def().mixes_families;
        for pair in PAIRS.into_iter().filter(|(c, s)| mixed || c == s) {
            let tunnel = Tunnel {
                kind: def.encapsulation.unwrap_or_default(),
                port: 6080,
                checksum: TunnelChecksum::None,
            };
            let mut bed = Bed::between(
                uvs_modes::BUILTIN,
                Protocol::Tcp,
                def.forwarding,
                tunnel,
                pair,
            );
            let syn = tcp(client(pair.0), vip(pair.0), SYN)
                .ttl(9)
                .tos(0xb8)
                .flow_label(0x5_4321)
                .tcp_options(&[2, 4, 5, 0xb4]);
            let sent = bed.from_client(TestFrame::finished(&syn.frame()));
            let (p, bytes) = read(only(&sent));
            assert_eq!((p.family, p.ttl), (pair.1, 8), "{pair:?}");
            let class = match pair.1 {
                V4 => p.ipv4(&bytes).tos(),
                V6 => p.ipv6(&bytes).traffic_class(),
            };
            assert_eq!(class, 0xb8);
            assert!(bytes.ends_with(&[2, 4, 5, 0xb4]), "no mode clamps the MSS");
            if pair.1 == V6 {
                let kept = pair.0 == V6 && def.encapsulation.is_none();
                let label = if kept { 0x5_4321 } else { 0 };
                assert_eq!(p.ipv6(&bytes).flow_label(), label);
            }
        }
    }
}

/// Opens a connection by FULLNAT; what its SYN looks like at the server.
fn open(bed: &mut Bed, protocol: Protocol, from: Family) -> Packet {
    let first = match protocol {
        Protocol::Tcp => tcp(client(from), vip(from), SYN),
        _ => udp(client(from), vip(from)),
    };
    let sent = bed.from_client(TestFrame::finished(&first.frame()));
    read(only(&sent)).0
}

#[test]
fn fullnat_carries_a_connection_between_the_families() {
    for pair in PAIRS {
        let mut bed = bed(Protocol::Tcp, Forwarding::FullNat, pair);
        let syn = open(&mut bed, Protocol::Tcp, pair.0);
        assert_eq!(syn.flow.dst, server(pair.1));
        assert_eq!(syn.flow.src, local(pair.1));
        let (from, to) = (syn.flow.destination(), syn.flow.source());
        let answer = tcp(from, to, SYN | ACK).to_mac(SERVERS_MAC);
        let back = bed.from_server(TestFrame::finished(&answer.frame()));
        let (p, _) = read(only(&back));
        let ends = (p.flow.source(), p.flow.destination());
        assert_eq!(ends, (vip(pair.0), client(pair.0)));
        assert_eq!(bed.engine.connections().len(), 1);
    }
}

#[test]
fn only_what_goes_from_one_family_to_the_other_may_have_servers_of_both() {
    for method in Forwarding::ALL {
        for pair in MIXED {
            let mut bed = bed(Protocol::Tcp, *method, (pair.0, pair.0));
            let mut service = (*bed.snapshot.services[0]).clone();
            service.servers[0].endpoint.addr = server(pair.1);
            bed.snapshot.services[0] = service.into();
            let applied = bed.engine.apply(bed.snapshot.clone().into());
            assert_eq!(applied.is_ok(), method.def().mixes_families, "{method:?}");
        }
    }
}

#[test]
fn a_local_address_is_of_the_servers_family() {
    let mut bed = bed(Protocol::Udp, Forwarding::FullNat, (V6, V4));
    let mut service = (*bed.snapshot.services[0]).clone();
    service.local = vec![local(V6)];
    bed.snapshot.services[0] = service.into();
    bed.apply();
    let frame = TestFrame::finished(&udp(client(V6), vip(V6)).frame());
    let verdict = bed.receive(CLIENTS, frame);
    assert_eq!(verdict, Verdict::Drop(DropReason::PortsExhausted));
}

#[test]
fn a_datagram_without_a_checksum_gets_one_between_the_families() {
    for pair in MIXED {
        let mut bed = bed(Protocol::Udp, Forwarding::FullNat, pair);
        let packet = udp(client(pair.0), vip(pair.0)).payload(b"query");
        let sent = bed.from_client(TestFrame::finished(&packet.no_checksum().frame()));
        let (p, bytes) = read(only(&sent));
        assert_ne!(bytes[p.l4() + 6..p.l4() + 8], [0, 0]);
    }
}

#[test]
fn what_a_header_can_only_say_in_ipv6_is_left_out_or_refused() {
    let segments_left = |n| [4, n, 0, 0, 0, 0];
    for (kind, body, passes) in [
        (protocol::HOP_BY_HOP, [1, 4, 0, 0, 0, 0], true),
        (protocol::DESTINATION_OPTIONS, [1, 4, 0, 0, 0, 0], true),
        (protocol::ROUTING, segments_left(0), true),
        (protocol::ROUTING, segments_left(1), false),
    ] {
        let mut bed = bed(Protocol::Udp, Forwarding::FullNat, (V6, V4));
        let packet = udp(client(V6), vip(V6)).extension(kind, &body);
        let verdict = bed.receive(CLIENTS, TestFrame::finished(&packet.frame()));
        let refused = Verdict::Drop(DropReason::Untranslatable);
        assert_eq!(verdict != refused, passes, "{kind} {body:?}: {verdict:?}");
        if passes {
            assert_eq!(read(only(&bed.sent)).0.flow.dst, server(V4));
        }
    }
}

/// What an ICMP error that left says: its type, code and MTU, and the flow that it quotes.
fn error(sent: &[Sent]) -> (u8, u8, u32, Flow) {
    let (p, bytes) = read(only(sent));
    let (kind, code) = match p.transport {
        Transport::Icmp { kind, code } | Transport::Icmpv6 { kind, code } => (kind, code),
        other => panic!("{other:?}"),
    };
    let message = &bytes[p.l4()..];
    let rest = icmp::Header::new(message).rest();
    let mut quoted = bytes[..ethernet::LEN].to_vec();
    quoted.extend(&message[icmp::LEN..]);
    let whole = quoted.len() + 2000;
    quoted.resize(whole, 0);
    let quote = parse(&mut TestFrame::finished(&quoted));
    (kind, code, rest, quote.flow)
}

#[test]
fn between_the_families_a_link_takes_twenty_bytes_more_or_less() {
    for (pair, room) in [((V4, V6), MTU - 20), ((V6, V4), MTU + 20)] {
        let mut bed = bed(Protocol::Udp, Forwarding::FullNat, pair);
        let (from, to) = (client(pair.0), vip(pair.0));
        let header = if pair.0 == V4 { 28 } else { 48 };
        let of = |len: usize| udp(from, to).payload(&vec![1; len - header]);
        let fits = bed.from_client(TestFrame::finished(&of(room).frame()));
        assert_eq!(read(only(&fits)).0.ip_len as usize, MTU);
        let told = bed.from_client(TestFrame::finished(&of(room + 1).frame()));
        let (kind, code, mtu, quoted) = error(&told);
        let too_big = match pair.0 {
            V4 => (icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED),
            V6 => (icmpv6::TOO_BIG, 0),
        };
        assert_eq!((kind, code), too_big);
        assert_eq!(mtu as usize, room);
        assert_eq!(quoted, Flow::new(Protocol::Udp, from, to));
        // The answer has the difference the other way round.
        let answers = if pair.1 == V4 { MTU - 20 } else { MTU + 20 };
        let seen = read(only(&fits)).0.flow;
        let header = if pair.1 == V4 { 28 } else { 48 };
        let answer = udp(seen.destination(), seen.source()).to_mac(SERVERS_MAC);
        let of = |len: usize| answer.clone().payload(&vec![1; len - header]).frame();
        let fits = bed.from_server(TestFrame::finished(&of(answers)));
        assert_eq!(read(only(&fits)).0.ip_len as usize, MTU);
        let (_, _, mtu, quoted) = error(&bed.from_server(TestFrame::finished(&of(answers + 1))));
        assert_eq!((mtu as usize, quoted), (answers, seen.reversed()));
    }
}

#[test]
fn an_ipv4_datagram_that_may_be_cut_leaves_in_fragments_of_1280_bytes() {
    let mut bed = bed(Protocol::Udp, Forwarding::FullNat, (V4, V6));
    let packet = udp(client(V4), vip(V4))
        .may_fragment()
        .payload(&[1; 1440 - 28]);
    let sent = bed.from_client(TestFrame::finished(&packet.frame()));
    let lens: Vec<usize> = sent.iter().map(|s| s.bytes.len() - ethernet::LEN).collect();
    assert!(
        lens.len() > 1 && lens.iter().all(|len| *len <= ipv6::MIN_MTU),
        "{lens:?}"
    );
    for part in &sent {
        let p = parse(&mut TestFrame::finished(&part.bytes));
        assert_eq!((p.transport, p.flow.dst), (Transport::Fragment, server(V6)));
    }
}

#[test]
fn an_ipv6_datagram_in_fragments_becomes_an_ipv4_one() {
    let mut bed = bed(Protocol::Udp, Forwarding::FullNat, (V6, V4));
    let whole = udp(client(V6), vip(V6)).payload(&[7; 2000]).frame();
    let mut sent = Vec::new();
    for part in packets::fragments(&whole, 99, &[1000, 1008]) {
        sent = bed.from_client(TestFrame::finished(&part));
    }
    assert_eq!(sent.len(), 2, "longer than the link's 1500 bytes");
    for part in &sent {
        let bytes = part.finished();
        assert_eq!(check(&bytes), Ok(()));
        let p = parse(&mut TestFrame::finished(&bytes));
        assert_eq!((p.family, p.transport), (V4, Transport::Fragment));
        assert!(!p.dont_fragment);
    }
}

#[test]
fn an_error_reaches_the_other_family_in_its_own_words() {
    use {icmp::TIME_EXCEEDED as TIME, icmp::UNREACHABLE as UNREACH, icmpv6 as v6};
    let cases = [
        (
            V4,
            (UNREACH, icmp::PORT_UNREACHABLE, 0),
            (v6::UNREACHABLE, v6::PORT_UNREACHABLE, 0),
        ),
        (
            V4,
            (UNREACH, icmp::HOST_UNREACHABLE, 0),
            (v6::UNREACHABLE, v6::NO_ROUTE, 0),
        ),
        (
            V4,
            (UNREACH, icmp::PROHIBITED, 0),
            (v6::UNREACHABLE, v6::PROHIBITED, 0),
        ),
        (
            V4,
            (UNREACH, icmp::FRAGMENTATION_NEEDED, 1400),
            (v6::TOO_BIG, 0, 1420),
        ),
        (
            V4,
            (UNREACH, icmp::FRAGMENTATION_NEEDED, 576),
            (v6::TOO_BIG, 0, 1280),
        ),
        (V4, (TIME, 0, 0), (v6::TIME_EXCEEDED, 0, 0)),
        (
            V6,
            (v6::UNREACHABLE, v6::PORT_UNREACHABLE, 0),
            (UNREACH, icmp::PORT_UNREACHABLE, 0),
        ),
        (
            V6,
            (v6::UNREACHABLE, v6::ADDRESS_UNREACHABLE, 0),
            (UNREACH, icmp::HOST_UNREACHABLE, 0),
        ),
        (
            V6,
            (v6::TOO_BIG, 0, 1400),
            (UNREACH, icmp::FRAGMENTATION_NEEDED, 1380),
        ),
        (V6, (v6::TIME_EXCEEDED, 0, 0), (TIME, 0, 0)),
        (
            V6,
            (v6::PARAMETER_PROBLEM, 1, 6),
            (UNREACH, icmp::PROTOCOL_UNREACHABLE, 0),
        ),
    ];
    for (from_server, said, heard) in cases {
        let pair = if from_server == V4 {
            (V6, V4)
        } else {
            (V4, V6)
        };
        // From the server about what the client sent, and from the client about what the server sent.
        is_heard(pair, true, said, heard);
        is_heard((pair.1, pair.0), false, said, heard);
    }
}

/// An error about what the client sent, or about what the server sent, between these families.
fn is_heard(
    pair: (Family, Family),
    about_request: bool,
    said: (u8, u8, u32),
    heard: (u8, u8, u32),
) {
    let mut bed = bed(Protocol::Udp, Forwarding::FullNat, pair);
    let request = open(&mut bed, Protocol::Udp, pair.0).flow;
    let (client, vip) = (client(pair.0), vip(pair.0));
    let (kind, code, rest) = said;
    let error_about = |flow: Flow| {
        let quoted = udp(flow.source(), flow.destination()).packet();
        packets::icmp(flow.dst, flow.src, kind, code, rest).payload(&quoted)
    };
    let sent = if about_request {
        let message = error_about(request).to_mac(SERVERS_MAC);
        bed.from_server(TestFrame::finished(&message.frame()))
    } else {
        let reply = Flow::new(Protocol::Udp, vip, client);
        bed.from_client(TestFrame::finished(&error_about(reply).frame()))
    };
    let (kind, code, rest, quoted) = error(&sent);
    assert_eq!((kind, code, rest), heard, "{said:?} between {pair:?}");
    let want = match about_request {
        true => Flow::new(Protocol::Udp, client, vip),
        false => request.reversed(),
    };
    assert_eq!(quoted, want);
    assert_eq!(bed.engine.counters().icmp_translated, 1);
}

#[test]
fn an_error_that_the_other_family_has_not_is_dropped_by_name() {
    let mut bed = bed(Protocol::Udp, Forwarding::FullNat, (V6, V4));
    let request = open(&mut bed, Protocol::Udp, V6).flow;
    let quoted = udp(request.source(), request.destination()).packet();
    let quench = packets::icmp(request.dst, request.src, icmp::SOURCE_QUENCH, 0, 0);
    let quench = quench.payload(&quoted).to_mac(SERVERS_MAC).frame();
    let verdict = bed.receive(SERVERS, TestFrame::finished(&quench));
    assert_eq!(verdict, Verdict::Drop(DropReason::Untranslatable));
}

/// Sets the MTU of the servers' side.
fn set_mtu(bed: &mut Bed, mtu: u32) {
    bed.change_fib(|fib| {
        let interface = fib.interface(SERVERS).unwrap().clone();
        fib.set_interface(Interface { mtu, ..interface });
    });
}

/// Where the kernel's IPVS drops all (`mtu_1280.tun` of its records, marked as wrong there): each packet that a link
/// must take goes through (RFC 2473 §7).
#[test]
fn an_ipv6_tunnel_over_the_smallest_link_carries_what_every_link_must() {
    for kind in TunnelKind::ALL {
        let tunnel = Tunnel {
            kind: *kind,
            port: 6080,
            checksum: TunnelChecksum::None,
        };
        for (from, header) in [(V4, 28), (V6, 48)] {
            let (modes, to) = (uvs_modes::BUILTIN, Forwarding::Tunnel);
            let mut bed = Bed::between(modes, Protocol::Udp, to, tunnel, (from, V6));
            set_mtu(&mut bed, 1280);
            let room = 1280 - tunnel.overhead(V6);
            let of = |len: usize| udp(client(from), vip(from)).payload(&vec![1; len - header]);
            let small = bed.from_client(TestFrame::finished(&of(room).frame()));
            assert_eq!(read(only(&small)).0.ip_len, 1280, "{kind:?}");
            let larger = bed.from_client(TestFrame::finished(&of(1280).frame()));
            if from == V4 {
                // It must not be cut, and its sender may send less.
                assert_eq!(error(&larger).2 as usize, room);
                continue;
            }
            assert_eq!(larger.len(), 2, "the outer packet is cut");
            for part in &larger {
                let p = parse(&mut TestFrame::finished(&part.bytes));
                assert_eq!((p.transport, p.flow.dst), (Transport::Fragment, server(V6)));
            }
            let told = bed.from_client(TestFrame::finished(&of(1281).frame()));
            assert_eq!(error(&told).2, 1280);
        }
    }
}
