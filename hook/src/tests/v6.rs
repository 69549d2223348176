//! IPv6, and outer headers of either family, against what is computed here from whole packets.

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::offload::{Change, Orders, Taken, Up};
use uvs_core::testing::packets::udp;
use uvs_core::wire::checksum;

use super::direct::{Direct, HOP, MAC, addr, end, nat};
use crate::testing::Outcome;
use crate::testing::net::inside;

const IP: usize = 14;

fn ends() -> [Endpoint; 3] {
    [
        end("2001:db8:1::7", 40_000),
        end("2001:db8::100", 80),
        end("fd00::11", 8080),
    ]
}

/// The sum over the pseudo-header (RFC 8200 §8.1) and what follows it.
fn sum(packet: &[u8], protocol: u8) -> u16 {
    let l4 = &packet[40..];
    let len = u32::try_from(l4.len()).unwrap().to_be_bytes();
    let pseudo = [&packet[8..40], &len, &[0, 0, 0, protocol]].concat();
    checksum::add(checksum::sum(&pseudo), checksum::sum(l4))
}

/// A whole frame to the director.
fn frame(protocol: Protocol, [from, to]: [Endpoint; 2], hop_limit: u8) -> Vec<u8> {
    let ports = [from.port.to_be_bytes(), to.port.to_be_bytes()].concat();
    let (mut l4, at) = match protocol {
        Protocol::Udp => ([&ports[..], &[0, 13, 0, 0], b"hello"].concat(), 6),
        _ => {
            let head = [
                0, 0, 0, 100, 0, 0, 0, 200, 0x50, 0x10, 0xfa, 0xf0, 0, 0, 0, 0,
            ];
            ([&ports[..], &head, b"hello"].concat(), 16)
        }
    };
    let len = u16::try_from(l4.len()).unwrap().to_be_bytes();
    let head = [
        &[0x6b, 0x21, 0x23, 0x45],
        &len[..],
        &[protocol as u8, hop_limit],
    ]
    .concat();
    let head = [&head[..], &from.addr.0, &to.addr.0].concat();
    let check = !sum(&[&head[..], &l4].concat(), protocol as u8);
    l4[at..at + 2].copy_from_slice(&check.to_be_bytes());
    [&MAC[..], &[2, 0, 0, 0, 1, 9], &[0x86, 0xdd], &head, &l4].concat()
}

/// What such a frame must have become.
fn forwarded(protocol: Protocol, ends: [Endpoint; 2], hop_limit: u8) -> Vec<u8> {
    let mut frame = frame(protocol, ends, hop_limit);
    frame[..6].copy_from_slice(&HOP);
    frame[6..12].copy_from_slice(&MAC);
    frame
}

fn taken(d: &Direct, frame: &[u8]) -> Vec<u8> {
    match d.run(frame) {
        Outcome::Taken(frame) => frame,
        other => panic!("{other:?}"),
    }
}

#[test]
fn addresses_of_ipv6_are_translated_both_ways() {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        inside(|net| {
            let [client, vip, server] = ends();
            let mut d = Direct::new(net);
            d.take(nat(1, 5, protocol, ends()));
            let sent = taken(&d, &frame(protocol, [client, vip], 64));
            assert_eq!(sent, forwarded(protocol, [client, server], 63));
            let sent = taken(&d, &frame(protocol, [server, client], 64));
            assert_eq!(sent, forwarded(protocol, [vip, client], 63));
            let ends_here = frame(protocol, [client, vip], 1);
            assert_eq!(d.run(&ends_here), Outcome::Ours);
            let port = d.hook.port(d.ifindex).unwrap();
            assert_eq!(port.up[Up::Ttl as usize].packets, 1);
        });
    }
}

#[test]
fn where_nothing_is_translated_ipv6_loses_a_hop_alone() {
    inside(|net| {
        let [client, vip, _] = ends();
        let mut d = Direct::new(net);
        let mut direct = nat(1, 5, Protocol::Tcp, ends());
        direct.forward = direct.forward.map(|leg| uvs_core::offload::Leg {
            change: Change::Nothing,
            ..leg
        });
        direct.reply = uvs_core::offload::Reply::Direct;
        d.take(direct);
        let sent = taken(&d, &frame(Protocol::Tcp, [client, vip], 64));
        assert_eq!(sent, forwarded(Protocol::Tcp, [client, vip], 63));
    });
}

/// A connection through a tunnel between these ends.
fn tunnel(birth: u64, inner: [Endpoint; 3], outer: [Addr; 2], copy_df: bool) -> Taken {
    let [src, dst] = outer;
    let mut taken = nat(1, birth, Protocol::Udp, inner);
    taken.forward = taken.forward.map(|leg| uvs_core::offload::Leg {
        change: Change::Wrap { src, dst, copy_df },
        ..leg
    });
    taken.reply = uvs_core::offload::Reply::Direct;
    taken
}

