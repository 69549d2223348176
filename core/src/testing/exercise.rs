//! Exercises an engine with whatever bytes say: frames of both families whole or bent, time, sysctls, servers that come
//! and go, and are told of their clients. Property tests feed it noise, the fuzzer what it has learnt; nothing may panic, after every frame
//! the counters must add up (which the [`Bed`] checks), and what is counted of servers be what the table has.

mod view;

use std::sync::Arc;
use std::time::Duration;

use crate::flow::{Addr, Endpoint, Family, Protocol};
use crate::frame::{Gso, Offload};
use crate::mode::ModeDef;
use crate::offload::Reach;
use crate::service::{
    ClientAddress, Forwarding, Introduction, Persistence, ServerSpec, ServiceKey, ServiceSpec,
    Timestamps, Tunnel, TunnelChecksum,
};
use crate::snapshot::{Limits, Sysctls};
use crate::testing::bed::{Bed, CLIENTS, SERVERS, SERVERS_MAC};
use crate::testing::exercise::view::View;
use crate::testing::net::{self, local, vip};
use crate::testing::packets::{self, DIRECTOR_MAC, PacketBuilder, TestFrame};
use crate::verdict::PortId;
use crate::wire::{ethernet, ipv4, protocol};

/// Few, so that the limit is met.
const CONNECTIONS: u32 = 32;
/// The port of services whose clients are told apart by their calls.
const SIP: u16 = 5060;
/// A way that a server can be reached.
type Way = (Forwarding, Tunnel);

/// Those of the modes, each with every checksum that it can have; a byte chooses one by its place.
fn ways(modes: &[ModeDef]) -> Vec<Way> {
    let of_mode = |mode: &ModeDef| {
        let kind = mode.encapsulation.unwrap_or_default();
        let checksums = match kind.def().checksums {
            [] => &[TunnelChecksum::None],
            some => some,
        };
        let forwarding = mode.forwarding;
        checksums.iter().map(move |checksum| {
            let tunnel = Tunnel {
                kind,
                port: 6080,
                checksum: *checksum,
            };
            (forwarding, tunnel)
        })
    };
    modes.iter().flat_map(of_mode).collect()
}

/// Reads numbers and bytes; zeros after the end.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }
}

/// Does what `data` says. The first byte chooses the way to the servers; then each operation is one byte
/// and what it needs. Returns how many frames the engine was handed.
pub fn exercise(modes: &'static [ModeDef], data: &[u8]) -> u64 {
    let mut source = Source(data);
    let ways = ways(modes);
    let bed = make_bed(modes, &ways, source.byte());
    run(bed, &ways, source, |_| {})
}

/// Does what `data` says twice, with all connections handed over to the hook as far as `reach` says, and with
/// none. Returns how many frames the hook forwarded.
///
/// # Panics
/// Where it makes a difference: to what leaves, to any connection, to any number.
pub fn exercise_handed_over(modes: &'static [ModeDef], data: &[u8], reach: Reach) -> u64 {
    let mut model = None;
    let hand_over = |bed: &mut Bed| model = Some(bed.hand_over(reach));
    twice(modes, data, hand_over, |_| {});
    model.map_or(0, |model| model.forwarded())
}

/// Does what `data` says twice: by one engine without a hook, and by engines of which each goes on where the one before
/// has stopped, after so many operations each, with the hook of the one before as far as `reach` says. Returns how
/// many engines there were.
///
/// # Panics
/// Where it makes a difference: to what leaves, to any connection, to any number.
pub fn exercise_handed_down(
    modes: &'static [ModeDef],
    data: &[u8],
    each: u32,
    reach: Option<Reach>,
) -> u32 {
    let hand_over = |bed: &mut Bed| {
        if let Some(reach) = reach {
            bed.hand_over(reach);
        }
    };
    let (mut operations, mut engines) = (0, 1);
    let count = |bed: &mut Bed| {
        operations += 1;
        if operations % each.max(1) == 0 {
            bed.hand_down(modes, limits());
            engines += 1;
        }
    };
    twice(modes, data, hand_over, count);
    engines
}

/// Does what `data` says on a bed of one engine alone, and on another to which `prepare` is done first, and `then` after
/// each operation. Both are alike all the time.
fn twice(
    modes: &'static [ModeDef],
    data: &[u8],
    prepare: impl FnOnce(&mut Bed),
    mut then: impl FnMut(&mut Bed),
) {
    let ways = ways(modes);
    let bed = |source: &mut Source<'_>| {
        let mut bed = make_bed(modes, &ways, source.byte());
        bed.take_back();
        bed
    };
    let mut source = Source(data);
    let mut alone = Vec::new();
    let plain = bed(&mut source);
    run(plain, &ways, source, |bed| alone.push(View::of(bed)));
    let mut source = Source(data);
    let mut other = bed(&mut source);
    prepare(&mut other);
    let mut alone = alone.into_iter();
    run(other, &ways, source, |bed| {
        let alone = alone.next().expect("as many states as alone");
        let difference = View::of(bed).difference(&alone);
        assert!(
            difference.is_none(),
            "at {:?}, other, alone: {difference:#?}",
            bed.now
        );
        then(bed);
    });
}

