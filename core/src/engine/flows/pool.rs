//! Services at work, their servers, and the load that is counted of them.

use std::sync::Arc;

use super::event::{Cause, FlowEvent, Standing};
use super::rates::Rate;
use super::servers::{Server, Servers};
use super::slow_start::SlowStart;
use crate::backend::Backend;
use crate::conn::{self, Conn};
use crate::counters::{ByFailure, Stats};
use crate::crew::{Crew, SharedBucket};
use crate::scheduler::Scheduler;
use crate::service::{Forwarding, ServiceSpec};
use crate::time::Instant;

/// A virtual service at work.
pub(super) struct Service {
    pub(super) spec: Arc<ServiceSpec>,
    pub(super) scheduler: Box<dyn Scheduler>,
    /// What the scheduler sees.
    pub(super) backends: Vec<Backend>,
    /// The places in [`Pool::servers`] of `backends`.
    pub(super) servers: Vec<u32>,
    pub(super) stats: Stats,
    pub(super) failures: ByFailure,
    /// Whose turn it is among the local addresses.
    pub(super) next_local: usize,
    pub(super) slow_start: SlowStart,
    pub(super) rate: Rate,
    /// The bucket of its limit of new connections, where several workers have one.
    pub(super) shared_bucket: Option<Arc<SharedBucket>>,
    /// When the other workers' load was last read.
    pub(super) read: Instant,
    /// Its servers have changed since its scheduler was last asked.
    pub(super) begins: bool,
}

/// All services and servers. A service has the slot that [`Desired`](crate::engine::desired::Desired) gives
/// it; a server keeps its place for as long as anything refers to it.
#[derive(Default)]
pub(super) struct Pool {
    pub(super) services: Vec<Service>,
    pub(super) servers: Servers,
    /// Traffic of services that were removed.
    pub(super) retired: Stats,
    /// Whether a server may be in its slow start.
    pub(super) has_slow_start: bool,
    /// By mode, the place that stands for all servers that are known from other directors only, while a
    /// connection is there.
    pub(super) unbound: Vec<(u8, u32)>,
    /// Where several workers have these services: whose this pool is, and what they know of each other.
    pub(super) crew: Option<Crew>,
}

impl Pool {
    pub(super) fn service(&self, slot: u32) -> &Service {
        &self.services[slot as usize]
    }

    pub(super) fn service_mut(&mut self, slot: u32) -> &mut Service {
        &mut self.services[slot as usize]
    }

    /// Counts a packet at its server and service: from the server (`out`) or the client.
    #[inline(always)]
    pub(super) fn count_packet(&mut self, place: u32, out: bool, bytes: u64) {
        let server = self.servers.get_mut(place);
        server.numbers.stats.count(out, bytes);
        if let Some(service) = self.services.get_mut(server.service as usize) {
            service.stats.count(out, bytes);
        }
    }

    /// The backend that counts a server's load: its service's, or its own where that is removed.
    pub(super) fn load_mut(&mut self, place: u32) -> &mut Backend {
        let server = self.servers.get_mut(place);
        match self.services.get_mut(server.service as usize) {
            Some(service) => &mut service.backends[server.position as usize],
            None => &mut server.removed,
        }
    }

    /// As [`Pool::load_mut`].
    pub(super) fn load(&self, place: u32) -> &Backend {
        let server = self.servers.get(place);
        match self.services.get(server.service as usize) {
            Some(service) => &service.backends[server.position as usize],
            None => &server.removed,
        }
    }

    /// Whether the server of this identity still has its place.
    pub(super) fn has(&self, place: u32, id: u64) -> bool {
        self.servers.is_used(place) && self.load(place).id == id
    }

    /// Counts what was forwarded elsewhere at its server and service.
    pub(super) fn count_forwarded(&mut self, place: u32, forwarded: Stats) {
        let server = self.servers.get_mut(place);
        server.numbers.stats += forwarded;
        if let Some(service) = self.services.get_mut(server.service as usize) {
            service.stats += forwarded;
        }
    }

    /// Connections of a server that are not over.
    pub(super) fn open_connections(&self, place: u32) -> u32 {
        let (active, inactive) = self.own(place);
        (active + inactive).saturating_sub(self.servers.get(place).over)
    }

