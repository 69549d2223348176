//! Starting up: everything that can fail does so here, in an order that leaves nothing behind.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant as Wall};

use anyhow::{Context, Result, anyhow};
use mio::{Poll, Waker};
use rustix::thread::{CapabilitySet, capabilities};
use uvs_control::access::ListFiles;
use uvs_control::config::{Config, HostFirewall, Metrics, OwnVips};
use uvs_control::plugins::Schedulers;
use uvs_control::protocol::{HookMode, Refusal, SyncNumbers, SyncRole};
use uvs_control::server::Server;
use uvs_control::table::{Table, UnassignedVips};
use uvs_core::crew::Fan;
use uvs_core::engine::Engine;
use uvs_core::snapshot::Sysctls;

use super::audit::Audit;
use super::begin::Before;
use super::clock::Clock;
use super::footing::InForce;
use super::groups::Groups;
use super::history::LatencyHistory;
use super::liveness::Liveness;
use super::metrics::{Metering, first_load};
use super::notify::Notifier;
use super::reload::Reading;
use super::states::States;
use super::yielded::Yielded;
use super::{
    Daemon, IPVS_SOCKET, NETLINK, NOTICES, SOCKET, Upgrades, begin, derive, signals, watch,
};
use crate::VERSION;
use crate::connection_log::ConnectionLog;
use crate::firewall;
use crate::ipvs::IpvsSocket;
use crate::log::Tally;
use crate::netlink::Mirror;
use crate::succession::Predecessor;
use crate::sync::Sync;
use crate::worker::Ports;
use crate::workers::{Common, Workers};

/// What `uvs run` was asked to do.
pub struct Options {
    /// The configuration file, read again by a reload.
    pub file: Option<PathBuf>,
    /// What it said at the start.
    pub config: Config,
    /// Which VIPs are to be owned, where the command line says it, whatever the file says.
    pub own_vips: Option<OwnVips>,
    /// Interfaces, in the order of their ports.
    pub interfaces: Vec<String>,
    /// The control socket.
    pub socket: PathBuf,
    /// The socket for programs that speak to the kernel's IPVS.
    pub ipvs_socket: PathBuf,
    /// How much is given to the kernel, where the command line, the file or the environment says it.
    pub hook: HookMode,
    /// How many workers, and where.
    pub workers: Placement,
    /// What is exported, and where.
    pub metrics: Metrics,
    /// The schedulers, built-in and from plugins.
    pub schedulers: Arc<Schedulers>,
    /// What the log has lost.
    pub log: Arc<Tally>,
    /// The daemon that this one is to take over from.
    pub predecessor: Option<Arc<Predecessor>>,
}

/// How many workers there are, where they run and how they wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Their number, at least one.
    pub count: u32,
    /// The CPUs that they run on, one after the other and round again; empty = where the kernel puts them.
    pub cpus: Vec<u32>,
    /// How long each looks for frames before it sleeps.
    pub busy_poll: Duration,
}

