//! An engine with one VIP, ten servers and two ports: clients on the one, servers on the other.

use std::sync::Arc;

use uvs_core::engine::{DryRun, Engine, EngineConfig, Seen};
use uvs_core::fib::{Fib, Hop, Interface, ReversePath, Route, Target};
use uvs_core::flow::{Addr, Endpoint, Family, Protocol};
use uvs_core::frame::{Frame, Offload};
use uvs_core::outbox::Outbox;
use uvs_core::packet::{self, Packet, Parsed};
use uvs_core::service::{Forwarding, ServerSpec, ServiceKey, ServiceSpec};
use uvs_core::snapshot::{Limits, Snapshot};
use uvs_core::time::Instant;
use uvs_core::trace::Trace;
use uvs_core::verdict::{PortId, Verdict};
use uvs_core::wire::tcp::flag::{ACK, SYN};

use crate::frames::{CLIENT_MAC, DIRECTOR_MAC, Sample, tcp};

/// The VIP's bytes in IPv4; TCP port 80 is a service, UDP port 53 one with one-packet scheduling.
const VIP: [u8; 4] = [192, 0, 2, 1];
/// Servers of each service, of weights 1 to 5.
pub const SERVERS: u8 = 10;

const OUTSIDE: u32 = 2;
const INSIDE: u32 = 3;
const CLIENT_PORT: PortId = PortId(0);
const SERVER_PORT: PortId = PortId(1);
const ROUTER: [u8; 4] = [203, 0, 113, 254];
/// Frames that are handed over together at most, as many as a worker takes at once.
pub const BATCH: usize = 64;
/// Bytes of a slot of the ring, for frames of an Ethernet MTU.
const SLOT: usize = 2048;
/// Any buffer that holds a super-frame with its headroom.
const MEMORY: usize = 70 << 10;

/// An engine, and what it is handed.
pub struct World {
    /// The engine.
    pub engine: Engine,
    /// What it made besides.
    pub outbox: Outbox,
    family: Family,
    memory: Vec<u8>,
    seen: Vec<Seen>,
    now: Instant,
}

impl World {
    /// An IPv4 world whose services forward in one way and schedule by one algorithm.
    pub fn new(forwarding: Forwarding, scheduler: &str, connections: u32) -> Self {
        Self::of(Family::V4, forwarding, scheduler, connections)
    }

    /// A world of this family.
    pub fn of(family: Family, forwarding: Forwarding, scheduler: &str, connections: u32) -> Self {
        let mut engine = engine(connections);
        engine.set_fib(Arc::new(network(family)));
        engine
            .apply(Arc::new(services(family, forwarding, scheduler)))
            .expect("a snapshot of known schedulers");
        Self {
            engine,
            outbox: Outbox::new(),
            family,
            memory: vec![0; MEMORY.max(BATCH * SLOT)],
            seen: Vec::new(),
            now: Instant::from_secs(1000),
        }
    }

    /// IPv4's client number `n`: each has an address and a port of its own.
    pub const fn client(n: u32) -> Endpoint {
        Self::client_of(Family::V4, n)
    }

    /// A family's client number `n`.
    pub const fn client_of(family: Family, n: u32) -> Endpoint {
        let [_, a, b, c] = n.to_be_bytes();
        Endpoint::new(of(family, [10, a, b, c]), 1024 + (n % 60_000) as u16)
    }

    /// What IPv4's clients connect to.
    pub const fn service(port: u16) -> Endpoint {
        Self::service_of(Family::V4, port)
    }

    /// What a family's clients connect to.
    pub const fn service_of(family: Family, port: u16) -> Endpoint {
        Endpoint::new(of(family, VIP), port)
    }

    /// Hands a client's frame to the engine.
    pub fn from_client(&mut self, sample: &Sample) -> Verdict {
        self.handle(CLIENT_PORT, sample)
    }

    /// Hands a server's frame to the engine.
    pub fn from_server(&mut self, sample: &Sample) -> Verdict {
        self.handle(SERVER_PORT, sample)
    }

    /// Has the engine's double tell what it would do with a client's frame.
    pub fn dry_run(&mut self, sample: &Sample) -> Trace {
        let frame = sample.lay(&mut self.memory);
        DryRun::of(&self.engine).frame(&self.engine, self.now, CLIENT_PORT, &frame)
    }

    /// Hands frames of clients, at most [`BATCH`], to the engine as a worker does: all lie in the ring, then all are looked
    /// at, then each is handled.
    pub fn batch_from_client(&mut self, samples: &[&Sample]) {
        self.batch(CLIENT_PORT, samples);
    }

