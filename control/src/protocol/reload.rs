//! What a reload is asked for and what becomes of it, and the table's latest changes.

use serde::{Deserialize, Serialize};

use crate::difference::{Edit, TableState};

/// How the configuration is to be read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReloadRequest {
    /// Only say what would become of it.
    pub dry_run: bool,
    /// Make the table what the file says, live weights and drains too.
    pub exact: bool,
    /// Go back by itself after so many seconds, unless it is confirmed.
    pub confirm: Option<u32>,
}

/// What a reload changes, or would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Everything that is changed.
    pub changes: Vec<Edit>,
    /// Of these, those that take back what was changed since the file was read: by ipvsadm, keepalived, `uvs` and the like.
    pub undone: Vec<Edit>,
    /// Weights that were changed since, drains among them, and that stay as they are: `before` is the file's.
    pub kept: Vec<Edit>,
}

/// The running table, and what it can be compared with.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Running {
    /// The configuration file, where there is one, as an absolute path.
    pub file: Option<String>,
    /// Whether the command line says which VIPs are owned, whatever the file says.
    pub own_vips_by_command_line: bool,
    /// The table.
    pub table: TableState,
}

/// A change of the table as the log has told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldChange {
    /// Its number, one more than that of the change before.
    pub number: u64,
    /// When, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// What, in words.
    pub what: String,
    /// Who asked for it.
    pub by: String,
    /// Whether it was refused.
    pub refused: bool,
}

/// The latest changes; the daemon keeps some hundreds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldChanges {
    /// Oldest first.
    pub changes: Vec<ToldChange>,
    /// The number that the next one will have: where to go on.
    pub next: u64,
}
