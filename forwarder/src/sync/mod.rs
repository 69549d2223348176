//! The synchronisation with other directors: the sockets between the engines and the wire. The engine decides what
//! is told and takes up what comes, the crate `uvs-sync` makes bytes of it, the control thread carries it: nothing
//! here is on a packet's way, and nothing waits.

mod backup;
mod master;
mod socket;

use std::io;
use std::time::Duration;

use mio::{Registry, Token};
use uvs_control::protocol::{SyncDaemon, SyncNumbers, SyncRole, SyncStatus};
use uvs_core::peer::{TakenUp, Told};
use uvs_core::snapshot::Sysctls;
use uvs_core::time::Instant;
use uvs_sync::Version;
use uvs_sync::seal::Key;

use backup::Backup;
use master::Master;
pub(crate) use socket::mtu;

/// The sync daemons at work.
#[derive(Default)]
pub(crate) struct Sync {
    master: Option<Master>,
    backup: Option<Backup>,
}

/// How many sockets and how large their buffers, as the sysctls sync_ports and sync_sock_size say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sockets {
    /// Each on a port of its own.
    pub(crate) count: u16,
    /// Bytes of a buffer; `None` = the host's default.
    pub(crate) buffer: Option<usize>,
}

impl Sockets {
    /// As they are set now; a daemon keeps what it was started with.
    pub(crate) fn of(sysctls: &Sysctls) -> Self {
        let buffer = usize::try_from(sysctls.sync_sock_size).ok();
        Self {
            count: u16::try_from(sysctls.sync_ports)
                .unwrap_or(1)
                .clamp(1, MAX_PORTS),
            buffer: buffer.filter(|bytes| *bytes > 0),
        }
    }
}

/// `IPVS_SYNC_PORTS_MAX`.
const MAX_PORTS: u16 = 64;

/// A daemon whose sockets are open and that does not run yet.
pub(crate) enum Opened {
    Master(Master),
    Backup(Backup),
}

impl Opened {
    /// Opens a daemon's sockets; `events` is where a backup's are watched.
    ///
    /// # Errors
    /// The host refuses one: nothing is opened then.
    pub(crate) fn new(
        daemon: &SyncDaemon,
        sockets: Sockets,
        key: Option<Key>,
        events: (&Registry, Token),
    ) -> io::Result<Self> {
        Ok(match daemon.role {
            SyncRole::Master => Self::Master(Master::start(daemon, sockets, key)?),
            SyncRole::Backup => Self::Backup(Backup::start(daemon, sockets, key, events)?),
        })
    }
}

impl Sync {
    /// Has a daemon run.
    pub(crate) fn run(&mut self, daemon: Opened) {
        match daemon {
            Opened::Master(master) => self.master = Some(master),
            Opened::Backup(backup) => self.backup = Some(backup),
        }
    }

    /// Ends a daemon; what a master still has to say is said.
    pub(crate) fn stop(&mut self, role: SyncRole, now: Instant) {
        match role {
            SyncRole::Master => {
                if let Some(mut master) = self.master.take() {
                    master.flush(now);
                }
            }
            SyncRole::Backup => self.backup = None,
        }
    }

    /// What the daemons at work have counted.
    pub(crate) fn counts(&self) -> Vec<(SyncRole, SyncNumbers)> {
        let master = self.master.as_ref();
        let backup = self.backup.as_ref();
        let master = master.map(|m| (SyncRole::Master, m.count.numbers));
        let backup = backup.map(|b| (SyncRole::Backup, b.count.numbers));
        master.into_iter().chain(backup).collect()
    }

    /// A daemon's counts go on from these.
    pub(crate) fn go_on_from(&mut self, role: SyncRole, numbers: SyncNumbers) {
        let count = match role {
            SyncRole::Master => self.master.as_mut().map(|m| &mut m.count),
            SyncRole::Backup => self.backup.as_mut().map(|b| &mut b.count),
        };
        if let Some(count) = count {
            count.numbers = numbers;
        }
    }

    /// Takes what engines tell; `lost` is what they could not keep.
    pub(crate) fn tell(&mut self, now: Instant, version: Version, told: &[Told], lost: u64) {
        if let Some(master) = &mut self.master {
            master.tell(now, version, told, lost);
        }
    }

    /// Sends what has waited long enough.
    pub(crate) fn turn(&mut self, now: Instant) {
        if let Some(master) = &mut self.master {
            master.turn(now);
        }
    }

    /// How long until [`Sync::turn`] or [`Sync::take_up`] has work; `None` while there is nothing to wait for.
    pub(crate) fn left(&self, now: Instant) -> Option<Duration> {
        let more = self.backup.as_ref().is_some_and(Backup::has_more);
        match more {
            true => Some(Duration::ZERO),
            false => self.master.as_ref()?.due().map(|due| due.since(now)),
        }
    }

    /// Something has come for the backup.
    pub(crate) fn note_ready(&mut self) {
        if let Some(backup) = &mut self.backup {
            backup.note_ready();
        }
    }

    /// What other directors have told, a bounded part of it.
    pub(crate) fn take_up(&mut self, now: Instant) -> Vec<TakenUp> {
        self.backup.as_mut().map_or_else(Vec::new, |b| b.read(now))
    }

    /// The daemons of a table with what they have done; `refused` messages were read but not taken up.
    pub(crate) fn status(
        &self,
        daemons: &[SyncDaemon],
        refused: u64,
        now: Instant,
    ) -> Vec<SyncStatus> {
        let numbers = |role| match role {
            SyncRole::Master => self.master.as_ref().map(|m| m.count.numbers(now)),
            SyncRole::Backup => self.backup.as_ref().map(|b| {
                let mut numbers = b.count.numbers(now);
                numbers.messages = numbers.messages.saturating_sub(refused);
                numbers.refused += refused;
                numbers
            }),
        };
        let status = |daemon: &SyncDaemon| SyncStatus {
            daemon: daemon.clone(),
            numbers: numbers(daemon.role).unwrap_or_default(),
        };
        daemons.iter().map(status).collect()
    }
}

/// What a daemon counts.
#[derive(Default)]
struct Count {
    numbers: SyncNumbers,
    last: Option<Instant>,
}

impl Count {
    /// A datagram with so many messages went or came.
    fn datagram(&mut self, now: Instant, bytes: usize, messages: u64) {
        self.numbers.datagrams += 1;
        self.numbers.bytes += bytes as u64;
        self.numbers.messages += messages;
        self.last = Some(now);
    }

    fn numbers(&self, now: Instant) -> SyncNumbers {
        SyncNumbers {
            last: self.last.map(|last| now.since(last).as_secs()),
            ..self.numbers
        }
    }
}
