//! Upgrades: another process takes over from this one, or this one goes on as if nothing had been.
//!
//! A thread starts the new daemon and waits until it could begin, so that this one serves meanwhile as ever. Then the
//! control thread stops the workers, hands all down, and either leaves or takes it back (`crate::succession`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant as Wall};

use anyhow::{Context, Result, bail};
use mio::Waker;
use serde::{Deserialize, Serialize};
use uvs_control::protocol::{
    Answer, Answers, Ask, Command, Errno, Refusal, SyncDaemon, SyncNumbers, SyncRole, Upgrade, ask,
};
use uvs_control::server::{Server as Socket, Task};
use uvs_control::table::Server;

use super::rates::Rates;
use super::removed_servers::RemovedServers;
use super::{Daemon, failed, timed};
use crate::clock::monotonic;
use crate::hook::{NotHooked, Offer};
use crate::ipvs::IpvsSocket;
use crate::succession::{Descriptors, Estate, NoSuccessor, Past, Successor};

/// How long whoever asked for an upgrade has to hear that it is done.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long systemd has to make room for the word that the service is another process's: it would take the end of this one
/// for the service's.
const SYSTEMD: Duration = Duration::from_secs(60);
/// A turn of that.
const TURN: Duration = Duration::from_millis(50);

/// What the control thread shows of the time before, and removed servers whose replies still come.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Carried {
    pub(super) rates: Rates,
    pub(super) removed_servers: RemovedServers,
    /// What sync daemons have done.
    pub(super) sync: Vec<(SyncRole, SyncNumbers)>,
    /// The servers whose weights were changed since the file was read, and what it said.
    pub(super) live_weights: Vec<(Server, u32)>,
}

/// How far the last upgrade is, and what the thread brings that prepares it.
pub(super) struct Upgrades {
    /// The program of this process as it was called when it started: there its next release will be.
    program: Option<PathBuf>,
    waker: Arc<Waker>,
    state: Upgrade,
    prepared: Option<Receiver<Result<Successor, NoSuccessor>>>,
}

impl Upgrades {
    pub(super) fn new(waker: Arc<Waker>) -> Self {
        Self {
            program: std::env::current_exe().ok(),
            waker,
            state: Upgrade::None,
            prepared: None,
        }
    }

    /// Whether another process is about to take over.
    pub(super) const fn is_under_way(&self) -> bool {
        self.prepared.is_some()
    }

    /// Whether another process has all that was this one's.
    fn is_over(&self) -> bool {
        matches!(self.state, Upgrade::Done { .. } | Upgrade::Lost(_))
    }

    fn begin(&mut self, binary: PathBuf, hook: Option<Offer>) -> std::io::Result<()> {
        let (to, prepared) = channel();
        let waker = Arc::clone(&self.waker);
        let thread = thread::Builder::new().name("uvs-upgrade".to_owned());
        thread.spawn(move || {
            let ready = prepare(&binary, hook);
            let _ = to.send(ready);
            let _ = waker.wake();
        })?;
        self.prepared = Some(prepared);
        self.state = Upgrade::Starting;
        Ok(())
    }

    /// The new daemon, once it could begin.
    fn ready(&mut self) -> Option<Result<Successor, NoSuccessor>> {
        let ready = match self.prepared.as_ref()?.try_recv() {
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => {
                let why = "the thread that prepares it has ended".to_owned();
                Err(NoSuccessor::Here(why))
            }
            Ok(ready) => ready,
        };
        self.prepared = None;
        Some(ready)
    }
}

fn prepare(binary: &Path, hook: Option<Offer>) -> Result<Successor, NoSuccessor> {
    let mut successor = Successor::start(binary)?;
    successor.wait_ready()?;
    successor.show(hook)?;
    Ok(successor)
}

