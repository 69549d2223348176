//! How far an upgrade is, in which another process takes over from the daemon.

use serde::{Deserialize, Serialize};

/// How far the last upgrade is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Upgrade {
    /// None was asked for.
    #[default]
    None,
    /// The new process reads its configuration; this one serves.
    Starting,
    /// Nothing has come of it, and this one serves on: why.
    Failed(String),
    /// The new process serves.
    Done {
        /// Its process id.
        pid: u32,
        /// How long frames waited in the rings, milliseconds.
        paused_ms: u64,
    },
    /// The new process has all, and did not say that it serves: why.
    Lost(String),
}
