//! The control protocol: one JSON object a line over a unix stream socket, versioned.
//!
//! The native CLI, the ipvsadm applet and whatever else drives a daemon speak this; every change has
//! exactly one way in. A request is answered by exactly one reply with the same `id`; only a long
//! listing comes in several, each but the last with `more`.

mod access;
pub mod ask;
mod change;
mod command;
mod frames;
mod hook;
mod info;
mod kill;
mod live;
mod plugins;
mod question;
mod reload;
mod services;
mod sync;
mod sysctl;
mod upgrade;

pub use access::{AccessChange, AccessEntry, AccessPage, Origin};
pub use ask::{Ask, Responder, Rest};
pub use change::Change;
pub use command::Command;
pub use frames::{Drops, InterfaceFrames};
pub use hook::{HookMode, HookPort, HookProgram, HookStatus, HookTier};
pub use info::{ConfinementStatus, GuardStatus, Info, WorkerInfo, YieldedVip};
pub use kill::{Kill, KillFilter, KillNotice, Killed};
pub use live::{
    ClientFilter, Filter, Find, Found, Latency, LatencySample, NeighbourStatus, Sample, Setting,
    keep_latest,
};
pub use plugins::{PluginReloaded, PluginStatus, Plugins};
pub use question::{Answer, Answers, Encoded, Listing, Lists, Parts, Question, Right, all, whole};
pub use reload::{Applied, ReloadRequest, Running, ToldChange, ToldChanges};
use serde::{Deserialize, Serialize};
pub use services::{ServerState, ServerStatus, ServiceStatus, Services, TABLE_SIZE, Traffic};
pub use sync::{SyncDaemon, SyncNumbers, SyncRequest, SyncRole, SyncStatus};
pub use sysctl::{SysctlRequest, SysctlValue};
pub use upgrade::Upgrade;

/// The protocol's version; a daemon refuses requests of another.
pub const VERSION: u32 = 1;

/// The most commands in a [`ask::Batch`]: far below what fits into a request's line.
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

/// One reply line: `D` is an [`Encoded`] on its way out, and a slice of the line on its way in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reply<D> {
    /// The request's.
    pub id: u64,
    /// The outcome.
    pub result: Result<D, Refusal>,
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
    /// The interface is not there.
    NoDevice,
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
