//! Every row of `BUILTIN` and of the closed sets it implements: words that are nobody else's, an overhead that
//! is what is really added, wrapped packets that are known again, and a line in the manual. That replies are
//! taken back is in `translation.rs`, by row too.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::net::Ipv6Addr;

use uvs_core::flow::{Addr, Endpoint, Endpoints, Family, Protocol};
use uvs_core::mode::{Inside, ModeDef, Path};
use uvs_core::packet::{self, Parsed};
use uvs_core::service::{Forwarding, Replies, Tunnel, TunnelChecksum, TunnelKind, outer_header};
use uvs_core::testing::bed::{CLIENT, VIP};
use uvs_core::testing::packets::{self, ACK, PacketBuilder, TestFrame, check};
use uvs_core::wire::{ethernet, ipv4, ipv6};
use uvs_modes::BUILTIN;

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

fn distinct<T: Copy + Debug + Eq + Hash>(values: impl Iterator<Item = T>) {
    let mut seen = HashSet::new();
    for value in values {
        assert!(seen.insert(value), "{value:?} twice");
    }
}

/// The tunnels that a row can be asked for, each checksum on its own.
fn tunnels(def: &ModeDef) -> Vec<Tunnel> {
    let kind = def.encapsulation.unwrap_or_default();
    let checksums = match kind.def().checksums {
        [] => &[TunnelChecksum::None],
        some => some,
    };
    let port = if kind.def().has_port { 6080 } else { 0 };
    let of = |checksum: &TunnelChecksum| Tunnel {
        kind,
        port,
        checksum: *checksum,
    };
    checksums.iter().map(of).collect()
}

/// A client's packet to a VIP of a family.
fn packet(protocol: Protocol, family: Family) -> PacketBuilder {
    let (client, vip) = match family {
        Family::V4 => (CLIENT, VIP),
        Family::V6 => (
            Endpoint::new(six(7), CLIENT.port),
            Endpoint::new(six(1), VIP.port),
        ),
    };
    match protocol {
        Protocol::Tcp => packets::tcp(client, vip, ACK),
        Protocol::Udp => packets::udp(client, vip),
        Protocol::Sctp => packets::sctp(client, vip, 0),
    }
    .payload(b"what the client sends")
}

fn six(last: u16) -> Addr {
    let net = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
    Addr::v6(net.octets())
}

/// Director and server at a tunnel's ends.
fn ends(server: Family) -> (Addr, Addr) {
    match server {
        Family::V4 => (Addr::v4([192, 0, 2, 1]), Addr::v4([192, 0, 2, 11])),
        Family::V6 => (six(0x21), six(0x2b)),
    }
}

/// The families of client and server that a row takes.
fn pairs(def: &ModeDef) -> Vec<(Family, Family)> {
    let all = Family::ALL.into_iter();
    let all = all.flat_map(|client| Family::ALL.map(|server| (client, server)));
    let mixed = def.encapsulation.is_some();
    all.filter(|(client, server)| mixed || client == server)
        .collect()
}

/// What `forward` makes of a frame on the way to a server of a family.
fn forwarded(
    def: &ModeDef,
    tunnel: Tunnel,
    server: Family,
    mut sent: TestFrame,
) -> (Vec<u8>, Path) {
    let mut frame = sent.frame();
    let Parsed::Ip(packet) = packet::parse(&mut frame) else {
        panic!("not parsed")
    };
    let (tunnel_source, addr) = ends(server);
    let plain = Path::plain(&packet.flow);
    let path = Path {
        tunnel,
        tunnel_source,
        ends: Endpoints {
            server: Endpoint::new(addr, plain.ends.server.port),
            local: Endpoint::new(tunnel_source, 2000),
            ..plain.ends
        },
        ..plain
    };
    def.rewrite.forward(&mut frame, &packet, &path).unwrap();
    (frame.bytes().to_vec(), path)
}

#[test]
fn every_method_and_every_encapsulation_has_one_row() {
    for method in Forwarding::ALL {
        let kinds: Vec<TunnelKind> = match method {
            Forwarding::Tunnel => TunnelKind::ALL.to_vec(),
            _ => vec![TunnelKind::default()],
        };
        for kind in kinds {
            let rows = BUILTIN.iter().filter(|def| def.reaches(*method, kind));
            assert_eq!(rows.count(), 1, "{method:?} {kind:?}");
        }
    }
    for def in BUILTIN {
        let is_tunnel = def.forwarding == Forwarding::Tunnel;
        assert_eq!(def.encapsulation.is_some(), is_tunnel);
    }
}