/// Does what `source` says on a bed, and lets each state of it be looked at.
fn run(mut bed: Bed, ways: &[Way], mut source: Source<'_>, mut look: impl FnMut(&mut Bed)) -> u64 {
    while !source.0.is_empty() {
        match source.byte() % 8 {
            0 => raw_frame(&mut bed, &mut source),
            1..=3 => mangled_packet(&mut bed, &mut source),
            4 => icmp_error(&mut bed, &mut source),
            5 => bed.jump(Duration::from_millis(u64::from(source.word()) * 20)),
            6 => change_sysctl(&mut bed, &mut source),
            _ => change_servers(&mut bed, &mut source, ways),
        }
        bed.engine.audit();
        look(&mut bed);
    }
    // A template outlives what it controls, so once is not enough.
    for _ in 0..3 {
        bed.jump(Duration::from_secs(1000));
    }
    assert!(bed.engine.connections().is_empty(), "all expire");
    bed.engine.counters().received
}

const fn limits() -> Limits {
    Limits {
        connections: CONNECTIONS,
        local_ports: (50_000, 50_020),
        fragment_bytes: 16 << 10,
    }
}

fn make_bed(modes: &'static [ModeDef], ways: &[Way], way: u8) -> Bed {
    let mut bed = Bed::new(modes, limits());
    bed.snapshot.owned_vips = Family::ALL.map(owned).into();
    let services = Family::ALL.map(|family| {
        let at = |protocol, port| {
            let vip = Endpoint::new(vip(family).addr, port);
            ServiceKey::address(protocol, vip)
        };
        [
            at(Protocol::Tcp, 80),
            at(Protocol::Udp, 53),
            at(Protocol::Sctp, 80),
            at(Protocol::Tcp, 21),
            at(Protocol::Udp, 54),
            at(Protocol::Udp, SIP),
            ServiceKey::address(Protocol::Tcp, Endpoint::new(owned(family), 80)),
        ]
    });
    for (i, key) in services.into_iter().flat_map(|s| s.into_iter().enumerate()) {
        let mut service = ServiceSpec::new(key, "first");
        service.local = Family::ALL.map(local).into();
        service.one_packet = i == 4 || i == 5 && key.vip().addr.is_v4();
        service.engine = (i == 5).then(|| "sip".to_owned());
        let mask = if key.vip().addr.is_v4() {
            u32::MAX << 8
        } else {
            64
        };
        service.persistence = (i == 3 || i == 5).then_some(Persistence { timeout: 60, mask });
        service.servers = vec![server(net::server, key, ways, way)];
        bed.snapshot.services.push(Arc::new(service));
    }
    bed.apply();
    bed
}

/// A VIP that UVS owns.
const fn owned(family: Family) -> Addr {
    match family {
        Family::V4 => Addr::v4([10, 0, 1, 101]),
        Family::V6 => Addr::v6([0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 101]),
    }
}

/// A server that is reached in this way: of the service's family, or where the way allows it and says so of the other.
fn server(addr: fn(Family) -> Addr, key: ServiceKey, ways: &[Way], way: u8) -> ServerSpec {
    let (forwarding, tunnel) = ways[usize::from(way & 0x3f) % ways.len()];
    let mixes = matches!(forwarding, Forwarding::Tunnel | Forwarding::FullNat);
    let family = match (key.vip().addr.family(), mixes && way & 0x40 != 0) {
        (Family::V4, false) | (Family::V6, true) => Family::V4,
        _ => Family::V6,
    };
    let addr = addr(family);
    let port = if forwarding.def().maps_port && way & 0x80 != 0 {
        8080
    } else {
        key.vip().port
    };
    ServerSpec {
        tunnel,
        ..ServerSpec::new(Endpoint::new(addr, port), forwarding)
    }
}

/// A frame as it comes: side, length, bytes; the MAC address made to fit where the side says so.
fn raw_frame(bed: &mut Bed, source: &mut Source<'_>) {
    let side = source.byte();
    let offload = offload(source);
    let len = usize::from(source.word());
    let bytes = source.bytes(len);
    receive(bed, side, bytes, offload);
}

