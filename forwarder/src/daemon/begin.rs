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
    pub(super) worker: (Engine, Ports),
    pub(super) schedule_times: Arc<Times>,
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
    let (isolation, hooked) = isolate(options, mirror, guard)?;
    let ports = open_ports(&options.interfaces, isolation.sight(), hooked)?;
    let schedule_times = Arc::new(Times::default());
    let engine = Engine::new(engine_config(options, &schedule_times)?);
    Ok(Begun {
        server,
        programs,
        isolation,
        worker: (engine, ports),
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
) -> Result<(Isolation, Option<Hooked>)> {
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
        interfaces: options
            .interfaces
            .iter()
            .enumerate()
            .map(interface)
            .collect(),
    };
    Ok(match hook::start(&wanted)? {
        hook::Start::Hooked(keeper, worker) => (Isolation::hook(keeper), Some(worker)),
        hook::Start::Not(why) => (Isolation::guard(guard()?, why, &config.pins), None),
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

fn open_ports(interfaces: &[String], sight: Sight, hooked: Option<Hooked>) -> Result<Ports> {
    // Nothing is ours until the first state is published.
    let filter = FilterSpec::default().compile();
    let interfaces = interfaces
        .iter()
        .map(|name| open_port(name, sight, &filter));
    let interfaces = interfaces.collect::<Result<_>>()?;
    let host = HostPort::open(&filter, sight)?;
    Ok(Ports {
        interfaces,
        host: (Box::new(host.receive), Box::new(host.deliver)),
        reinject: Box::new(host.reinject),
        hooked,
        handed_down: None,
    })
}

fn open_port(name: &str, sight: Sight, filter: &Program) -> Result<Ends> {
    let options = PortOptions {
        sight,
        ..PortOptions::default()
    };
    let port = Port::open(name, &options, filter)?;
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
    Ok((Box::new(port.receive), Box::new(port.transmit)))
}

pub(super) fn engine_config(options: &Options, times: &Arc<Times>) -> Result<EngineConfig> {
    let random: [u8; 24] =
        random::bytes().context("/dev/urandom: no key for the connection table")?;
    let word = |i: usize| {
        random[i * 8..]
            .iter()
            .take(8)
            .fold(0, |n, b| n << 8 | u64::from(*b))
    };
    let (schedulers, times) = (Arc::clone(&options.schedulers), Arc::clone(times));
    let timed = move |inner| Box::new(Timed::new(inner, &times)) as Box<dyn Scheduler>;
    Ok(EngineConfig {
        limits: options.config.limits.clone(),
        keys: (word(0), word(1)),
        seed: word(2),
        modes: uvs_modes::BUILTIN,
        schedulers: Box::new(move |name, params| schedulers.make(name, params).map(&timed)),
    })
}