#[test]
fn words_are_unique_and_fit_ipvsadm() {
    let methods = || Forwarding::ALL.iter().map(|method| method.def());
    distinct(methods().map(|def| def.word));
    distinct(methods().map(|def| def.title));
    distinct(methods().map(|def| def.listed));
    distinct(methods().map(|def| def.option));
    distinct(methods().filter_map(|def| def.letter));
    assert!(methods().all(|def| (1..=7).contains(&def.listed.len())));
    let modes = BUILTIN.iter().map(|def| {
        let kind = def.encapsulation.unwrap_or_default();
        def.forwarding.mode(kind)
    });
    distinct(modes);
    for kind in TunnelKind::ALL {
        distinct(kind.def().checksums.iter());
    }
}

#[test]
fn a_port_is_mapped_only_where_replies_can_be_mapped_back() {
    for method in Forwarding::ALL {
        let def = method.def();
        assert!(
            !def.maps_port || def.replies != Replies::Direct,
            "{method:?}"
        );
    }
}

#[test]
fn the_overhead_is_what_forwarding_adds() {
    for def in BUILTIN {
        for (tunnel, (client, server)) in product(&tunnels(def), &pairs(def)) {
            for (protocol, partial) in product(&PROTOCOLS, &[false, true]) {
                let packet = packet(protocol, client);
                let sent = match partial {
                    true => packet.partial(),
                    false => TestFrame::finished(&packet.frame()),
                };
                let before = sent.bytes().len();
                let (after, path) = forwarded(def, tunnel, server, sent);
                assert_eq!(
                    after.len(),
                    before + def.overhead(&path),
                    "{:?} {tunnel:?} {protocol} {client} in {server}",
                    def.forwarding
                );
            }
        }
    }
}

#[test]
fn a_tunnels_packet_is_known_again_by_its_own_row_alone() {
    for def in BUILTIN.iter().filter(|def| def.encapsulation.is_some()) {
        for (tunnel, (client, server)) in product(&tunnels(def), &pairs(def)) {
            let sent = TestFrame::finished(&packet(Protocol::Udp, client).frame());
            let (bytes, _) = forwarded(def, tunnel, server, sent);
            assert_eq!(check(&bytes), Ok(()), "{tunnel:?} {client} in {server}");
            let (outer, payload) = bytes[ethernet::LEN..].split_at(outer_header(server));
            let want = Inside {
                offset: tunnel.header(),
                family: client,
                port: tunnel.port,
            };
            let protocol = match server {
                Family::V4 => ipv4::Header::new(outer).protocol(),
                Family::V6 => ipv6::Header::new(outer).next_header(),
            };
            for other in BUILTIN {
                let own = other.encapsulation == def.encapsulation;
                let inside = other.rewrite.inside(protocol, payload);
                assert_eq!(inside, own.then_some(want), "{tunnel:?}");
            }
            // An ICMP error may quote any part of it.
            for len in 0..payload.len() {
                let inside = def.rewrite.inside(protocol, &payload[..len]);
                assert!(inside.is_none_or(|i| i == want), "{tunnel:?} {len}");
            }
        }
    }
}

/// Each of these with each of those.
fn product<A: Copy, B: Copy>(these: &[A], those: &[B]) -> Vec<(A, B)> {
    let each = |a: &A| those.iter().map(|b| (*a, *b)).collect::<Vec<_>>();
    these.iter().flat_map(each).collect()
}

#[test]
fn the_manual_has_every_row() {
    let manual = include_str!("../../docs/modes.md");
    let methods = Forwarding::ALL.iter().map(|method| method.def());
    let methods = methods.map(|def| format!(" `{}` |", def.flag()));
    let tunnels = TunnelKind::ALL.iter().map(|kind| kind.def());
    let tunnels = tunnels.map(|def| format!("--tun-type {}", def.word));
    let missing: Vec<String> = methods
        .chain(tunnels)
        .filter(|words| !manual.contains(words))
        .collect();
    assert!(missing.is_empty(), "add to docs/modes.md: {missing:?}");
}
