//! The control protocol: one JSON object a line over a unix stream socket, versioned.
//!
//! The native CLI, the ipvsadm applet and whatever else drives a daemon speak this; every change has
//! exactly one way in. A request is answered by exactly one [`Reply`] with the same `id`; only a long
//! listing comes in several, each but the last with `more`.

mod access;
mod live;

use std::fmt;

pub use access::{AccessChange, AccessEntry, Origin};
pub use live::{
    ClientFilter, Connection, Filter, Find, Found, Latency, LatencySample, NeighbourStatus, Sample,
    Setting,
};
use serde::{Deserialize, Serialize};
pub use uvs_core::counters::Stats;
use uvs_core::flow::{Addr, Endpoint, Protocol};
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

/// Frames since the start: `received` is the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Handed to the engine.
    pub received: u64,
    /// Forwarded.
    pub sent: u64,
    /// Ended in an answer.
    pub answered: u64,
    /// Fragments kept for their datagram.
    pub held: u64,
    /// Left to the kernel.
    pub passed: u64,
    /// Delivered to the host itself, which is their real server.
    pub local: u64,
    /// Dropped, for whatever reason.
    pub dropped: u64,
    /// No part of the sum: frames that were to leave, forwarded or made, and did not.
    pub lost: u64,
}

/// How connections ended since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// In all.
    pub ended: u64,
    /// Given up for new ones at the table's limit.
    pub evicted: u64,
    /// By the defence drop_entry.
    pub dropped_entries: u64,
    /// Replaced by a new one of the same client, port and server, when they were over.
    #[serde(default)]
    pub replaced_over: u64,
    /// Replaced so although they were not over.
    #[serde(default)]
    pub replaced_live: u64,
    /// Clients that were told.
    pub told_clients: u64,
    /// Servers that were told.
    pub told_servers: u64,
}

/// Where an interface's frames went: those that came in by it, and those that were to leave by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceFrames {
    /// The interface.
    pub interface: String,
    /// Those that came in, `received` being what was taken from the ring.
    #[serde(flatten)]
    pub came: Totals,
    /// Why those of them were dropped that were: label and count, without the zeros.
    pub drops: Vec<(String, u64)>,
    /// Frames handed over to leave here: forwarded, segments, fragments and answers.
    pub handed: u64,
    /// Those of them that left.
    pub left: u64,
    /// Those that wait for their next hop's MAC address.
    pub waiting: u64,
    /// Why the others did not leave: label and count, without the zeros.
    pub losses: Vec<(String, u64)>,
    /// Frames that the kernel dropped before UVS saw them, since the ring was full.
    pub ring_full: u64,
    /// Received frames less all their ends: 0, or UVS has a fault.
    pub unaccounted: i64,
    /// Frames handed over less those that left, wait or were lost: 0, or UVS has a fault.
    pub unsent: i64,
}

/// A service with its state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// The service as asked for; the servers are in `servers`, its own list is empty.
    pub spec: ServiceSpec,
    /// Totals.
    pub stats: Stats,
    /// Per second, by the kernel's estimator.
    pub rates: Stats,
    /// The servers, newest first.
    pub servers: Vec<ServerStatus>,
    /// New connections that got no server: the reason's label and count, without the zeros.
    #[serde(default)]
    pub failures: Vec<(String, u64)>,
    /// What is marked for it, where it is a service of a firewall mark.
    #[serde(default)]
    pub matches: Vec<Destination>,
}

/// A real server with its state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerStatus {
    /// The server as asked for.
    pub spec: ServerSpec,
    /// Whether the address is the director's own (shown as `Local`).
    pub local: bool,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// What it counts for during its slow start; its weight otherwise.
    #[serde(default)]
    pub effective_weight: f64,
    /// Smoothed time of its TCP handshakes in microseconds; 0 = not known.
    #[serde(default)]
    pub handshake: u32,
    /// Connections that are neither closed by both sides nor reset.
    pub open: u32,
    /// Seconds since its weight became 0, while it is.
    pub draining: Option<u64>,
    /// Totals.
    pub stats: Stats,
    /// Per second.
    pub rates: Stats,
}

