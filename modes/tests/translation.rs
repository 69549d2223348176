//! Modes whose replies pass the director take back what they did, and every packet that leaves is sound: for TCP, UDP and SCTP,
//! with checksums finished or left to an offload.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use proptest::prelude::*;
use uvs_core::conn::Conn;
use uvs_core::flow::{Addr, Endpoint, Endpoints, Protocol};
use uvs_core::mode::Path;
use uvs_core::service::{Forwarding, Tunnel, TunnelKind};
use uvs_core::testing::bed::{Bed, CLIENT, CLIENTS, LOCAL, SERVER, SERVER_PORT, SERVERS_MAC, VIP};
use uvs_core::testing::packets::{self, ACK, SYN, TestFrame, check};
use uvs_core::verdict::{DropReason, Verdict};
use uvs_core::wire::protocol;

use common::{PROTOCOLS, finished, mode, packet_of, parse, through};

/// The methods whose servers' replies pass the director.
fn passing() -> impl Strategy<Value = Forwarding> {
    let all = Forwarding::ALL.iter().copied();
    proptest::sample::select(all.filter(|m| m.passes_replies()).collect::<Vec<_>>())
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    (any::<[u8; 4]>(), any::<u16>()).prop_map(|(a, port)| Endpoint::new(Addr::v4(a), port))
}

fn path() -> impl Strategy<Value = Path> {
    (endpoint(), endpoint(), endpoint(), endpoint()).prop_map(|(client, vip, server, local)| Path {
        ends: Endpoints {
            client,
            vip,
            server,
            local,
        },
        ..Path::plain(&uvs_core::flow::Flow::new(Protocol::Tcp, client, vip))
    })
}

/// Exchanges source and destination, which changes no sum.
fn turn(t: &TestFrame) -> TestFrame {
    let mut bytes = t.bytes().to_vec();
    for (a, b, n) in [(26, 30, 4), (34, 36, 2)] {
        (0..n).for_each(|i| bytes.swap(a + i, b + i));
    }
    let mut turned = TestFrame::new(&bytes, t.offload);
    // SCTP's CRC is no sum.
    let p = parse(&mut turned);
    if p.protocol == Protocol::Sctp as u8 {
        bytes[42..46].fill(0);
        let crc = uvs_core::wire::checksum::crc32c(&bytes[34..]);
        bytes[42..46].copy_from_slice(&crc.to_le_bytes());
        turned = TestFrame::new(&bytes, t.offload);
    }
    turned
}

proptest! {
    /// A reply that mirrors the forwarded packet comes back as the mirror of what the client sent.
    #[test]
    fn reverse_undoes_forward(
        path in path(),
        protocol in 0usize..3,
        method in passing(),
        partial in any::<bool>(),
        payload in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let mode = mode(method);
        let packet = packet_of(PROTOCOLS[protocol], path.ends.client, path.ends.vip, &payload);
        let sent = if partial { packet.partial() } else { TestFrame::finished(&packet.frame()) };
        let forwarded = through(&sent, |f, p| mode.forward(f, p, &path).unwrap());
        prop_assert_eq!(check(&finished(&forwarded)), Ok(()));
        let p = parse(&mut forwarded.clone());
        let mut conn = Conn::new(PROTOCOLS[protocol], path.ends.client, path.ends.vip, path.ends.server);
        if method.takes_local() {
            conn.ends.local = path.ends.local;
        }
        prop_assert_eq!(p.flow.reversed(), conn.server_flow(), "what the engine knows replies by");
        let back = through(&turn(&forwarded), |f, p| mode.reverse(f, p, &path).unwrap());
        prop_assert_eq!(check(&finished(&back)), Ok(()));
        let mirror = turn(&sent);
        prop_assert_eq!(back.bytes(), mirror.bytes());
    }

    /// A wrong checksum is not made right: the receiver must notice.
    #[test]
    fn corruption_is_not_hidden(path in path(), protocol in 0usize..2, bit in 0usize..64) {
        let mode = mode(Forwarding::Nat);
        let mut bytes = packet_of(PROTOCOLS[protocol], path.ends.client, path.ends.vip, &[7; 40]).frame();
        let at = bytes.len() - 1 - bit / 8;
        bytes[at] ^= 1 << (bit % 8);
        let forwarded = through(&TestFrame::finished(&bytes), |f, p| mode.forward(f, p, &path).unwrap());
        prop_assert!(check(forwarded.bytes()).is_err());
    }
}

#[test]
fn in_every_mode_the_ttl_falls_by_one_and_the_rest_stays() {
    for mode in uvs_modes::BUILTIN {
        let tunnel = Tunnel {
            kind: mode.encapsulation.unwrap_or_default(),
            port: 6080,
            ..Tunnel::default()
        };
        let mut bed = Bed::with_service(uvs_modes::BUILTIN, Protocol::Tcp, mode.forwarding, tunnel);
        // An MSS of 1460, which no mode clamps.
        let syn = packets::tcp(CLIENT, VIP, SYN)
            .ttl(9)
            .tcp_options(&[2, 4, 5, 0xb4]);
        let sent = bed.from_client(TestFrame::finished(&syn.frame()));
        let [sent] = &sent[..] else {
            panic!("{sent:?}")
        };
        assert_eq!(
            check(&sent.bytes),
            Ok(()),
            "{}",
            mode.forwarding.mode(tunnel.kind)
        );
        let inner = &sent.bytes[sent.bytes.len() - 44..];
        assert_eq!(
            (inner[0], inner[8]),
            (0x45, 8),
            "{}",
            mode.forwarding.mode(tunnel.kind)
        );
        assert_eq!(inner[40..], [2, 4, 5, 0xb4]);
        assert_eq!(sent.bytes[22], 8, "the outer header has the same TTL");
    }
}

