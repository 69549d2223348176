//! What an engine wants the hook to do.

use serde::{Deserialize, Serialize};

use crate::counters::Stats;
use crate::flow::{Addr, Endpoint, Flow, Protocol};
use crate::rewrite::Ends;
use crate::service::ServiceKey;
use crate::time::Instant;
use crate::verdict::PortId;
use crate::wire::ethernet::Mac;

use super::{Tracked, Traffic};

/// A connection's cell: its place in the memory that is shared with the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cell(pub u32);

/// One life of one connection: cells are used again, births are not. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Birth(pub u64);

/// A server's cell, which has its generation and its traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServerCell(pub u32);

/// What is to be done, in the order of the fields: what invalidates first, then what others point to, then keys
/// out, then keys in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// secure_tcp's stricter states hold from now on, or no longer.
    pub strict: Option<bool>,
    /// The generation of all ways: a connection that was taken in another comes up with its next frame.
    pub ways: Option<u32>,
    /// Servers' generations, likewise for their own connections; and whose the cells are.
    pub servers: Vec<ServerOrder>,
    /// Next hops as they are now.
    pub hops: Vec<(u32, Hop)>,
    /// Connections whose frames are wanted by the engine although they are taken (`true`), or no longer.
    pub looks: Vec<(Cell, Birth, bool)>,
    /// Connections that have ended.
    pub released: Vec<Released>,
    /// Connections to be taken or known. Where the cell is this birth's already, and taken, what the program tracks
    /// in it stays as it is, and the rest is written anew.
    pub taken: Vec<Taken>,
    /// Ends of which all packets are ours for want of cells (`true`), or no longer.
    pub whole: Vec<(Protocol, Endpoint, bool)>,
}

/// A server's cell as it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerOrder {
    /// The cell.
    pub cell: ServerCell,
    /// Its generation.
    pub generation: u32,
    /// Whose it is: its service,
    pub service: ServiceKey,
    /// and its address and port.
    pub server: Endpoint,
    /// What the engine has counted of it; the program does not need it, another engine goes on from it.
    pub stats: Stats,
    /// How much of the cell's traffic is in that.
    pub settled: Traffic,
}

/// A next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// The port to send through,
    pub port: PortId,
    /// the kernel's index of its interface,
    pub ifindex: u32,
    /// and its MAC address.
    pub source_mac: Mac,
    /// The neighbour's MAC address; `None` while it is not known: frames to it come up.
    pub mac: Option<Mac>,
    /// Bytes of the largest IP packet on this way, an outer header included; a frame that becomes a larger one
    /// on the wire comes up.
    pub mtu: u32,
}

/// A connection that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// Its cell: the keys are taken out where they still lead to it, and it is still this birth's.
    pub cell: Cell,
    /// Which one of the cell's it was.
    pub birth: Birth,
    /// Its client's key, where it was put in.
    pub client: Option<Flow>,
    /// Its server's key, where it was put in.
    pub server: Option<Flow>,
}

/// A connection that the kernel forwards, or only knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its cell.
    pub cell: Cell,
    /// Which one of the cell's it is.
    pub birth: Birth,
    /// Its server.
    pub server: ServerCell,
    /// The server's generation: where the server's cell has another one, frames come up.
    pub generation: u32,
    /// The generation of the ways, likewise.
    pub ways: u32,
    /// From the client; `None` where it is only known.
    pub forward: Option<Leg>,
    /// From the server.
    pub reply: Reply,
    /// Its frames come up although it is taken.
    pub up: bool,
    /// Whether its becoming ESTABLISHED, or its first answer where it is UDP's, is an event.
    pub tells_proven: bool,
    /// Whether its own packets and bytes are counted ([`Hook::counted`](super::Hook::counted)).
    pub counts: bool,
    /// What the program goes on from.
    pub tracked: Tracked,
    /// When its last packet was seen.
    pub last: Instant,
    /// What it was made from; the program does not need it.
    pub kept: Kept,
}

/// What becomes of a server's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// They do not pass the director (DR, tunnels): there is no key.
    Direct,
    /// They are ours, and come up: this is their flow.
    Known(Flow),
    /// They are forwarded.
    Taken(Leg),
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The flow of its packets as they arrive: the key.
    pub flow: Flow,
    /// What becomes of them, beside TTL and MAC addresses.
    pub change: Change,
    /// The place of their next hop.
    pub hop: u32,
    /// The index of the interface that they must come in by, where another one may not do (rp_filter, routing
    /// rules): then they come up.
    pub arrival: Option<u32>,
}

/// What the program does to a packet of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing (DR).
    Nothing,
    /// It replaces addresses and ports (NAT, FULLNAT), as [`rewrite::set_ends`](crate::rewrite::set_ends) does.
    Ends(Ends),
    /// It puts an outer IP header before the packet (RFC 2003), as `ip_vs_tunnel_xmit` does: TTL and TOS are the
    /// inner packet's, but CE becomes ECT(0).
    Wrap {
        /// The outer source, the director's own.
        src: Addr,
        /// The outer destination, the real server.
        dst: Addr,
        /// The inner DF is copied, and with it there is no identification (`pmtu_disc`). Else the outer header has
        /// no DF, and the inner one's does not keep a packet from being larger than the way allows: it comes up.
        copy_df: bool,
    },
}

/// What a connection was made from: with it and [`Seen`](super::Seen), another engine goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The service that it was scheduled by.
    pub service: ServiceKey,
    /// The server as that service has it; a connection's own server may have another port.
    pub member: Endpoint,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its client.
    pub client: Endpoint,
    /// The VIP as the client used it.
    pub vip: Endpoint,
    /// Its real server.
    pub server: Endpoint,
    /// FULLNAT's local endpoint, else [`Endpoint::NONE`].
    pub local: Endpoint,
    /// The mode's place in the engine's list.
    pub mode: u8,
    /// Whether a persistence template controls it.
    pub persistent: bool,
    /// Whether its server is told of its client: then only the engine that made it knows how its numbers differ.
    pub introduced: bool,
    /// Packets of its client that the engine has seen, saturating.
    pub client_packets: u8,
    /// Seconds that its last packet gave it: its time-out while no packet follows.
    pub timeout: u32,
}

impl Orders {
    /// Whether there is nothing to be done.
    pub const fn is_empty(&self) -> bool {
        self.strict.is_none()
            && self.ways.is_none()
            && self.servers.is_empty()
            && self.hops.is_empty()
            && self.looks.is_empty()
            && self.released.is_empty()
            && self.taken.is_empty()
            && self.whole.is_empty()
    }

    /// Empties it, and keeps its memory.
    pub fn clear(&mut self) {
        (self.strict, self.ways) = (None, None);
        self.servers.clear();
        self.hops.clear();
        self.looks.clear();
        self.released.clear();
        self.taken.clear();
        self.whole.clear();
    }
}

impl Taken {
    /// The client's key, where there is one.
    pub fn client_key(&self) -> Option<Flow> {
        self.forward.map(|leg| leg.flow)
    }

    /// The server's key, where there is one.
    pub const fn server_key(&self) -> Option<Flow> {
        match self.reply {
            Reply::Direct => None,
            Reply::Known(flow) => Some(flow),
            Reply::Taken(leg) => Some(leg.flow),
        }
    }
}
