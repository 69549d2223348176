//! The daemon behind `uvs run`: the control thread. It owns the desired state, follows the host's network,
//! keeps the guard, and publishes to the workers, which alone touch packets.

mod access;
mod announce;
mod audit;
mod begin;
mod clock;
mod commands;
pub(crate) mod derive;
pub(crate) mod derived;
mod find;
mod footing;
mod frames;
mod groups;
mod history;
mod hook;
mod hook_metrics;
mod info;
mod isolation;
mod kill;
mod listings;
mod live;
mod liveness;
mod metrics;
mod network;
mod notify;
mod plugins;
mod publish;
mod rates;
mod reload;
mod removed_servers;
mod running;
mod settings;
mod start;
mod states;
mod status;
mod sync;
mod takeover;
mod timed;
mod trace;
mod upgrade;
mod vips;
mod yielded;

use std::collections::BTreeSet;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant as Wall, SystemTime};

use anyhow::{Context, Result, bail};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook_mio::v1_0::Signals;
use uvs_core::crew::Fan;
use uvs_core::flow::Addr;
use uvs_core::numbers::LogLosses;
use uvs_core::shared::Set;
use uvs_core::snapshot::Limits;
use uvs_core::verdict::PortId;
use uvs_core::wire::ethernet::Mac;

use crate::clock::monotonic;
use crate::connection_log::ConnectionLog;
use crate::firewall;
use crate::guard::Unsure;
use crate::ipvs::IpvsSocket;
use crate::netlink::Mirror;
use crate::sync::Sync;
use crate::workers::{Counted, Cursor, Workers};
use audit::{Audit, By};
use clock::Clock;
use footing::InForce;
use groups::Groups;
use isolation::Isolation;
use liveness::Liveness;
use metrics::Metering;
use notify::Notifier;
use rates::Rates;
use reload::{Reading, Trial};
use removed_servers::RemovedServers;
pub use start::{Options, Placement, run};
use states::States;
pub(crate) use upgrade::Carried;
use upgrade::Upgrades;
use uvs_control::access::ListFiles;
use uvs_control::config::{self, HostFirewall};
use uvs_control::protocol::{Errno, Refusal, ReloadRequest, SyncRequest, SyncRole};
use uvs_control::server::Server;
use uvs_control::table::{Table, UnassignedVips};
use yielded::Yielded;

const NETLINK: Token = Token(0);
const SIGNALS: Token = Token(1);
const NOTICES: Token = Token(2);
/// The backup sync daemon's sockets.
const SYNC: Token = Token(3);
/// The control socket's tokens begin here.
const SOCKET: Token = Token(16);
/// And behind them those of the socket for IPVS's programs.
const IPVS_SOCKET: Token = Token(SOCKET.0 + Server::TOKENS);

/// The running daemon.
pub(crate) struct Daemon {
    options: Options,
    limits: Limits,
    interfaces: Vec<String>,
    table: Table,
    /// The files that the table's deny and allow lists are read from.
    list_files: ListFiles,
    /// Whether the host's firewall is followed, and what it is.
    host_firewall: HostFirewall,
    firewall: firewall::Watch,
    mirror: Mirror,
    isolation: Isolation,
    in_force: InForce,
    /// Rounds until memory is given back that a much greater table had.
    shrinks_in: Option<u32>,
    /// The guard's reconciler put it up again, and it knows no clients.
    guard_repaired: Arc<AtomicBool>,
    removed_servers: RemovedServers,
    /// What the servers are, so that changes are told.
    states: States,
    /// The VIPs that are not the host's.
    unassigned: UnassignedVips,
    /// Owned VIPs that another host claims.
    yielded: Yielded,
    rates: Rates,
    /// The synchronisation with other directors.
    sync: Sync,
    /// The sync daemons that the configuration asks for.
    sync_requests: Vec<SyncRequest>,
    history: history::LatencyHistory,
    estimator: Clock,
    workers: Workers,
    poll: Poll,
    signals: Signals,
    started: Wall,
    started_at: SystemTime,
    /// Where the owned VIPs were when they were last announced, and how often they are to be again.
    announced: BTreeSet<(Addr, PortId, Mac)>,
    announcements: u32,
    /// Where neighbours ask for them.
    groups: Groups,
    /// What the configuration or the command line says about metrics.
    metrics: config::Metrics,
    metering: Option<Metering>,
    /// How long each worker's schedulers take.
    schedule_times: Vec<Arc<timed::Times>>,
    /// How client and worker belong together.
    fan: Fan,
    reloads: uvs_exporter::Reloads,
    liveness: Liveness,
    notifier: Notifier,
    /// Why the configuration's last reload failed.
    reload_error: Option<String>,
    /// Whether another process takes over.
    upgrades: Upgrades,
    /// What the log had lost in the processes before this one.
    log_before: LogLosses,
    connection_log: ConnectionLog,
    /// What is told of changes of the table.
    audit: Audit,
    /// What the configuration file said when it was last put in force; `None` where there is no file.
    reading: Option<Reading>,
    /// What was reloaded on trial.
    trial: Option<Trial>,
}

