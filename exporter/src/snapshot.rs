//! What is exported, as plain data: the daemon fills it in, everything else here only reads it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use uvs_core::counters::{ByReason, Counters, Stats};
use uvs_core::flow::Addr;
use uvs_core::numbers::{LogLosses, RecordNumbers, ServerNumbers, ServiceNumbers, SyncNumbers};
use uvs_core::service::{ServerSpec, ServiceKey};

/// Upper bounds of the forwarding latency's buckets in seconds: 1 µs to 100 ms.
pub const LATENCY_BOUNDS: [f64; 16] = [
    1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2,
    5e-2, 1e-1,
];
/// Upper bounds of a scheduler's decision in seconds: a table look-up to a plugin that blocks.
pub const SCHEDULE_BOUNDS: [f64; 12] = [
    1e-7, 2.5e-7, 5e-7, 1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 1e-3, 1e-2,
];

/// Age of the numbers above which the daemon does not count as ready.
const FRESH: Duration = Duration::from_secs(10);

/// Everything that is known at one moment.
#[derive(Clone, Debug)]
pub struct MetricSnapshot {
    /// When it was taken; its age is a metric.
    pub taken: Instant,
    /// What runs.
    pub build: Build,
    /// Since when.
    pub started: SystemTime,
    /// Scheduler plugins.
    pub plugins: Vec<PluginMetrics>,
    /// Virtual services, each with its real servers.
    pub services: Vec<ServiceMetrics>,
    /// Traffic of services that were removed, so that totals never go back.
    pub retired: Stats,
    /// Real servers above which only services are exported.
    pub max_backends: usize,
    /// Whether node_exporter's series are served too.
    pub node_ipvs: bool,
    /// The interfaces, and whether each can carry traffic.
    pub interfaces: Vec<(String, bool)>,
    /// The engines' totals.
    pub counters: Counters,
    /// Connections and templates in the table.
    pub connections: u32,
    /// How many it holds.
    pub connection_limit: u32,
    /// FULLNAT's local addresses.
    pub local_addresses: Vec<LocalAddress>,
    /// Local ports per local address and real server.
    pub local_port_limit: u32,
    /// The worker threads: the place of one is the label `worker` of its series.
    pub workers: Vec<WorkerMetrics>,
    /// From a frame's arrival in the ring until it was sent.
    pub latency: Histogram,
    /// A scheduler's decision about a connection.
    pub schedule: Histogram,
    /// Neighbour entries known and not known.
    pub neighbours: (u64, u64),
    /// How often the kernel had more news of the network than the socket could hold.
    pub netlink_overruns: u64,
    /// What the daemon's log lacks.
    pub log: LogLosses,
    /// What the connection log has and lacks.
    pub records: RecordNumbers,
    /// The program in the kernel.
    pub hook: HookMetrics,
    /// How often the guard was put up again after it was removed, and repaired after it was damaged.
    pub guard_repairs: (u64, u64),
    /// The sync daemons that run.
    pub sync: Vec<SyncMetrics>,
    /// How the configuration fared.
    pub reloads: Reloads,
    /// In how many places what runs differs from the configuration file; `None` where there is none.
    pub drift: Option<usize>,
    /// What stands in the way of serving, each a sentence; empty = ready.
    pub problems: Vec<String>,
}

/// A sync daemon.
#[derive(Clone, Debug)]
pub struct SyncMetrics {
    /// `master` or `backup`.
    pub role: &'static str,
    /// What it has done.
    pub numbers: SyncNumbers,
}

impl MetricSnapshot {
    /// What stands in the way of serving, numbers that nobody brings up to date included.
    pub(crate) fn all_problems(&self) -> Vec<String> {
        let mut problems = self.problems.clone();
        let age = self.taken.elapsed();
        if age > FRESH {
            problems.push(format!(
                "the daemon has published no new numbers for {} s",
                age.as_secs()
            ));
        }
        problems
    }
}

/// The program.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// Release.
    pub version: &'static str,
    /// The commit it was built from.
    pub commit: &'static str,
    /// The compiler.
    pub rustc: &'static str,
}

/// A loaded scheduler plugin.
#[derive(Clone, Debug)]
pub struct PluginMetrics {
    /// The scheduler's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The ABI it was built for.
    pub abi: u32,
    /// The file it came from.
    pub file: String,
    /// Its faults by reason.
    pub faults: Vec<(&'static str, u64)>,
}

/// A virtual service.
#[derive(Clone, Debug)]
pub struct ServiceMetrics {
    /// Its key.
    pub key: ServiceKey,
    /// Its scheduler's name.
    pub scheduler: String,
    /// Whether one client stays with one server.
    pub persistent: bool,
    /// What is counted of it.
    pub numbers: ServiceNumbers,
    /// Its real servers.
    pub backends: Vec<BackendMetrics>,
}

/// A real server.
#[derive(Clone, Copy, Debug)]
pub struct BackendMetrics {
    /// As asked for.
    pub spec: ServerSpec,
    /// What is counted of it.
    pub numbers: ServerNumbers,
    /// Whether the MAC address of its next hop is known.
    pub reachable: bool,
}

/// What a real server is worth to new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It gets new connections.
    Up,
    /// Weight 0.
    Drained,
    /// At its upper threshold.
    Overloaded,
    /// Its next hop does not answer ARP.
    Down,
}

impl State {
    /// All, in the order they are exported.
    pub const ALL: [Self; 4] = [Self::Up, Self::Drained, Self::Overloaded, Self::Down];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Drained => "drained",
            Self::Overloaded => "overloaded",
            Self::Down => "down",
        }
    }
}

