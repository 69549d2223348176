//! Where what becomes of connections is told, and who is told.

use super::drain::{Event, EventKind};
use super::event::{Ends, FlowEvent};
use super::pool::Pool;
use crate::flow::Endpoint;
use crate::service::ServiceKey;

/// Events of servers that wait to be taken, at most.
const EVENTS: usize = 1024;

/// Where what becomes of connections is told.
#[derive(Default)]
pub(super) struct Stream {
    pub(super) ends: Ends,
    /// What happened to servers, until it is taken.
    events: Vec<Event>,
}

impl Stream {
    /// The one place that every event passes. Whoever wants to know of connections is told here: the counts of
    /// ends and the servers' load are.
    pub(super) fn tell(&mut self, pool: &mut Pool, event: &FlowEvent<'_>) {
        self.ends.note(event);
        if let Some(gone) = pool.account(event)
            && gone.ended > 0
        {
            self.tell_of_server(&gone.key, EventKind::Ended(gone.ended));
        }
    }

    /// Notes what happened to a server.
    pub(super) fn tell_of_server(&mut self, key: &(ServiceKey, Endpoint), what: EventKind) {
        if self.events.len() < EVENTS {
            let (service, server) = *key;
            self.events.push(Event {
                service,
                server,
                what,
            });
        }
    }

    /// One that goes on counting from here.
    pub(super) fn counting(ends: Ends) -> Self {
        Self {
            ends,
            events: Vec::new(),
        }
    }

    /// A copy that has told nothing.
    pub(super) fn fork(&self) -> Self {
        Self::counting(self.ends)
    }

    /// What happened to servers since this was asked last.
    pub(super) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}
