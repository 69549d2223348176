//! An engine that goes on where one in another process has stopped, so that a daemon can be replaced by a newer one
//! under traffic: [`Engine::hand_down`] in the old, [`Engine::succeed`] in the new.
//!
//! What is handed down is a plain value, all that the engine remembers: the next frame has the verdict that it would
//! have had. Only what has a source of its own is not in it: the desired state, routes and neighbours, which the shell
//! hands in again. Times are points on a clock that both processes have (CLOCK_MONOTONIC), and hold as they are.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::catalog::Catalog;
use super::claims::Claims;
use super::desired::Desired;
use super::elsewhere::Strays;
use super::flows::{self, Flows};
use super::pmtu::PathMtus;
use super::routes::Routes;
use super::upkeep::Upkeep;
use super::voice::Voice;
use super::{Engine, EngineConfig};
use crate::counters::Counters;
use crate::fragment::Reassembler;
use crate::mode::ModeDef;
use crate::offload::Hook;
use crate::service::{Forwarding, TunnelKind};
use crate::snapshot::Snapshot;
use crate::time::Instant;
use crate::trace::Off;

/// All that an engine remembers.
#[derive(Serialize, Deserialize)]
pub struct Estate<'a> {
    /// What the modes' places mean.
    modes: Vec<(Forwarding, TunnelKind)>,
    keys: (u64, u64),
    seed: u64,
    flows: flows::Estate<'a>,
    upkeep: Cow<'a, Upkeep>,
    path_mtus: Cow<'a, PathMtus>,
    reassembler: Cow<'a, Reassembler>,
    claims: Cow<'a, Claims>,
    voice: Cow<'a, Voice>,
    counters: Cow<'a, Counters>,
}

/// Why an engine cannot go on from an estate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotSucceeded {
    /// A service has a scheduler of this name, which is not known here.
    UnknownScheduler(String),
    /// Connections may be forwarded by this method, which is not known here.
    UnknownMode(Forwarding, TunnelKind),
    /// The kernel forwards connections and there is no hook here, or there is one without any.
    Hook,
}

impl std::fmt::Display for NotSucceeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownScheduler(name) => write!(f, "there is no scheduler `{name}`"),
            Self::UnknownMode(forwarding, tunnel) => {
                write!(f, "there is no mode `{}`", forwarding.mode(*tunnel))
            }
            Self::Hook => f.write_str("one of the two has a hook, and the other has none"),
        }
    }
}

impl std::error::Error for NotSucceeded {}

/// What a mode is, whatever its place.
fn identity(mode: &ModeDef) -> (Forwarding, TunnelKind) {
    (mode.forwarding, mode.encapsulation.unwrap_or_default())
}

impl Engine {
    /// All that this engine remembers, for one in another process. Before that the hook gets its orders; from then on
    /// it gets none, and goes on forwarding as it is.
    pub fn hand_down(&mut self, now: Instant) -> Estate<'_> {
        self.give_orders(now);
        Estate {
            modes: self.catalog.modes.iter().map(identity).collect(),
            keys: self.keys,
            seed: self.catalog.seed,
            flows: self.flows.hand_down(),
            upkeep: Cow::Borrowed(&self.upkeep),
            path_mtus: Cow::Borrowed(&self.routes.path_mtus),
            reassembler: Cow::Borrowed(&self.reassembler),
            claims: Cow::Borrowed(&self.claims),
            voice: Cow::Borrowed(&self.voice),
            counters: Cow::Borrowed(&self.counters),
        }
    }

    /// An engine that goes on from what another has handed down, once it has routes and is told what is desired. Its
    /// keys and its seed are the other's, its limits those of `config`. `hook` is the program and the memory that the
    /// other has, where it has one; nothing is asked of it before this engine [gives orders](Self::give_orders).
    ///
    /// # Errors
    /// A scheduler that is in use, or one of the other's modes, is not known here; only one of the two has a hook.
    pub fn succeed(
        config: EngineConfig,
        estate: Estate<'_>,
        hook: Option<Box<dyn Hook>>,
    ) -> Result<Self, NotSucceeded> {
        if estate.flows.has_hook() != hook.is_some() {
            return Err(NotSucceeded::Hook);
        }
        let EngineConfig {
            limits,
            modes,
            schedulers,
            crew,
            ..
        } = config;
        let catalog = Catalog {
            modes,
            schedulers,
            seed: estate.seed,
        };
        let places = places(&catalog, &estate.modes)?;
        let services = estate.flows.services();
        let mode = |before: u8| places.get(usize::from(before)).copied().unwrap_or(before);
        let keys = estate.keys;
        let limited = (&limits, keys, crew.clone());
        let flows = Flows::succeed(estate.flows, &services, limited, &catalog, mode, hook)
            .map_err(NotSucceeded::UnknownScheduler)?;
        let mut routes = Routes::new();
        routes.path_mtus = estate.path_mtus.into_owned();
        let fragments = estate.reassembler.into_owned();
        let mut engine = Self {
            recorder: Off,
            keys,
            catalog,
            // What changes is found by comparison with it.
            desired: Desired::of(Arc::new(Snapshot {
                services,
                ..Snapshot::default()
            })),
            flows,
            upkeep: estate.upkeep.into_owned(),
            routes,
            reassembler: fragments.limited(limits.fragment_bytes as usize),
            claims: estate.claims.into_owned(),
            voice: estate.voice.into_owned(),
            counters: estate.counters.into_owned(),
            crew,
            strays: Strays::default(),
            elsewhere: None,
        };
        engine.look_for_strays();
        Ok(engine)
    }
}

/// Where each of another catalog's modes is in this one.
fn places(catalog: &Catalog, before: &[(Forwarding, TunnelKind)]) -> Result<Vec<u8>, NotSucceeded> {
    let place = |(forwarding, tunnel): &(Forwarding, TunnelKind)| {
        let unknown = NotSucceeded::UnknownMode(*forwarding, *tunnel);
        catalog.mode_for(*forwarding, *tunnel).ok_or(unknown)
    };
    before.iter().map(place).collect()
}
