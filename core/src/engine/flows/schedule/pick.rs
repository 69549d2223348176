//! Asking a service's scheduler, and checking what it says.

use super::{Refused, Scheduling};
use crate::backend::Backend;
use crate::engine::flows::pool::Service;
use crate::engine::flows::servers::Servers;
use crate::trace::{Candidate, Fate, Recorder, Step};
use crate::verdict::DropReason;

impl<R: Recorder> Scheduling<'_, R> {
    /// Asks the service's scheduler, as if the servers at the places `avoid` were overloaded; checks what it
    /// says.
    pub(super) fn pick(&mut self, avoid: &[u32]) -> Result<u32, Refused> {
        let pool = &mut self.flows.pool;
        pool.read_others(self.now, self.slot);
        pool.spread(self.flow, self.slot);
        let service = &mut pool.services[self.slot as usize];
        mark(service, avoid, true);
        service
            .slow_start
            .hold_back(self.now, &mut service.backends);
        let mut picked = service.scheduler.pick(self.flow, &service.backends);
        // Rather a server before its time than none.
        if picked.is_none() && service.slow_start.let_go(&mut service.backends) {
            picked = service.scheduler.pick(self.flow, &service.backends);
        }
        if R::ON {
            let step = scheduled(service, &pool.servers, picked, avoid);
            self.recorder.note(step);
        }
        let allowed = |i: usize| service.backends.get(i).is_some_and(Backend::is_available);
        let is_allowed = picked.is_none_or(allowed);
        service.slow_start.let_go(&mut service.backends);
        mark(service, avoid, false);
        let picked = picked.ok_or(Refused::NoServer)?;
        if !is_allowed {
            self.flows.scheduler_faults += 1;
            return Err(Refused::Drop(DropReason::SchedulerFault));
        }
        service.slow_start.charge(service.backends[picked].id);
        Ok(service.servers[picked])
    }
}

/// Marks the servers at the places `avoid` as overloaded for the pick at hand, or takes the marks away.
fn mark(service: &mut Service, avoid: &[u32], overloaded: bool) {
    if avoid.is_empty() {
        return;
    }
    for (backend, place) in service.backends.iter_mut().zip(&service.servers) {
        if avoid.contains(place) {
            backend.flags = if overloaded {
                backend.flags | Backend::OVERLOADED
            } else {
                backend.flags & !Backend::OVERLOADED
            };
        }
    }
}

/// What a scheduler chose, and what of; not of those at the places `avoided`.
fn scheduled(service: &Service, servers: &Servers, picked: Option<usize>, avoided: &[u32]) -> Step {
    let both = service.servers.iter().zip(&service.backends).enumerate();
    let candidates = both.map(|(i, (place, backend))| {
        let server = servers.get(*place);
        Candidate {
            server: server.key.1,
            weight: backend.weight,
            active: backend.active,
            inactive: backend.inactive,
            connections: server.numbers.stats.connections,
            fate: if avoided.contains(place) {
                Fate::SharedPort
            } else {
                fate(backend, picked == Some(i), service.slow_start.holds(i))
            },
        }
    });
    let candidates: Vec<Candidate> = candidates.collect();
    Step::Schedule {
        service: service.spec.key,
        scheduler: service.spec.scheduler.clone(),
        exact: true,
        chosen: picked.and_then(|i| candidates.get(i)).map(|c| c.server),
        candidates,
    }
}

fn fate(backend: &Backend, chosen: bool, held: bool) -> Fate {
    if chosen {
        Fate::Chosen
    } else if backend.weight == 0 {
        Fate::WeightZero
    } else if held {
        Fate::SlowStart
    } else if backend.flags & Backend::OVERLOADED != 0 {
        Fate::Overloaded
    } else {
        Fate::NotPicked
    }
}
