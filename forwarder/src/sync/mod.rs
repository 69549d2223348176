//! The synchronisation with other directors: the sockets between the engines and the wire. The engine decides what
//! is told and takes up what comes, the crate `uvs-sync` makes bytes of it, the control thread carries it: nothing
//! here is on a packet's way, and nothing waits.

mod asker;
mod backup;
mod ended;
mod giver;
mod master;
mod socket;
#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

use mio::{Registry, Token};
use uvs_control::protocol::{SyncDaemon, SyncNumbers, SyncRole, SyncStatus};
use uvs_core::counters::BulkResult;
use uvs_core::peer::{TakenUp, Told};
use uvs_core::snapshot::Sysctls;
use uvs_core::time::Instant;
use uvs_sync::Version;
use uvs_sync::seal::{Before, Key};

use crate::workers::Cursor;
use asker::Asker;
use backup::Backup;
use giver::Giver;
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
    /// Opens a daemon's sockets; `events` is where those are watched by which something may come.
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
            SyncRole::Master => Self::Master(Master::start(daemon, sockets, key, events)?),
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

    /// Tells those that ask for all a part of it, which `part` copies from a place on; `events` is where they are
    /// watched.
    pub(crate) fn tell_all(
        &mut self,
        now: Instant,
        events: (&Registry, Token),
        part: impl FnOnce(Cursor) -> Option<(Vec<Told>, Option<Cursor>)>,
    ) {
        if let Some(master) = &mut self.master
            && let Some(giver) = &mut master.giver
        {
            giver.turn(now, events, part, &mut master.count);
        }
    }

    /// Asks others for all, where it is time; a bounded part of what they have told since.
    pub(crate) fn ask_for_all(&mut self, now: Instant, events: (&Registry, Token)) -> Vec<TakenUp> {
        match &mut self.backup {
            Some(Backup {
                asker: Some(asker),
                count,
                ..
            }) => asker.turn(now, events, count),
            _ => Vec::new(),
        }
    }

    /// How long until there is work, if nothing comes; `None` while there is nothing to wait for.
    pub(crate) fn left(&self, now: Instant) -> Option<Duration> {
        let more = self.backup.as_ref().is_some_and(Backup::has_more);
        let master = self.master.as_ref();
        let asker = self.backup.as_ref().and_then(|b| b.asker.as_deref());
        let giver = master.and_then(|m| m.giver.as_ref());
        let all = [
            more.then_some(Duration::ZERO),
            master.and_then(Master::due).map(|due| due.since(now)),
            asker.and_then(|asker: &Asker| asker.left(now)),
            giver.and_then(|giver: &Giver| giver.left(now)),
        ];
        all.into_iter().flatten().min()
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

    /// The daemons of a table with what they have done; the engines have `taken` that others told of, and have not taken
    /// up `refused` messages that were read.
    pub(crate) fn status(
        &self,
        daemons: &[SyncDaemon],
        (taken, refused): (u64, u64),
        now: Instant,
    ) -> Vec<SyncStatus> {
        let numbers = |role| match role {
            SyncRole::Master => self.master.as_ref().map(|m| m.count.numbers(now)),
            SyncRole::Backup => self.backup.as_ref().map(|b| {
                let mut numbers = b.count.numbers(now);
                numbers.messages = numbers.messages.saturating_sub(refused);
                numbers.refused += refused;
                numbers.entries = Some(taken);
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

    /// A sealed datagram says when it was sealed, and what of those before it did not come. Both times are since 1970.
    fn mark(&mut self, stamp: Duration, now: Duration, before: Before) {
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        self.numbers.delay_us = Some(micros(now) - micros(stamp));
        self.numbers.missed += u64::from(before.missed);
    }

    /// A transfer of the whole table has ended so.
    fn bulk(&mut self, result: BulkResult) {
        self.numbers.bulk[result as usize] += 1;
    }

    fn numbers(&self, now: Instant) -> SyncNumbers {
        SyncNumbers {
            last: self.last.map(|last| now.since(last).as_secs()),
            ..self.numbers
        }
    }
}
