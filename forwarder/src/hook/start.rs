//! Whether there is a hook, decided once when the daemon starts: what was asked for, what the kernel can do, and
//! what an earlier daemon has left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use uvs_control::config;
use uvs_control::protocol::HookMode;
use uvs_core::offload::{Found, Reach, Room, ServerOrder};
use uvs_hook::{Hook, HookError, Limits, Setup};

use super::{Keeper, bpffs, loopback};
use crate::clock::monotonic;
use crate::guard::{Claim, GuardError, HOST_MARK, Repairs};
use crate::kernel::Version;
use crate::worker::{Hooked, Inheritance};

/// What the daemon wants of the hook.
pub(crate) struct Wanted<'a> {
    /// How much.
    pub(crate) mode: HookMode,
    /// Its sizes, and where it is pinned.
    pub(crate) config: &'a config::Hook,
    /// How many workers there are.
    pub(crate) workers: u32,
    /// The interfaces that UVS runs on.
    pub(crate) interfaces: Vec<Interface>,
}

/// An interface to run on.
pub(crate) struct Interface {
    /// Its name.
    pub(crate) name: String,
    /// Its index.
    pub(crate) index: u32,
    /// What takes its frames before the host's stack does, as a bridge does of its ports.
    pub(crate) port_of: Option<String>,
}

/// How it was decided.
pub(crate) enum Start {
    /// There is a hook: the control thread's end, and each worker's.
    Hooked(Box<Keeper>, Vec<Hooked>),
    /// There is none, and why; `None` = none was asked for.
    Not(Option<NotHooked>),
}

/// Why there is no hook.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotHooked {
    /// An interface's frames never come to where it would hand them on.
    #[error(
        "{name} is a port of a {master}, which takes its frames before the host's stack does: run on the {master} itself (--interface), or without the hook"
    )]
    PortOf {
        /// The interface.
        name: String,
        /// The kind of what it is a port of.
        master: String,
    },
    /// The kernel refused.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// It was decided in an earlier process.
    #[error("the daemon that this one has taken over from had none ({0}); a restart decides anew")]
    Before(String),
    /// The kernel can do less than was asked for.
    #[error("the kernel forwards nothing: {0}")]
    Less(String),
}

impl NotHooked {
    /// The reason, whichever process has found it.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Before(why) => why.clone(),
            why => why.to_string(),
        }
    }
}

/// Why the daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CannotStart {
    /// Another daemon is there.
    #[error(transparent)]
    Busy(#[from] GuardError),
    /// It was asked for and cannot be had.
    #[error("the hook was asked for (--hook {mode}) and cannot be had: {why}", mode = .0.name(), why = .1)]
    NotHooked(HookMode, NotHooked),
}

/// Puts the hook on the interfaces, without any rules yet. With `auto` the reason for having none goes to the log.
///
/// # Errors
/// Another daemon runs here; what was asked for by name cannot be had.
pub(crate) fn start(wanted: &Wanted<'_>) -> Result<Start, CannotStart> {
    if wanted.mode == HookMode::Off {
        return Ok(Start::Not(None));
    }
    let claim = Claim::new()?;
    match hooked(wanted, claim) {
        Ok((keeper, workers)) => Ok(Start::Hooked(Box::new(keeper), workers)),
        Err(why) if wanted.mode == HookMode::Auto => {
            tracing::warn!("the hook is not used: {why}. AF_PACKET and nft go on without it");
            Ok(Start::Not(Some(why)))
        }
        Err(why) => Err(CannotStart::NotHooked(wanted.mode, why)),
    }
}