/// Starts a daemon and runs it until a signal ends it.
///
/// # Errors
/// What is missing or taken; nothing of it is left behind then.
pub fn run(options: Options) -> Result<()> {
    let started = Wall::now();
    check_capabilities()?;
    // Before anything that a signal would have to undo.
    let signals = signals().context("signals")?;
    let log = ConnectionLog::start(options.config.connection_log.as_ref())?;
    let sockets = begin::sockets(&options)?;
    let mut mirror = Mirror::new(&options.interfaces)?;
    check_addresses(&options, &mirror)?;
    let poll = Poll::new()?;
    let notify = Arc::new(Waker::new(poll.registry(), NOTICES)?);
    let guard_repaired = Arc::new(AtomicBool::new(false));
    let (mut table, list_files, reading) = first_table(&options)?;
    let repaired = begin::repaired(&guard_repaired, &notify);
    let (firewall, host_rules) = host_rules(&options);
    let begun = begin::all(&options, sockets, &mirror, &mut table, repaired)?;
    let before = begun.before;
    let reading = handed_down(reading, &options, &table, &before);
    mirror.count_overruns(before.past.netlink_overruns);

    let workers = start_workers(begun.workers, begun.fan, &options, (&mirror, &log, &notify))?;
    let liveness = Liveness::new(workers.heartbeats(), Arc::clone(&options.schedulers));
    let upgrades = Upgrades::new(Arc::clone(&notify));
    let metering = metering(&options, notify, &liveness, begun.metrics_listener)?;

    watch(&poll, mirror.fd(), NETLINK)?;
    let daemon = Daemon {
        limits: options.config.limits.clone(),
        metrics: options.metrics,
        host_firewall: options.config.host_firewall,
        interfaces: options.interfaces.clone(),
        options,
        table,
        list_files,
        firewall,
        mirror,
        isolation: begun.isolation,
        in_force: InForce::default(),
        shrinks_in: None,
        guard_repaired,
        removed_servers: before.carried.removed_servers,
        states: States::default(),
        unassigned: UnassignedVips::default(),
        yielded: Yielded::default(),
        rates: before.carried.rates,
        sync: Sync::default(),
        sync_requests: before.sync_requests,
        history: LatencyHistory::default(),
        estimator: Clock::new(started),
        workers,
        poll,
        signals,
        started,
        started_at: before.past.started_at,
        announced: BTreeSet::new(),
        announcements: 0,
        groups: Groups::default(),
        metering,
        schedule_times: begun.schedule_times,
        fan: begun.fan,
        reloads: first_load(before.past.reloads),
        liveness,
        notifier: Notifier::from_env(),
        reload_error: None,
        upgrades,
        log_before: before.past.log,
        connection_log: log.going_on(before.past.records),
        audit: Audit::new(started),
        reading,
        trial: None,
    };
    let sockets = (begun.server, begun.programs);
    serve(daemon, sockets, host_rules, &before.carried.sync)
}

/// The table as the configuration has it.
fn first_table(options: &Options) -> Result<(Table, ListFiles, Option<Reading>)> {
    let list_files = ListFiles::load(&options.config.access)?;
    let mut table = Table::new(Arc::clone(&options.schedulers));
    let own = options.own_vips.as_ref();
    let loaded = load(&mut table, &options.config, &list_files, own);
    loaded.map_err(|refusal| anyhow!(refusal.message))?;
    tell(&options.config, own);
    let file = options.file.as_ref();
    let reading = file.map(|_| Reading::new(table.clone(), &options.config, &list_files));
    Ok((table, list_files, reading))
}

/// What the configuration said when it was put in force, which was another daemon's work where that has handed down.
fn handed_down(
    reading: Option<Reading>,
    options: &Options,
    table: &Table,
    before: &Before,
) -> Option<Reading> {
    let live = &before.carried.live_weights;
    match options.predecessor {
        None => reading,
        Some(_) => reading.map(|reading| reading.handed_down(table, live)),
    }
}

fn metering(
    options: &Options,
    notify: Arc<Waker>,
    liveness: &Liveness,
    listener: Option<TcpListener>,
) -> Result<Option<Metering>> {
    Metering::start(&options.metrics, notify, liveness.clone(), listener)
}

/// The host's firewall, where it is followed. `nft` takes its time, in which a daemon that this one takes over from still
/// serves.
fn host_rules(options: &Options) -> (firewall::Watch, Option<firewall::Outcome>) {
    let mut watch = firewall::Watch::default();
    let follows = options.config.host_firewall == HostFirewall::Follow;
    let rules = follows.then(|| watch.first());
    (watch, rules)
}

/// Refuses a configuration file that names addresses which the host does not have.
fn check_addresses(options: &Options, mirror: &Mirror) -> Result<()> {
    if let Some(file) = &options.file {
        derive::check_config(&options.config, file, &mirror.fib())?;
    }
    Ok(())
}

