//! The sync daemons: started and ended by commands and by the configuration, and their place in a turn.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use uvs_control::config::Config;
use uvs_control::protocol::{
    Answers, Errno, Refusal, SyncDaemon, SyncRequest, SyncRole, SyncStatus, ask,
};
use uvs_control::regular;
use uvs_control::table::Table;
use uvs_core::peer::TakenUp;
use uvs_core::service::Forwarding;
use uvs_core::snapshot::Sysctls;
use uvs_core::time::Instant;
use uvs_exporter::SyncMetrics;
use uvs_sync::Version;
use uvs_sync::seal::{Key, MIN_SECRET};

use super::{Daemon, SYNC, failed};
use crate::clock::monotonic;
use crate::sync::{Opened, Sockets, mtu};
use crate::worker::Status;

impl Answers<ask::StartSync> for Daemon {
    fn answer(&mut self, ask::StartSync(wanted): ask::StartSync) -> Result<(), Refusal> {
        let what = format!(
            "start the {} sync daemon on {}",
            wanted.role, wanted.interface
        );
        self.audited(&what, |daemon| daemon.start_sync(&wanted))?;
        self.note_done(&format!(
            "the {} sync daemon on {} started",
            wanted.role, wanted.interface
        ));
        Ok(())
    }
}

impl Answers<ask::StopSync> for Daemon {
    fn answer(&mut self, ask::StopSync(role): ask::StopSync) -> Result<(), Refusal> {
        let what = format!("stop the {role} sync daemon");
        self.audited(&what, |daemon| daemon.stop_sync(role))?;
        self.note_done(&format!("the {role} sync daemon stopped"));
        Ok(())
    }
}

impl Answers<ask::ListSync> for Daemon {
    fn answer(&mut self, _: ask::ListSync) -> Result<Vec<SyncStatus>, Refusal> {
        let counted = self.counted()?;
        let daemons = self.table.sync_daemons();
        let told = told_of(&counted.all);
        Ok(self.sync.status(daemons, told, monotonic()))
    }
}

impl Daemon {
    /// Starts those that the configuration asks for.
    pub(super) fn start_all_sync(&mut self) -> Result<(), Refusal> {
        let wanted = self.options.config.sync.clone();
        wanted
            .iter()
            .try_for_each(|daemon| self.start_sync(daemon))?;
        self.sync_requests = wanted;
        Ok(())
    }

    /// Starts a sync daemon: its sockets first, for they can fail.
    pub(super) fn start_sync(&mut self, wanted: &SyncRequest) -> Result<(), Refusal> {
        self.table.check_families()?;
        let daemon = on_its_link(wanted)?;
        self.table.clone().start_sync(daemon.clone())?;
        let opened = self.open_sync(&daemon, self.table.sysctls())?;
        self.change(|table| table.start_sync(daemon.clone()))?;
        self.run_sync(&daemon, opened);
        Ok(())
    }

    pub(super) fn open_sync(
        &self,
        daemon: &SyncDaemon,
        sysctls: &Sysctls,
    ) -> Result<Opened, Refusal> {
        let events = (self.poll.registry(), SYNC);
        let key = daemon.key_file.as_deref().map(key_of).transpose()?;
        let opened = Opened::new(daemon, Sockets::of(sysctls), key, events);
        opened.map_err(|e| refused(&daemon.interface, &e))
    }

    fn run_sync(&mut self, daemon: &SyncDaemon, opened: Opened) {
        self.sync.run(opened);
        tracing::info!("{} is running", described(daemon));
    }

    /// Ends a sync daemon.
    pub(super) fn stop_sync(&mut self, role: SyncRole) -> Result<(), Refusal> {
        self.change(|table| table.stop_sync(role))?;
        self.end_sync(role);
        Ok(())
    }

    fn end_sync(&mut self, role: SyncRole) {
        self.tell_others();
        self.sync.stop(role, monotonic());
        tracing::info!("the {role} sync daemon has ended");
    }

    /// What they have done, for the exporter.
    pub(super) fn sync_metrics(&self, status: &Status) -> Vec<SyncMetrics> {
        let daemons = self.table.sync_daemons();
        let told = told_of(status);
        let all = self.sync.status(daemons, told, monotonic()).into_iter();
        let metrics = |SyncStatus { daemon, numbers }| SyncMetrics {
            role: daemon.role.word(),
            numbers,
        };
        all.map(metrics).collect()
    }

    /// What becomes of the sync daemons with a new configuration that says something else of them than the one
    /// before. Those that commands started are theirs. The sockets are open then: nothing that is left can fail but
    /// the change of the table.
    ///
    /// # Errors
    /// The host refuses a socket, or has no such interface: nothing is changed.
    pub(super) fn plan_sync(&self, new: &Config) -> Result<SyncPlan, Refusal> {
        let (old, wanted) = (&self.sync_requests, &new.sync);
        let come = wanted.iter().filter(|d| !old.contains(d));
        let start = come.map(|request| {
            let daemon = on_its_link(request)?;
            let opened = self.open_sync(&daemon, &new.sysctls)?;
            Ok((daemon, opened))
        });
        Ok(SyncPlan {
            stop: self.sync_to_end(new),
            start: start.collect::<Result<_, Refusal>>()?,
        })
    }