/// As the kernel's, which asks the server with each packet.
#[test]
fn a_tunnel_wraps_with_what_its_server_says_now() {
    let ipip = Tunnel::default();
    let gue = Tunnel {
        kind: TunnelKind::Gue,
        port: 6080,
        ..ipip
    };
    let gre = Tunnel {
        kind: TunnelKind::Gre,
        ..ipip
    };
    let mut bed = Bed::with_service(uvs_modes::BUILTIN, Protocol::Tcp, Forwarding::Tunnel, ipip);
    let kinds = [
        (ipip, protocol::IPIP, SYN),
        (gue, protocol::UDP, ACK),
        (gre, protocol::GRE, ACK),
        (ipip, protocol::IPIP, ACK),
    ];
    for (tunnel, outer, flags) in kinds {
        let service = Arc::make_mut(&mut bed.snapshot.services[0]);
        service.servers[0].tunnel = tunnel;
        bed.apply();
        let packet = packets::tcp(CLIENT, VIP, flags).frame();
        let sent = bed.from_client(TestFrame::finished(&packet));
        assert_eq!(check(&sent[0].bytes), Ok(()), "{tunnel:?}");
        assert_eq!(sent[0].bytes[23], outer, "{tunnel:?}");
        assert!(sent[0].bytes.ends_with(&packet[34..]), "{tunnel:?}");
    }
    assert_eq!(bed.engine.connections().len(), 1);
}

#[test]
fn fullnat_carries_a_connection_both_ways() {
    let mut bed = Bed::with_service(
        uvs_modes::BUILTIN,
        Protocol::Tcp,
        Forwarding::FullNat,
        Tunnel::default(),
    );
    let syn = packets::tcp(CLIENT, VIP, SYN).frame();
    let sent = bed.from_client(TestFrame::finished(&syn));
    let p = parse(&mut TestFrame::finished(&sent[0].bytes));
    assert_eq!(p.flow.destination(), Endpoint::new(SERVER, SERVER_PORT));
    assert_eq!(p.flow.src, LOCAL);
    let answer = packets::tcp(p.flow.destination(), p.flow.source(), SYN | ACK).to_mac(SERVERS_MAC);
    let back = bed.from_server(TestFrame::finished(&answer.frame()));
    assert_eq!(check(&back[0].bytes), Ok(()));
    let p = parse(&mut TestFrame::finished(&back[0].bytes));
    assert_eq!((p.flow.source(), p.flow.destination()), (VIP, CLIENT));
}

#[test]
fn an_sctp_checksum_left_to_an_offload_is_finished() {
    for forwarding in [Forwarding::Dr, Forwarding::Nat] {
        let mut bed = Bed::with_service(
            uvs_modes::BUILTIN,
            Protocol::Sctp,
            forwarding,
            Tunnel::default(),
        );
        let mut bytes = packets::sctp(CLIENT, VIP, 1).payload(&[1; 17]).frame();
        bytes[42..46].fill(0);
        // As virtio_net_hdr_from_skb says it: it cannot tell a CRC from a sum.
        let offload = uvs_core::frame::Offload {
            csum_start: Some(34),
            csum_offset: 8,
            ..Default::default()
        };
        let sent = bed.from_client(TestFrame::new(&bytes, offload));
        assert_eq!(check(&sent[0].bytes), Ok(()));
        assert!(!sent[0].offload.is_partial());
    }
}

#[test]
fn an_offload_further_in_leaves_the_outer_checksum_finished() {
    // A datagram with a packet of the sender's own tunnel in it, whose checksum is left to an offload.
    let mut payload = vec![7; 60];
    payload[30..32].copy_from_slice(&[0x12, 0x34]);
    let sum = uvs_core::wire::checksum::of(&payload[20..]);
    payload[30..32].copy_from_slice(&sum.to_be_bytes());
    let mut bytes = packets::udp(CLIENT, VIP).payload(&payload).frame();
    bytes[42 + 30..42 + 32].copy_from_slice(&[0x12, 0x34]);
    let offload = uvs_core::frame::Offload {
        csum_start: Some(42 + 20),
        csum_offset: 10,
        ..Default::default()
    };
    for forwarding in [Forwarding::Nat, Forwarding::FullNat, Forwarding::Tunnel] {
        let mut bed = Bed::with_service(
            uvs_modes::BUILTIN,
            Protocol::Udp,
            forwarding,
            Tunnel::default(),
        );
        let sent = bed.from_client(TestFrame::new(&bytes, offload));
        assert_eq!(check(&sent[0].finished()), Ok(()), "{forwarding:?}");
    }
}

#[test]
fn an_offload_beyond_the_frame_is_refused() {
    let mut bed = Bed::with_service(
        uvs_modes::BUILTIN,
        Protocol::Udp,
        Forwarding::Tunnel,
        Tunnel::default(),
    );
    for (start, offset) in [(u16::MAX, 6), (34, u16::MAX), (40, 6)] {
        let offload = uvs_core::frame::Offload {
            csum_start: Some(start),
            csum_offset: offset,
            ..Default::default()
        };
        let frame = TestFrame::new(&packets::udp(CLIENT, VIP).frame(), offload);
        let verdict = bed.receive(CLIENTS, frame);
        assert_eq!(verdict, Verdict::Drop(DropReason::Truncated), "{start}");
    }
}
