//! Applying a snapshot: what changed is found by key, what did not change keeps its state.
//!
//! Each server's addition, change and removal reaches the scheduler by itself and in the order in which
//! `ipvsadm` commands would have brought it, for a scheduler's place in its round depends on that.

use std::collections::HashSet;
use std::sync::Arc;

use super::admission::Rate;
use super::slow_start::SlowStart;
use super::{Engine, Service};
use crate::backend::Backend;
use crate::conn::NONE;
use crate::flow::{Addr, Endpoint, Protocol};
use crate::marks::{Destination, Marks, destinations};
use crate::scheduler::SchedulerParams;
use crate::service::{Forwarding, Replies, ServerSpec, ServiceKey, ServiceSpec, TunnelKind};
use crate::snapshot::Snapshot;
use crate::trace::Recorder;

/// Why a snapshot was not applied; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// No such scheduler.
    UnknownScheduler(String),
    /// No mode implements a server's forwarding method.
    UnknownMode(ServiceKey, Endpoint),
}

impl std::fmt::Display for ApplyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownScheduler(name) => write!(f, "there is no scheduler `{name}`"),
            Self::UnknownMode(service, server) => {
                write!(
                    f,
                    "{service}: no mode forwards to the server {server} in the way asked for"
                )
            }
        }
    }
}

impl std::error::Error for ApplyError {}

impl<R: Recorder> Engine<R> {
    /// Makes the desired state the engine's. Running connections stay.
    ///
    /// # Errors
    /// A service cannot be made; then nothing is changed.
    pub fn apply(&mut self, snapshot: Arc<Snapshot>) -> Result<(), ApplyError> {
        self.check(&snapshot)?;
        let before = std::mem::replace(&mut self.snapshot, Arc::clone(&snapshot));
        let wanted: HashSet<ServiceKey> = snapshot.services.iter().map(|s| s.key).collect();
        for slot in 0..self.services.len() {
            if self.services[slot]
                .as_ref()
                .is_some_and(|s| !wanted.contains(&s.spec.key))
            {
                self.remove_service(slot as u32);
            }
        }
        for spec in &snapshot.services {
            match self.lookup.get(&spec.key) {
                Some(slot) => self.change_service(*slot, spec),
                None => self.add_service(spec),
            }
        }
        self.defence.configure(&self.snapshot.sysctls);
        self.note_drains();
        self.note_marks();
        self.note_addresses();
        self.note_access(&before);
        Ok(())
    }

    /// Everything that could fail, before anything is changed.
    fn check(&self, snapshot: &Snapshot) -> Result<(), ApplyError> {
        for spec in &snapshot.services {
            let known = self
                .lookup
                .get(&spec.key)
                .and_then(|s| self.services[*s as usize].as_ref());
            if known.is_none_or(|k| k.spec.scheduler != spec.scheduler)
                && (self.schedulers)(&spec.scheduler, &self.params(spec)).is_none()
            {
                return Err(ApplyError::UnknownScheduler(spec.scheduler.clone()));
            }
            for server in &spec.servers {
                if self
                    .mode_for(server.forwarding, server.tunnel.kind)
                    .is_none()
                {
                    return Err(ApplyError::UnknownMode(spec.key, server.endpoint));
                }
            }
        }
        Ok(())
    }

    fn params(&self, spec: &ServiceSpec) -> SchedulerParams {
        SchedulerParams {
            flags: spec.flags,
            seed: self.seed,
            table_size: spec.table_size,
        }
    }

    fn add_service(&mut self, spec: &Arc<ServiceSpec>) {
        let Some(mut scheduler) = (self.schedulers)(&spec.scheduler, &self.params(spec)) else {
            return;
        };
        scheduler.backends_changed(&[]);
        let mut empty = ServiceSpec::clone(spec);
        empty.servers.clear();
        let service = Service {
            spec: Arc::new(empty),
            scheduler,
            backends: Vec::new(),
            servers: Vec::new(),
            stats: Default::default(),
            failures: Default::default(),
            next_local: 0,
            slow_start: SlowStart::default(),
            rate: Rate::default(),
        };
        let slot = self
            .services
            .iter()
            .position(Option::is_none)
            .unwrap_or_else(|| {
                self.services.push(None);
                self.services.len() - 1
            });
        self.services[slot] = Some(service);
        self.lookup.insert(spec.key, slot as u32);
        self.change_service(slot as u32, spec);
    }

    fn remove_service(&mut self, slot: u32) {
        let Some(service) = self.services[slot as usize].take() else {
            return;
        };
        self.lookup.remove(&service.spec.key);
        self.retired += service.stats;
        for (place, load) in service.servers.iter().zip(&service.backends) {
            self.detach(*place, *load);
        }
    }

    fn change_service(&mut self, slot: u32, spec: &Arc<ServiceSpec>) {
        let Some(mut service) = self.services[slot as usize].take() else {
            return;
        };
        let made_from = |s: &ServiceSpec| (s.scheduler.clone(), s.flags, s.table_size);
        if made_from(&service.spec) != made_from(spec)
            && let Some(scheduler) = (self.schedulers)(&spec.scheduler, &self.params(spec))
        {
            service.scheduler = scheduler;
            service.scheduler.backends_changed(&service.backends);
        }
        let consistent = service.scheduler.is_consistent();
        let seconds = if consistent { 0 } else { spec.slow_start };
        service.slow_start.set_time(seconds);
        self.remove_servers(&mut service, spec);
        self.edit_servers(&mut service, spec);
        self.add_servers(slot, &mut service, spec);
        for place in &service.servers {
            self.servers.get_mut(*place).care = spec.care;
        }
        service.spec = Arc::clone(spec);
        self.services[slot as usize] = Some(service);
    }