    /// Those that a new configuration does not ask for any more.
    pub(super) fn sync_to_end(&self, new: &Config) -> Vec<SyncRole> {
        let running = self.table.sync_daemons();
        let old = self.sync_requests.iter();
        let gone = old.filter(|d| !new.sync.contains(d)).map(|d| d.role);
        gone.filter(|role| running.iter().any(|d| d.role == *role))
            .collect()
    }

    /// What a plan has left to do once the table says it.
    pub(super) fn carry_out(&mut self, plan: SyncPlan) {
        for role in plan.stop {
            self.end_sync(role);
        }
        for (daemon, opened) in plan.start {
            self.run_sync(&daemon, opened);
        }
    }

    /// A turn's part: what engines tell goes out, and what other directors tell comes in.
    pub(super) fn synchronise(&mut self) {
        self.tell_others();
        let now = monotonic();
        self.sync.turn(now);
        let told = self.sync.take_up(now);
        if !told.is_empty() {
            self.note_clients_of(&told);
            self.workers.take_up(told);
        }
        self.transfer(now);
    }

    /// A part of all that is told those who ask for it, and of all that others were asked for.
    fn transfer(&mut self, now: Instant) {
        let events = (self.poll.registry(), SYNC);
        let workers = &self.workers;
        self.sync.tell_all(now, events, |from| {
            let part = workers.tell_all(from);
            part.inspect_err(|e| tracing::warn!("another director is not told all: {e}"))
                .ok()
        });
        let told = self.sync.ask_for_all(now, events);
        if told.is_empty() {
            return;
        }
        self.note_clients_of(&told);
        if let Err(e) = self.workers.take_up_part(told) {
            tracing::warn!("what another director has told may not be taken up: {e}");
        }
    }

    /// The guard learns of connections that other directors have told of.
    fn note_clients_of(&self, told: &[TakenUp]) {
        let clients: Vec<_> = told.iter().filter_map(client_of).collect();
        // The hook knows the engines' connections themselves.
        let guard = self.isolation.table();
        if let Some(Err(e)) = guard.map(|guard| guard.note_clients(&clients)) {
            tracing::warn!("the guard does not know clients that another director told of: {e}");
        }
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

/// Which sync daemons end with a new configuration, and which begin.
pub(super) struct SyncPlan {
    stop: Vec<SyncRole>,
    start: Vec<(SyncDaemon, Opened)>,
}

impl SyncPlan {
    /// Changes a table, `load` in between: what ends is no hindrance to new services, which are one to what begins.
    ///
    /// # Errors
    /// The table refuses it.
    pub(super) fn change(
        &self,
        table: &mut Table,
        load: impl FnOnce(&mut Table) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        for role in &self.stop {
            table.stop_sync(*role)?;
        }
        load(table)?;
        let mut started = self.start.iter();
        started.try_for_each(|(daemon, _)| table.start_sync(daemon.clone()))
    }
}

/// The daemon that is to run, as its interface's link has it.
fn on_its_link(wanted: &SyncRequest) -> Result<SyncDaemon, Refusal> {
    let link = mtu(&wanted.interface).map_err(|e| refused(&wanted.interface, &e))?;
    Ok(wanted.on(link))
}

/// How many connections the engines have that others told of, and how much of what was told they have not taken up.
fn told_of(status: &Status) -> (u64, u64) {
    (status.taken_up.into(), status.counters.not_taken_up)
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
    let peers: Vec<String> = daemon.peers.iter().map(ToString::to_string).collect();
    let with = match peers.is_empty() {
        true => format!("group {}", daemon.group),
        false => format!("peers {}", peers.join(" ")),
    };
    let sealed = if daemon.key_file.is_some() {
        ", with a key"
    } else {
        ""
    };
    let bulk = if daemon.bulk { ", with bulk" } else { "" };
    format!(
        "a {} sync daemon on {}, syncid {}, {with} port {}{sealed}{bulk}",
        daemon.role, daemon.interface, daemon.syncid, daemon.port
    )
}

/// Bytes of a key's file; a secret of 32 bytes is as good as any.
const MAX_KEY_FILE: u64 = 4096;

/// The key whose secret is in a file; white space around it is none of it.
fn key_of(file: &Path) -> Result<Key, Refusal> {
    let at = file.display();
    let read = |(file, _): (File, _)| {
        let mut secret = Vec::new();
        file.take(MAX_KEY_FILE)
            .read_to_end(&mut secret)
            .map(|_| secret)
    };
    let secret = regular::open(file).and_then(read);
    let secret = secret.map_err(|e| failed(format!("the sync key {at}: {e}")))?;
    Key::new(secret.trim_ascii()).ok_or_else(|| Refusal {
        errno: Errno::Invalid,
        message: format!(
            "the sync key {at} has less than {MIN_SECRET} bytes; make one on one director and copy it to the others: \
             openssl rand -hex 32 > {at}"
        ),
    })
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