fn hooked(wanted: &Wanted<'_>, claim: Claim) -> Result<(Keeper, Vec<Hooked>), NotHooked> {
    let enslaved = |i: &Interface| Some((i.name.clone(), i.port_of.clone()?));
    if let Some((name, master)) = wanted.interfaces.iter().find_map(enslaved) {
        return Err(NotHooked::PortOf { name, master });
    }
    let mut setup = setup(wanted.mode, wanted.config, pins(wanted.config));
    let hook = Arc::new(load_pinned_or_not(&mut setup)?);
    let rooms = hook.rooms(wanted.workers);
    let left = (hook.found_servers(), hook.found());
    let workers = hook.workers(wanted.workers)?.into_iter().zip(rooms);
    let workers = workers.map(|(worker, room)| Hooked {
        hook: Box::new(worker),
        reach: hook.reach(),
        inheritance: inheritance(&left, &room),
        room,
    });
    let workers: Vec<Hooked> = workers.collect();
    let mut keeper = Keeper {
        hook,
        claim,
        places: BTreeMap::new(),
        egress: BTreeSet::new(),
        pins: setup.pins.map(|pins| pins.display().to_string()),
        repairs: Repairs::default(),
    };
    let lacks = keeper.hook.reach() == Reach::Guard;
    let lacks = lacks.then(|| keeper.hook.shortfall().unwrap_or_default().to_owned());
    let attached = match lacks.filter(|_| wanted.mode == HookMode::Tier) {
        Some(why) => Err(NotHooked::Less(why)),
        None => attach(&mut keeper, &wanted.interfaces),
    };
    if let Err(why) = attached {
        if let Err(error) = keeper.remove() {
            tracing::warn!("what is left of the hook cannot be removed: {error}");
        }
        return Err(why);
    }
    Ok((keeper, workers))
}

fn attach(keeper: &mut Keeper, interfaces: &[Interface]) -> Result<(), NotHooked> {
    let interfaces = interfaces.iter().map(|i| (i.name.clone(), i.index));
    for (name, index) in interfaces.chain([loopback()]) {
        keeper.attach(&name, index)?;
    }
    Ok(())
}

/// What an earlier daemon has left of connections that is in a worker's room.
fn inheritance(
    (servers, connections): &(Vec<ServerOrder>, Vec<Found>),
    room: &Room,
) -> Option<Inheritance> {
    let of_room = |found: &&Found| room.cells.contains(&found.cell.0);
    let connections: Vec<Found> = connections.iter().filter(of_room).copied().collect();
    let of_room = |order: &&ServerOrder| room.servers.contains(&order.cell.0);
    let servers: Vec<ServerOrder> = servers.iter().filter(of_room).copied().collect();
    let is_something = !connections.is_empty() || !servers.is_empty();
    is_something.then_some(Inheritance {
        servers,
        connections,
    })
}

/// The hook, pinned where that can be.
fn load_pinned_or_not(setup: &mut Setup) -> Result<Hook, HookError> {
    match load(setup) {
        Err(why @ HookError::Pins { .. }) => {
            warn_of_unpinned(&why);
            setup.pins = None;
            load(setup)
        }
        loaded => loaded,
    }
}

fn warn_of_unpinned(why: &dyn std::fmt::Display) {
    tracing::warn!("nothing is pinned, so that a killed daemon's connections are reset: {why}");
}

/// What an earlier daemon has left, where it fits, else all anew.
fn load(setup: &Setup) -> Result<Hook, HookError> {
    // Whoever only tells frames apart has no use for what was forwarded.
    let left = setup.pins.as_ref().is_some_and(|pins| pins.exists());
    if left && setup.reach > Reach::Guard {
        match Hook::adopt(setup, monotonic()) {
            Ok(hook) => return Ok(hook),
            Err(why) => tracing::warn!(
                "what an earlier daemon has left in the kernel cannot be used, and its connections end: {why}"
            ),
        }
    }
    Hook::load(setup, monotonic())
}

/// What a hook is to be like.
pub(super) fn setup(mode: HookMode, config: &config::Hook, pins: Option<PathBuf>) -> Setup {
    Setup {
        limits: Limits {
            connections: config.connections,
            ..Limits::default()
        },
        reach: match mode {
            HookMode::Auto | HookMode::Tier => Reach::Everything,
            HookMode::Guard | HookMode::Off => Reach::Guard,
        },
        stale_after: Duration::from_secs(config.heartbeat.into()),
        host_mark: HOST_MARK,
        udp_gso: Version::running().is_some_and(Version::describes_udp_segments),
        pins,
    }
}

/// Where to pin; without, a killed daemon's connections end with it.
fn pins(config: &config::Hook) -> Option<PathBuf> {
    match bpffs::directory(&config.pins) {
        Ok(directory) => {
            // What this namespace's daemon left, however long ago, is looked at before it goes.
            bpffs::touch(&directory);
            bpffs::sweep(&config.pins);
            Some(directory)
        }
        Err(why) => {
            warn_of_unpinned(&why);
            None
        }
    }
}