impl Answers<ask::Upgrade> for Daemon {
    /// Begins one.
    fn answer(&mut self, ask::Upgrade(binary): ask::Upgrade) -> Result<(), Refusal> {
        let refuse = |message: String| Refusal {
            errno: Errno::Failed,
            message,
        };
        if self.upgrades.is_under_way() {
            return Err(refuse("an upgrade is under way already".to_owned()));
        }
        self.refuse_on_trial()?;
        let binary = binary.map(PathBuf::from);
        let Some(binary) = binary.or_else(|| self.upgrades.program.clone()) else {
            return Err(refuse(
                "this daemon does not know which program it is; name one with --binary".to_owned(),
            ));
        };
        let offer = self.isolation.keeper().map(|keeper| keeper.offer());
        let offer = offer.transpose();
        let offer = offer.map_err(|e| refuse(format!("the hook's maps: {e}")))?;
        tracing::info!(binary = %binary.display(), "an upgrade begins, by {}", self.audit.by());
        let begun = self.upgrades.begin(binary, offer);
        begun.map_err(|e| refuse(format!("the upgrade's thread: {e}")))
    }
}

impl Answers<ask::UpgradeState> for Daemon {
    fn answer(&mut self, _: ask::UpgradeState) -> Result<Upgrade, Refusal> {
        Ok(self.upgrades.state.clone())
    }
}

impl Daemon {
    /// A turn's part: hands over to a new daemon that could begin. Whether it is over with this one.
    pub(super) fn upgrade(&mut self, server: &mut Socket, programs: &mut IpvsSocket) -> bool {
        let Some(ready) = self.upgrades.ready() else {
            return false;
        };
        let outcome = ready.and_then(|successor| self.hand_over(successor, (server, programs)));
        self.upgrades.state = outcome.unwrap_or_else(|why| {
            tracing::error!("the upgrade has failed, and this daemon goes on: {why}");
            Upgrade::Failed(why.to_string())
        });
        self.upgrades.is_over()
    }

    /// Hands all over, or takes it back.
    fn hand_over(
        &mut self,
        mut successor: Successor,
        (server, programs): (&mut Socket, &mut IpvsSocket),
    ) -> Result<Upgrade, NoSuccessor> {
        let here = |e: anyhow::Error| NoSuccessor::Here(format!("{e:#}"));
        let sockets = self.descriptors(server, programs);
        let begun = Wall::now();
        let sync = self.sync.counts();
        let handed = self.workers.hand_down().and_then(|workers| {
            self.stop_sync_sockets();
            Ok((workers, sockets?))
        });
        let handed = handed.map_err(here).and_then(|(workers, mut descriptors)| {
            let estate = self.estate(&sync);
            let hook = self.isolation.keeper().map(|keeper| keeper.hand_down());
            let hook = hook.transpose().context("the hook's links");
            let (hook, links) = hook.map_err(here)?.unzip();
            descriptors.links = links.unwrap_or_default();
            let estate = Estate { hook, ..estate };
            successor.hand(estate, descriptors, workers)
        });
        if let Err(why) = handed {
            // Before anything is as it was: it must not touch a frame any more.
            drop(successor);
            self.take_back(&sync);
            return Err(why);
        }
        let pid = successor.id();
        server.leave();
        programs.leave();
        self.isolation.leave();
        // Before the other says anything to systemd itself.
        self.notifier.main_pid(pid);
        let serves = successor.leave();
        let paused_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.workers.stop();
        self.connection_log.finish();
        Ok(match serves {
            Ok(()) => {
                tracing::info!(pid, paused_ms, "another daemon has taken over");
                Upgrade::Done { pid, paused_ms }
            }
            Err(why) => {
                tracing::error!(
                    pid,
                    "another daemon has taken over and does not serve: {why}"
                );
                Upgrade::Lost(why.to_string())
            }
        })
    }

    /// All goes on as it was.
    fn take_back(&mut self, sync: &[(SyncRole, SyncNumbers)]) {
        if let Err(e) = self.isolation.go_on() {
            tracing::error!("after an upgrade that failed: {e}");
        }
        self.workers.go_on();
        self.start_sync_sockets(sync);
    }

