//! What only one daemon at a time can have, made anew where there is no daemon to take over from: the sockets, the guard
//! or the hook, the rings and the engine.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use mio::Waker;
use uvs_control::protocol::SyncRequest;
use uvs_control::server::Server;
use uvs_control::table::Table;
use uvs_core::crew::{Board, Crew, Fan};
use uvs_core::engine::{Engine, EngineConfig};
use uvs_core::scheduler::Scheduler;

use super::isolation::Isolation;
use super::start::Options;
use super::timed::{Timed, Times};
use super::{Carried, takeover};
use crate::guard::Guard;
use crate::hook;
use crate::ipvs::IpvsSocket;
use crate::netlink::Mirror;
use crate::port::afpacket::{HostPort, Port, PortOptions};
use crate::port::filter::{FilterSpec, Program};
use crate::port::{Ends, Sight, port_id};
use crate::random;
use crate::succession::Past;
use crate::worker::{Hooked, Ports};

/// What a daemon has of these, and what the daemons before have left.
pub(super) struct Begun {
    pub(super) server: Server,
    pub(super) programs: IpvsSocket,
    pub(super) isolation: Isolation,
    /// Of each worker, in the order of their numbers.
    pub(super) workers: Vec<(Engine, Ports)>,
    /// How client and worker belong together.
    pub(super) fan: Fan,
    /// What each worker's schedulers take.
    pub(super) schedule_times: Vec<Arc<Times>>,
    pub(super) metrics_listener: Option<TcpListener>,
    pub(super) before: Before,
}

/// What the daemons before have left of the control thread.
pub(super) struct Before {
    pub(super) carried: Carried,
    pub(super) past: Past,
    pub(super) sync_requests: Vec<SyncRequest>,
}

/// The control socket, and the one for IPVS's programs.
type Sockets = (Server, IpvsSocket);

/// The sockets, taken before all else so that a second daemon is refused at once; `None` where they are to be handed
/// down.
pub(super) fn sockets(options: &Options) -> Result<Option<Sockets>> {
    if options.predecessor.is_some() {
        return Ok(None);
    }
    let server = Server::bind(&options.socket)?;
    Ok(Some((server, IpvsSocket::bind(&options.ipvs_socket)?)))
}

/// All else: made anew, or where there are no sockets yet taken over, and with it the table.
pub(super) fn all(
    options: &Options,
    sockets: Option<Sockets>,
    mirror: &Mirror,
    table: &mut Table,
    repaired: impl Fn() + Send + Sync + 'static,
) -> Result<Begun> {
    match sockets {
        Some(sockets) => anew(options, sockets, mirror, repaired),
        None => takeover::succeed(options, table, repaired),
    }
}

fn anew(
    options: &Options,
    (server, programs): Sockets,
    mirror: &Mirror,
    repaired: impl Fn() + Send + Sync + 'static,
) -> Result<Begun> {
    let guard = || Ok(Guard::claim(repaired)?);
    let count = options.workers.count;
    let (isolation, hooked) = isolate(options, mirror, guard)?;
    let ports = open_ports(&options.interfaces, isolation.sight(), hooked, count)?;
    let fan = Fan::new(count, secret()?);
    let board = Arc::new(Board::new(count, options.config.limits.connections));
    // One hash's key for all: what it is secret for, it is for each.
    let keys = keys()?;
    let (mut workers, mut schedule_times) = (Vec::new(), Vec::new());
    for (number, ports) in (0..).zip(ports) {
        let times = Arc::new(Times::default());
        let crew = crew(number, fan, &board);
        workers.push((
            Engine::new(engine_config(options, &times, &keys, crew)),
            ports,
        ));
        schedule_times.push(times);
    }
    Ok(Begun {
        server,
        programs,
        isolation,
        workers,
        fan,
        schedule_times,
        metrics_listener: None,
        before: Before {
            carried: Carried::default(),
            past: Past::none(),
            sync_requests: Vec::new(),
        },
    })
}

