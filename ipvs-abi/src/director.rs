//! Who carries out what programs ask, and what their interface cannot say.

use std::fmt;

use uvs_control::protocol::{
    Answers, Change, Lists, Refusal, ServiceStatus, SyncRequest, SyncRole, all, ask,
};
use uvs_core::service::{Forwarding, ServerSpec, ServiceKey, ServiceSpec};

use crate::errno::Errno;

/// The daemon, or a table in its place: whoever answers these questions.
pub trait Director:
    Answers<Change>
    + Answers<ask::Zero>
    + Lists<ask::ListServices>
    + Answers<ask::GetTimeouts>
    + Answers<ask::StartSync>
    + Answers<ask::StopSync>
    + Answers<ask::ListSync>
    + Answers<ask::Traffic>
    + Lists<ask::ListConnections>
{
}

impl<D> Director for D where
    D: Answers<Change>
        + Answers<ask::Zero>
        + Lists<ask::ListServices>
        + Answers<ask::GetTimeouts>
        + Answers<ask::StartSync>
        + Answers<ask::StopSync>
        + Answers<ask::ListSync>
        + Answers<ask::StartSync>
        + Answers<ask::StopSync>
        + Answers<ask::ListSync>
        + Answers<ask::Traffic>
        + Lists<ask::ListConnections>
{
}

/// What programs can change.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// The table.
    Change(Change),
    /// The counters of one service, or of all.
    Zero(Option<ServiceKey>),
    /// A sync daemon is to run,
    StartSync(SyncRequest),
    /// or to end.
    StopSync(SyncRole),
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change(change) => change.fmt(f),
            Self::Zero(None) => f.write_str("zero all counters"),
            Self::Zero(Some(key)) => write!(f, "zero the counters of {key}"),
            Self::StartSync(daemon) => write!(f, "start a {} sync daemon", daemon.role),
            Self::StopSync(role) => write!(f, "stop the {role} sync daemon"),
        }
    }
}

impl From<Change> for Asked {
    fn from(change: Change) -> Self {
        Self::Change(change)
    }
}

/// Has it carried out.
///
/// # Errors
/// What the kernel's IPVS would answer; nothing is changed.
pub(crate) fn carry_out(asked: Asked, director: &mut impl Director) -> Result<(), Errno> {
    tracing::debug!(?asked, "asked");
    let result = match asked {
        Asked::Zero(key) => director.answer(ask::Zero(key)),
        Asked::StartSync(daemon) => director.answer(ask::StartSync(daemon)),
        Asked::StopSync(role) => director.answer(ask::StopSync(role)),
        Asked::Change(Change::EditService(spec)) => edit_service(spec, director),
        Asked::Change(Change::EditServer(key, server)) => edit_server(key, server, director),
        Asked::Change(change) => director.answer(change),
    };
    result.map_err(Errno::from)
}

/// These programs know no local addresses, and not how servers learn of clients: a service keeps what it has.
fn edit_service(mut spec: ServiceSpec, director: &mut impl Director) -> Result<(), Refusal> {
    let known = one(spec.key, director)?.spec;
    (spec.local, spec.introduction) = (known.local, known.introduction);
    director.answer(Change::EditService(spec))
}

/// Nor FULLNAT, which they are shown as masquerading: a server keeps it.
fn edit_server(
    key: ServiceKey,
    mut server: ServerSpec,
    director: &mut impl Director,
) -> Result<(), Refusal> {
    if server.forwarding == Forwarding::Nat {
        let servers = one(key, director)?.servers;
        let same = servers.iter().find(|s| s.spec.endpoint == server.endpoint);
        if same.is_some_and(|s| s.spec.forwarding == Forwarding::FullNat) {
            server.forwarding = Forwarding::FullNat;
        }
    }
    director.answer(Change::EditServer(key, server))
}

/// A service as it is.
pub(crate) fn one(key: ServiceKey, director: &mut impl Director) -> Result<ServiceStatus, Refusal> {
    let listed = all(&ask::ListServices(Some(key)), director)?.services;
    let mut all = listed.into_iter();
    all.find(|status| status.spec.key == key)
        .ok_or_else(|| Refusal {
            errno: uvs_control::protocol::Errno::NotFound,
            message: format!("{key}: no such service"),
        })
}
