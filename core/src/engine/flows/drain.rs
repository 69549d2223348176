//! A server's way out of service: when it began, and how far it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Flows;
use crate::flow::Endpoint;
use crate::service::ServiceKey;
use crate::time::Instant;

/// What became of a server's connections, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The server's service.
    pub service: ServiceKey,
    /// The server.
    pub server: Endpoint,
    /// What happened.
    pub what: EventKind,
}

/// What happened to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Its weight is 0: so many of its connections are open.
    Drains(u32),
    /// None is open any more, so long after.
    Drained(Duration),
    /// Its drain timed out: so many were open, and end now.
    TimedOut(u32),
    /// It was removed, and so many of its connections were ended for that.
    Ended(u32),
}

/// A server's way out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Drain {
    /// Since when its weight is 0.
    pub(super) since: Instant,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// Connections are open.
    Open,
    /// None was open any more.
    Drained,
    /// Those left are ended.
    TimedOut,
}

impl Drain {
    /// It begins with so many connections open.
    pub(super) const fn begin(now: Instant, open: u32) -> Self {
        let stage = match open {
            0 => Stage::Drained,
            _ => Stage::Open,
        };
        Self { since: now, stage }
    }

    /// Moves on; what happened by that. `limit` is the time that the service gives it.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        open: u32,
        limit: Option<Duration>,
    ) -> Option<EventKind> {
        let took = now.since(self.since);
        if self.stage == Stage::Open && open == 0 {
            self.stage = Stage::Drained;
            return Some(EventKind::Drained(took));
        }
        if !self.is_timed_out() && limit.is_some_and(|limit| took >= limit) {
            self.stage = Stage::TimedOut;
            return Some(EventKind::TimedOut(open));
        }
        None
    }

    /// When it times out, `None` where it does not or has.
    pub(super) fn times_out(&self, limit: Option<Duration>) -> Option<Instant> {
        let limit = limit.filter(|_| !self.is_timed_out());
        limit.map(|limit| self.since + limit)
    }

    pub(super) fn is_timed_out(&self) -> bool {
        self.stage == Stage::TimedOut
    }
}

impl Flows {
    /// Whether a place is that of a service's server of weight 0; a drain of any other service's server is over.
    pub(in crate::engine) fn note_drain(&mut self, place: u32) -> bool {
        let servers = &mut self.pool.servers;
        if !servers.is_used(place) || servers.get(place).is_removed() {
            return false;
        }
        let server = servers.get_mut(place);
        if server.spec.weight != 0 {
            server.drain = None;
        }
        server.spec.weight == 0
    }

    /// Begins a server's drain, or moves it on; what happened by that.
    pub(in crate::engine) fn drain(&mut self, now: Instant, place: u32) -> Option<EventKind> {
        let open = self.pool.open_connections(place);
        let server = self.pool.servers.get_mut(place);
        let happened = server.drain_on(now, open)?;
        let key = server.key;
        if happened != EventKind::TimedOut(0) {
            self.stream.tell_of_server(&key, happened);
        }
        Some(happened)
    }

    /// When a server's drain begins or times out, `None` where it does neither.
    pub(in crate::engine) fn next_drain(&self, place: u32) -> Option<Instant> {
        let server = self.pool.servers.get(place);
        match server.drain {
            None => Some(Instant::ZERO),
            Some(drain) => drain.times_out(server.drain_limit()),
        }
    }
}
