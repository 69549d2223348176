//! Real servers by place: those of services, and removed ones that connections still belong to.
//!
//! As in the kernel's "trash", a removed server waits while connections refer to it; added back, it takes
//! its connections and counts up again.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::drain::{Drain, EventKind};
use super::handshake::Handshakes;
use super::outcomes::Outcomes;
use crate::backend::Backend;
use crate::conn::NONE;
use crate::crew::Total;
use crate::flow::Endpoint;
use crate::narrow;
use crate::numbers::ServerNumbers;
use crate::service::{Forwarding, OnRemoval, ServerSpec, ServiceKey, TeardownPolicy};
use crate::time::Instant;

/// A real server.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::engine) struct Server {
    /// Its service and endpoint.
    pub(in crate::engine) key: (ServiceKey, Endpoint),
    /// As asked for, last.
    pub(in crate::engine) spec: ServerSpec,
    /// The place of its mode.
    pub(in crate::engine) mode: u8,
    /// The slot of its service, [`NONE`] while removed.
    pub(super) service: u32,
    /// Its place among the service's backends.
    pub(super) position: u32,
    /// Its load while removed; else the service has it.
    pub(super) removed: Backend,
    /// Connections and templates that refer to it.
    pub(super) references: u32,
    /// Connections that are over: closed by both sides, or reset.
    pub(super) over: u32,
    /// Connections that were ended because the server left.
    pub(super) ended: u32,
    /// What its load has of other workers' connections, as of when that was last read.
    #[serde(skip)]
    pub(super) others: Total,
    /// Its row on the board, where there are other workers.
    #[serde(skip)]
    pub(super) row: Option<u32>,
    /// While its weight is 0.
    pub(super) drain: Option<Drain>,
    /// Its service's.
    pub(in crate::engine) teardown: TeardownPolicy,
    /// What is counted where it happens: templates, traffic; [`Flows::report`](super::Flows::report) adds the
    /// rest.
    pub(super) numbers: ServerNumbers,
    pub(super) handshakes: Handshakes,
    pub(super) outcomes: Outcomes,
}

impl Server {
    /// Whether it stands for servers that are known from other directors only.
    pub(in crate::engine) fn is_unbound(&self) -> bool {
        self.key.1 == Endpoint::NONE
    }

    /// Whether it was removed from its service, and waits for its connections' ends.
    pub(in crate::engine) fn is_removed(&self) -> bool {
        self.service == NONE
    }

    /// Whether its drain has timed out.
    pub(in crate::engine) fn is_timed_out(&self) -> bool {
        self.drain.is_some_and(|d| d.is_timed_out())
    }

    /// Whether its connections end with their next packet at the latest, once it is removed;
    /// `expire_nodest` is the sysctl expire_nodest_conn.
    pub(in crate::engine) fn releases(&self, expire_nodest: bool) -> bool {
        self.teardown.on_removal != OnRemoval::Keep || expire_nodest
    }

    /// Begins its drain, or moves it on, with so many connections open; what happened by that.
    pub(super) fn drain_on(&mut self, now: Instant, open: u32) -> Option<EventKind> {
        let limit = self.drain_limit();
        if let Some(drain) = &mut self.drain {
            return drain.advance(now, open, limit);
        }
        self.drain = Some(Drain::begin(now, open));
        // One that never had connections was not taken out of service.
        let served = self.numbers.stats.connections > 0 || open > 0;
        served.then_some(EventKind::Drains(open))
    }

    /// How long its drain may take, `None` = for ever.
    pub(super) fn drain_limit(&self) -> Option<Duration> {
        let seconds = self.teardown.drain_timeout;
        (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
    }
}

/// All real servers.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Servers {
    places: Vec<Option<Server>>,
    free: Vec<u32>,
    removed: HashMap<(ServiceKey, Endpoint), u32>,
    next_id: u64,
}

impl Servers {
    /// The server at `place`.
    ///
    /// # Panics
    /// Where there is none: a connection would refer to a freed server.
    #[inline(always)]
    pub(super) fn get(&self, place: u32) -> &Server {
        self.places[place as usize]
            .as_ref()
            .expect("a place in use")
    }

    /// The server at `place`, as [`Servers::get`].
    #[inline(always)]
    pub(super) fn get_mut(&mut self, place: u32) -> &mut Server {
        self.places[place as usize]
            .as_mut()
            .expect("a place in use")
    }

