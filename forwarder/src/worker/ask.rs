//! What the worker is told, what it is asked, and what it tells: all that control and data path share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use hdrhistogram::Histogram;
use uvs_control::trace::{LiveRequest, LiveState};
use uvs_core::counters::Counters;
use uvs_core::engine::{Claim, ConnReport, Event, Report};
use uvs_core::fib::Fib;
use uvs_core::flow::{Addr, Endpoint};
use uvs_core::service::ServiceKey;
use uvs_core::snapshot::Snapshot;
use uvs_core::time::Instant;
use uvs_core::trace::Trace;
use uvs_core::verdict::PortId;

use super::ledger::{BATCH_BUCKETS, Ledger};
use super::pulse::Pulse;
use super::watch::Watch;
use crate::port::filter::{FilterSpec, Program};
use crate::port::{Receive, RxStatistics, Transmit};
use crate::trace::arrival::Arrival;
use crate::trace::live::Seen;

/// The desired state as the worker takes it up.
pub(crate) struct Desired {
    /// Services.
    pub(crate) snapshot: Arc<Snapshot>,
    /// What the ports let through.
    pub(crate) filter: Program,
    /// What of the host's own stack comes to UVS.
    pub(crate) host_filter: Program,
}

/// What control and worker share.
pub(crate) struct Shared {
    /// Services and filter.
    pub(crate) desired: Watch<Desired>,
    /// Interfaces, routes and neighbours.
    pub(crate) fib: Watch<Fib>,
    /// The worker's sign of life: each of its turns.
    pub(crate) pulse: Pulse,
}

impl Shared {
    /// Nothing is served, and nothing lets anything through.
    pub(crate) fn empty() -> Self {
        let nothing = Desired {
            snapshot: Arc::new(Snapshot::default()),
            filter: FilterSpec::default().compile(),
            host_filter: FilterSpec::default().compile(),
        };
        Self {
            desired: Watch::new(nothing),
            fib: Watch::new(Fib::new()),
            pulse: Pulse::new(),
        }
    }
}

/// What a worker is asked.
pub(crate) enum Ask {
    /// Answer once all that was published before is in force.
    Sync(Sender<Result<(), String>>),
    /// Copy the counters.
    Report(Sender<Status>),
    /// How many connections each of these servers has, removed or not.
    ConnectionsOf(Vec<(ServiceKey, Endpoint)>, Sender<Vec<u32>>),
    /// Copy a page of connections, from this place on.
    Connections(u32, Sender<Page>),
    /// What would become of these frames, each seeing what those before it did.
    Trace(Vec<Arrival>, Sender<Vec<Option<Trace>>>),
    /// Look into real frames from now on; `false` = somebody's look is not over yet.
    Live(LiveRequest, Sender<bool>),
    /// What was seen since this was last asked.
    LiveSeen(Sender<(Vec<Seen>, LiveState)>),
    /// An interface is back: use this port.
    Port(PortId, Box<dyn Receive>, Box<dyn Transmit>),
    /// The kernel has given up on this next hop.
    Unreachable(PortId, Addr),
    /// Send a frame.
    Send(PortId, Vec<u8>),
    /// End.
    Stop,
}

/// Some connections, and the place to go on from.
pub(crate) type Page = (Vec<ConnReport>, Option<u32>);

/// A copy of everything the worker counts.
#[derive(Clone)]
pub(crate) struct Status {
    /// When it was copied.
    pub(crate) taken: Instant,
    /// When the worker began to count.
    pub(crate) started: Instant,
    /// Services and servers.
    pub(crate) services: Report,
    /// The engine's totals.
    pub(crate) counters: Counters,
    /// Connections in the table.
    pub(crate) connections: u32,
    /// Per port.
    pub(crate) ports: Vec<PortStatus>,
    /// The host's own stack.
    pub(crate) own: PortStatus,
    /// Nanoseconds from a frame's arrival in the ring until it was sent.
    pub(crate) latency: Histogram<u64>,
    /// Batches by size, and the frames in all of them.
    pub(crate) batches: ([u64; BATCH_BUCKETS], u64),
    /// How long the worker has worked.
    pub(crate) busy: Duration,
    /// How long it has waited.
    pub(crate) waited: Duration,
}

/// What one port counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct PortStatus {
    /// Received by the kernel for us.
    pub(crate) rx: RxStatistics,
    /// Where the frames went.
    pub(crate) ledger: Ledger,
    /// Frames that wait for their next hop.
    pub(crate) waiting: u64,
    /// Refused frames by errno.
    pub(crate) errors: BTreeMap<i32, u64>,
}

/// What a worker tells the control thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A frame waits for this next hop: have the kernel resolve it.
    Solicit(PortId, Addr),
    /// A port's interface is gone.
    Gone(PortId),
    /// Something happened to a server's connections.
    Server(Event),
    /// Another host claims a VIP that is owned.
    Claim(Claim),
}
