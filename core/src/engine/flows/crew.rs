//! Servers' load at all workers: each says what it has of it, and a service's schedulers see it all.
//!
//! [`Backend`]s have what is known of all workers, of which [`Server::others`] is not this one's. What is this one's is
//! always exact; the others' is read when a server is picked, at most once in [`STALE`], so that a pick sees another
//! worker's connections with that delay.

use super::pool::{Pool, Service, has_room, is_full};
use super::servers::Server;
use crate::backend::Backend;
use crate::crew::{Crew, STALE, Total};
use crate::flow::Flow;
use crate::time::Instant;

impl Pool {
    /// What this worker has of a server's load: active and inactive connections.
    pub(super) fn own(&self, place: u32) -> Total {
        own(self.load(place), self.servers.get(place))
    }

    /// A service's servers with this worker's load alone.
    pub(super) fn own_backends(&self, service: &Service) -> Vec<Backend> {
        let servers = service.servers.iter().zip(&service.backends);
        let alone = servers.map(|(place, backend)| {
            let (active, inactive) = own(backend, self.servers.get(*place));
            Backend {
                active,
                inactive,
                ..*backend
            }
        });
        alone.collect()
    }

    /// Tells the others what this worker has of a server's load.
    #[inline]
    pub(super) fn tell(&self, place: u32) {
        if let Some(crew) = &self.crew
            && let Some(row) = self.servers.get(place).row
        {
            crew.board.write(crew.number, row, self.own(place));
        }
    }

    /// Reads the others' load of a service's servers, unless that was just done.
    pub(super) fn read_others(&mut self, now: Instant, slot: u32) {
        let Some(crew) = &self.crew else {
            return;
        };
        let service = &mut self.services[slot as usize];
        if service.read != Instant::ZERO && now.since(service.read) < STALE {
            return;
        }
        service.read = now;
        for (place, backend) in service.servers.iter().zip(&mut service.backends) {
            let server = self.servers.get_mut(*place);
            let Some(row) = server.row else { continue };
            let (active, inactive) = own(backend, server);
            let others = crew.board.others(crew.number, row);
            server.others = others;
            (backend.active, backend.inactive) = (active + others.0, inactive + others.1);
            let (upper, lower) = (server.spec.upper, server.spec.lower);
            if is_full(backend, upper) {
                backend.flags |= Backend::OVERLOADED;
            } else if has_room(backend, upper, lower) {
                backend.flags &= !Backend::OVERLOADED;
            }
        }
    }

    /// Where schedulers go round, each worker's begins with another server: else the first connections of all would go to
    /// the first one. A scheduler that does not go round has nothing of it.
    pub(super) fn spread(&mut self, flow: &Flow, slot: u32) {
        let Some(crew) = &self.crew else {
            return;
        };
        let service = &mut self.services[slot as usize];
        if !std::mem::take(&mut service.begins) || service.scheduler.is_consistent() {
            return;
        }
        for _ in 0..crew.number {
            service.scheduler.pick(flow, &service.backends);
        }
    }

    /// Becomes one of several: all servers get their rows.
    pub(super) fn join(&mut self, crew: Option<Crew>) {
        self.crew = crew;
        for place in self.servers.places() {
            self.enter(place);
        }
    }

    /// A server has come, or come back.
    pub(super) fn enter(&mut self, place: u32) {
        let Some(crew) = &self.crew else {
            return;
        };
        let server = self.servers.get_mut(place);
        if server.row.is_none() && !server.is_unbound() {
            server.row = Some(crew.board.join(server.key));
        }
        self.tell(place);
    }

    /// A server has left its service, and may wait for its connections' ends.
    pub(super) fn detach(&mut self, place: u32, mut load: Backend) {
        let server = self.servers.get_mut(place);
        (load.active, load.inactive) = own(&load, server);
        server.others = (0, 0);
        if let Some(gone) = self.servers.detach(place, load) {
            self.leave(&gone);
        }
    }

    /// A server is known no more.
    pub(super) fn leave(&self, gone: &Server) {
        if let Some(crew) = &self.crew
            && let Some(row) = gone.row
        {
            crew.board.write(crew.number, row, (0, 0));
            crew.board.leave(&gone.key);
        }
    }
}

const fn own(backend: &Backend, server: &Server) -> Total {
    let (active, inactive) = server.others;
    (backend.active - active, backend.inactive - inactive)
}