    /// Whether there is a server at `place`.
    pub(super) fn is_used(&self, place: u32) -> bool {
        matches!(self.places.get(place as usize), Some(Some(_)))
    }

    /// Binds each server to the mode that is at another place now.
    pub(super) fn rebind(&mut self, mode: impl Fn(u8) -> u8) {
        for server in self.places.iter_mut().flatten() {
            server.mode = mode(server.mode);
        }
    }

    /// All servers with their places.
    #[cfg(feature = "testing")]
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Server)> {
        let places = (0..).zip(&self.places);
        places.filter_map(|(place, server)| Some((place, server.as_ref()?)))
    }

    /// The place of a removed server that connections still belong to.
    pub(super) fn removed(&self, key: &(ServiceKey, Endpoint)) -> Option<u32> {
        self.removed.get(key).copied()
    }

    /// Adds a server of this mode that stands for those that are not known here; nobody finds it by a key.
    pub(super) fn add_unbound(&mut self, forwarding: Forwarding, mode: u8) -> u32 {
        let key = (
            ServiceKey::Mark {
                mark: 0,
                ipv6: false,
            },
            Endpoint::NONE,
        );
        let spec = ServerSpec::new(Endpoint::NONE, forwarding);
        self.attach(key, spec, mode).0
    }

    /// Adds a server, or takes the removed one of that key back; with its load. It is the caller's to say where
    /// its service has it.
    pub(super) fn attach(
        &mut self,
        key: (ServiceKey, Endpoint),
        spec: ServerSpec,
        mode: u8,
    ) -> (u32, Backend) {
        if let Some(place) = self.removed.remove(&key) {
            let server = self.get_mut(place);
            (server.spec, server.mode) = (spec, mode);
            server.numbers = ServerNumbers {
                persistent: server.numbers.persistent,
                ..ServerNumbers::default()
            };
            (server.ended, server.drain) = (0, None);
            let mut backend = server.removed;
            backend.weight = spec.weight;
            return (place, backend);
        }
        self.next_id += 1;
        let backend = Backend {
            addr: spec.endpoint.addr,
            id: self.next_id,
            weight: spec.weight,
            active: 0,
            inactive: 0,
            flags: 0,
            port: spec.endpoint.port,
            reserved: 0,
            handshake: 0,
        };
        let server = Server {
            key,
            spec,
            mode,
            service: NONE,
            position: 0,
            removed: backend,
            references: 0,
            over: 0,
            ended: 0,
            others: (0, 0),
            row: None,
            drain: None,
            teardown: TeardownPolicy::default(),
            numbers: ServerNumbers::default(),
            handshakes: Handshakes::default(),
            outcomes: Outcomes::default(),
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            narrow::to_u32(self.places.len()) - 1
        });
        self.places[place as usize] = Some(server);
        (place, backend)
    }

    /// Gives back the room behind the last server.
    pub(super) fn shrink(&mut self) {
        let last = self.places.iter().rposition(Option::is_some);
        self.places.truncate(last.map_or(0, |last| last + 1));
        let places = self.places.len();
        self.free.retain(|place| (*place as usize) < places);
        self.places.shrink_to_fit();
        self.free.shrink_to_fit();
        self.removed.shrink_to_fit();
    }

    /// Removes a server from its service; it stays while connections refer to it, and is given back where there are none.
    pub(super) fn detach(&mut self, place: u32, load: Backend) -> Option<Server> {
        let server = self.get_mut(place);
        server.service = NONE;
        server.removed = load;
        if server.references == 0 {
            self.free.push(place);
            return self.places[place as usize].take();
        }
        let key = server.key;
        self.removed.insert(key, place);
        None
    }

    /// The places in use.
    pub(super) fn places(&self) -> Vec<u32> {
        let places = (0..).zip(&self.places);
        let used = places.filter(|(_, server)| server.is_some());
        used.map(|(place, _)| place).collect()
    }

    /// A connection refers to the server no more; the server, where it was the last of a removed one.
    pub(super) fn release(&mut self, place: u32) -> Option<Server> {
        let server = self.get_mut(place);
        server.references -= 1;
        if server.references > 0 || server.service != NONE {
            return None;
        }
        let gone = self.places[place as usize].take()?;
        self.removed.remove(&gone.key);
        self.free.push(place);
        Some(gone)
    }
}
