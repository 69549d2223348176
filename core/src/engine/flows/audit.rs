//! Recounts, from the connection table, what has been counted event by event.

use super::Flows;
use super::event::Standing;
use super::servers::Server;
use crate::conn;
use crate::crew::Total;

/// What is counted of a server.
#[derive(Debug, Default, PartialEq, Eq)]
struct Load {
    active: u32,
    inactive: u32,
    over: u32,
    templates: u32,
    references: u32,
}

impl Flows {
    /// Compares each server's load with what the table has.
    ///
    /// # Panics
    /// Where they differ.
    pub(in crate::engine) fn audit(&self) {
        self.audit_handover();
        for (place, server) in self.pool.servers.iter() {
            let counted = Load::counted(server, self.pool.own(place));
            assert_eq!(counted, self.recount(place), "server {:?}", server.key);
        }
    }

    fn recount(&self, place: u32) -> Load {
        let mut load = Load::default();
        let (conns, _) = self.conns.page(0, u32::MAX);
        for c in conns.filter(|c| c.backend == place) {
            let standing = Standing::of(c);
            load.references += 1;
            load.over += u32::from(standing.over);
            if c.has(conn::TEMPLATE) {
                load.templates += 1;
            } else if standing.active {
                load.active += 1;
            } else {
                load.inactive += 1;
            }
        }
        load
    }
}

impl Load {
    const fn counted(server: &Server, (active, inactive): Total) -> Self {
        Self {
            active,
            inactive,
            over: server.over,
            templates: server.numbers.persistent,
            references: server.references,
        }
    }
}
