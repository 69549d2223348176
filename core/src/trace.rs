//! Why a packet went where it went: the engine's decisions, one [`Step`] each, in the order they were taken.
//!
//! The engine is generic over a [`Recorder`]. The one that forwards has [`Off`], a type without a value, so
//! that recording is not compiled into it; a [`DryRun`](crate::engine::DryRun) has a [`Log`]. Both are
//! the same code.

use serde::{Deserialize, Serialize};

use crate::access::Rule;
use crate::flow::{Addr, Endpoint};
use crate::service::ServiceKey;

mod fields;
mod ip;
mod outcome;

pub use fields::{Change, changes, kind, protocol_name};
pub use outcome::{End, Leaving};

/// Takes note of decisions, or does not.
pub trait Recorder {
    /// Whether it does: where not, a step is not even made.
    const ON: bool;

    /// Notes a decision.
    fn note(&mut self, step: Step);
}

/// Takes no note.
#[derive(Clone, Copy, Debug, Default)]
pub struct Off;

impl Recorder for Off {
    const ON: bool = false;

    fn note(&mut self, _: Step) {}
}

/// Notes everything.
#[derive(Clone, Debug, Default)]
pub struct Log(pub Vec<Step>);

impl Recorder for Log {
    const ON: bool = true;

    fn note(&mut self, step: Step) {
        self.0.push(step);
    }
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// What the frame is.
    Packet {
        /// `TCP`, `UDP`, `SCTP`, `ICMP`, or the protocol's number.
        protocol: String,
        /// Source; port 0 where there is none.
        source: Endpoint,
        /// Destination.
        destination: Endpoint,
        /// `SYN`, `INIT`, `fragment`, `type 3 code 1`; empty where there is nothing to tell.
        kind: String,
        /// Time to live.
        ttl: u8,
        /// Bytes of the IP packet.
        bytes: u32,
    },
    /// A frame that is not looked into.
    Aside {
        /// Why.
        why: Aside,
    },
    /// The look-up in the connection table.
    Lookup {
        /// What was found.
        found: Option<Known>,
    },
    /// The connection is one that the kernel forwards.
    Taken {
        /// Why this frame comes up all the same; `None` where the kernel forwards it, and what follows is what
        /// its program does.
        up: Option<String>,
    },
    /// The known connection does not take the packet.
    SetAside {
        /// Why.
        why: SetAside,
    },
    /// The look-up of the service.
    Service {
        /// What was found.
        found: Option<ServiceKey>,
        /// Where nothing was: the services of the same VIP.
        others: Vec<ServiceKey>,
    },
    /// The packet is a service's whose VIP the director does not have: the host's routing decides.
    Absent,
    /// A deny or allow list has the client. Where none has, there is no such step.
    Access {
        /// The client.
        client: Addr,
        /// Whose list it is; `None` = that of every service.
        service: Option<ServiceKey>,
        /// The entry that decides.
        rule: Rule,
    },
    /// A packet to a service that may not start a connection.
    NoOpening,
    /// A real server's packet of no connection, by which it begins one where it is of a call.
    Begun {
        /// The service as which it does.
        service: ServiceKey,
    },
    /// Persistence.
    Persistence {
        /// The client as the service's mask leaves it.
        client: Addr,
        /// The call, with the persistence engine sip: its Call-ID.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call: Option<String>,
        /// The mask, as the service has it.
        mask: u32,
        /// Seconds.
        timeout: u32,
        /// What was found.
        template: Template,
    },
    /// The scheduler was asked.
    Schedule {
        /// The service.
        service: ServiceKey,
        /// The scheduler.
        scheduler: String,
        /// Whether the scheduler's state was copied. A plugin's cannot be: then a new instance was asked,
        /// and its choice is an example.
        exact: bool,
        /// The real servers in the kernel's order: the newest first.
        candidates: Vec<Candidate>,
        /// What it chose.
        chosen: Option<Endpoint>,
    },
    /// A connection gave way to the new one: same client and port, same server, by another service.
    GaveWay {
        /// The VIP that its client used.
        vip: Endpoint,
        /// Its state's name.
        state: String,
        /// Whether it was over; else no other server was left.
        over: bool,
    },
    /// The server still has an old connection of this local port: it is reset, and the SYN sent again.
    Reopened {
        /// FULLNAT's local endpoint.
        local: Endpoint,
    },
    /// The server is told of its client: the header of the PROXY protocol goes before this packet.
    Introduced {
        /// Bytes of the header.
        bytes: u32,
    },
    /// No connection was made.
    Refused {
        /// Why.
        why: String,
    },
    /// A connection was made.
    Opened {
        /// The real server.
        server: Endpoint,
        /// FULLNAT's local endpoint.
        local: Option<Endpoint>,
    },
    /// The connection's state moved, or stayed.
    State {
        /// Before.
        from: String,
        /// After.
        to: String,
        /// Seconds that it lives for from now.
        timeout: u32,
    },
    /// A segment that would end the connection, and whose number is not one of the connection's: it is
    /// forwarded, and changes nothing.
    OutOfWindow {
        /// Its sequence number.
        seq: u32,
        /// The one that its receiver expects next.
        expected: u32,
    },
    /// A packet of no connection and no service.
    Stray {
        /// Whether a real server sent it whose answers pass the director.
        from_server: bool,
        /// Whether it is for an address that UVS answers for.
        owned: bool,
    },
    /// The way out.
    Leave {
        /// The mode.
        mode: String,
        /// Towards the real server; else towards the client.
        forward: bool,
        /// Bytes that the mode adds.
        overhead: u32,
        /// The next hop.
        hop: Option<Hop>,
        /// Why there is none.
        unreachable: Option<NoHop>,
    },
}

