//! A table as it is sent to whoever compares it with another.

use serde::{Deserialize, Serialize};
use uvs_core::marks::MarkRule;
use uvs_core::service::{ServiceKey, ServiceSpec};
use uvs_core::snapshot::{Sysctls, Timeouts};

use crate::config::OwnVips;
use crate::table::Table;

/// All of a table that a configuration can say.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TableState {
    /// The services with their servers.
    pub services: Vec<ServiceSpec>,
    /// The rules that mark packets.
    pub marks: Vec<MarkRule>,
    /// Entries of the deny and allow lists; of those in files, the files.
    pub access: Vec<AccessRow>,
    /// The sysctls.
    pub sysctls: Sysctls,
    /// The time-outs.
    pub timeouts: Timeouts,
    /// Which VIPs are owned.
    pub own_vips: OwnVips,
}

/// An entry of a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AccessRow {
    /// Whose list it is on; `None` = that of every service.
    pub service: Option<ServiceKey>,
    /// `deny` or `allow` with the prefix, `deny_file` or `allow_file` with the path.
    pub entry: String,
    /// Whether a command has added it, which a reload leaves.
    pub live: bool,
}

impl From<&Table> for TableState {
    fn from(table: &Table) -> Self {
        let services = table.services().iter();
        Self {
            services: services.map(|spec| ServiceSpec::clone(spec)).collect(),
            marks: table.marks().to_vec(),
            access: table.lists().rows(),
            sysctls: table.sysctls().clone(),
            timeouts: table.timeouts(),
            own_vips: table.own_vips().clone(),
        }
    }
}
