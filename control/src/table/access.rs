//! The deny and allow lists. Like the rules that mark packets they are apart from services: `ipvsadm -C`, `-D`
//! and `-R` leave a service's list, so that the restart of whoever fills the table lets nobody in.

use std::path::Path;
use std::sync::Arc;

use uvs_core::access::Prefix;

use super::super::protocol::{AccessChange, Refusal};
use super::Table;
use crate::access::{AllConfigured, ListFiles, Lists};
use crate::firewall::{self, DropRule};

impl Table {
    /// The lists.
    pub fn lists(&self) -> &Lists {
        &self.lists
    }

    /// Makes a configuration's lists the state; what was added by commands stays.
    pub fn configure_lists(&mut self, configured: &AllConfigured, files: &ListFiles) {
        self.lists.configure(configured, files);
    }

    /// A file of a list has changed.
    pub fn set_list_file(&mut self, path: &Path, prefixes: &Arc<[Prefix]>) {
        self.lists.set_file(path, prefixes);
    }

    /// What the host's firewall keeps out.
    pub fn set_drop_rules(&mut self, drop_rules: Vec<DropRule>) {
        self.drop_rules = drop_rules.into();
    }

    /// What the host's firewall kept out when it was read last.
    pub fn drop_rules(&self) -> &[DropRule] {
        &self.drop_rules
    }

    /// Whether the host's firewall or a list has changed since `before`, of which this was made.
    pub fn keeps_out_others(&self, before: &Self) -> bool {
        !Arc::ptr_eq(&self.drop_rules, &before.drop_rules)
            || !Arc::ptr_eq(&self.lists.built(), &before.lists.built())
    }

    /// Follows the host's firewall for the services that there are now.
    pub fn follow_firewall(&mut self) {
        let services = self.services.iter().map(|s| s.key);
        self.lists
            .follow(firewall::followed(&self.drop_rules, services));
    }

    /// Adds entries, all or none. The list of a service that is not there would protect nothing.
    pub(super) fn add_access(&mut self, change: &AccessChange) -> Result<(), Refusal> {
        if let Some(key) = change.service {
            self.find(&key)?;
        }
        self.lists.add(change)
    }
}