fn start_workers(
    parts: Vec<(Engine, Ports)>,
    fan: Fan,
    options: &Options,
    (mirror, log, notify): (&Mirror, &ConnectionLog, &Arc<Waker>),
) -> Result<Workers> {
    let common = Common {
        placement: &options.workers,
        fan,
        local_ports: options.config.limits.local_ports,
        log,
    };
    Ok(Workers::start(
        parts,
        mirror.fib(),
        &common,
        waking(notify),
    )?)
}

/// Wakes the control thread.
fn waking(notify: &Arc<Waker>) -> impl Fn() + Clone + Send + use<> {
    let notify = Arc::clone(notify);
    move || {
        let _ = notify.wake();
    }
}

/// Publishes the first state, opens the two sockets, of which the control socket is the sign that all is ready,
/// and runs until a signal ends it.
fn serve(
    mut daemon: Daemon,
    (mut server, mut programs): (Server, IpvsSocket),
    host_rules: Option<firewall::Outcome>,
    sync: &[(SyncRole, SyncNumbers)],
) -> Result<()> {
    daemon.watch_signals()?;
    daemon.begin_firewall(host_rules);
    let predecessor = daemon.options.predecessor.clone();
    let published = daemon.publish().and_then(|()| match predecessor {
        None => daemon.start_all_sync(),
        Some(_) => {
            daemon.start_sync_sockets(sync);
            Ok(())
        }
    });
    let published = published.map_err(|refusal| anyhow!(refusal.message));
    let registry = daemon.poll.registry();
    let served = published
        .and_then(|()| programs.register(registry, IPVS_SOCKET))
        .and_then(|()| server.register(registry, SOCKET));
    if let Err(error) = served {
        match &predecessor {
            // All is another daemon's still.
            Some(predecessor) if !predecessor.has_taken() => daemon.isolation.leave(),
            _ => daemon.stop()?,
        }
        return Err(error);
    }
    daemon.options.predecessor = None;
    daemon.notifier.ready();
    tracing::info!(
        interfaces = daemon.interfaces.join(","),
        services = daemon.table.services().len(),
        socket = %daemon.options.socket.display(),
        "uvs {VERSION} runs",
    );
    daemon.run(server, programs)
}

/// Refuses at once, and by name, where a capability lacks.
fn check_capabilities() -> Result<()> {
    const NEEDED: [(CapabilitySet, &str); 2] = [
        (CapabilitySet::NET_RAW, "CAP_NET_RAW (packet sockets)"),
        (
            CapabilitySet::NET_ADMIN,
            "CAP_NET_ADMIN (nft's rules, neighbours)",
        ),
    ];
    let had = capabilities(None).context("reading this process's capabilities")?;
    let lacking = NEEDED
        .iter()
        .filter(|(set, _)| !had.effective.contains(*set));
    let lacking: Vec<_> = lacking.map(|(_, name)| *name).collect();
    anyhow::ensure!(
        lacking.is_empty(),
        "not permitted: this process lacks {}; run it as root, or grant them with `setcap cap_net_raw,cap_net_admin+ep` on the program",
        lacking.join(" and ")
    );
    Ok(())
}

/// Puts a configuration into the table; all or nothing. What `own` says counts more than the file.
pub(super) fn load(
    table: &mut Table,
    config: &Config,
    lists: &ListFiles,
    own: Option<&OwnVips>,
) -> Result<(), Refusal> {
    table.load(config, lists)?;
    if let Some(own) = own {
        table.set_own_vips(own.clone());
    }
    Ok(())
}

/// Tells of what in a configuration that is in force may not be meant.
pub(super) fn tell(config: &Config, own: Option<&OwnVips>) {
    for name in Sysctls::NAMES {
        if let Some(note) = config.sysctls.note(name) {
            tracing::info!("{note}");
        }
    }
    let unserved = own.is_none().then(|| config.own_vips_unserved());
    for warning in config
        .warnings()
        .into_iter()
        .chain(unserved.unwrap_or_default())
    {
        tracing::warn!("{warning}");
    }
}
