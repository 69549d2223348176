//! What the flows of an engine in another process go on from: every connection at its place, the servers at theirs,
//! and what is counted of them.
//!
//! Places are kept, for connections, templates and servers refer to each other by them. A scheduler's state is what
//! the scheduler itself tells ([`Scheduler::state`](crate::scheduler::Scheduler::state)).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Flows;
use super::calls::Calls;
use super::clients::Clients;
use super::event::Ends;
use super::handover;
use super::introductions::Introductions;
use super::logged::Logging;
use super::pool::{Pool, Service};
use super::rates::{Rate, Rates};
use super::servers::Servers;
use super::slow_start::SlowStart;
use super::stream::Stream;
use super::syns::{KeptSyn, Syns};
use super::told::Telling;
use crate::backend::Backend;
use crate::conn::{self, ConnTable};
use crate::counters::{ByFailure, Stats};
use crate::crew::Crew;
use crate::engine::catalog::Catalog;
use crate::offload::Hook;
use crate::ports::{LocalPorts, Share};
use crate::service::ServiceSpec;
use crate::services::Services;
use crate::snapshot::Limits;
use crate::time::Instant;

/// What flows hand down.
#[derive(Serialize, Deserialize)]
pub(in crate::engine) struct Estate<'a> {
    conns: conn::Estate<'a>,
    services: Vec<ServiceEstate>,
    servers: Servers,
    retired: Stats,
    unbound: Vec<(u8, u32)>,
    ports: LocalPorts,
    clients: Clients,
    syns: Vec<KeptSyn>,
    introductions: Introductions,
    calls: Calls,
    rates: Rates,
    ends: Ends,
    telling: Option<Box<Telling>>,
    logging: Option<Box<Logging>>,
    scheduler_faults: u64,
    handover: Option<handover::Estate<'a>>,
}

/// A service, in the order of the slots.
#[derive(Serialize, Deserialize)]
struct ServiceEstate {
    spec: ServiceSpec,
    scheduler: Vec<u64>,
    backends: Vec<Backend>,
    servers: Vec<u32>,
    stats: Stats,
    failures: ByFailure,
    next_local: u64,
    slow_start: SlowStart,
    rate: Rate,
}

impl Estate<'_> {
    /// The services, in the order of their slots.
    pub(in crate::engine) fn services(&self) -> Services {
        let specs = self.services.iter().map(|s| Arc::new(s.spec.clone()));
        specs.collect()
    }

    /// Whether the kernel forwards some of the connections.
    pub(in crate::engine) const fn has_hook(&self) -> bool {
        self.handover.is_some()
    }
}

impl ServiceEstate {
    fn of(pool: &Pool, service: &Service) -> Self {
        Self {
            spec: ServiceSpec::clone(&service.spec),
            scheduler: service.scheduler.state(),
            backends: pool.own_backends(service),
            servers: service.servers.clone(),
            stats: service.stats,
            failures: service.failures,
            next_local: service.next_local as u64,
            slow_start: service.slow_start.clone(),
            rate: service.rate,
        }
    }

    /// The service at work again; `None` where its scheduler is none of the catalog's.
    fn succeed(self, spec: &Arc<ServiceSpec>, catalog: &Catalog) -> Option<Service> {
        let mut scheduler = catalog.scheduler(spec)?;
        scheduler.backends_changed(&self.backends);
        scheduler.resume(&self.scheduler);
        Some(Service {
            spec: Arc::clone(spec),
            scheduler,
            backends: self.backends,
            servers: self.servers,
            stats: self.stats,
            failures: self.failures,
            next_local: usize::try_from(self.next_local).unwrap_or_default(),
            slow_start: self.slow_start,
            rate: self.rate,
            shared_bucket: None,
            read: Instant::ZERO,
            begins: false,
        })
    }
}

impl Flows {
    /// What others go on from, once the hook has all its orders.
    pub(in crate::engine) fn hand_down(&self) -> Estate<'_> {
        Estate {
            conns: self.conns.hand_down(),
            services: self
                .pool
                .services
                .iter()
                .map(|s| ServiceEstate::of(&self.pool, s))
                .collect(),
            servers: self.pool.servers.clone(),
            retired: self.pool.retired,
            unbound: self.pool.unbound.clone(),
            ports: self.ports.clone(),
            clients: self.clients.clone(),
            syns: self.syns.hand_down(),
            introductions: self.introductions.clone(),
            calls: self.calls.clone(),
            rates: self.rates.clone(),
            ends: self.stream.ends,
            telling: self.telling.clone(),
            logging: self.logging.clone(),
            scheduler_faults: self.scheduler_faults,
            handover: self.hand_down_handover(),
        }
    }

    /// Goes on from what others with the same keys have handed down, whose modes have the places that `mode` says
    /// here; `specs` are [`Estate::services`], and `hook` is theirs where they have one. Where a service's scheduler is not known, its name.
    pub(in crate::engine) fn succeed(
        estate: Estate<'_>,
        specs: &Services,
        (limits, keys, crew): (&Limits, (u64, u64), Option<Crew>),
        catalog: &Catalog,
        mode: impl Fn(u8) -> u8,
        hook: Option<Box<dyn Hook>>,
    ) -> Result<Self, String> {
        let mut servers = estate.servers;
        servers.rebind(&mode);
        let mut conns = ConnTable::succeed(estate.conns, limits.connections, keys);
        conns.rebind(&mode);
        if let Some(crew) = &crew {
            conns.set_limit(conns.len());
            crew.board.claim_room(conns.len());
        }
        let services = estate
            .services
            .into_iter()
            .zip(specs.iter())
            .map(|(service, spec)| {
                let unknown = || spec.scheduler.clone();
                service.succeed(spec, catalog).ok_or_else(unknown)
            });
        let unbound = estate.unbound.into_iter();
        let pool = Pool {
            services: services.collect::<Result<_, _>>()?,
            servers,
            retired: estate.retired,
            has_slow_start: true,
            unbound: unbound.map(|(of, place)| (mode(of), place)).collect(),
            crew: None,
        };
        let mut rates = estate.rates;
        rates.count(pool.services.iter().map(|service| &service.rate));
        let share = Share::of(crew.as_ref());
        let ports = LocalPorts::succeed(estate.ports, limits.local_ports, share);
        let ports = ports.unwrap_or_else(|| claimed(&conns, limits, keys, share));
        let mut flows = Self {
            pool,
            ports,
            clients: estate.clients,
            syns: Syns::succeed(&estate.syns),
            introductions: estate.introductions,
            calls: Calls::succeed(estate.calls, &conns),
            rates,
            replaced: None,
            stream: Stream::counting(estate.ends),
            telling: estate.telling,
            logging: estate.logging,
            scheduler_faults: estate.scheduler_faults,
            handover: None,
            conns,
        };
        if let Some((handover, hook)) = estate.handover.zip(hook) {
            flows.succeed_handover(handover, hook);
        }
        flows.pool.join(crew);
        Ok(flows)
    }
}

/// Local ports of another range than before: those of connections are taken.
fn claimed(conns: &ConnTable, limits: &Limits, keys: (u64, u64), share: Share) -> LocalPorts {
    let mut ports = LocalPorts::new(limits.local_ports, keys, share);
    let places = 0..conns.places();
    for c in places.filter_map(|place| conns.at(place)) {
        if let Some(local) = c.ends.local_end() {
            ports.claim(local, c.ends.server, c.protocol);
        }
    }
    ports
}
