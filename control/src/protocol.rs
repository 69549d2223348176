//! The control protocol: one JSON object a line over a unix stream socket, versioned.
//!
//! The native CLI, the ipvsadm applet and whatever else drives a daemon speak this; every change has
//! exactly one way in. A request is answered by exactly one [`Reply`] with the same `id`; only a long
//! listing comes in several, each but the last with `more`.

mod access;
mod frames;
mod info;
mod live;
mod plugins;
mod services;
mod sysctl;

pub use access::{AccessChange, AccessEntry, Origin};
pub use frames::{Ended, InterfaceFrames, Totals};
pub use info::{GuardStatus, Info, LogLosses, YieldedVip};
pub use live::{
    ClientFilter, Connection, Filter, Find, Found, Latency, LatencySample, NeighbourStatus, Sample,
    Setting,
};
pub use plugins::{PluginReloaded, PluginStatus, Plugins};
use serde::{Deserialize, Serialize};
pub use services::{ConnectionStatus, ServerStatus, ServiceStatus};
pub use sysctl::SysctlValue;
pub use uvs_core::counters::Stats;
use uvs_core::flow::Endpoint;
use uvs_core::marks::{Destination, MarkRule};
use uvs_core::service::{ServerSpec, ServiceKey, ServiceSpec};
use uvs_core::snapshot::Timeouts;

use crate::trace::{LiveRequest, LiveState, Subject, Traced};

/// The protocol's version; a daemon refuses requests of another.
pub const VERSION: u32 = 1;

/// The most commands in a [`Command::Batch`]: far below what fits into a request's line.
pub const MAX_BATCH: usize = 500;

/// One request line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// Repeated in the reply.
    pub id: u64,
    /// What is asked.
    pub command: Command,
}

/// What can be asked of a daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Adds a service. Its `servers` must be empty.
    AddService(ServiceSpec),
    /// Replaces a service's settings; its servers stay. `servers` must be empty.
    EditService(ServiceSpec),
    /// Removes a service and its servers.
    DeleteService(ServiceKey),
    /// Removes all services. Connections stay.
    Clear,
    /// Adds a server at the head of the service's list.
    AddServer(ServiceKey, ServerSpec),
    /// Replaces a server's settings, found by its endpoint.
    EditServer(ServiceKey, ServerSpec),
    /// Removes a server.
    DeleteServer(ServiceKey, Endpoint),
    /// Gives packets to these destinations a firewall mark.
    Mark(u32, Vec<Destination>),
    /// Removes rules of a mark, all of them where none is named.
    Unmark(u32, Vec<Destination>),
    /// Adds entries to a deny or allow list. Those that are there already are no mistake.
    AddAccess(AccessChange),
    /// Removes entries that were added by commands.
    DeleteAccess(AccessChange),
    /// Several changes of the table, one after the other: a refused one does not keep the next from being
    /// tried, and all that are not refused are put in force together. Answered by [`Data::Outcomes`].
    Batch(Vec<Self>),
    /// Zeroes the counters that ipvsadm shows, of one service or of all.
    Zero(Option<ServiceKey>),
    /// Sets time-outs in seconds; 0 keeps the old value.
    SetTimeouts(Timeouts),
    /// Asks for [`Data::Services`]: one service or all.
    ListServices(Option<ServiceKey>),
    /// Asks for [`Data::Marks`].
    ListMarks,
    /// Asks for [`Data::Access`], from the entry of this number on.
    ListAccess(u32),
    /// Asks for [`Data::Connections`].
    ListConnections,
    /// Asks for [`Data::Timeouts`].
    GetTimeouts,
    /// Asks for [`Data::Sysctl`]; with a value, sets it first.
    Sysctl {
        /// The name under `net.ipv4.vs.`, e.g. `expire_nodest_conn`.
        name: String,
        /// The new value.
        value: Option<SysctlValue>,
    },
    /// Asks for [`Data::Info`].
    Info,
    /// Asks for [`Data::Drops`].
    Drops,
    /// Asks for [`Data::Traffic`].
    Traffic,
    /// What would become of these frames. Asks for [`Data::Traced`].
    Trace(Vec<Subject>),
    /// Look into real frames from now on; one such look at a time.
    TraceLive(LiveRequest),
    /// Asks for [`Data::Traced`]: the real frames seen since it was last asked for.
    TraceLiveSeen,
    /// Reads the configuration file again and applies it as one step.
    Reload,
    /// Asks for [`Data::Plugins`].
    ListPlugins,
    /// Lets new versions of scheduler plugins take over, of one or of all. Answered by
    /// [`Data::PluginsReloaded`].
    ReloadPlugins(Option<String>),
    /// Asks for [`Data::Sample`].
    Sample,
    /// Asks for [`Data::Found`].
    FindConnections(Find),
    /// Asks for [`Data::Latency`]: now, and about so many seconds ago.
    Latency(Option<u32>),
    /// Asks for [`Data::Neighbours`].
    ListNeighbours,
    /// Asks for [`Data::Settings`].
    Settings,
}

