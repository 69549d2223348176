//! What is measured: seven loads, each with its figures.

use std::net::{SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Result;
use uvs_lab::load::{self, Connections, Direction};
use uvs_lab::process::Process;
use uvs_lab::{Host, Lab, Mode};

use crate::cpu::Meter;
use crate::flood;
use crate::peers::{ECHO, FOREIGN, HTTP, IPERF3, Peer, Running, SINK};
use uvs_benches::pingpong;

/// Connections of the HTTP loads, and of the one with bodies.
const CONNECTIONS: u32 = 32;
const BODY_CONNECTIONS: u32 = 16;
/// Bytes of a body.
const BODY: u64 = 100 << 10;

/// A load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Cell {
    /// wrk, HTTP keep-alive.
    KeepAlive,
    /// wrk, a connection for each request.
    PerRequest,
    /// wrk, bodies of 100 KB.
    Body,
    /// iperf3, one stream to the server.
    Bulk,
    /// UDP of 60-byte frames, as fast as the client can.
    Packets,
    /// 64 bytes there and back.
    PingPong,
    /// The same small packets past the services: to the server's own address, which the kernel routes.
    Foreign,
}

/// What a load is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    /// Units a second.
    Rate,
    /// Median, microseconds.
    P50,
    /// 99th percentile, microseconds.
    P99,
    /// The load balancer's process, microseconds a unit.
    BalancerCpu,
    /// The whole machine, microseconds a unit.
    MachineCpu,
    /// Per cent of what was sent.
    Loss,
    /// Failed requests.
    Failed,
}

impl Cell {
    /// All, in the order of the table.
    pub(crate) const ALL: [Self; 7] = [
        Self::KeepAlive,
        Self::PerRequest,
        Self::Body,
        Self::Bulk,
        Self::Packets,
        Self::PingPong,
        Self::Foreign,
    ];

    /// Whether it is run in a mode through a peer.
    pub(crate) fn applies(self, mode: Mode, peer: Peer) -> bool {
        match self {
            // With DR only one direction passes the director: what comes back says nothing about it.
            Self::Packets => peer.has_udp() && mode == Mode::Nat,
            // With DR the director is no router.
            Self::Foreign => peer.routes() && mode == Mode::Nat,
            _ => true,
        }
    }

    /// The unit of its rate and of its CPU times.
    pub(crate) fn unit(self) -> (&'static str, &'static str) {
        match self {
            Self::KeepAlive | Self::PerRequest | Self::Body => ("req/s", "request"),
            Self::Bulk => ("Gbit/s", "MB"),
            Self::Packets | Self::Foreign => ("kpps", "packet"),
            Self::PingPong => ("trips/s", "trip"),
        }
    }

    /// Its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KeepAlive => "keep-alive",
            Self::PerRequest => "connection per request",
            Self::Body => "100 KB bodies",
            Self::Bulk => "bulk upload",
            Self::Packets => "60-byte packets",
            Self::PingPong => "TCP ping-pong",
            Self::Foreign => "foreign 60-byte packets",
        }
    }
}

/// What stands on the real server besides its HTTP server.
pub(crate) struct Stage {
    _iperf3: Process,
    _sinks: [UdpSocket; 2],
    body: String,
}

impl Stage {
    /// Starts it.
    pub(crate) fn set(lab: &Lab) -> Result<Self> {
        let server = &lab.servers[0].host;
        pingpong::serve(server, ECHO)?;
        Ok(Self {
            _iperf3: load::iperf3_server(server, IPERF3, &lab.dir().join("iperf3.log"))?,
            // Never read: once its buffer is full, a datagram costs the server next to nothing.
            _sinks: [sink(server, SINK)?, sink(server, FOREIGN)?],
            body: lab.content("body", BODY)?.path,
        })
    }
}

fn sink(server: &Host, port: u16) -> Result<UdpSocket> {
    Ok(server.enter(|| UdpSocket::bind(("0.0.0.0", port)))??)
}

/// Runs a load once.
pub(crate) fn run(
    cell: Cell,
    lab: &Lab,
    stage: &Stage,
    peer: &Running<'_>,
    seconds: u32,
) -> Result<Vec<(Figure, f64)>> {
    let duration = Duration::from_secs(seconds.into());
    let meter = Meter::start(peer.process())?;
    let (units, mut figures) = match cell {
        Cell::KeepAlive => http(lab, peer, "/", seconds, CONNECTIONS, Connections::Kept)?,
        Cell::PerRequest => {
            let fresh = Connections::PerRequest;
            http(lab, peer, "/", seconds, CONNECTIONS, fresh)?
        }
        Cell::Body => {
            let kept = Connections::Kept;
            http(lab, peer, &stage.body, seconds, BODY_CONNECTIONS, kept)?
        }
        Cell::Bulk => bulk(lab, peer, seconds)?,
        Cell::Packets => packets(lab, peer.at(SINK), duration)?,
        Cell::Foreign => {
            let server = SocketAddrV4::new(*lab.plan.servers[0].ip(), FOREIGN);
            packets(lab, server, duration)?
        }
        Cell::PingPong => trips(lab, peer, duration)?,
    };
    let spent = meter.stop()?;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / units.max(1.0);
    if let Some(time) = spent.balancer {
        figures.push((Figure::BalancerCpu, each(time)));
    }
    figures.push((Figure::MachineCpu, each(spent.machine)));
    Ok(figures)
}

/// Units done, and figures.
type Done = (f64, Vec<(Figure, f64)>);

fn http(
    lab: &Lab,
    peer: &Running<'_>,
    path: &str,
    seconds: u32,
    count: u32,
    connections: Connections,
) -> Result<Done> {
    let url = format!("http://{}:{HTTP}{path}", peer.address);
    let load = load::wrk(&lab.client, &url, seconds, count, connections)?;
    let figures = vec![
        (Figure::Rate, load.per_second),
        (Figure::P99, load.p99_ms * 1000.0),
        (Figure::Failed, load.failed as f64),
    ];
    Ok((load.requests as f64, figures))
}

fn bulk(lab: &Lab, peer: &Running<'_>, seconds: u32) -> Result<Done> {
    let bulk = load::iperf3(
        &lab.client,
        peer.address,
        IPERF3,
        seconds,
        Direction::Upload,
    )?;
    let megabytes = bulk.bytes as f64 / 1e6;
    Ok((megabytes, vec![(Figure::Rate, bulk.gbit_per_second)]))
}

fn packets(lab: &Lab, target: SocketAddrV4, duration: Duration) -> Result<Done> {
    let flood = flood::run(&lab.client, &lab.servers[0].host, target, duration)?;
    let arrived = flood.arrived as f64;
    let figures = vec![
        (Figure::Rate, arrived / flood.lasted.as_secs_f64() / 1e3),
        (Figure::Loss, 100.0 * (1.0 - arrived / flood.sent as f64)),
    ];
    Ok((arrived, figures))
}

fn trips(lab: &Lab, peer: &Running<'_>, duration: Duration) -> Result<Done> {
    let start = Instant::now();
    let histogram = pingpong::run(&lab.client, peer.at(ECHO), duration)?;
    let trips = histogram.len() as f64;
    let micros = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    let figures = vec![
        (Figure::Rate, trips / start.elapsed().as_secs_f64()),
        (Figure::P50, micros(0.5)),
        (Figure::P99, micros(0.99)),
    ];
    Ok((trips, figures))
}