/// The hook, or else the guard.
fn isolate(
    options: &Options,
    mirror: &Mirror,
    guard: impl FnOnce() -> Result<Guard>,
) -> Result<(Isolation, Vec<Hooked>)> {
    let fib = mirror.fib();
    let interface = |(place, name): (usize, &String)| {
        let known = fib.interface(port_id(place));
        hook::Interface {
            name: name.clone(),
            index: known.map_or(0, |i| i.ifindex),
            port_of: mirror.port_of(name).map(str::to_owned),
        }
    };
    let config = &options.config.hook;
    let wanted = hook::Wanted {
        mode: options.hook,
        config,
        workers: options.workers.count,
        interfaces: options
            .interfaces
            .iter()
            .enumerate()
            .map(interface)
            .collect(),
    };
    Ok(match hook::start(&wanted)? {
        hook::Start::Hooked(keeper, workers) => (Isolation::hook(keeper), workers),
        hook::Start::Not(why) => (Isolation::guard(guard()?, why, &config.pins), Vec::new()),
    })
}

/// What the guard's reconciler does when it has repaired: raises the flag and wakes the control thread.
pub(super) fn repaired(
    repaired: &Arc<AtomicBool>,
    notify: &Arc<Waker>,
) -> impl Fn() + Send + Sync + use<> {
    let (repaired, notify) = (Arc::clone(repaired), Arc::clone(notify));
    move || {
        repaired.store(true, Ordering::Release);
        if let Err(e) = notify.wake() {
            tracing::error!("the control thread cannot be woken: {e}");
        }
    }
}

/// Each worker's ports.
fn open_ports(
    interfaces: &[String],
    sight: Sight,
    hooked: Vec<Hooked>,
    workers: u32,
) -> Result<Vec<Ports>> {
    // Nothing is ours until the first state is published.
    let filter = FilterSpec::default().compile();
    let mut hooked = hooked.into_iter();
    let hosts = HostPort::open_all(&filter, sight, workers)?.into_iter();
    let mut all: Vec<Ports> = hosts
        .map(|host| {
            let (host, reinject) = host.into_ends();
            Ports {
                interfaces: Vec::new(),
                host,
                reinject,
                hooked: hooked.next(),
                handed_down: None,
            }
        })
        .collect();
    for name in interfaces {
        let opened = open_port(name, sight, &filter, workers)?;
        for (ports, ends) in all.iter_mut().zip(opened) {
            ports.interfaces.push(ends);
        }
    }
    Ok(all)
}

/// An interface's port of each worker.
fn open_port(name: &str, sight: Sight, filter: &Program, workers: u32) -> Result<Vec<Ends>> {
    let options = PortOptions {
        sight,
        ..PortOptions::default()
    };
    let ports = Port::open_all(name, &options, filter, workers)?;
    if let Some(port) = ports.first() {
        tracing::debug!(
            interface = ?port.interface,
            ring = ?port.geometry,
            filter = ?port.coverage,
            "port open",
        );
        if port.receive_buffer < options.receive_buffer {
            tracing::info!(
                interface = name,
                granted = port.receive_buffer,
                "the receive buffer is smaller than asked for; bulk transfers may be slower (net.core.rmem_max)",
            );
        }
    }
    Ok(ports.into_iter().map(Port::into_ends).collect())
}

/// A worker's place among several; the only one has none.
pub(super) fn crew(number: u32, fan: Fan, board: &Arc<Board>) -> Option<Crew> {
    (fan.workers() > 1).then(|| Crew::new(number, fan, Arc::clone(board)))
}

/// What is random: the key of the connection table's hash, and the seed of the schedulers.
pub(super) struct Keys {
    table: (u64, u64),
    seed: u64,
}

pub(super) fn keys() -> Result<Keys> {
    let random: [u8; 24] =
        random::bytes().context("/dev/urandom: no key for the connection table")?;
    let word = |i: usize| {
        random[i * 8..]
            .iter()
            .take(8)
            .fold(0, |n, b| n << 8 | u64::from(*b))
    };
    Ok(Keys {
        table: (word(0), word(1)),
        seed: word(2),
    })
}

/// The key of the workers' fan.
fn secret() -> Result<u32> {
    let bytes = random::bytes().context("/dev/urandom: no key for the workers' fan")?;
    Ok(u32::from_ne_bytes(bytes))
}

pub(super) fn engine_config(
    options: &Options,
    times: &Arc<Times>,
    keys: &Keys,
    crew: Option<Crew>,
) -> EngineConfig {
    let (schedulers, times) = (Arc::clone(&options.schedulers), Arc::clone(times));
    let timed = move |inner| Box::new(Timed::new(inner, &times)) as Box<dyn Scheduler>;
    EngineConfig {
        limits: options.config.limits.clone(),
        keys: keys.table,
        seed: keys.seed,
        modes: uvs_modes::BUILTIN,
        crew,
        schedulers: Box::new(move |name, params| schedulers.make(name, params).map(&timed)),
    }
}