    /// Takes what became of a connection into its server's load. The server, where it was removed and this
    /// was the last that referred to it.
    pub(super) fn account(&mut self, event: &FlowEvent<'_>) -> Option<Server> {
        match *event {
            FlowEvent::Opened(c) => self.opened(c),
            FlowEvent::Changed(c, before) => self.changed(c, before),
            FlowEvent::Ended(c, cause) => {
                self.ended(c, cause);
                return self.release(c.backend);
            }
        }
        None
    }

    /// A connection refers to a server no more; the server, where it was the last of a removed one.
    fn release(&mut self, place: u32) -> Option<Server> {
        let gone = self.servers.release(place)?;
        self.leave(&gone);
        self.unbound.retain(|(_, unbound)| *unbound != place);
        Some(gone)
    }

    /// The place that stands for servers of a mode that are not known here.
    pub(super) fn unbound(&mut self, forwarding: Forwarding, mode: u8) -> u32 {
        let known = self.unbound.iter().find(|(of, _)| *of == mode);
        if let Some((_, place)) = known {
            return *place;
        }
        let place = self.servers.add_unbound(forwarding, mode);
        self.unbound.push((mode, place));
        place
    }

    /// Takes a connection or template from the server that has it to another.
    pub(super) fn rebind(&mut self, c: &Conn, to: u32) {
        let standing = Standing::of(c);
        self.ended(c, Cause::Superseded);
        self.release(c.backend);
        let mut moved = *c;
        moved.backend = to;
        self.opened(&moved);
        let unmoved = Standing {
            active: false,
            over: false,
            ..standing
        };
        if !c.has(conn::TEMPLATE) {
            self.changed(&moved, unmoved);
        }
    }

    /// As `ip_vs_bind_dest`.
    fn opened(&mut self, c: &Conn) {
        let server = self.servers.get_mut(c.backend);
        server.references += 1;
        if c.has(conn::TEMPLATE) {
            server.numbers.persistent += 1;
            return;
        }
        let upper = server.spec.upper;
        let load = self.load_mut(c.backend);
        load.inactive += 1;
        if is_full(load, upper) {
            load.flags |= Backend::OVERLOADED;
        }
        self.tell(c.backend);
    }

    fn changed(&mut self, c: &Conn, before: Standing) {
        let now = Standing::of(c);
        if before.over != now.over {
            let over = &mut self.servers.get_mut(c.backend).over;
            *over = if before.over { *over - 1 } else { *over + 1 };
        }
        if before.active != now.active {
            let load = self.load_mut(c.backend);
            if now.active {
                (load.active, load.inactive) = (load.active + 1, load.inactive - 1);
            } else {
                (load.active, load.inactive) = (load.active - 1, load.inactive + 1);
            }
            self.tell(c.backend);
        }
    }

    /// The reverse of counting; makes room under the threshold (`ip_vs_unbind_dest`).
    fn ended(&mut self, c: &Conn, cause: Cause) {
        let server = self.servers.get_mut(c.backend);
        let (upper, lower) = (server.spec.upper, server.spec.lower);
        server.over -= u32::from(c.is_over());
        if c.has(conn::TEMPLATE) {
            server.numbers.persistent -= 1;
        } else if cause == Cause::ServerLeft {
            server.ended += 1;
        }
        let load = self.load_mut(c.backend);
        if !c.has(conn::TEMPLATE) {
            let count = if c.has(conn::INACTIVE) {
                &mut load.inactive
            } else {
                &mut load.active
            };
            *count -= 1;
        }
        if has_room(load, upper, lower) {
            load.flags &= !Backend::OVERLOADED;
        }
        self.tell(c.backend);
    }
}

/// Whether a server has as many connections as its upper threshold, 0 for none, allows.
pub(super) fn is_full(load: &Backend, upper: u32) -> bool {
    upper != 0 && load.active + load.inactive >= upper
}

/// Whether a server that was overloaded may have connections again.
pub(super) fn has_room(load: &Backend, upper: u32, lower: u32) -> bool {
    let total = u64::from(load.active) + u64::from(load.inactive);
    match (upper, lower) {
        (0, 0) => true,
        (_, 0) => total * 4 < u64::from(upper) * 3,
        _ => total < u64::from(lower),
    }
}