impl Daemon {
    /// Runs until a signal ends it.
    pub(crate) fn run(mut self, mut server: Server, mut programs: IpvsSocket) -> Result<()> {
        let mut events = Events::with_capacity(128);
        let mut rounds = Clock::new(self.started);
        loop {
            let now = Wall::now();
            self.liveness.beat();
            self.isolation.beat(self.liveness.oldest());
            if let Some(stuck) = self.liveness.tell() {
                self.notifier.status(stuck);
            }
            self.notifier.turn(now, self.liveness.has_workers());
            let period = rounds.left(now).min(self.estimator.left(now));
            let sooner = [
                server.timeout(now),
                programs.timeout(now),
                self.notifier.left(now),
                self.sync.left(monotonic()),
                self.audit.left(now),
                self.trial_left(now),
            ];
            let timeout = sooner.into_iter().flatten().fold(period, Duration::min);
            if let Err(e) = self.poll.poll(&mut events, Some(timeout))
                && e.kind() != std::io::ErrorKind::Interrupted
            {
                return Err(e).context("the control thread cannot wait for events");
            }
            for event in &events {
                match event.token() {
                    NETLINK => self.follow_network(),
                    SIGNALS if self.take_signals() => return self.stop(),
                    SYNC => self.sync.note_ready(),
                    // Notices are looked at below; the rest is the two sockets'.
                    _ => {}
                }
            }
            self.take_notices();
            if self.upgrade(&mut server, &mut programs) {
                return self.farewell(server, programs);
            }
            self.synchronise();
            if self.guard_repaired.swap(false, Ordering::Acquire) {
                self.restore_clients();
            }
            self.meter();
            server.turn(&events, Wall::now());
            while let Some(call) = server.next(Wall::now()) {
                tracing::debug!(pid = call.author.peer.pid, uid = call.author.peer.uid, task = ?call.task, "asked");
                self.audit.asked_by(By::Client(call.author));
                let answer = self.answer(call.task);
                server.answer(call.ticket, answer, Wall::now());
            }
            programs.turn(&events, &mut self, Wall::now());
            self.end_trial(Wall::now());
            self.audit.turn(Wall::now());
            if self.estimator.is_due(Wall::now()) {
                self.estimate();
            }
            if rounds.is_due(Wall::now()) {
                self.round();
            }
            if let Some(worker) = self.workers.ended() {
                self.stop()?;
                bail!("{worker} failed, as logged above; nothing is forwarded any more");
            }
        }
    }

    /// Totals and rates move; servers that were removed may have lost their last connection.
    fn estimate(&mut self) {
        let settled = self.forget_idle().and_then(|idle| match idle {
            true => self.put_in_force(),
            false => Ok(()),
        });
        if let Err(e) = settled {
            tracing::error!("after a removed server's last connection: {}", e.message);
        }
        if let Ok(counted) = self.counted() {
            self.rates.tick(&counted.all.services);
            self.history.keep(&counted);
            self.tell_status(counted.all.connections);
            let events = self.workers.settle(&counted.all.services);
            events.iter().for_each(network::log_event);
            let services = self.table.services();
            let fib = self.mirror.fib();
            let changes = self.states.follow(services, &counted.all.services, &fib);
            changes.iter().for_each(states::Change::log);
        }
    }

    /// What `systemctl status` shows.
    fn tell_status(&mut self, connections: u32) {
        let services = self.table.services();
        let servers: usize = services.iter().map(|s| s.servers.len()).sum();
        let failed = self.reload_error.as_ref();
        let failed = failed.map_or_else(String::new, |e| format!("; the last reload failed: {e}"));
        self.notifier.status(format_args!(
            "{} services, {servers} servers, {connections} connections{failed}",
            services.len()
        ));
    }