/// Why a frame is not looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aside {
    /// It came in by an interface that the engine does not know.
    UnknownInterface,
    /// It is neither IPv4 nor ARP.
    Foreign,
    /// It is ARP.
    Arp,
    /// It is for another MAC address.
    OtherMac,
    /// Its headers are inconsistent.
    Malformed,
}

/// A connection, or a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Whether the packet is its client's; else its server's.
    pub from_client: bool,
    /// The client.
    pub client: Endpoint,
    /// The VIP.
    pub vip: Endpoint,
    /// The real server.
    pub server: Endpoint,
    /// FULLNAT's local endpoint.
    pub local: Option<Endpoint>,
    /// Its state's name.
    pub state: String,
    /// Seconds since its last packet.
    pub idle: u32,
    /// Seconds until it expires.
    pub expires: u32,
    /// Whether its server was removed.
    pub removed: bool,
}

/// Why a known connection does not take a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetAside {
    /// Its service is gone.
    NoService,
    /// It opens, and the connection's server is quiesced (`expire_nodest_conn`).
    Quiesced,
    /// It opens, and the connection is over (`conn_reuse_mode`).
    Over,
    /// The connection's server was removed, and neither `expire_nodest_conn` nor `on_removal` ends it.
    ServerGone,
    /// The connection's server was removed, and the connection is released (`expire_nodest_conn`, `on_removal`).
    LetGo,
}

/// What persistence found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Template {
    /// The client has a server.
    Hit {
        /// The server.
        server: Endpoint,
        /// Seconds until it is forgotten.
        expires: u32,
    },
    /// The client had a server that does not count any more.
    Stale {
        /// The server: removed, or of weight 0 with `expire_quiescent_template`.
        server: Endpoint,
    },
    /// The client has none.
    Miss,
}

/// A real server that might have been chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The server.
    pub server: Endpoint,
    /// Its weight.
    pub weight: u32,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Connections that it got so far.
    pub connections: u64,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// The scheduler chose it.
    Chosen,
    /// The scheduler chose another.
    NotPicked,
    /// Its weight is 0: no new connections.
    WeightZero,
    /// It is at its upper threshold.
    Overloaded,
    /// It is new, and has had its share (slow start).
    SlowStart,
    /// It has a connection of this client and port by another service, that is not over.
    SharedPort,
}

/// A next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// The port's place among the interfaces.
    pub port: u16,
    /// The neighbour: a gateway, or the destination itself.
    pub via: Addr,
    /// The neighbour's MAC address, where the kernel knows it.
    pub mac: Option<[u8; 6]>,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
}

/// Why there is no next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoHop {
    /// No route.
    NoRoute,
    /// The route refuses: blackhole, unreachable, prohibit.
    Refused,
    /// The route leads out of an interface that UVS does not run on.
    NotAPort,
    /// It is the director itself.
    Local,
}

/// All that was decided about one frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The port it came in by.
    pub port: u16,
    /// The decisions in order.
    pub steps: Vec<Step>,
    /// What became of it.
    #[serde(flatten)]
    pub end: End,
    /// What leaves: the frame itself, its parts, or an answer.
    pub leaving: Vec<Leaving>,
}

impl Trace {
    /// The real server that the packet goes to, or came from.
    pub fn server(&self) -> Option<Endpoint> {
        self.steps.iter().rev().find_map(|step| match step {
            Step::Opened { server, .. } => Some(*server),
            Step::Lookup { found } => found.as_ref().map(|known| known.server),
            _ => None,
        })
    }
}
