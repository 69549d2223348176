//! Starting by taking over from a daemon that serves: instead of making sockets, rings, the hook's maps and the guard's
//! claim this one is handed them, and its engine goes on from the other's.

use std::net::TcpListener;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use uvs_control::protocol::HookMode;
use uvs_control::server::Server;
use uvs_control::table::Table;
use uvs_core::crew::{Board, Fan};
use uvs_core::engine::Engine;
use uvs_core::offload::Hook;

use super::begin::{Before, Begun, crew, engine_config, keys};
use super::isolation::Isolation;
use super::start::Options;
use super::timed::Times;
use crate::guard::Guard;
use crate::hook::{self, Beside, Keeper, NotBeside, NotHooked, Offer};
use crate::ipvs::IpvsSocket;
use crate::port::afpacket::{self, HostPort};
use crate::port::{Ends, HandedRing};
use crate::succession::Estate;
use crate::worker::{self, Own, Ports};

/// Says that this daemon could begin, and takes up what the other hands down. The table becomes the other's: what was
/// in force stays in force, and what the configuration says now comes with the next reload.
pub(super) fn succeed(
    options: &Options,
    table: &mut Table,
    repaired: impl Fn() + Send + Sync + 'static,
) -> Result<Begun> {
    let predecessor = options.predecessor.as_ref();
    let predecessor = predecessor.context("there is no daemon to take over from")?;
    let beside = beside(options, predecessor.hook()?).context("restart the daemon instead")?;
    let (estate, sockets, handed) = predecessor.begin()?;
    check(options, &estate)?;
    let succeeded = table.succeed(estate.table);
    succeeded.map_err(|refusal| anyhow!(refusal.message))?;
    let logs = table.services().iter().any(|s| s.connection_log.is_on());
    ensure!(
        !logs || options.config.connection_log.is_some(),
        "connections are logged, and the configuration does not say any more where to: put [connection_log] back, or restart the daemon"
    );
    let fan = Fan::new(options.workers.count, estate.fan_secret);
    let board = Arc::new(Board::new(fan.workers(), options.config.limits.connections));
    let offloads = match &beside {
        Some(beside) => beside.hook.workers(fan.workers())?,
        None => Vec::new(),
    };
    let mut offloads = offloads.into_iter();
    let (keys, mut before) = (keys()?, Some(&estate.past.schedule));
    let (mut workers, mut schedule_times) = (Vec::new(), Vec::new());
    for (number, handed) in (0..).zip(handed) {
        // What all of them took before is shown with the first.
        let times = Arc::new(before.take().map_or_else(Times::default, Times::going_on));
        let worker = postcard::from_bytes::<worker::Estate<'_>>(&handed.estate);
        let worker = worker.context("what a worker hands down makes no sense")?;
        let offload = offloads.next();
        let offload = offload.map(|hook| Box::new(hook) as Box<dyn Hook>);
        let config = engine_config(options, &times, &keys, crew(number, fan, &board));
        let engine = Engine::succeed(config, worker.engine, offload)?;
        let ports = ports(&options.interfaces, handed.rings, worker.own)?;
        workers.push((engine, ports));
        schedule_times.push(times);
    }
    let repairs = estate.past.guard_repairs;
    let isolation = match (beside, estate.hook) {
        (Some(beside), Some(hook)) => {
            let handed = (hook, sockets.links);
            let keeper = Keeper::succeed(beside, handed, sockets.claim, repairs)?;
            Isolation::handed_down(Box::new(keeper))
        }
        _ => {
            let guard = Guard::succeed(sockets.claim, repairs, repaired)?;
            let is_wanted = options.hook != HookMode::Off;
            let why = is_wanted.then_some(NotHooked::Before(estate.why_not_hooked));
            Isolation::guard(guard, why, &options.config.hook.pins)
        }
    };
    Ok(Begun {
        server: Server::succeed(&options.socket, sockets.control)?,
        programs: IpvsSocket::succeed(&options.ipvs_socket, sockets.ipvs)?,
        isolation,
        workers,
        fan,
        schedule_times,
        metrics_listener: sockets.metrics.map(TcpListener::from),
        before: Before {
            carried: estate.carried,
            past: estate.past,
            sync_requests: estate.sync_requests,
        },
    })
}

/// The hook that this daemon could go on with, where the running one has one.
fn beside(options: &Options, offer: Option<Offer>) -> Result<Option<Beside>, NotBeside> {
    let mode = options.hook;
    match offer {
        Some(offer) => hook::beside(mode, &options.config.hook, offer).map(Some),
        None if matches!(mode, HookMode::Auto | HookMode::Off) => Ok(None),
        None => Err(NotBeside::Mode { mode, has: "none" }),
    }
}

/// Refuses what holds for the life of a daemon and is otherwise than in the one before.
fn check(options: &Options, estate: &Estate) -> Result<()> {
    let differs = |what: &str, before: &dyn std::fmt::Debug| {
        anyhow!(
            "{what} differ from the running daemon's, which are {before:?}: put them back, or restart the daemon"
        )
    };
    let workers = estate.workers.len();
    if usize::try_from(options.workers.count) != Ok(workers) {
        return Err(differs("the workers", &workers));
    }
    if options.interfaces != estate.interfaces {
        return Err(differs("the interfaces", &estate.interfaces));
    }
    let sockets = (&options.socket, &options.ipvs_socket);
    let before = (&estate.socket, &estate.ipvs_socket);
    if sockets != before {
        return Err(differs("the sockets' paths", &before));
    }
    Ok(())
}

fn ports(interfaces: &[String], rings: Vec<Vec<HandedRing>>, own: Own) -> Result<Ports> {
    ensure!(
        rings.len() == interfaces.len() + 1,
        "the rings are not those of the interfaces"
    );
    let mut rings = rings.into_iter();
    let ends = |(name, rings): (&String, Vec<HandedRing>)| {
        let (receive, transmit) = afpacket::succeed(name, rings)?;
        Ok::<Ends, anyhow::Error>((Box::new(receive), Box::new(transmit)))
    };
    let ports = interfaces.iter().zip(rings.by_ref()).map(ends);
    let ports = ports.collect::<Result<_>>()?;
    let host = HostPort::succeed(rings.next().unwrap_or_default())?;
    Ok(Ports {
        interfaces: ports,
        host: (Box::new(host.receive), Box::new(host.deliver)),
        reinject: Box::new(host.reinject),
        hooked: None,
        handed_down: Some(own),
    })
}
