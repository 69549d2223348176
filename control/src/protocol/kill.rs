//! Connections that are to end.

use serde::{Deserialize, Serialize};
use uvs_core::flow::Protocol;

use super::Filter;

/// Which connections are to end, and where to go on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// Which.
    #[serde(default)]
    pub filter: KillFilter,
    /// Whether all may be meant: without, a filter that says nothing is refused.
    #[serde(default)]
    pub all: bool,
    /// Whether their ends are told.
    #[serde(default)]
    pub notice: KillNotice,
    /// 0, or [`Killed::next`] of the answer before.
    #[serde(default)]
    pub from: u64,
}

/// What a connection must be; `None` = anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KillFilter {
    /// Of this protocol.
    pub protocol: Option<Protocol>,
    /// In this state, as `uvs show conns` shows it.
    pub state: Option<String>,
    /// By service, server and client.
    pub ends: Filter,
}

impl KillFilter {
    /// Whether it says anything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether the ends of a connection that is killed are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KillNotice {
    /// As its service's `on_removal` says: `tell` does, `keep` and `drop` do not.
    #[default]
    OnRemoval,
    /// They are.
    Tell,
    /// They are not.
    Silent,
}

/// What became of a part of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// Connections that were ended,
    pub killed: u32,
    /// and those of them whose ends were told.
    pub told: u32,
    /// Where to go on, `None` at the end.
    pub next: Option<u64>,
}
