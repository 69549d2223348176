//! The table as another process takes it over in an upgrade: what is in force, whoever asked for it. The configuration's
//! lists and the host's firewall are not in it, for these are read again.

use serde::{Deserialize, Serialize};
use uvs_core::marks::MarkRule;
use uvs_core::service::ServiceSpec;
use uvs_core::snapshot::{Sysctls, Timeouts};

use super::Table;
use super::weights::{Drained, Server};
use crate::config::OwnVips;
use crate::protocol::{AccessChange, Refusal, SyncDaemon};

/// What a table hands down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Estate {
    services: Vec<ServiceSpec>,
    /// What servers of weight 0 had before.
    drained: Vec<(Server, u32)>,
    marks: Vec<MarkRule>,
    /// What commands have put onto lists.
    access: Vec<AccessChange>,
    sysctls: Sysctls,
    timeouts: Timeouts,
    own_vips: OwnVips,
    sync: Vec<SyncDaemon>,
}

impl Table {
    /// What another goes on from.
    pub fn hand_down(&self) -> Estate {
        let services = self.services.iter().map(|s| ServiceSpec::clone(s));
        Estate {
            services: services.collect(),
            drained: self.drained.all(),
            marks: self.marks.clone(),
            access: self.lists.added(),
            sysctls: self.sysctls.clone(),
            timeouts: self.timeouts,
            own_vips: self.own_vips.clone(),
            sync: self.sync.clone(),
        }
    }

    /// Goes on from what another has handed down; the lists of a configuration stay.
    ///
    /// # Errors
    /// It has something that this one would not take, such as a scheduler that is not known here.
    pub fn succeed(&mut self, estate: Estate) -> Result<(), Refusal> {
        self.replace(estate.services)?;
        self.drained = Drained::of(estate.drained);
        self.replace_marks(&estate.marks)?;
        for change in &estate.access {
            self.lists.add(change)?;
        }
        self.sysctls = estate.sysctls;
        self.timeouts = estate.timeouts;
        self.own_vips = estate.own_vips;
        self.sync = estate.sync;
        Ok(())
    }
}