    fn descriptors(&mut self, server: &Socket, programs: &IpvsSocket) -> Result<Descriptors> {
        let claim = self.isolation.pause();
        let metering = self.metering.as_ref();
        Ok(Descriptors {
            claim: claim.context("the claim on guard and hook")?,
            control: server.hand_down().context("the control socket")?,
            ipvs: programs
                .hand_down()
                .context("the socket for IPVS's programs")?,
            metrics: metering
                .map(|metering| metering.hand_down())
                .transpose()
                .context("the metrics' socket")?,
            links: Vec::new(),
        })
    }

    fn estate(&self, sync: &[(SyncRole, SyncNumbers)]) -> Estate {
        let carried = Carried {
            rates: self.rates.clone(),
            removed_servers: self.removed_servers.clone(),
            sync: sync.to_vec(),
            live_weights: self.live_weights(),
        };
        let why_not = self.isolation.why_not_hooked();
        Estate {
            interfaces: self.interfaces.clone(),
            socket: self.options.socket.clone(),
            ipvs_socket: self.options.ipvs_socket.clone(),
            table: self.table.hand_down(),
            sync_requests: self.sync_requests.clone(),
            carried,
            past: self.counted_so_far(),
            hook: None,
            why_not_hooked: why_not.map_or_else(|| "--hook off".to_owned(), NotHooked::reason),
            has_metrics: false,
            fan_secret: self.fan.secret(),
            workers: Vec::new(),
        }
    }

    /// What was counted outside the workers, by this daemon and those before it.
    fn counted_so_far(&self) -> Past {
        let repairs = self.isolation.repairs();
        Past {
            started_at: self.started_at,
            netlink_overruns: self.mirror.overruns(),
            guard_repairs: (repairs.removed, repairs.damaged),
            log: self.log_losses(),
            records: self.connection_log.numbers(),
            reloads: (self.reloads.succeeded, self.reloads.failed),
            schedule: timed::counted(&self.schedule_times),
        }
    }

    fn stop_sync_sockets(&mut self) {
        self.tell_others();
        for role in [SyncRole::Master, SyncRole::Backup] {
            self.sync.stop(role, monotonic());
        }
    }

    /// Opens the sockets of the table's sync daemons; what they had counted goes on.
    pub(super) fn start_sync_sockets(&mut self, counts: &[(SyncRole, SyncNumbers)]) {
        let daemons: Vec<SyncDaemon> = self.table.sync_daemons().to_vec();
        for daemon in daemons {
            match self.open_sync(&daemon, self.table.sysctls()) {
                Ok(opened) => self.sync.run(opened),
                Err(e) => tracing::error!(
                    "the {} sync daemon cannot go on: {}",
                    daemon.role,
                    e.message
                ),
            }
        }
        for (role, numbers) in counts {
            self.sync.go_on_from(*role, *numbers);
        }
    }

    /// Tells who has asked that it is done, and programs the rest of their answers; nothing else is answered any more.
    ///
    /// # Errors
    /// The other does not serve: whoever looks after this process is to start another.
    pub(super) fn farewell(mut self, mut server: Socket, mut programs: IpvsSocket) -> Result<()> {
        self.audit.flush();
        let end = Wall::now() + FAREWELL;
        let mut events = mio::Events::with_capacity(64);
        let mut told = false;
        let last = Wall::now() + SYSTEMD;
        loop {
            let now = Wall::now();
            let has_more = programs.finish(now) || !told;
            if !(has_more && now < end || !self.notifier.flush() && now < last) {
                break;
            }
            let _ = self.poll.poll(&mut events, Some(TURN));
            server.turn(&events, Wall::now());
            while let Some(call) = server.next(Wall::now()) {
                let answer = match call.task {
                    Task::Command(Command::Ask(Ask::UpgradeState)) => {
                        told = true;
                        self.answer(call.task)
                    }
                    Task::Command(_) | Task::Rest(_) => Answer::Last(Err(failed(
                        "another daemon has taken over on this socket; ask again",
                    ))),
                };
                server.answer(call.ticket, answer, Wall::now());
            }
        }
        match self.upgrades.state {
            Upgrade::Lost(why) => bail!("a daemon has taken over and does not serve: {why}"),
            _ => Ok(()),
        }
    }
}