    /// Neighbours that need asking again, lists that have changed, announcements, owned VIPs that another host
    /// claims.
    fn round(&mut self) {
        self.shrinks_in = match self.shrinks_in {
            Some(0) => {
                crate::sys::trim_memory();
                None
            }
            rounds => rounds.map(|rounds| rounds - 1),
        };
        self.isolation
            .look_after(&self.interfaces, &self.mirror.fib());
        self.read_lists_again();
        self.follow_firewall();
        if let Err(e) = self.mirror.renew() {
            tracing::warn!("asking for neighbours: {e}");
        }
        if self.announcements > 0 {
            self.announcements -= 1;
            self.announce();
        }
        self.ask_for_yielded();
    }

    /// A guard that was put up again learns who the engines' clients are.
    fn restore_clients(&mut self) {
        let Some(unsure) = self.isolation.unsure() else {
            return;
        };
        if let Err(e) = self.tell_clients(unsure) {
            tracing::warn!(
                "the guard does not know all clients: {}; for half a minute what NAT servers send to others is lost",
                e.message
            );
        }
    }

    /// Ends early where somebody removes the guard meanwhile: the reconciler tells of the next.
    fn tell_clients(&mut self, unsure: Unsure) -> Result<(), Refusal> {
        let mut next = Some(Cursor::default());
        while let Some(from) = next {
            let (page, rest) = self.workers.connections(from).map_err(failed)?;
            let clients = derive::clients(&page);
            let Some(guard) = self.isolation.table() else {
                return Ok(());
            };
            if !guard.remember(unsure, &clients).map_err(failed)? {
                return Ok(());
            }
            next = rest;
        }
        if let Some(guard) = self.isolation.table() {
            guard.clear_unsure(unsure).map_err(failed)?;
        }
        Ok(())
    }

    fn counted(&self) -> Result<Counted, Refusal> {
        let mut counted = self.workers.status().map_err(failed)?;
        self.count_in_kernel(&mut counted.all);
        Ok(counted)
    }

    fn watch_signals(&mut self) -> std::io::Result<()> {
        self.poll
            .registry()
            .register(&mut self.signals, SIGNALS, Interest::READABLE)
    }

    /// Whether to stop.
    fn take_signals(&mut self) -> bool {
        let pending: Vec<i32> = self.signals.pending().collect();
        for signal in pending {
            match signal {
                SIGHUP => {
                    self.audit.asked_by(By::Signal);
                    if let Err(e) = self.reload(&ReloadRequest::default()) {
                        tracing::error!("the configuration was not reloaded: {}", e.message);
                    }
                }
                SIGUSR1 if self.connection_log.reopen() => {}
                SIGUSR1 | SIGUSR2 => {
                    tracing::info!(
                        signal,
                        "a signal that means nothing here: there is no log file to open again"
                    );
                }
                _ => return true,
            }
        }
        false
    }

    fn stop(mut self) -> Result<()> {
        self.audit.flush();
        tracing::info!("stopping");
        self.notifier.stopping();
        self.report_totals();
        self.workers.stop();
        self.connection_log.finish();
        self.tell_others();
        self.sync.stop(SyncRole::Master, monotonic());
        if let Err(e) = self.mirror.keep(&Set::new()) {
            tracing::warn!("a real server's next hop stays resolved: {e}");
        }
        // The engines are silent now: the kernel may have its packets back.
        self.isolation.remove().context("removing the guard")?;
        Ok(())
    }

    /// What this run did, for the log.
    fn report_totals(&self) {
        let Ok(Counted { all: status, .. }) = self.counted() else {
            return;
        };
        for (name, port) in self.interfaces.iter().zip(&status.ports) {
            tracing::info!(
                interface = name,
                received = port.rx.received,
                ring_full = port.rx.kernel_drops,
                copied = port.rx.copied,
                sent = port.ledger.sent,
                sent_bytes = port.ledger.sent_bytes,
                refused = ?port.errors,
                "port totals",
            );
        }
        tracing::info!(
            p50_ns = status.latency.value_at_quantile(0.5),
            p99_ns = status.latency.value_at_quantile(0.99),
            frames = status.latency.len(),
            "from ring to wire",
        );
    }
}

fn failed(e: impl std::fmt::Display) -> Refusal {
    Refusal {
        errno: Errno::Failed,
        message: e.to_string(),
    }
}

/// Registers a descriptor that this module does not own.
fn watch(poll: &Poll, fd: RawFd, token: Token) -> std::io::Result<()> {
    poll.registry()
        .register(&mut SourceFd(&fd), token, Interest::READABLE)
}

/// The signals that the daemon answers. By the first of the last two the connection log is opened again; both would end
/// the daemon if it did not ask for them.
fn signals() -> std::io::Result<Signals> {
    Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2])
}

/// What a daemon without sockets is made of.
pub mod parts {
    pub use super::clock::Clock;
    pub use super::rates::Rates;
    pub use super::status::listed;
}
