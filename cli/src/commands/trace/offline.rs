//! `uvs trace --config FILE`: an engine made from a configuration, without a daemon, without the network.
//!
//! It knows no routes and no neighbours, so it is given the simplest ones: one interface, behind which
//! everything is. What depends on the real network (next hop, MTU, the guard) is for a running daemon.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use uvs_control::access::{ListFiles, Lists};
use uvs_control::config::{self, Config};
use uvs_control::plugins::Schedulers;
use uvs_control::trace::{Subject, Traced};
use uvs_core::engine::{Engine, EngineConfig};
use uvs_core::fib::{Fib, Hop, Interface, ReversePath, Route, Target};
use uvs_core::flow::Addr;
use uvs_core::glance::Glance;
use uvs_core::marks::destinations;
use uvs_core::snapshot::{Limits, Snapshot};
use uvs_core::time::Instant;
use uvs_core::verdict::PortId;
use uvs_core::wire::ethernet::Mac;
use uvs_forwarder::trace::arrival::Arrival;
use uvs_forwarder::trace::dry_run;

use super::Report;
use crate::commands::{FAILED, USAGE, check};

/// The interface's index, MAC address (unless the frames tell another) and MTU.
const IFINDEX: u32 = 1;
const MAC: Mac = [2, 0, 0, 0, 0, 1];
const MTU: u32 = 1500;
/// Places in the table: enough for the frames of one trace.
const CONNECTIONS: u32 = 1 << 16;
/// Time begins here: not at 0, where nothing could lie before.
const START: Instant = Instant::from_secs(1000);

/// Looks at the frames, each seeing what those before it did.
///
/// # Errors
/// The exit code; the reason is printed already.
pub(super) fn trace(file: &Path, subjects: &[Subject]) -> Result<Report, ExitCode> {
    let config = config::load(file, &|settings| Schedulers::configured(settings, None));
    let config = config.map_err(|error| {
        check::complain(&error);
        ExitCode::from(USAGE)
    })?;
    let known = Schedulers::configured(&config.plugins, None);
    let frames: Option<Vec<Vec<u8>>> = subjects.iter().map(Subject::bytes).collect();
    let fib = Arc::new(network(&config, &frames.unwrap_or_default()));
    let engine = engine(&config, known, Arc::clone(&fib)).map_err(|why| {
        eprintln!("{}: {why}", file.display());
        ExitCode::from(FAILED)
    })?;
    let arrivals: Vec<Arrival> = subjects
        .iter()
        .filter_map(|s| Some(Arrival::new(s.after_ns, s.bytes()?, &fib)))
        .collect();
    let traces = dry_run(&engine, START, &arrivals);
    let frames = arrivals.iter().zip(traces).map(|(arrival, trace)| Traced {
        after_ns: arrival.after_ns,
        interface: None,
        guard: None,
        trace,
        decided: None,
    });
    Ok(Report {
        interfaces: Vec::new(),
        frames: frames.collect(),
    })
}

fn engine(config: &Config, known: Arc<Schedulers>, fib: Arc<Fib>) -> Result<Engine, String> {
    let files = ListFiles::load(&config.access).map_err(|e| e.to_string())?;
    let mut lists = Lists::default();
    lists.configure(&config.access, &files);
    for service in &config.services {
        known.find(&service.scheduler).map_err(|e| e.to_string())?;
    }
    let mut engine = Engine::new(EngineConfig {
        limits: Limits {
            connections: config.limits.connections.min(CONNECTIONS),
            ..config.limits.clone()
        },
        keys: (1, 2),
        seed: 1,
        modes: uvs_modes::BUILTIN,
        crew: None,
        schedulers: Box::new(move |name, params| known.make(name, params)),
    });
    engine.set_fib(fib);
    let snapshot = Snapshot {
        services: config.services.iter().cloned().map(Arc::new).collect(),
        marks: config.marks.clone(),
        sysctls: config.sysctls.clone(),
        timeouts: config.timeouts,
        access: lists.built(),
        ..Snapshot::default()
    };
    engine
        .apply(Arc::new(snapshot))
        .map_err(|e| e.to_string())?;
    Ok(engine)
}

/// One interface with everything behind it. Its MAC address is the one that the first frame to a service
/// was sent to.
fn network(config: &Config, frames: &[Vec<u8>]) -> Fib {
    let to_service = |frame: &&Vec<u8>| {
        let services = config.services.iter();
        let mut to = services.flat_map(|s| destinations(s.key, &config.marks));
        Glance::of_frame(frame).is_some_and(|seen| to.any(|to| to.has_address(seen.dst)))
    };
    let sent_to = frames.iter().find(to_service);
    let mac = sent_to.map_or(MAC, |frame| std::array::from_fn(|i| frame[i]));
    let mut fib = Fib::new();
    (fib.forwarding, fib.forwarding_ipv6) = (true, true);
    fib.set_interface(Interface {
        port: PortId(0),
        ifindex: IFINDEX,
        mac: if mac == [0; 6] { MAC } else { mac },
        mtu: MTU,
        up: true,
        reverse_path: ReversePath::Off,
    });
    for everything in [Addr::UNSPECIFIED, Addr::v6([0; 16])] {
        let hop = Target::Hop(Hop::by(IFINDEX, None));
        fib.add_route(Route::new(everything, 0, hop));
    }
    fib
}
