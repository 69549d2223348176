//! Samples for the tests of the model, the keys and the screen.

use uvs_control::protocol::{Sample, ServerState, ServerStatus, ServiceStatus};
use uvs_core::counters::Stats;
use uvs_core::engine::ConnReport;
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::numbers::{ServerNumbers, ServiceNumbers, Totals};
use uvs_core::service::{Forwarding, ServerSpec, ServiceKey, ServiceSpec};

const VIP: Endpoint = Endpoint::new(Addr::v4([192, 168, 0, 38]), 80);
/// The service of [`sample`].
pub(super) const KEY: ServiceKey = ServiceKey::address(Protocol::Tcp, VIP);
/// Its first server.
pub(super) const SERVER: Endpoint = Endpoint::new(Addr::v4([192, 168, 0, 18]), 80);
const OTHER: Endpoint = Endpoint::new(Addr::v4([192, 168, 0, 28]), 80);

/// A service with two servers; everything has counted `n` connections, ten times as many packets and a
/// hundred times as many bytes, and the worker has worked half of the time.
pub(super) fn sample(ms: u64, n: u64) -> Sample {
    let stats = Stats {
        connections: n,
        in_packets: 10 * n,
        out_packets: 10 * n,
        in_bytes: 100 * n,
        out_bytes: 100 * n,
    };
    Sample {
        taken_ns: ms * 1_000_000,
        pid: 4711,
        uptime: ms / 1000,
        busy_ns: ms * 500_000,
        each_busy_ns: Vec::new(),
        ring_drops: 0,
        totals: Totals {
            received: 20 * n,
            sent: 19 * n,
            dropped: n,
            ..Totals::default()
        },
        connections: 7,
        connection_limit: 1_000_000,
        services: vec![ServiceStatus {
            spec: ServiceSpec::new(KEY, "wrr"),
            numbers: ServiceNumbers {
                stats,
                ..ServiceNumbers::default()
            },
            rates: Stats::default(),
            servers: vec![
                server(SERVER, Forwarding::Nat, 3, stats),
                server(OTHER, Forwarding::Dr, 1, stats),
            ],
            matches: Vec::new(),
        }],
    }
}

fn server(endpoint: Endpoint, forwarding: Forwarding, weight: u32, stats: Stats) -> ServerStatus {
    ServerStatus {
        spec: ServerSpec {
            weight,
            ..ServerSpec::new(endpoint, forwarding)
        },
        local: false,
        state: ServerState::Up,
        numbers: ServerNumbers {
            active: weight,
            inactive: 10 * weight,
            effective_weight: f64::from(weight),
            open: weight,
            stats,
            ..ServerNumbers::default()
        },
        rates: Stats::default(),
    }
}

/// A connection from this port that has carried `n` times a hundred bytes in both directions, so long ago
/// less a millisecond each; its sequence numbers begin shortly before they wrap.
pub(super) fn connection(port: u16, n: u16) -> ConnReport {
    let sequence = (u32::MAX - 1_500).wrapping_add(100 * u32::from(n));
    ConnReport {
        service: KEY,
        protocol: Some(Protocol::Tcp),
        client: Endpoint::new(Addr::v4([10, 0, 0, 9]), port),
        vip: VIP,
        server: SERVER,
        local: None,
        state: "ESTABLISHED",
        expires: 899,
        idle_ns: 1_000_000 * u64::from(1_000 - n),
        sequence: Some((sequence, sequence)),
        call: None,
        in_kernel: n % 2 == 1,
    }
}
