//! Who is a NAT service's client just now, by address and port.
//!
//! The guard keeps from the host's stack what NAT servers send to such a client, for it cannot see from
//! which server the client is served. Another one's own packet to the same port of the same client (two
//! SIP or time servers, and a client that uses the protocol's port at both ends) is kept with them, and
//! belongs to no connection: the engine must hand it back.

use serde::{Deserialize, Serialize};

use super::Flows;
use crate::conn::{ConnId, ConnTable, NONE};
use crate::flow::{Endpoint, Flow, Protocol};
use crate::narrow;

/// Places, each for the latest client whose hash leads there. One that is overwritten is forgotten.
const PLACES: usize = 1 << 16;

/// The latest connection of each client. Takes no memory before there is one.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Clients(Vec<u32>);

impl Clients {
    fn place(conns: &ConnTable, protocol: Protocol, client: Endpoint) -> usize {
        let flow = Flow::new(protocol, client, Endpoint::NONE);
        narrow::to_place(conns.hash_of(&flow), PLACES)
    }

    fn note(&mut self, conns: &ConnTable, id: ConnId) {
        if self.0.is_empty() {
            self.0.resize(PLACES, NONE);
        }
        let c = conns.get(id);
        self.0[Self::place(conns, c.protocol, c.ends.client)] = id.0;
    }
}

impl Flows {
    /// Notes that this connection is its client's latest.
    pub(in crate::engine) fn note_client(&mut self, id: ConnId) {
        self.clients.note(&self.conns, id);
    }

    /// A connection of NAT's with this client.
    pub(in crate::engine) fn of_client(&self, protocol: u8, client: Endpoint) -> Option<ConnId> {
        let protocol = Protocol::from_number(protocol)?;
        let places = &self.clients.0;
        let at = *places.get(Clients::place(&self.conns, protocol, client))?;
        let c = self.conns.at(at)?;
        let is_its = (c.protocol, c.ends.client) == (protocol, client) && c.is_replied_to_itself();
        is_its.then_some(ConnId(at))
    }
}