impl BackendMetrics {
    /// The one state it is counted in: what excludes it most comes first.
    pub const fn state(&self) -> State {
        if !self.reachable {
            State::Down
        } else if self.spec.weight == 0 {
            State::Drained
        } else if self.numbers.overloaded {
            State::Overloaded
        } else {
            State::Up
        }
    }
}

/// A worker's port of an interface.
#[derive(Clone, Debug, Default)]
pub struct PortMetrics {
    /// The interface's name.
    pub interface: String,
    /// Frames that the kernel put into the ring.
    pub rx_frames: u64,
    /// Frames that did not fit into the ring.
    pub rx_kernel_drops: u64,
    /// How often the ring had stopped.
    pub rx_stalls: u64,
    /// Frames larger than a slot, fetched one by one.
    pub rx_oversized: u64,
    /// Bytes of the frames taken from the ring.
    pub rx_bytes: u64,
    /// Frames taken from the ring.
    pub received: u64,
    /// Frames that another worker has taken from its ring and handed over.
    pub taken_over: u64,
    /// How those ended.
    pub ends: Counters,
    /// Frames that were to leave here and did not: received ones that were forwarded, and made ones.
    pub lost: ByReason,
    /// Frames handed over to leave here.
    pub handed: u64,
    /// Frames among them that wait for a MAC address.
    pub waiting: u64,
    /// Frames that the kernel took.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames that it refused, by the errno's name.
    pub tx_errors: BTreeMap<String, u64>,
}

impl PortMetrics {
    /// Frames whose end is not known; anything but 0 is a fault of UVS.
    pub fn unaccounted(&self) -> i64 {
        let came = self.received + self.taken_over;
        difference(came, self.ends.accounted() + self.ends.handed_on)
    }

    /// Frames handed over that neither left, nor were dropped, nor wait; anything but 0 is a fault of UVS.
    pub fn unsent(&self) -> i64 {
        let known = self.tx_frames + self.waiting + self.lost.iter().sum::<u64>();
        difference(self.handed, known)
    }
}

fn difference(a: u64, b: u64) -> i64 {
    i64::try_from(i128::from(a) - i128::from(b)).unwrap_or(i64::MAX)
}

/// What the program in the kernel does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HookState {
    /// Nothing: there is none.
    #[default]
    Off,
    /// It tells what is UVS's from what is the host's.
    Guard,
    /// It forwards established connections too.
    Tier,
}

impl HookState {
    /// All, with their metric labels.
    pub const ALL: [(Self, &'static str); 3] = [
        (Self::Off, "off"),
        (Self::Guard, "guard"),
        (Self::Tier, "tier"),
    ];
}

/// The program in the kernel, and what it counts.
#[derive(Clone, Debug, Default)]
pub struct HookMetrics {
    /// What it does.
    pub state: HookState,
    /// Connections that it forwards.
    pub connections: u64,
    /// Those that user space forwards and it has to know of.
    pub known: u64,
    /// How many it can forward.
    pub limit: u64,
    /// Connections handed to it so far.
    pub taken: u64,
    /// Those that were taken back.
    pub released: u64,
    /// Those that were not handed over, by reason.
    pub untaken: Vec<(String, u64)>,
    /// Frames given to user space, by reason.
    pub up: Vec<(String, u64)>,
    /// What it told of connections.
    pub events: u64,
    /// What it had no room to tell.
    pub events_lost: u64,
    /// Since when the daemon has not said that it lives.
    pub heartbeat_age: Duration,
    /// The age at which it gives everything back to the kernel.
    pub heartbeat_limit: Duration,
    /// How often somebody else had removed it.
    pub repairs: u64,
    /// The interfaces that it is to be on.
    pub ports: Vec<HookPortMetrics>,
}

/// The hook on an interface.
#[derive(Clone, Debug, Default)]
pub struct HookPortMetrics {
    /// The interface's name.
    pub interface: String,
    /// Whether it is there.
    pub attached: bool,
    /// Frames that it forwarded.
    pub forwarded: u64,
    /// Their bytes.
    pub forwarded_bytes: u64,
    /// Frames that it could not change, as the kernel had no memory.
    pub lost: u64,
    /// Super-frames that the ring cannot describe, and that were dropped for that.
    pub gso_unsupported: u64,
}

/// A local address of FULLNAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAddress {
    /// The address.
    pub addr: Addr,
    /// Ports in use towards the real server that has most of them.
    pub in_use: u32,
}

/// A worker thread.
#[derive(Clone, Debug, Default)]
pub struct WorkerMetrics {
    /// Seconds it worked.
    pub busy: f64,
    /// Seconds it waited for frames.
    pub waited: f64,
    /// Frames per batch.
    pub batches: Histogram,
    /// Its ports.
    pub ports: Vec<PortMetrics>,
}

/// Attempts to load the configuration, the one at the start included.
#[derive(Clone, Copy, Debug)]
pub struct Reloads {
    /// How many succeeded.
    pub succeeded: u64,
    /// How many failed.
    pub failed: u64,
    /// When the last one succeeded.
    pub last_success: SystemTime,
    /// Whether the last one succeeded.
    pub last_ok: bool,
}

/// A classic histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Upper bounds, ascending; what is above the last is only in `count`.
    pub bounds: Vec<f64>,
    /// Observations per bucket, not cumulated; as many as bounds.
    pub counts: Vec<u64>,
    /// All observations.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}