    fn remove_servers(&mut self, service: &mut Service, spec: &ServiceSpec) {
        let wanted: HashSet<Endpoint> = spec.servers.iter().map(|s| s.endpoint).collect();
        let mut i = 0;
        while i < service.servers.len() {
            if wanted.contains(&self.servers.get(service.servers[i]).key.1) {
                i += 1;
                continue;
            }
            let (place, load) = (service.servers.remove(i), service.backends.remove(i));
            service.slow_start.removed(load.id);
            self.servers.get_mut(place).care = spec.care;
            self.detach(place, load);
            self.renumber(service);
            service.scheduler.backends_changed(&service.backends);
        }
    }

    fn edit_servers(&mut self, service: &mut Service, spec: &ServiceSpec) {
        for wanted in &spec.servers {
            let Some(i) = self.position(service, wanted.endpoint) else {
                continue;
            };
            let mode = self
                .mode_for(wanted.forwarding, wanted.tunnel.kind)
                .unwrap_or_default();
            let server = self.servers.get_mut(service.servers[i]);
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
            service.scheduler.backends_changed(&service.backends);
        }
    }

    /// The oldest first, each at the head of the list, as `ipvsadm -a` adds them.
    fn add_servers(&mut self, slot: u32, service: &mut Service, spec: &ServiceSpec) {
        for wanted in spec.servers.iter().rev() {
            if self.position(service, wanted.endpoint).is_some() {
                continue;
            }
            let mode = self
                .mode_for(wanted.forwarding, wanted.tunnel.kind)
                .unwrap_or_default();
            let key = (spec.key, wanted.endpoint);
            let (place, backend) = self.servers.attach(slot, key, *wanted, mode);
            let at = insertion_point(service, &self.servers, spec, wanted);
            service.servers.insert(at, place);
            service.backends.insert(at, backend);
            service.slow_start.weight_set(backend.id, 0, backend.weight);
            self.renumber(service);
            service.scheduler.backends_changed(&service.backends);
        }
    }

    fn position(&self, service: &Service, endpoint: Endpoint) -> Option<usize> {
        service
            .servers
            .iter()
            .position(|p| self.servers.get(*p).key.1 == endpoint)
    }

    fn renumber(&mut self, service: &Service) {
        for (i, place) in service.servers.iter().enumerate() {
            self.servers.get_mut(*place).position = i as u32;
        }
    }

    /// The rules whose mark has a service.
    fn note_marks(&mut self) {
        let rules = self.snapshot.marks.iter();
        let mut served = rules.filter(|r| {
            let key = ServiceKey::Mark {
                mark: r.mark,
                ipv6: false,
            };
            self.lookup.contains_key(&key)
        });
        let first = served.next();
        self.marks = first.map(|first| Marks::new([first].into_iter().chain(served).copied()));
    }

    /// What the packet path asks by address.
    fn note_addresses(&mut self) {
        self.owned = self.snapshot.owned_vips.iter().copied().collect();
        self.forget_claims();
        self.yielded = self.snapshot.yielded_vips.iter().copied().collect();
        self.absent = self.snapshot.absent_vips.iter().copied().collect();
        self.vips = self.owned.clone();
        self.locals.clear();
        self.tunnels.clear();
        self.repliers.clear();
        self.nat_servers.clear();
        self.replier_addrs.clear();
        for spec in &self.snapshot.services {
            let to: Vec<Destination> = destinations(spec.key, &self.snapshot.marks).collect();
            let hosts = to.iter().filter(|to| to.is_host());
            self.vips.extend(hosts.map(|to| to.addr));
            self.locals.extend(spec.local.iter().copied());
            let protocols: HashSet<Protocol> = to.iter().flat_map(Destination::protocols).collect();
            let passing = |s: &&ServerSpec| s.forwarding.passes_replies();
            for server in spec.servers.iter().filter(passing) {
                let from = Endpoint::new(server.endpoint.addr, spec.reply_port(server));
                self.repliers.extend(protocols.iter().map(|p| (*p, from)));
                if server.forwarding.replies() == Replies::Gateway {
                    self.nat_servers
                        .extend(protocols.iter().map(|p| (*p, from)));
                }
                self.replier_addrs.insert(from.addr);
            }
            self.tunnels
                .extend(spec.servers.iter().filter_map(tunnel_end));
        }
        let tunnels = &self.tunnels;
        self.path_mtus
            .retain(|to| tunnels.iter().any(|(end, ..)| *end == to));
    }

    /// The backend that counts a server's load.
    pub(super) fn load_mut(&mut self, place: u32) -> &mut Backend {
        let server = self.servers.get(place);
        let (service, position) = (server.service, server.position);
        if service != NONE
            && let Some(s) = self.services[service as usize].as_mut()
        {
            return &mut s.backends[position as usize];
        }
        &mut self.servers.get_mut(place).removed
    }
}

/// What tells a tunnel's packets: the server's address, its port where the kind has one, and the kind.
fn tunnel_end(server: &ServerSpec) -> Option<(Addr, u16, TunnelKind)> {
    let kind = server.tunnel.kind;
    let port = if kind.def().has_port {
        server.tunnel.port
    } else {
        0
    };
    (server.forwarding == Forwarding::Tunnel).then_some((server.endpoint.addr, port, kind))
}

/// Where a new server goes so that the order ends up as the specification has it: the head, unless the
/// specification was rearranged.
fn insertion_point(
    service: &Service,
    servers: &super::Servers,
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