    /// As [`World::batch_from_client`], of servers.
    pub fn batch_from_server(&mut self, samples: &[&Sample]) {
        self.batch(SERVER_PORT, samples);
    }

    fn batch(&mut self, port: PortId, samples: &[&Sample]) {
        let ring = || samples.iter().enumerate();
        for (at, sample) in ring() {
            sample.lay(slot(&mut self.memory, at));
        }
        self.seen.clear();
        for (at, sample) in ring() {
            let mut frame = sample.laid(slot(&mut self.memory, at));
            self.seen.push(self.engine.look(&mut frame));
        }
        self.engine.fetch(&mut self.seen);
        for (at, sample) in ring() {
            self.outbox.clear();
            let mut frame = sample.laid(slot(&mut self.memory, at));
            let frame = (&mut frame, &self.seen[at]);
            let verdict = self
                .engine
                .handle_seen(self.now, port, frame, &mut self.outbox);
            assert!(matches!(verdict, Verdict::Send(_)), "{verdict:?}");
        }
    }

    fn handle(&mut self, port: PortId, sample: &Sample) -> Verdict {
        self.outbox.clear();
        let mut frame = sample.lay(&mut self.memory);
        self.engine
            .handle_frame(self.now, port, &mut frame, &mut self.outbox)
    }

    /// Opens client `n`'s connection and establishes it as far as the director sees it. Returns the client's
    /// next segment and, where answers pass the director, the server's.
    pub fn open(&mut self, n: u32) -> (Sample, Option<Sample>) {
        let client = Self::client_of(self.family, n);
        let vip = Self::service_of(self.family, 80);
        let (verdict, forwarded) = self.send_syn(n);
        assert!(matches!(verdict, Verdict::Send(_)), "{verdict:?} for a SYN");
        let (seen_client, server) = ends(&forwarded);
        let answers = seen_client.addr != client.addr || server.addr != vip.addr;
        let answer = |flags| tcp(server, seen_client, flags, 0);
        let reply = (answers && !is_wrapped(&forwarded)).then(|| {
            self.from_server(&answer(SYN | ACK));
            answer(ACK)
        });
        let segment = tcp(client, vip, ACK, 0);
        self.from_client(&segment);
        (segment, reply)
    }

    /// Opens the connections of clients `0..n`.
    pub fn fill(&mut self, n: u32) {
        for client in 0..n {
            self.open(client);
        }
    }

    /// Half-opens the connection of client `n`: a SYN, and nothing more comes.
    pub fn half_open(&mut self, n: u32) -> Verdict {
        self.send_syn(n).0
    }

    /// As [`World::half_open`]: the server that the SYN went to, where its address tells.
    ///
    /// # Panics
    /// Where it went to none.
    pub fn server_of(&mut self, n: u32) -> Endpoint {
        let (verdict, forwarded) = self.send_syn(n);
        assert!(matches!(verdict, Verdict::Send(_)), "{verdict:?} for a SYN");
        ends(&forwarded).1
    }

    fn send_syn(&mut self, n: u32) -> (Verdict, Vec<u8>) {
        let client = Self::client_of(self.family, n);
        let vip = Self::service_of(self.family, 80);
        let mut frame = tcp(client, vip, SYN, 0).lay(&mut self.memory);
        let verdict = self
            .engine
            .handle_frame(self.now, CLIENT_PORT, &mut frame, &mut self.outbox);
        (verdict, frame.bytes().to_vec())
    }
}

/// An engine for so many connections, of no network and without services.
pub fn engine(connections: u32) -> Engine {
    Engine::new(EngineConfig {
        limits: Limits {
            connections,
            ..Limits::default()
        },
        keys: (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210),
        seed: 1,
        modes: uvs_modes::BUILTIN,
        crew: None,
        schedulers: Box::new(|name, params| {
            uvs_schedulers::find(name).map(|def| (def.new)(params))
        }),
    })
}

/// The services of a world.
pub fn services(family: Family, forwarding: Forwarding, scheduler: &str) -> Snapshot {
    let of = |protocol, port| service((family, protocol), port, forwarding, scheduler);
    Snapshot {
        services: vec![
            Arc::new(of(Protocol::Tcp, 80)),
            Arc::new(of(Protocol::Udp, 53)),
        ]
        .into(),
        ..Snapshot::default()
    }
}

/// A slot of the ring.
fn slot(memory: &mut [u8], at: usize) -> &mut [u8] {
    &mut memory[at * SLOT..(at + 1) * SLOT]
}

/// Source and destination of a frame, as the server sees them.
fn ends(frame: &[u8]) -> (Endpoint, Endpoint) {
    let flow = parsed(frame).flow;
    (flow.source(), flow.destination())
}

