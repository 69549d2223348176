//! A table as a configuration makes it.

use super::super::protocol::Refusal;
use super::Table;
use crate::access::ListFiles;
use crate::config::Config;

impl Table {
    /// Makes what a configuration says the state, all or nothing. What commands have added to lists stays, and so do the sync
    /// daemons.
    ///
    /// # Errors
    /// Something in it would be refused as a command, too.
    pub fn load(&mut self, config: &Config, lists: &ListFiles) -> Result<(), Refusal> {
        let mut next = self.clone();
        next.replace(config.services.clone())?;
        next.replace_marks(&config.marks)?;
        next.set_timeouts(config.timeouts)?;
        next.replace_sysctls(config.sysctls.clone());
        next.set_own_vips(config.own_vips.clone());
        next.configure_lists(&config.access, lists);
        *self = next;
        Ok(())
    }
}
