//! What the engine costs a frame, without sockets: `cargo bench -p uvs-benches`.
//!
//! Frames are laid again for each pass, as the ring does, so a copy of its bytes is part of every figure.
//! Connections are visited all over the table, so that a large one pays for its cache misses. A table is filled when
//! its bench is run, so that one alone (`cargo bench -p uvs-benches --bench engine -- 'hit/nat/1$'`) begins at once.

#![forbid(unsafe_code)]
#![allow(missing_docs)] // criterion_group! makes an undocumented function.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use uvs_benches::{BATCH, CLIENT_MAC, Sample, World, super_frame, tcp, udp};
use uvs_core::access::{AccessList, Action, Prefix, Rule};
use uvs_core::flow::{Addr, Endpoint, Family};
use uvs_core::fragment::{self, Cut};
use uvs_core::frame::Offload;
use uvs_core::mode::Path;
use uvs_core::outbox::Outbox;
use uvs_core::packet::{self, Packet, Parsed};
use uvs_core::segment;
use uvs_core::service::Forwarding;
use uvs_core::verdict::Egress;
use uvs_core::wire::tcp::flag::ACK;

const MODES: [(&str, Forwarding); 4] = [
    ("dr", Forwarding::Dr),
    ("nat", Forwarding::Nat),
    ("fullnat", Forwarding::FullNat),
    ("ipip", Forwarding::Tunnel),
];
const TABLES: [u32; 3] = [1, 1_000, 100_000];
/// Where the benches only show that they work, large tables show nothing more.
const TABLES_IN_TESTS: &[u32] = &[1, 1_000];
/// Connections visited in a table, evenly spread: more than the second-level cache holds.
const VISITED: u32 = 16 << 10;
const CLIENT: Endpoint = World::client(1);
const SERVICE: Endpoint = World::service(80);

criterion_group!(
    benches,
    parse,
    rewrite,
    hit,
    batch,
    miss,
    access,
    trace,
    segmentation,
    fragmentation
);
criterion_main!(benches);

/// What a deny list adds to a new connection: prefixes of all lengths, clients from everywhere.
fn access(c: &mut Criterion) {
    let mut group = c.benchmark_group("access");
    let anywhere = |n: u32| Addr::v4(n.wrapping_mul(0x9e37_79b9).to_be_bytes());
    for size in [0, 10, 100_000] {
        let rule = |n: u32| Rule {
            prefix: Prefix::around(anywhere(n), 12 + (n % 21) as u8),
            action: Action::Deny,
        };
        let list = AccessList::new((0..size).map(rule));
        let mut client = 0;
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                client += 1;
                list.denies(black_box(anywhere(client)))
            });
        });
    }
    group.finish();
}

fn parse(c: &mut Criterion) {
    let mut memory = vec![0; 4096];
    for (name, family) in [("parse", Family::V4), ("parse IPv6", Family::V6)] {
        let (from, to) = (World::client_of(family, 1), World::service_of(family, 80));
        let sample = tcp(from, to, ACK, 0);
        c.bench_function(name, |b| {
            b.iter(|| packet::parse(black_box(&mut sample.lay(&mut memory))));
        });
    }
}

/// A mode alone, on a checksum that is left to an offload and on a finished one.
fn rewrite(c: &mut Criterion) {
    let mut group = c.benchmark_group("rewrite");
    let end = |n, port| Endpoint::new(Addr::v4([198, 51, 100, n]), port);
    let unfinished = tcp(CLIENT, SERVICE, ACK, 0);
    let finished = Sample::new(unfinished.bytes(), Offload::default());
    let (packet, mut memory) = (parsed(&unfinished), vec![0; 4096]);
    let mut path = Path::plain(&packet.flow);
    (path.ends.server, path.ends.local) = (end(100, 8080), end(2, 2000));
    path.tunnel_source = end(1, 0).addr;
    for (name, forwarding) in MODES {
        let mode = uvs_modes::BUILTIN
            .iter()
            .find(|m| m.forwarding == forwarding);
        let mode = mode.expect("a built-in mode");
        for (state, sample) in [("unfinished", &unfinished), ("finished", &finished)] {
            group.bench_function(BenchmarkId::new(name, state), |b| {
                b.iter(|| {
                    mode.rewrite
                        .forward(&mut sample.lay(&mut memory), black_box(&packet), &path)
                });
            });
        }
    }
}

/// A packet of an established connection, from the frame to its verdict.
fn hit(c: &mut Criterion) {
    hit_of(c, "hit", Family::V4);
    hit_of(c, "hit IPv6", Family::V6);
}

fn hit_of(c: &mut Criterion, group: &str, family: Family) {
    let mut group = c.benchmark_group(group);
    group.throughput(Throughput::Elements(1));
    for &connections in tables() {
        for (name, forwarding) in MODES {
            let mut hits = None;
            let mut filled = || filled(family, forwarding, connections);
            group.bench_function(BenchmarkId::new(name, connections), |b| {
                let (world, segments, _) = hits.get_or_insert_with(&mut filled);
                b.iter(|| world.from_client(segments.next()));
            });
            if forwarding.passes_replies() {
                let name = format!("{name} reply");
                group.bench_function(BenchmarkId::new(name, connections), |b| {
                    let (world, _, replies) = hits.get_or_insert_with(&mut filled);
                    b.iter(|| world.from_server(replies.next()));
                });
            }
        }
    }
}