fn inner4() -> [Endpoint; 3] {
    [
        end("192.0.2.7", 40_000),
        end("10.0.1.100", 53),
        end("10.0.2.11", 53),
    ]
}

#[test]
fn an_outer_header_is_of_either_family_around_either() {
    let v4 = [addr("10.0.2.1"), addr("10.0.2.11")];
    let v6 = [addr("fd00::1"), addr("fd00::11")];
    let question = || udp(inner4()[0], inner4()[1]).tos(0xbb).payload(b"hello");
    let inside4 = || question().ttl(63).frame()[IP..].to_vec();
    let inside6 = || forwarded(Protocol::Udp, [ends()[0], ends()[1]], 63)[IP..].to_vec();
    let cases = [
        (
            inner4(),
            v4,
            question().frame(),
            inside4(),
            (0x0800_u16, 4_u8),
        ),
        (inner4(), v6, question().frame(), inside4(), (0x86dd, 4)),
        (
            ends(),
            v4,
            frame(Protocol::Udp, [ends()[0], ends()[1]], 64),
            inside6(),
            (0x0800, 41),
        ),
        (
            ends(),
            v6,
            frame(Protocol::Udp, [ends()[0], ends()[1]], 64),
            inside6(),
            (0x86dd, 41),
        ),
    ];
    for (inner, outer, frame, expected, (kind, protocol)) in cases {
        inside(|net| {
            let mut d = Direct::new(net);
            d.take(tunnel(5, inner, outer, true));
            let sent = taken(&d, &frame);
            assert_eq!(sent[..12], [HOP, MAC].concat());
            assert_eq!(sent[12..IP], kind.to_be_bytes());
            let (head, rest) = sent[IP..].split_at(if kind == 0x0800 { 20 } else { 40 });
            assert_eq!(rest[..expected.len()], expected);
            if kind == 0x0800 {
                let len = u16::try_from(20 + expected.len()).unwrap().to_be_bytes();
                let tos = if inner == ends() { 0xb2 } else { 0xba };
                assert_eq!(head[..4], [0x45, tos, len[0], len[1]]);
                assert_eq!(head[8..10], [63, protocol]);
                // With DF there is no identification; IPv6 has no DF to be copied.
                let (df, id) = (head[6..8] == [0x40, 0], head[4..6] != [0, 0]);
                assert_eq!((df, id), (inner == inner4(), inner == ends()));
                assert_eq!(checksum::of(head), 0);
                assert_eq!(
                    head[12..],
                    [outer[0].0[12..].to_vec(), outer[1].0[12..].to_vec()].concat()
                );
            } else {
                let len = u16::try_from(expected.len()).unwrap().to_be_bytes();
                assert_eq!(head[4..8], [len[0], len[1], protocol, 63]);
                assert_eq!(head[8..], [outer[0].0, outer[1].0].concat());
            }
        });
    }
}

#[test]
fn without_df_each_outer_header_has_an_identification_of_its_own() {
    inside(|net| {
        let v4 = [addr("10.0.2.1"), addr("10.0.2.11")];
        let mut d = Direct::new(net);
        d.take(tunnel(5, inner4(), v4, false));
        let frame = udp(inner4()[0], inner4()[1]).payload(b"hello").frame();
        let ids = [0, 1].map(|_| {
            let sent = taken(&d, &frame);
            assert_eq!(sent[IP + 6..IP + 8], [0, 0], "no DF outside");
            assert_eq!(checksum::of(&sent[IP..IP + 20]), 0);
            u16::from_be_bytes([sent[IP + 4], sent[IP + 5]])
        });
        assert_eq!(ids[1], ids[0] + 1);
    });
}

#[test]
fn a_tunnels_header_counts_against_the_mtu() {
    inside(|net| {
        let v4 = [addr("10.0.2.1"), addr("10.0.2.11")];
        let mut d = Direct::new(net);
        d.take(tunnel(5, inner4(), v4, true));
        let of = |len: usize| {
            let payload = vec![7; len - 28];
            udp(inner4()[0], inner4()[1]).payload(&payload).frame()
        };
        assert!(matches!(d.run(&of(1480)), Outcome::Taken(_)));
        assert_eq!(d.run(&of(1481)), Outcome::Ours);
        d.order(Orders {
            ways: Some(9),
            ..Orders::default()
        });
        assert_eq!(d.run(&of(100)), Outcome::Ours);
    });
}
