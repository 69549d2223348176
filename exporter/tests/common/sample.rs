//! A snapshot with something in every metric.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use uvs_core::counters::{ByBulkResult, ByReason, Counters, Stats};
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::numbers::{LogLosses, RecordNumbers, ServerNumbers, ServiceNumbers, SyncNumbers};
use uvs_core::plugins::{Fallback, PickTimes, PluginFault, PluginNumbers};
use uvs_core::service::{Forwarding, ServerSpec, ServiceKey};
use uvs_core::verdict::DropReason;
use uvs_exporter::{
    BackendMetrics, Build, Histogram, HookMetrics, HookPortMetrics, HookState, LATENCY_BOUNDS,
    LocalAddress, MetricSnapshot, PluginMetrics, PortMetrics, Reloads, SCHEDULE_BOUNDS,
    ServiceMetrics, SyncMetrics, WorkerMetrics,
};

pub(crate) const VIP: Endpoint = Endpoint::new(Addr::v4([192, 168, 0, 38]), 80);

pub(crate) fn stats(connections: u64) -> Stats {
    Stats {
        connections,
        in_packets: connections * 6,
        out_packets: connections * 4,
        in_bytes: connections * 398,
        out_bytes: connections * 387,
    }
}

pub(crate) fn backend(last: u8) -> BackendMetrics {
    let endpoint = Endpoint::new(Addr::v4([192, 168, 0, last]), 80);
    BackendMetrics {
        spec: ServerSpec {
            weight: 3,
            ..ServerSpec::new(endpoint, Forwarding::Nat)
        },
        numbers: ServerNumbers {
            effective_weight: 3.0,
            handshake: 450,
            active: 1,
            inactive: 2,
            open: 2,
            stats: stats(u64::from(last)),
            ..ServerNumbers::default()
        },
        reachable: true,
    }
}

pub(crate) fn service(backends: Vec<BackendMetrics>) -> ServiceMetrics {
    ServiceMetrics {
        key: ServiceKey::address(Protocol::Tcp, VIP),
        scheduler: "p2c".to_owned(),
        persistent: false,
        numbers: ServiceNumbers {
            stats: stats(46),
            plugin: Some(plugin()),
            ..ServiceNumbers::default()
        },
        backends,
    }
}

/// Slow once, and given up for it.
fn plugin() -> PluginNumbers {
    let mut picks = PickTimes::default();
    picks.record(300);
    picks.record(2_000_000);
    PluginNumbers {
        picks,
        over_budget: 1,
        fallback: Some(Fallback {
            ago: 3,
            fault: PluginFault::Slow,
            workers: 1,
        }),
    }
}

fn histogram(bounds: &[f64]) -> Histogram {
    Histogram {
        bounds: bounds.to_vec(),
        counts: vec![2; bounds.len()],
        count: bounds.len() as u64 * 2 + 1,
        sum: 0.5,
    }
}

pub(crate) fn port(name: &str) -> PortMetrics {
    let mut ends = Counters::default();
    (ends.received, ends.sent, ends.answered) = (12, 9, 1);
    ends.drops[DropReason::NoRoute as usize] = 2;
    let mut lost = ByReason::default();
    lost[DropReason::SendFailed as usize] = 3;
    PortMetrics {
        interface: name.to_owned(),
        received: 12,
        ends,
        handed: 10,
        lost,
        tx_frames: 6,
        waiting: 1,
        tx_errors: BTreeMap::from([("ENOBUFS".to_owned(), 0)]),
        ..PortMetrics::default()
    }
}

pub(crate) fn worker(port: PortMetrics) -> WorkerMetrics {
    WorkerMetrics {
        busy: 1.5,
        waited: 8.5,
        batches: histogram(&[1.0, 2.0, 4.0]),
        ports: vec![port],
    }
}

fn hook() -> HookMetrics {
    let port = HookPortMetrics {
        interface: "eth0".to_owned(),
        attached: true,
        ..HookPortMetrics::default()
    };
    HookMetrics {
        state: HookState::Tier,
        connections: 2,
        limit: 65536,
        untaken: vec![("full".to_owned(), 5)],
        up: vec![("syn".to_owned(), 7)],
        heartbeat_age: Duration::from_millis(250),
        heartbeat_limit: Duration::from_secs(60),
        ports: vec![port],
        ..HookMetrics::default()
    }
}

pub(crate) fn snapshot() -> MetricSnapshot {
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    MetricSnapshot {
        taken: Instant::now(),
        build: Build {
            version: "0.1.0",
            commit: "abc",
            rustc: "rustc 1.95.0",
        },
        started,
        plugins: vec![PluginMetrics {
            name: "p2c".to_owned(),
            version: "1.2".to_owned(),
            abi: 1,
            file: "/usr/lib/uvs/libp2c.so".to_owned(),
            faults: vec![("panicked", 0)],
        }],
        services: vec![service(vec![backend(18), backend(28)])],
        retired: stats(4),
        max_backends: 100,
        node_ipvs: true,
        interfaces: vec![("eth0".to_owned(), true)],
        counters: Counters::default(),
        connections: 3,
        connection_limit: 1000,
        local_addresses: vec![LocalAddress {
            addr: Addr::v4([192, 168, 0, 200]),
            in_use: 7,
        }],
        local_port_limit: 31744,
        workers: vec![worker(port("eth0"))],
        latency: histogram(&LATENCY_BOUNDS),
        schedule: histogram(&SCHEDULE_BOUNDS),
        neighbours: (2, 1),
        netlink_overruns: 0,
        log: LogLosses::default(),
        records: RecordNumbers::default(),
        hook: hook(),
        guard_repairs: (0, 0),
        sync: vec![SyncMetrics {
            role: "backup",
            numbers: SyncNumbers {
                datagrams: 2,
                bytes: 200,
                messages: 5,
                refused: 1,
                lost: 0,
                last: Some(3),
                missed: 4,
                delay_us: Some(-250),
                entries: Some(6),
                bulk: bulk(),
                bulk_messages: 3,
            },
        }],
        drift: Some(3),
        reloads: Reloads {
            succeeded: 1,
            failed: 0,
            last_success: started,
            last_ok: true,
        },
        problems: Vec::new(),
    }
}

/// One of the first kind.
fn bulk() -> ByBulkResult {
    let mut bulk = ByBulkResult::default();
    bulk[0] = 1;
    bulk
}
