//! Real servers of weight 0: when their drain began, is over, or timed out, and the events that say so.
//!
//! A drain is over when none of the server's connections is open any more. It times out when its service's
//! time for it is over; the sweep then ends those that are left.

use std::time::Duration;

use super::Engine;
use super::servers::Server;
use crate::flow::Endpoint;
use crate::service::ServiceKey;
use crate::time::Instant;
use crate::trace::Recorder;

/// What became of a server's connections, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The server's service.
    pub service: ServiceKey,
    /// The server.
    pub server: Endpoint,
    /// What happened.
    pub what: Happened,
}

/// What happened to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Its weight is 0: so many of its connections are open.
    Drains(u32),
    /// None is open any more, so long after.
    Drained(Duration),
    /// Its drain timed out: so many were open, and end now.
    TimedOut(u32),
    /// It was removed, and so many of its connections were ended for that.
    Ended(u32),
}

/// Events that wait to be taken, at most.
const EVENTS: usize = 1024;

/// How often servers of weight 0 are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A server's way out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Drain {
    /// Since when its weight is 0.
    pub(super) since: Instant,
    pub(super) stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Connections are open.
    Open,
    /// None was open any more.
    Drained,
    /// Those left are ended.
    TimedOut,
}

impl Server {
    /// Moves its drain on; what happened by that.
    fn drain_on(&mut self, now: Instant, open: u32) -> Option<Happened> {
        let limit = self.drain_limit();
        let Some(drain) = self.drain.as_mut() else {
            let stage = match open {
                0 => Stage::Drained,
                _ => Stage::Open,
            };
            self.drain = Some(Drain { since: now, stage });
            // One that never had connections was not taken out of service.
            let served = self.numbers.stats.connections > 0 || open > 0;
            return served.then_some(Happened::Drains(open));
        };
        let took = now.since(drain.since);
        if drain.stage == Stage::Open && open == 0 {
            drain.stage = Stage::Drained;
            return Some(Happened::Drained(took));
        }
        if drain.stage != Stage::TimedOut && limit.is_some_and(|limit| took >= limit) {
            drain.stage = Stage::TimedOut;
            return Some(Happened::TimedOut(open));
        }
        None
    }

    fn drain_limit(&self) -> Option<Duration> {
        let seconds = self.care.drain_timeout;
        (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
    }
}

impl<R: Recorder> Engine<R> {
    /// What happened to servers since this was asked last.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Notes which servers have weight 0. When they began is noted with the next [`Engine::handle_timeout`].
    pub(super) fn note_drains(&mut self) {
        self.draining.clear();
        self.next_look = Instant::ZERO;
        for place in self.services.iter().flatten().flat_map(|s| &s.servers) {
            let server = self.servers.get_mut(*place);
            if server.spec.weight == 0 {
                self.draining.push(*place);
            } else {
                server.drain = None;
            }
        }
    }

    /// Looks at the servers of weight 0.
    pub(super) fn drain(&mut self, now: Instant) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK;
        for i in 0..self.draining.len() {
            let place = self.draining[i];
            let open = self.open_connections(place);
            let server = self.servers.get_mut(place);
            let Some(happened) = server.drain_on(now, open) else {
                continue;
            };
            let key = server.key;
            if let Happened::TimedOut(_) = happened {
                self.sweep.begin(self.conns.places());
            }
            if happened != Happened::TimedOut(0) {
                self.note_event(&key, happened);
            }
        }
    }

    /// When a drain times out next.
    pub(super) fn next_drain(&self) -> Option<Instant> {
        let times = self.draining.iter().filter_map(|place| {
            let server = self.servers.get(*place);
            let Some(drain) = server.drain else {
                return Some(self.next_look);
            };
            let ends = server.drain_limit().map(|limit| drain.since + limit);
            ends.filter(|_| drain.stage != Stage::TimedOut)
                .map(|ends| ends.max(self.next_look))
        });
        times.min()
    }

    /// Connections of a server that are not over.
    pub(super) fn open_connections(&mut self, place: u32) -> u32 {
        let over = self.servers.get(place).over;
        let load = self.load_mut(place);
        (load.active + load.inactive).saturating_sub(over)
    }

    pub(super) fn note_event(&mut self, key: &(ServiceKey, Endpoint), what: Happened) {
        if self.events.len() < EVENTS {
            let (service, server) = *key;
            self.events.push(Event {
                service,
                server,
                what,
            });
        }
    }
}