/// A connection or a persistence template.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// The protocol; `None` shows as `IP` (templates of firewall marks).
    pub protocol: Option<Protocol>,
    /// The client; port 0 in a template.
    pub client: Endpoint,
    /// The VIP.
    pub vip: Endpoint,
    /// The real server.
    pub server: Endpoint,
    /// FULLNAT's local endpoint.
    pub local: Option<Endpoint>,
    /// `NONE`, `SYN_RECV`, `ESTABLISHED`, … `UDP`.
    pub state: String,
    /// Seconds until it expires.
    pub expires: u32,
}

/// The plugin directory and what is loaded from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plugins {
    /// The directory.
    pub directory: String,
    /// The loaded plugins by name.
    pub plugins: Vec<PluginStatus>,
    /// Other files in the directory: path, remark.
    pub files: Vec<(String, String)>,
}

/// A loaded scheduler plugin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PluginStatus {
    /// The scheduler's name.
    pub name: String,
    /// The plugin's version.
    pub version: String,
    /// One line about it.
    pub about: String,
    /// The ABI it was built for.
    pub abi: u32,
    /// The file it came from.
    pub file: String,
    /// Services that name it.
    pub services: Vec<ServiceKey>,
    /// Faults of all services, by reason.
    pub faults: Vec<(String, u64)>,
    /// Services that fell back to wrr.
    pub fallen_back: Vec<String>,
}

/// What a reload did for one plugin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PluginReloaded {
    /// The scheduler's name.
    pub name: String,
    /// Whether a file called after it was refused.
    pub refused: bool,
    /// What was done, as a sentence without the name.
    pub what: String,
}

/// An owned VIP that another host claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct YieldedVip {
    /// The VIP.
    pub vip: Addr,
    /// The other host's MAC address.
    pub mac: String,
    /// The interface by which it was heard.
    pub interface: String,
}

impl fmt::Display for YieldedVip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} on {}", self.vip, self.mac, self.interface)
    }
}

/// About the daemon.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Info {
    /// The program's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime: u64,
    /// The interfaces it runs on.
    pub interfaces: Vec<String>,
    /// The configuration file, where it has one.
    pub config: Option<String>,
    /// Scheduler names it knows.
    pub schedulers: Vec<String>,
    /// Connections in the table.
    pub connections: u32,
    /// The table's limit.
    pub connection_limit: u32,
    /// What `--own-vip` said on its command line.
    #[serde(default)]
    pub own_vip: Vec<String>,
    /// VIPs that are on no interface of the host's and that it owns: it answers for them.
    pub owned_vips: Vec<Addr>,
    /// Those of them that another host claims: ARP is not answered until that one is silent.
    #[serde(default)]
    pub yielded_vips: Vec<YieldedVip>,
    /// VIPs that are neither on the host nor owned: a stand-by's.
    #[serde(default)]
    pub absent_vips: Vec<Addr>,
    /// First and last port of FULLNAT's local ports; 0 and 0 from a daemon that does not tell.
    #[serde(default)]
    pub local_ports: (u16, u16),
    /// The guard; `None` from a daemon that does not tell.
    #[serde(default)]
    pub guard: Option<GuardStatus>,
    /// What its log lacks.
    #[serde(default)]
    pub log: LogLosses,
}

/// A sysctl's value: a number where it is one, else its words as the kernel would show them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SysctlValue {
    /// A whole number.
    Number(i32),
    /// Anything else.
    Words(String),
}

impl From<String> for SysctlValue {
    fn from(text: String) -> Self {
        text.parse().map_or(Self::Words(text), Self::Number)
    }
}

impl std::fmt::Display for SysctlValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Words(words) => f.write_str(words),
        }
    }
}

/// Lines that the daemon's log lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLosses {
    /// Lost, since those before them were not written fast enough.
    pub queue_full: u64,
    /// Lost, since they could not be written.
    pub write_failed: u64,
    /// Left out, since many like them had been logged.
    pub suppressed: u64,
}

/// How the guard fares with the host's other programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardStatus {
    /// Times that it was put up again after somebody had removed it.
    pub removed: u64,
    /// Times that it was put right after somebody had changed it.
    pub damaged: u64,
    /// When it was last, in seconds ago, and what had been done to it.
    pub last: Option<(u64, String)>,
    /// What is wrong with it now; `None` = it is as it must be.
    pub wrong: Option<String>,
}
