//! Packets of connections that are another worker's.

use std::time::Duration;

use super::Engine;
use super::transit::Transit;
use crate::conn::{Conn, ConnId, TEMPLATE};
use crate::crew::{Crew, Handing};
use crate::flow::Flow;
use crate::narrow;
use crate::time::Instant;
use crate::trace::Recorder;

impl<R: Recorder> Engine<R> {
    /// Where a packet of this flow goes, which is the packet's own or the other way round that of what it quotes, and
    /// which belongs to no connection here; `None` = it is for this engine to say what becomes of it.
    pub(super) fn elsewhere(&self, t: &Transit<'_, '_>, flow: &Flow) -> Option<Handing> {
        let crew = self.crew.as_ref()?;
        let owner = self.owner(crew, flow, t.frame.mark)?;
        crew.next(owner, t.frame.asked)
    }

    fn owner(&self, crew: &Crew, flow: &Flow, mark: u32) -> Option<u32> {
        let slot = self.service_for(flow, mark);
        let key = slot.map(|slot| self.desired.service(slot).key);
        let gives_out = |port| self.flows.is_local_port(port);
        self.desired
            .steering()
            .owner(crew.fan, flow, key.as_ref(), gives_out)
    }

    /// Whether a connection is not where its packets come to: it was made when other services were desired, or by
    /// another director.
    fn is_astray(&self, crew: &Crew, c: &Conn) -> bool {
        if c.has(TEMPLATE) {
            return false;
        }
        let (service, _) = self.flows.server_of(c).key;
        let gives_out = |port| self.flows.is_local_port(port);
        let steering = self.desired.steering();
        let owner = |flow: &Flow, service| steering.owner(crew.fan, flow, service, gives_out);
        let client = owner(&c.client_flow(), Some(&service));
        let replies = c.is_replied_to().then(|| owner(&c.server_flow(), None));
        [client, replies.flatten()]
            .into_iter()
            .flatten()
            .any(|owner| owner != crew.number)
    }

    /// A connection has come here that another director has told of, or that an engine before this one has left.
    pub(super) fn note_come(&mut self, id: ConnId) {
        let crew = self.crew.as_ref();
        if crew.is_some_and(|crew| self.is_astray(crew, self.flows.conn(id))) {
            self.look_for_strays();
        }
    }

    /// Connections that are here may be others' now: until all have been looked at, any may be asked for.
    pub(super) fn look_for_strays(&mut self) {
        let places = self.flows.table().places();
        if let Some(crew) = &self.crew
            && places > 0
        {
            crew.board.set_strays(crew.number, u32::MAX);
            self.strays = Strays::from_the_beginning(places);
        }
    }

    /// Looks at so many places of the table for connections that are others'; whether to go on at once.
    pub(super) fn find_strays(&mut self, now: Instant, budget: u32) -> bool {
        let Some(crew) = &self.crew else {
            return false;
        };
        let table = self.flows.table();
        if self.strays.again.is_some_and(|at| at <= now) {
            self.strays = Strays::from_the_beginning(table.places());
        }
        let from = table.places() - self.strays.left.min(table.places());
        let looked_at = self.strays.left.min(budget);
        if looked_at == 0 {
            return false;
        }
        let places = from..from + looked_at;
        let astray = places.filter(|place| {
            let conn = table.at(*place);
            conn.is_some_and(|c| self.is_astray(crew, c))
        });
        self.strays.found += narrow::to_u32(astray.count());
        self.strays.left -= looked_at;
        if self.strays.left == 0 {
            crew.board.set_strays(crew.number, self.strays.found);
            self.strays.again = (self.strays.found > 0).then_some(now + RECOUNT);
        }
        self.strays.left > 0
    }
}

/// How often those that are astray are counted again, while there are some.
const RECOUNT: Duration = Duration::from_secs(10);

/// A walk over the table that counts what is astray.
#[derive(Clone, Debug, Default)]
pub(super) struct Strays {
    /// Places that are still to be looked at.
    left: u32,
    /// How many were found.
    found: u32,
    /// When they are counted again.
    again: Option<Instant>,
}

impl Strays {
    /// When there is work, `None` while there is none.
    pub(super) fn next(&self) -> Option<Instant> {
        match self.left {
            0 => self.again,
            _ => Some(Instant::ZERO),
        }
    }

    const fn from_the_beginning(places: u32) -> Self {
        Self {
            left: places,
            found: 0,
            again: None,
        }
    }
}