/// Packets of established connections in batches, as a worker has them: a turn of [`BATCH`] frames. Time is a batch's.
fn batch(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch");
    group.throughput(Throughput::Elements(BATCH as u64));
    for &connections in tables() {
        for (name, forwarding) in MODES {
            let mut hits = None;
            let mut filled = || filled(Family::V4, forwarding, connections);
            group.bench_function(BenchmarkId::new(name, connections), |b| {
                let (world, segments, _) = hits.get_or_insert_with(&mut filled);
                b.iter(|| world.batch_from_client(&segments.batch()));
            });
            if forwarding.passes_replies() {
                let name = format!("{name} reply");
                group.bench_function(BenchmarkId::new(name, connections), |b| {
                    let (world, _, replies) = hits.get_or_insert_with(&mut filled);
                    b.iter(|| world.batch_from_server(&replies.batch()));
                });
            }
        }
    }
    group.finish();
}

/// A datagram that is scheduled, enters the table, is forwarded and leaves the table again.
fn miss(c: &mut Criterion) {
    let mut group = c.benchmark_group("miss");
    group.throughput(Throughput::Elements(1));
    for &connections in tables() {
        for scheduler in ["rr", "wrr", "wlc", "mh"] {
            let filled = || {
                let mut world = World::new(Forwarding::Nat, scheduler, connections + 1);
                world.fill(connections);
                let clients = connections..connections + VISITED;
                let query = |n| udp(World::client(n), World::service(53), 30);
                (world, Visit::of(clients.map(query)))
            };
            let mut misses = None;
            group.bench_function(BenchmarkId::new(scheduler, connections), |b| {
                let (world, queries) = misses.get_or_insert_with(filled);
                b.iter(|| world.from_client(queries.next()));
            });
        }
    }
}

/// What tracing one packet of an established connection costs: the engine's copy, and the report. What
/// it costs where nobody looks is `hit`, beside the same of a build without it.
fn trace(c: &mut Criterion) {
    let mut group = c.benchmark_group("trace");
    group.throughput(Throughput::Elements(1));
    for &connections in tables() {
        let filled = || filled(Family::V4, Forwarding::Nat, connections);
        let mut traced = None;
        group.bench_function(BenchmarkId::new("nat", connections), |b| {
            let (world, segments, _) = traced.get_or_insert_with(filled);
            b.iter(|| world.dry_run(segments.next()));
        });
    }
}

/// A super-frame of 64 KB cut into 45: alone, and on its way into a tunnel.
fn segmentation(c: &mut Criterion) {
    let mut group = c.benchmark_group("segmentation");
    let sample = super_frame(CLIENT, SERVICE, ACK);
    group.throughput(Throughput::Bytes(sample.bytes().len() as u64));
    let (packet, mut memory, mut out) = (parsed(&sample), vec![0; 70 << 10], vec![0; 2048]);
    group.bench_function("alone", |b| {
        b.iter(|| {
            let frame = sample.lay(&mut memory);
            let mut segments = segment::segments(&frame, &packet).expect("TCP is cut");
            while let Some(length) = segments.next_len() {
                black_box(segments.write(&mut out[..length]));
            }
        });
    });
    let mut world = World::new(Forwarding::Tunnel, "rr", 10);
    world.open(1);
    group.bench_function("ipip", |b| b.iter(|| world.from_client(&sample)));
}

/// An IP packet of 9000 bytes cut for a link of 1500.
fn fragmentation(c: &mut Criterion) {
    let sample = tcp(CLIENT, SERVICE, ACK, 9000 - 52);
    let egress = Egress {
        port: Default::default(),
        unresolved: None,
    };
    let mut group = c.benchmark_group("fragmentation");
    group.throughput(Throughput::Bytes(sample.bytes().len() as u64));
    group.bench_function("9000 to 1500", |b| {
        b.iter_batched_ref(
            Outbox::new,
            |outbox| fragment::cut(black_box(sample.bytes()), &Cut::to(1500), egress, outbox),
            BatchSize::NumIterations(1000),
        );
    });
}

/// `cargo bench` passes this word, `cargo test` does not.
fn tables() -> &'static [u32] {
    if std::env::args().any(|word| word == "--bench") {
        &TABLES
    } else {
        TABLES_IN_TESTS
    }
}

/// A world with this many connections, and the next packets of those to be visited.
fn filled(family: Family, forwarding: Forwarding, connections: u32) -> (World, Visit, Visit) {
    let mut world = World::of(family, forwarding, "rr", connections);
    let (mut segments, mut replies) = (Vec::new(), Vec::new());
    let step = (connections / VISITED).max(1);
    for n in 0..connections {
        let (segment, reply) = world.open(n);
        if n % step == 0 {
            segments.push(segment);
            replies.extend(reply);
        }
    }
    (world, Visit::of(segments), Visit::of(replies))
}

/// Samples in an order that no prefetcher follows.
struct Visit {
    samples: Vec<Sample>,
    at: usize,
}

impl Visit {
    fn of(samples: impl IntoIterator<Item = Sample>) -> Self {
        Self {
            samples: samples.into_iter().collect(),
            at: 0,
        }
    }

    fn next(&mut self) -> &Sample {
        let at = self.advance();
        &self.samples[at]
    }

    /// The next that are handed over together.
    fn batch(&mut self) -> [&Sample; BATCH] {
        let at: [usize; BATCH] = std::array::from_fn(|_| self.advance());
        at.map(|at| &self.samples[at])
    }

    fn advance(&mut self) -> usize {
        const STRIDE: usize = 7919;
        self.at = (self.at + STRIDE) % self.samples.len();
        self.at
    }
}

fn parsed(sample: &Sample) -> Packet {
    assert_eq!(sample.bytes()[6..12], CLIENT_MAC);
    let mut memory = vec![0; 70 << 10];
    match packet::parse(&mut sample.lay(&mut memory)) {
        Parsed::Ip(packet) => packet,
        other => panic!("{other:?}"),
    }
}
