//! Taking services up: those that changed, of which what did not change keeps its state; the others are not looked at.
//!
//! Each server's addition, change and removal reaches the scheduler by itself and in the order in which
//! `ipvsadm` commands would have brought it, for a scheduler's place in its round depends on that.

use std::collections::HashSet;
use std::sync::Arc;

use super::handover::Handover;
use super::pool::{Pool, Service};
use super::rates::{Rate, Rates};
use super::servers::Servers;
use super::slow_start::SlowStart;
use crate::backend::Backend;
use crate::engine::catalog::Catalog;
use crate::engine::desired::{Desired, SlotChanges};
use crate::flow::Endpoint;
use crate::scheduler::Scheduler;
use crate::service::{NewConnections, ServerSpec, ServiceSpec};
use crate::time::Instant;

/// Services that go at once after which the room they had is given back: less is soon filled again.
const MANY: usize = 1000;

/// The schedulers of services that are new, or whose scheduler is another than before; in the order of
/// [`SlotChanges::set`].
pub(in crate::engine) type NewSchedulers = Vec<Option<Box<dyn Scheduler>>>;

/// Servers that taking services up has looked at.
#[derive(Debug, Default)]
pub(in crate::engine) struct Touched {
    /// Their places, in order: the servers that their services have now, and those that were removed, if they are
    /// still there.
    pub(in crate::engine) servers: Vec<u32>,
    /// Whether one was removed whose connections end with it.
    pub(in crate::engine) released: bool,
}

/// Services being taken up.
pub(super) struct Change<'a> {
    pub(super) pool: &'a mut Pool,
    pub(super) rates: &'a mut Rates,
    pub(super) handover: Option<&'a mut Handover>,
    pub(super) desired: &'a Desired,
    pub(super) catalog: &'a Catalog,
    /// Servers that the service at hand has got.
    pub(super) entered: Vec<u32>,
    pub(super) touched: Touched,
}