/// A sound packet, some of whose bytes are then overwritten.
fn mangled_packet(bed: &mut Bed, source: &mut Source<'_>) {
    let side = source.byte();
    let packet = packet(source, side);
    let shape = source.byte();
    let (mut bytes, mut offload) = if shape & 3 == 0 {
        let t = packet.super_frame(source.word());
        (t.bytes().to_vec(), t.offload)
    } else if shape & 3 == 1 {
        let t = packet.partial();
        (t.bytes().to_vec(), t.offload)
    } else {
        (packet.frame(), Offload::default())
    };
    for _ in 0..shape >> 2 & 3 {
        let at = usize::from(source.word()) % bytes.len();
        bytes[at] = source.byte();
    }
    if shape & 0x10 != 0 {
        offload = self::offload(source);
    }
    // Or nothing gets past the IP checksum.
    if shape & 0x20 != 0 {
        seal(&mut bytes);
    }
    receive(bed, side, bytes, offload);
}

fn packet(source: &mut Source<'_>, side: u8) -> PacketBuilder {
    let kind = source.byte();
    let family = Family::ALL[usize::from(side >> 2 & 1)];
    let client = net::client(family);
    let client = Endpoint::new(client.addr, client.port + u16::from(source.byte() & 0x3f));
    let ports = [80, 53, 21, 54, 8080, 20, 3000, 50_003, SIP];
    let port = ports[usize::from(source.byte()) % ports.len()];
    let (src, dst) = if side & 1 == 0 {
        (client, Endpoint::new(vip(family).addr, port))
    } else if kind & 0x40 != 0 {
        (
            Endpoint::new(net::server(family), port),
            Endpoint::new(local(family), 50_000 + u16::from(source.byte() & 31)),
        )
    } else {
        (Endpoint::new(net::server(family), port), client)
    };
    let p = match kind & 3 {
        0 => packets::udp(src, dst),
        1 => packets::sctp(src, dst, source.byte() & 15),
        _ => packets::tcp(src, dst, source.byte() & 31),
    };
    let len = if kind & 4 == 0 {
        source.byte().into()
    } else {
        source.word() & 0x3fff
    };
    let payload = match port {
        SIP => message(source.byte(), len.into()),
        _ => vec![kind; len.into()],
    };
    let p = p.payload(&payload).ttl(source.byte());
    let p = if kind & 8 == 0 { p } else { p.may_fragment() };
    let p = match (kind & 16, family) {
        (0, _) => p,
        (_, Family::V4) => p.ip_options(&[7, 7, 4, 0, 0, 0, 0, 0]),
        (_, Family::V6) => extended(p, source),
    };
    match kind & 0xa0 {
        0x20 => p.tcp_options(&[2, 4, 5, 0xb4]),
        // Timestamps, and what a SYN may lose.
        0x80 => p.tcp_options(&[1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9, 34, 2, 1, 1]),
        // A block.
        0xa0 => p.tcp_options(&[1, 1, 5, 10, 0, 0, 3, 0xe9, 0, 0, 4, 0]),
        _ => p,
    }
}

/// A message of one of a few calls, or of none.
fn message(call: u8, len: usize) -> Vec<u8> {
    let header = match call & 7 {
        7 => "To: x".to_owned(),
        call => format!("Call-ID: {call}@h"),
    };
    let mut message = format!("BYE x SIP/2.0\r\n{header}\r\n\r\n").into_bytes();
    message.resize(message.len() + len, b' ');
    message
}

/// A packet with extension headers of IPv6.
fn extended(packet: PacketBuilder, source: &mut Source<'_>) -> PacketBuilder {
    const KINDS: [u8; 5] = [
        protocol::HOP_BY_HOP,
        protocol::DESTINATION_OPTIONS,
        protocol::ROUTING,
        protocol::FRAGMENT,
        protocol::AH,
    ];
    (0..source.byte() & 7).fold(packet, |packet, _| {
        let kind = KINDS[usize::from(source.byte()) % KINDS.len()];
        let mut body = source.bytes(6);
        body.resize(6, 0);
        packet.extension(kind, &body)
    })
}

