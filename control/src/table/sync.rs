//! The sync daemons: at most one of each kind, and none beside a server of another family than its service's, of
//! which the kernel's messages cannot tell.

use uvs_core::service::{ServerSpec, ServiceKey};
use uvs_core::snapshot::Peers;

use super::{Table, refuse};
use crate::protocol::{Errno, Refusal, SyncDaemon, SyncRole};

impl Table {
    /// The sync daemons that run, the master first.
    pub fn sync_daemons(&self) -> &[SyncDaemon] {
        &self.sync
    }

    /// Adds a sync daemon.
    ///
    /// # Errors
    /// There is one of its kind, or a server that it could not tell of.
    pub fn start_sync(&mut self, daemon: SyncDaemon) -> Result<(), Refusal> {
        self.check_families()?;
        let role = daemon.role;
        if self.sync.iter().any(|d| d.role == role) {
            let message = format!("a {role} sync daemon runs already; stop it first");
            return Err(refuse(Errno::Exists, message));
        }
        self.sync.push(daemon);
        self.sync.sort_by_key(|d| d.role == SyncRole::Backup);
        Ok(())
    }

    /// Whether a sync daemon could tell of all servers' connections.
    ///
    /// # Errors
    /// One is of another family than its service's.
    pub fn check_families(&self) -> Result<(), Refusal> {
        let mixed = self.services.iter().find_map(|s| {
            let server = s.servers.iter().find(|r| is_of_another_family(&s.key, r))?;
            Some((s.key, server.endpoint))
        });
        let Some((key, server)) = mixed else {
            return Ok(());
        };
        let message = format!(
            "no sync daemon can tell of connections of {key} to {server}, which is of another family; remove that \
             server first"
        );
        Err(refuse(Errno::Invalid, message))
    }

    /// Removes a sync daemon.
    ///
    /// # Errors
    /// There is none of that kind.
    pub fn stop_sync(&mut self, role: SyncRole) -> Result<(), Refusal> {
        let before = self.sync.len();
        self.sync.retain(|d| d.role != role);
        match self.sync.len() < before {
            true => Ok(()),
            false => Err(refuse(
                Errno::NotFound,
                format!("no {role} sync daemon is running"),
            )),
        }
    }

    /// Which of them run.
    pub(super) fn peers(&self) -> Peers {
        let runs = |role| self.sync.iter().any(|d| d.role == role);
        Peers {
            master: runs(SyncRole::Master),
            backup: runs(SyncRole::Backup),
        }
    }

    /// Whether sync daemons could tell of a server's connections, where any runs.
    pub(super) fn check_for_sync(
        &self,
        key: &ServiceKey,
        server: &ServerSpec,
    ) -> Result<(), Refusal> {
        if self.sync.is_empty() || !is_of_another_family(key, server) {
            return Ok(());
        }
        let message = format!(
            "{key}: {} is of another family, and the sync daemons cannot tell of its connections; stop them first",
            server.endpoint
        );
        Err(refuse(Errno::Invalid, message))
    }
}

fn is_of_another_family(key: &ServiceKey, server: &ServerSpec) -> bool {
    key.is_v4() != server.endpoint.addr.is_v4()
}
