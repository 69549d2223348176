//! Deny and allow lists in the control protocol.

use std::fmt;

use serde::{Deserialize, Serialize};
use uvs_core::access::{Action, Prefix};
use uvs_core::service::ServiceKey;

/// Entries to be added to a list or removed from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessChange {
    /// Which of the two lists.
    pub action: Action,
    /// Whose; `None` = that of every service.
    pub service: Option<ServiceKey>,
    /// The entries.
    pub prefixes: Vec<Prefix>,
}

/// An entry of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessEntry {
    /// Whose list it is on; `None` = that of every service.
    pub service: Option<ServiceKey>,
    /// The clients.
    pub prefix: Prefix,
    /// What becomes of them.
    pub action: Action,
    /// Where it comes from.
    pub origin: Origin,
}

/// Some of the entries of all lists.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccessPage {
    /// The entries.
    pub entries: Vec<AccessEntry>,
    /// Where the next part begins; `None` where there is none.
    pub next: Option<u32>,
}

/// Where an entry comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The configuration.
    Config,
    /// A file that the configuration names.
    File(String),
    /// A command; it is gone when the daemon ends.
    Live,
    /// The host's firewall, which is followed.
    Firewall,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("the configuration"),
            Self::File(path) => f.write_str(path),
            Self::Live => f.write_str("a command"),
            Self::Firewall => f.write_str("the host's firewall"),
        }
    }
}