impl Change<'_> {
    /// Makes the services those that are desired, each at its slot.
    pub(super) fn services(&mut self, slots: &SlotChanges, schedulers: NewSchedulers) {
        for slot in &slots.removed {
            self.settle(*slot);
            let service = self.pool.services.swap_remove(*slot as usize);
            self.has_moved(*slot);
            self.remove(service);
        }
        for (slot, scheduler) in slots.set.iter().copied().zip(schedulers) {
            self.settle(slot);
            let spec = self.desired.service(slot);
            let all = &mut self.pool.services;
            let last = all.len();
            // Taken out for as long as it is changed, the last being in its slot.
            let known = ((slot as usize) < last).then(|| all.swap_remove(slot as usize));
            let service = match (known, scheduler) {
                (None, scheduler) => Service::new(spec, scheduler.expect("made for each new one")),
                (Some(service), None) => service,
                (Some(service), Some(scheduler)) => service.scheduled_by(scheduler),
            };
            self.change(slot, service, spec);
            let all = &mut self.pool.services;
            let end = all.len() - 1;
            all.swap(slot as usize, end);
            for place in std::mem::take(&mut self.entered) {
                self.pool.enter(place);
            }
        }
        self.touched.servers.sort_unstable();
        self.touched.servers.dedup();
        if slots.removed.len() >= MANY {
            self.pool.services.shrink_to_fit();
            self.pool.servers.shrink();
        }
    }

    /// What the kernel has forwarded of a service belongs to the servers that it has before it changes.
    fn settle(&mut self, slot: u32) {
        let service = self.pool.services.get(slot as usize);
        let Some((handover, service)) = self.handover.as_deref_mut().zip(service) else {
            return;
        };
        let forwarded = |place: &u32| Some((*place, handover.settle(self.pool, *place)?));
        let forwarded: Vec<_> = service.servers.iter().filter_map(forwarded).collect();
        for (place, traffic) in forwarded {
            self.pool.count_forwarded(place, traffic.into());
        }
    }

    /// The service that was last may be at this slot now.
    fn has_moved(&mut self, slot: u32) {
        if let Some(service) = self.pool.services.get(slot as usize) {
            for place in &service.servers {
                self.pool.servers.get_mut(*place).service = slot;
            }
        }
    }

    fn remove(&mut self, mut service: Service) {
        self.pool.retired += service.stats;
        self.rates.set(&mut service.rate, NewConnections::default());
        for (place, load) in service.servers.iter().zip(&service.backends) {
            self.detach(*place, *load);
        }
    }

    /// Changes a service and puts it behind the last.
    fn change(&mut self, slot: u32, mut service: Service, spec: &Arc<ServiceSpec>) {
        let consistent = service.scheduler.is_consistent();
        let seconds = if consistent { 0 } else { spec.slow_start };
        service.slow_start.set_time(seconds);
        self.remove_servers(&mut service, spec);
        self.edit_servers(&mut service, spec);
        self.add_servers(&mut service, spec);
        for place in &service.servers {
            let server = self.pool.servers.get_mut(*place);
            (server.service, server.teardown) = (slot, spec.teardown);
        }
        self.touched.servers.extend(&service.servers);
        if self.rates.set(&mut service.rate, spec.new_connections) {
            service.shared_bucket = self.pool.shared_bucket(spec);
        }
        self.pool.has_slow_start |= service.slow_start.is_under_way();
        service.spec = Arc::clone(spec);
        self.pool.services.push(service);
    }

    fn remove_servers(&mut self, service: &mut Service, spec: &ServiceSpec) {
        let wanted: HashSet<Endpoint> = spec.servers.iter().map(|s| s.endpoint).collect();
        let mut i = 0;
        while i < service.servers.len() {
            let server = self.pool.servers.get_mut(service.servers[i]);
            if wanted.contains(&server.key.1) {
                i += 1;
                continue;
            }
            server.teardown = spec.teardown;
            let (place, load) = (service.servers.remove(i), service.backends.remove(i));
            service.slow_start.removed(load.id);
            self.detach(place, load);
            self.renumber(service);
            service.servers_changed();
        }
    }

    fn edit_servers(&mut self, service: &mut Service, spec: &ServiceSpec) {
        for wanted in &spec.servers {
            let Some(i) = self.position(service, wanted.endpoint) else {
                continue;
            };
            let mode = self.mode_for(wanted);
            let server = self.pool.servers.get_mut(service.servers[i]);
            if server.spec == *wanted {
                continue;
            }
            // A higher limit, or none, makes room at once (`__ip_vs_update_dest`).
            if wanted.upper == 0 || wanted.upper > server.spec.upper {
                service.backends[i].flags &= !Backend::OVERLOADED;
            }
            (server.spec, server.mode) = (*wanted, mode);
            let backend = &mut service.backends[i];
            let before = std::mem::replace(&mut backend.weight, wanted.weight);
            service
                .slow_start
                .weight_set(backend.id, before, wanted.weight);
            service.servers_changed();
        }
    }

    /// The oldest first, each at the head of the list, as `ipvsadm -a` adds them.
    fn add_servers(&mut self, service: &mut Service, spec: &ServiceSpec) {
        for wanted in spec.servers.iter().rev() {
            if self.position(service, wanted.endpoint).is_some() {
                continue;
            }
            let key = (spec.key, wanted.endpoint);
            let mode = self.mode_for(wanted);
            let (place, backend) = self.pool.servers.attach(key, *wanted, mode);
            self.entered.push(place);
            let at = insertion_point(service, &self.pool.servers, spec, wanted);
            service.servers.insert(at, place);
            service.backends.insert(at, backend);
            service.slow_start.weight_set(backend.id, 0, backend.weight);
            self.renumber(service);
            service.servers_changed();
        }
    }

    /// Takes a server out of its service.
    fn detach(&mut self, place: u32, load: Backend) {
        let expire_nodest = self.desired.sysctls().expire_nodest_conn != 0;
        self.touched.released |= self.pool.servers.get(place).releases(expire_nodest);
        self.touched.servers.push(place);
        self.pool.detach(place, load);
    }

    fn position(&self, service: &Service, endpoint: Endpoint) -> Option<usize> {
        service
            .servers
            .iter()
            .position(|p| self.pool.servers.get(*p).key.1 == endpoint)
    }

    fn renumber(&mut self, service: &Service) {
        for (i, place) in (0..).zip(&service.servers) {
            self.pool.servers.get_mut(*place).position = i;
        }
    }

    /// The place of a server's mode, which is known to be there.
    fn mode_for(&self, server: &ServerSpec) -> u8 {
        let mode = self.catalog.mode_for(server.forwarding, server.tunnel.kind);
        mode.unwrap_or_default()
    }
}

impl Service {
    /// One without servers.
    fn new(spec: &Arc<ServiceSpec>, mut scheduler: Box<dyn Scheduler>) -> Self {
        scheduler.backends_changed(&[]);
        Self {
            spec: Arc::clone(spec),
            scheduler,
            backends: Vec::new(),
            servers: Vec::new(),
            stats: Default::default(),
            failures: Default::default(),
            next_local: 0,
            slow_start: SlowStart::default(),
            rate: Rate::default(),
            shared_bucket: None,
            read: Instant::ZERO,
            begins: true,
        }
    }

    /// With another scheduler.
    fn scheduled_by(mut self, scheduler: Box<dyn Scheduler>) -> Self {
        self.scheduler = scheduler;
        self.servers_changed();
        self
    }

    /// Tells the scheduler its servers.
    fn servers_changed(&mut self) {
        self.scheduler.backends_changed(&self.backends);
        self.begins = true;
    }
}

/// Where a new server goes so that the order ends up as the specification has it: the head, unless the
/// specification was rearranged.
fn insertion_point(
    service: &Service,
    servers: &Servers,
    spec: &ServiceSpec,
    wanted: &ServerSpec,
) -> usize {
    let rank = |e: Endpoint| spec.servers.iter().position(|s| s.endpoint == e);
    let own = rank(wanted.endpoint);
    service
        .servers
        .iter()
        .position(|p| rank(servers.get(*p).key.1) > own)
        .unwrap_or(service.servers.len())
}