/// One reply line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reply {
    /// The request's.
    pub id: u64,
    /// The outcome.
    pub result: Result<Data, Refusal>,
    /// Whether another part with this `id` follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// What a refused request met, as the errno the kernel's IPVS would answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Errno {
    /// It exists already.
    Exists,
    /// The service (or, for service commands, the thing itself) is not there.
    NotFound,
    /// The real server is not there.
    NoServer,
    /// No such scheduler or persistence engine.
    NoScheduler,
    /// A value out of its range.
    Range,
    /// An invalid value or combination.
    Invalid,
    /// Not supported by UVS.
    Unsupported,
    /// Not permitted.
    Permission,
    /// The daemon could not do it: the host refused.
    Failed,
}

/// Why a request was refused; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The kind.
    pub errno: Errno,
    /// A sentence that names the thing and the fix.
    pub message: String,
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Data {
    /// Done.
    Done,
    /// What became of each command of a [`Command::Batch`].
    Outcomes(Vec<Result<(), Refusal>>),
    /// Services with their counters, in no particular order.
    Services {
        /// Slots of the connection table (the `size=` of ipvsadm's first line).
        table_size: u32,
        /// The services.
        services: Vec<ServiceStatus>,
    },
    /// The rules that mark packets, oldest first.
    Marks(Vec<MarkRule>),
    /// Entries of the deny and allow lists.
    Access {
        /// A part of them.
        entries: Vec<AccessEntry>,
        /// Where the next part begins.
        next: Option<u32>,
    },
    /// All connections, in table order.
    Connections(Vec<ConnectionStatus>),
    /// The time-outs in force.
    Timeouts(Timeouts),
    /// A sysctl's value.
    Sysctl(SysctlValue),
    /// About the daemon.
    Info(Info),
    /// Where frames went.
    Drops {
        /// All of them.
        totals: Totals,
        /// Frames dropped and lost: label, count, in the order of the list of reasons.
        reasons: Vec<(String, u64)>,
        /// What became of connections.
        ended: Ended,
        /// The same of each interface.
        #[serde(default)]
        interfaces: Vec<InterfaceFrames>,
    },
    /// Traffic of all services, removed ones included, since it was zeroed.
    Traffic {
        /// Totals.
        stats: Stats,
        /// Per second, by the kernel's estimator.
        rates: Stats,
    },
    /// Frames with all that was decided about them.
    Traced {
        /// The interfaces' names, in the order of their ports.
        interfaces: Vec<String>,
        /// The frames.
        frames: Vec<Traced>,
        /// How the look at real frames stands.
        live: LiveState,
    },
    /// The scheduler plugins.
    Plugins(Plugins),
    /// What a reload did, plugin by plugin.
    PluginsReloaded(Vec<PluginReloaded>),
    /// Everything that is counted, as of now.
    Sample(Sample),
    /// Connections of a part of the table.
    Found(Found),
    /// How long frames took.
    Latency(Latency),
    /// The host's neighbours on UVS's interfaces.
    Neighbours(Vec<NeighbourStatus>),
    /// What is in force, besides services.
    Settings(Vec<Setting>),
}

impl Data {
    /// Joins the next part of a listing to the ones before; any other answer stands for itself.
    pub fn append(&mut self, part: Self) {
        match (self, part) {
            (Self::Connections(all), Self::Connections(mut next)) => all.append(&mut next),
            (this, part) => *this = part,
        }
    }
}