/// Whether a frame is a tunnel's.
fn is_wrapped(frame: &[u8]) -> bool {
    parsed(frame).balanced().is_none()
}

fn parsed(frame: &[u8]) -> Packet {
    let mut bytes = frame.to_vec();
    let end = bytes.len();
    match packet::parse(&mut Frame::new(&mut bytes, 0, end, Offload::default())) {
        Parsed::Ip(packet) => packet,
        other => panic!("{other:?}"),
    }
}

fn service(
    (family, protocol): (Family, Protocol),
    port: u16,
    forwarding: Forwarding,
    scheduler: &str,
) -> ServiceSpec {
    let key = ServiceKey::address(protocol, World::service_of(family, port));
    let server = |n: u8| {
        let mut server = ServerSpec::new(Endpoint::new(server(family, n), port), forwarding);
        server.weight = u32::from(n % 5) + 1;
        server
    };
    ServiceSpec {
        one_packet: protocol == Protocol::Udp,
        local: (1..=16).map(|n| inside(family, n)).collect(),
        servers: (0..SERVERS).map(server).collect(),
        ..ServiceSpec::new(key, scheduler)
    }
}

const fn server(family: Family, n: u8) -> Addr {
    inside(family, 100 + n)
}

const fn inside(family: Family, n: u8) -> Addr {
    of(family, [198, 51, 100, n])
}

/// An address of a family: in IPv6 each byte of IPv4's is 16 bits behind 2001:db8::/64.
const fn of(family: Family, [a, b, c, d]: [u8; 4]) -> Addr {
    match family {
        Family::V4 => Addr::v4([a, b, c, d]),
        Family::V6 => Addr::v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, a, 0, b, 0, c, 0, d]),
    }
}

/// The network of a world.
pub fn network(family: Family) -> Fib {
    let (network, all) = match family {
        Family::V4 => (24, Addr::UNSPECIFIED),
        Family::V6 => (112, Addr::v6([0; 16])),
    };
    let mut fib = Fib::new();
    fib.forwarding_ipv6 = true;
    fib.forwarding = true;
    let ports = [
        (CLIENT_PORT, OUTSIDE, of(family, [203, 0, 113, 1])),
        (SERVER_PORT, INSIDE, inside(family, 1)),
    ];
    for (port, ifindex, address) in ports {
        fib.set_interface(Interface {
            port,
            ifindex,
            mac: DIRECTOR_MAC,
            mtu: 1500,
            up: true,
            reverse_path: ReversePath::Off,
        });
        fib.add_address(ifindex, address, network);
        fib.add_route(route(address.masked(network), network, None, ifindex));
    }
    fib.add_local(OUTSIDE, of(family, VIP));
    (1..=16).for_each(|n| fib.add_local(INSIDE, inside(family, n)));
    let router = of(family, ROUTER);
    fib.add_route(route(all, 0, Some(router), OUTSIDE));
    fib.set_neighbour(OUTSIDE, router, CLIENT_MAC);
    for n in 0..SERVERS {
        fib.set_neighbour(INSIDE, server(family, n), [2, 0, 0, 0, 1, n]);
    }
    fib
}

fn route(dst: Addr, prefix: u8, gateway: Option<Addr>, ifindex: u32) -> Route {
    Route::new(dst, prefix, Target::Hop(Hop::by(ifindex, gateway)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAYS: [Forwarding; 4] = [
        Forwarding::Dr,
        Forwarding::Nat,
        Forwarding::FullNat,
        Forwarding::Tunnel,
    ];

    #[test]
    fn each_mode_forwards_an_established_connection() {
        let families = Family::ALL.into_iter();
        for (family, forwarding) in families.flat_map(|f| WAYS.map(|way| (f, way))) {
            let mut world = World::of(family, forwarding, "rr", 100);
            world.fill(3);
            let (segment, reply) = world.open(3);
            assert!(matches!(world.from_client(&segment), Verdict::Send(_)));
            let answers = forwarding.passes_replies();
            assert_eq!(reply.is_some(), answers, "{forwarding:?}");
            if let Some(reply) = reply {
                assert!(matches!(world.from_server(&reply), Verdict::Send(_)));
            }
            assert_eq!(world.engine.connections().len(), 4);
        }
    }

    #[test]
    fn a_datagram_is_scheduled_and_leaves_nothing() {
        let mut world = World::new(Forwarding::Nat, "wlc", 100);
        let query = crate::udp(World::client(7), World::service(53), 30);
        assert!(matches!(world.from_client(&query), Verdict::Send(_)));
        assert_eq!(world.engine.connections().len(), 0);
    }
}