/// An ICMP error about a packet that left before, quoted as far as routers do.
fn icmp_error(bed: &mut Bed, source: &mut Source<'_>) {
    let side = source.byte();
    let Some(about) = bed.sent.pop() else { return };
    if side & 2 != 0 {
        let told = bed.unreachable(&about);
        bed.sent.extend(told);
        return;
    }
    let about = &about.bytes[ethernet::LEN.min(about.bytes.len())..];
    let quoted = about.len().min(usize::from(source.byte()) * 4);
    let kind = usize::from(source.byte());
    let code = source.byte() & 7;
    let rest = u32::from(source.word());
    let (from, to, kind) = match about.first().map_or(0, |first| first >> 4) {
        6 => {
            let sender = about.get(8..24).and_then(<[u8]>::first_chunk);
            let kind = [1, 2, 3, 4, 137][kind % 5];
            let to = Addr::v6(*sender.unwrap_or(&[0x20; 16]));
            (net::server(Family::V6), to, kind)
        }
        _ => {
            let sender = about.get(12..16).and_then(<[u8]>::first_chunk);
            let kind = [3, 4, 11, 12, 5][kind % 5];
            (
                Addr::v4([10, 0, 2, 200]),
                Addr::v4(*sender.unwrap_or(&[0; 4])),
                kind,
            )
        }
    };
    let p = packets::icmp(from, to, kind, code, rest).payload(&about[..quoted]);
    receive(bed, side, p.frame(), Offload::default());
}

fn change_sysctl(bed: &mut Bed, source: &mut Source<'_>) {
    let name = Sysctls::NAMES[usize::from(source.byte()) % Sysctls::NAMES.len()];
    // A value out of its range is refused, and that is all right.
    let value = (source.byte() & 3).to_string();
    let _ = bed.snapshot.sysctls.set(name, &value);
    bed.apply();
}

fn change_servers(bed: &mut Bed, source: &mut Source<'_>, ways: &[Way]) {
    let at = usize::from(source.byte()) % bed.snapshot.services.len();
    let (what, way) = (source.byte(), source.byte());
    let mut service = ServiceSpec::clone(&bed.snapshot.services[at]);
    match what & 3 {
        0 => service.servers.clear(),
        1 => service.servers = vec![server(net::server, service.key, ways, way)],
        2 => service.servers = vec![server(local, service.key, ways, way)],
        _ => service
            .servers
            .iter_mut()
            .for_each(|s| (s.weight, s.upper) = (u32::from(way & 1), u32::from(way >> 1))),
    }
    *service.introduction = introduction(what >> 4);
    bed.snapshot.services[at] = Arc::new(service);
    bed.apply();
}

/// How clients are introduced; what a service cannot do so does as if it were not asked for.
fn introduction(how: u8) -> Introduction {
    let (client_address, timestamps) = match how & 7 {
        1 => (ClientAddress::ProxyV1, Timestamps::Keep),
        2 => (ClientAddress::ProxyV2, Timestamps::Keep),
        3 => (ClientAddress::Toa, Timestamps::Keep),
        4 => (ClientAddress::Packet, Timestamps::Offset),
        5 => (ClientAddress::Packet, Timestamps::Strip),
        6 => (ClientAddress::ProxyV2, Timestamps::Offset),
        7 => (ClientAddress::Toa, Timestamps::Strip),
        _ => (ClientAddress::Packet, Timestamps::Keep),
    };
    Introduction {
        client_address,
        timestamps,
        ..Introduction::default()
    }
}

fn receive(bed: &mut Bed, side: u8, mut bytes: Vec<u8>, offload: Offload) {
    let (port, mac) = if side & 1 == 0 {
        (CLIENTS, DIRECTOR_MAC)
    } else {
        (SERVERS, SERVERS_MAC)
    };
    if side & 0x80 == 0 && bytes.len() >= 6 {
        bytes[..6].copy_from_slice(&mac);
    }
    // What left is what the next ICMP error can be about; a few are enough.
    bed.sent.truncate(16);
    let port = if side == 0xff { PortId(7) } else { port };
    bed.receive(port, TestFrame::new(&bytes, offload));
}

fn offload(source: &mut Source<'_>) -> Offload {
    let kind = source.byte();
    if kind & 0x0f == 0 {
        return Offload::default();
    }
    Offload {
        csum_start: (kind & 0x10 != 0).then(|| source.word()),
        csum_offset: source.word(),
        gso: [
            Gso::None,
            Gso::TcpV4 { ecn: true },
            Gso::TcpV6 { ecn: false },
            Gso::UdpL4,
            Gso::Other,
        ][usize::from(kind >> 5) % 5],
        gso_size: source.word(),
        hdr_len: source.word(),
    }
}

/// Makes the IP header's checksum right, as far as there is a header.
fn seal(bytes: &mut [u8]) {
    let Some(ip) = bytes.get_mut(ethernet::LEN..) else {
        return;
    };
    let header = ip.first().map_or(0, |b| usize::from(b & 15) * 4);
    if header >= ipv4::MIN_LEN && header <= ip.len() {
        ipv4::seal(&mut ip[..header]);
    }
}
