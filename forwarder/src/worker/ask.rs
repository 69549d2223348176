//! What a worker is told, what it is asked, and what it tells: all that control and data path share.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use uvs_core::engine::{Claim, ConnReport, Event, Killed, ServiceReport};
use uvs_core::fib::Fib;
use uvs_core::flow::{Addr, Endpoint};
use uvs_core::peer::{TakenUp, Told};
use uvs_core::service::ServiceKey;
use uvs_core::snapshot::Snapshot;
use uvs_core::trace::Trace;
use uvs_core::verdict::PortId;

use super::colleagues::Colleagues;
use super::heartbeat::Heartbeat;
use super::status::WorkerStatus;
use super::succession::HandedDown;
use super::watch::Watch;
use crate::connection_log::Outlet;
use crate::port::Ends;
use crate::port::fan_out::FanOut;
use crate::port::filter::{FilterSpec, Program};
use crate::trace::arrival::Arrival;
use crate::trace::live::{Look, Seen};

/// The desired state as the worker takes it up.
pub(crate) struct Desired {
    /// Services.
    pub(crate) snapshot: Arc<Snapshot>,
    /// What the ports let through.
    pub(crate) filter: Arc<Program>,
    /// What of the host's own stack comes to UVS.
    pub(crate) host_filter: Arc<Program>,
    /// Which worker's a frame is, where there are several.
    pub(crate) fan_out: Option<Arc<FanOut>>,
}

/// What is published to all workers alike.
pub(crate) struct Published {
    /// Services and filter.
    pub(crate) desired: Watch<Desired>,
    /// Interfaces, routes and neighbours.
    pub(crate) fib: Watch<Fib>,
}

impl Published {
    /// Nothing is served, and nothing lets anything through.
    pub(crate) fn nothing() -> Self {
        let filter = Arc::new(FilterSpec::default().compile());
        let nothing = Desired {
            snapshot: Arc::new(Snapshot::default()),
            filter: Arc::clone(&filter),
            host_filter: filter,
            fan_out: None,
        };
        Self {
            desired: Watch::new(nothing),
            fib: Watch::new(Fib::new()),
        }
    }
}

/// A worker's end of what it has with the control thread.
pub(crate) struct Line {
    /// What is published.
    pub(crate) published: Arc<Published>,
    /// Its heartbeat: each of its turns.
    pub(crate) heartbeat: Arc<Heartbeat>,
    /// What it is asked.
    pub(crate) asks: Receiver<Ask>,
    /// The other workers.
    pub(crate) colleagues: Colleagues,
    /// What it tells unasked.
    pub(crate) notices: Box<dyn Fn(Notice) + Send>,
    /// What other directors are to be told, and how much of it was lost.
    pub(crate) told: Box<dyn Fn(Vec<Told>, u64) + Send>,
    /// What the connection log is to say.
    pub(crate) records: Outlet,
}

/// What a worker is asked.
pub(crate) enum Ask {
    /// Answer once all that was published before is in force.
    Sync(Sender<Result<(), String>>),
    /// Copy the counters, but for those of services.
    Report(Sender<WorkerStatus>),
    /// Copy those of a page of services, from this slot on.
    Services(u32, Sender<ServicePage>),
    /// Copy those of these services, where they are there.
    ServicesOf(Vec<ServiceKey>, Sender<Vec<ServiceReport>>),
    /// How many connections each of these servers has, removed or not.
    ConnectionsOf(Vec<(ServiceKey, Endpoint)>, Sender<Vec<u32>>),
    /// Copy a page of connections, from this place on.
    Connections(u32, Sender<Page>),
    /// End connections of a page, from this place on.
    Kill(u32, Arc<KillOrder>, Sender<Killed>),
    /// What would become of these frames, each seeing what those before it did.
    Trace(Vec<Arrival>, Sender<Vec<Option<Trace>>>),
    /// Look into real frames from now on.
    Live(Arc<Look>, Sender<()>),
    /// What was seen since this was last asked, and whether the look ends with that.
    LiveSeen(bool, Sender<Vec<Seen>>),
    /// An interface is back, or its port had stalled: use this one.
    Port(PortId, Ends),
    /// The kernel has given up on this next hop.
    Unreachable(PortId, Addr),
    /// Send a frame.
    Send(PortId, Vec<u8>),
    /// Other directors have told of these connections.
    TakeUp(Vec<TakenUp>),
    /// The same, as part of all that one has; answer once it is done.
    TakeUpPart(Vec<TakenUp>, Sender<()>),
    /// Copy part of what another director is told that asks for all, from this place on.
    TellAll(u32, Sender<TellablePage>),
    /// Hand all down to a worker of another process, and stand by.
    HandDown(Sender<anyhow::Result<HandedDown>>),
    /// Go on after that: nobody has taken over.
    GoOn,
    /// End.
    Stop,
}

/// Which connections are to end, and how.
pub(crate) struct KillOrder {
    /// Whether a connection is meant.
    pub(crate) wants: Box<dyn Fn(&ConnReport) -> bool + Send + Sync>,
    /// Whether their ends are told; `None` = as their services say.
    pub(crate) tell: Option<bool>,
}

/// Some services' counters, and the slot to go on from.
pub(crate) type ServicePage = (Vec<ServiceReport>, Option<u32>);

/// Some connections, and the place to go on from.
pub(crate) type Page = (Vec<ConnReport>, Option<u32>);

/// Some of what other directors are told of, and the place to go on from.
pub(crate) type TellablePage = (Vec<Told>, Option<u32>);

/// What a worker tells the control thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A frame waits for this next hop: have the kernel resolve it.
    Solicit(PortId, Addr),
    /// A port's interface is gone.
    Gone(PortId),
    /// The kernel has stopped filling a port's ring: the port is to be opened again.
    Stalled(PortId),
    /// Something happened to a server's connections.
    Server(Event),
    /// Another host claims a VIP that is owned.
    Claim(Claim),
}
