//! The sync daemons: started and ended by commands and by the configuration, and their place in a turn.

use std::io;

use uvs_control::protocol::{
    Answers, Errno, Refusal, SyncDaemon, SyncRequest, SyncRole, SyncStatus, ask,
};
use uvs_core::peer::TakenUp;
use uvs_core::service::Forwarding;
use uvs_exporter::SyncMetrics;
use uvs_sync::Version;

use super::{Daemon, SYNC, failed};
use crate::sync::{Sockets, mtu};
use crate::worker::monotonic;

impl Answers<ask::StartSync> for Daemon {
    fn answer(&mut self, ask::StartSync(wanted): ask::StartSync) -> Result<(), Refusal> {
        self.start_sync(&wanted)
    }
}

impl Answers<ask::StopSync> for Daemon {
    fn answer(&mut self, ask::StopSync(role): ask::StopSync) -> Result<(), Refusal> {
        self.stop_sync(role)
    }
}

impl Answers<ask::ListSync> for Daemon {
    fn answer(&mut self, _: ask::ListSync) -> Result<Vec<SyncStatus>, Refusal> {
        let refused = self.counted()?.all.counters.not_taken_up;
        let daemons = self.table.sync_daemons();
        Ok(self.sync.status(daemons, refused, monotonic()))
    }
}

impl Daemon {
    /// Starts those that the configuration asks for.
    pub(super) fn start_all_sync(&mut self) -> Result<(), Refusal> {
        let wanted = self.options.config.sync.clone();
        self.follow_sync(&[], &wanted)?;
        self.sync_requests = wanted;
        Ok(())
    }

    /// Starts a sync daemon: its sockets first, for they can fail.
    pub(super) fn start_sync(&mut self, wanted: &SyncRequest) -> Result<(), Refusal> {
        let refused = |e: io::Error| refused(&wanted.interface, &e);
        self.table.check_families()?;
        let daemon = wanted.on(mtu(&wanted.interface).map_err(refused)?);
        self.table.clone().start_sync(daemon.clone())?;
        let sockets = Sockets::of(self.table.sysctls());
        let events = (self.poll.registry(), SYNC);
        self.sync.start(&daemon, sockets, events).map_err(refused)?;
        let started = self.change(|table| table.start_sync(daemon.clone()));
        match started {
            Ok(()) => tracing::info!("{} is running", described(&daemon)),
            Err(_) => self.sync.stop(daemon.role, monotonic()),
        }
        started
    }

    /// Ends a sync daemon.
    pub(super) fn stop_sync(&mut self, role: SyncRole) -> Result<(), Refusal> {
        self.change(|table| table.stop_sync(role))?;
        self.tell_others();
        self.sync.stop(role, monotonic());
        tracing::info!("the {role} sync daemon has ended");
        Ok(())
    }

    /// What they have done, for the exporter; `refused` messages had no place in the table.
    pub(super) fn sync_metrics(&self, refused: u64) -> Vec<SyncMetrics> {
        let daemons = self.table.sync_daemons();
        let all = self.sync.status(daemons, refused, monotonic()).into_iter();
        let metrics = |SyncStatus { daemon, numbers: n }| SyncMetrics {
            role: daemon.role.word(),
            datagrams: n.datagrams,
            bytes: n.bytes,
            messages: n.messages,
            refused: n.refused,
            lost: n.lost,
            last: n.last,
        };
        all.map(metrics).collect()
    }

    /// Brings the sync daemons to what a new configuration says of them, where it says something else than the
    /// one before. Those that commands started are theirs.
    pub(super) fn follow_sync(
        &mut self,
        old: &[SyncRequest],
        new: &[SyncRequest],
    ) -> Result<(), Refusal> {
        for gone in old.iter().filter(|d| !new.contains(d)) {
            match self.stop_sync(gone.role) {
                Err(e) if e.errno != Errno::NotFound => return Err(e),
                _ => {}
            }
        }
        let come = new.iter().filter(|d| !old.contains(d));
        come.cloned().try_for_each(|d| self.start_sync(&d))
    }

    /// A turn's part: what engines tell goes out, and what other directors tell comes in.
    pub(super) fn synchronise(&mut self) {
        self.tell_others();
        let now = monotonic();
        self.sync.turn(now);
        let told = self.sync.take_up(now);
        if told.is_empty() {
            return;
        }
        let clients: Vec<_> = told.iter().filter_map(client_of).collect();
        // The hook knows the engines' connections themselves.
        let guard = self.isolation.table();
        if let Some(Err(e)) = guard.map(|guard| guard.note_clients(&clients)) {
            tracing::warn!("the guard does not know clients that another director told of: {e}");
        }
        self.workers.take_up(told);
    }

    /// What engines have told goes on its way.
    pub(super) fn tell_others(&mut self) {
        let version = match self.table.sysctls().sync_version {
            0 => Version::V0,
            _ => Version::V1,
        };
        while let Some((told, lost)) = self.workers.next_told() {
            self.sync.tell(monotonic(), version, &told, lost);
        }
    }
}

/// The client of a NAT connection: the guard keeps its server's replies from the host.
fn client_of(told: &TakenUp) -> Option<crate::guard::Server> {
    let replied_to = told.method == Some(Forwarding::Nat) && !told.template;
    Some((
        told.client.addr,
        told.protocol.filter(|_| replied_to)?,
        told.client.port,
    ))
}

fn described(daemon: &SyncDaemon) -> String {
    format!(
        "a {} sync daemon on {}, syncid {}, group {} port {}",
        daemon.role, daemon.interface, daemon.syncid, daemon.group, daemon.port
    )
}

/// What the host refused, and what is to be done about it.
fn refused(interface: &str, error: &io::Error) -> Refusal {
    if error.raw_os_error() == Some(libc::ENODEV) {
        return Refusal {
            errno: Errno::NoDevice,
            message: format!("{interface}: no such interface; name one that `ip link` shows"),
        };
    }
    failed(format!("the sync daemon's socket on {interface}: {error}"))
}
