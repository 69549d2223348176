//! Services and real servers as they are asked for: the plain data that the control plane keeps,
//! the control protocol carries and a [`Snapshot`](crate::snapshot::Snapshot) freezes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::flow::{Addr, Endpoint, Family, Protocol};

mod introduction;
mod method;
mod rows;
mod tunnel;

pub use introduction::{ClientAddress, Introduction, TOA_KIND, Timestamps, Unfit};
pub use method::{Forwarding, MethodDef, Replies};
pub use tunnel::{Tunnel, TunnelChecksum, TunnelDef, TunnelKind, outer_header};

/// What a virtual service is known by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceKey {
    /// VIP, port and protocol. Port 0 stands for every port (persistent services only).
    Address {
        /// The protocol.
        protocol: Protocol,
        /// The VIP.
        addr: Addr,
        /// The port, host byte order.
        port: u16,
    },
    /// A firewall mark (`ipvsadm -f`): [`Frame::mark`](crate::frame::Frame::mark) or, where that is 0, what
    /// a [`MarkRule`](crate::marks::MarkRule) gives the packet.
    Mark {
        /// The mark, never 0.
        mark: u32,
        /// Whether it is an IPv6 service (`-6`).
        ipv6: bool,
    },
}

impl ServiceKey {
    /// The key of a service by address.
    pub const fn address(protocol: Protocol, vip: Endpoint) -> Self {
        Self::Address {
            protocol,
            addr: vip.addr,
            port: vip.port,
        }
    }

    /// Whether its packets are IPv4's.
    pub const fn is_v4(&self) -> bool {
        match self {
            Self::Address { addr, .. } => addr.is_v4(),
            Self::Mark { ipv6, .. } => !*ipv6,
        }
    }

    /// VIP and port, [`Endpoint::NONE`] for a firewall mark.
    pub const fn vip(&self) -> Endpoint {
        match *self {
            Self::Address { addr, port, .. } => Endpoint::new(addr, port),
            Self::Mark { .. } => Endpoint::NONE,
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address {
                protocol,
                addr,
                port,
            } => {
                write!(f, "{protocol} {}", Endpoint::new(*addr, *port))
            }
            Self::Mark { mark, ipv6 } => {
                write!(f, "FWM {mark}{}", if *ipv6 { " IPv6" } else { "" })
            }
        }
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A real server as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSpec {
    /// Address and port.
    pub endpoint: Endpoint,
    /// Forwarding method.
    pub forwarding: Forwarding,
    /// Used where `forwarding` is [`Forwarding::Tunnel`].
    #[serde(default)]
    pub tunnel: Tunnel,
    /// 0 to 2147483647; 0 = quiesced.
    #[serde(default = "one")]
    pub weight: u32,
    /// Connections at which it gets no more, 0 = no limit (`-x`).
    #[serde(default)]
    pub upper: u32,
    /// Connections under which it gets new ones again, 0 = three quarters of `upper` (`-y`).
    #[serde(default)]
    pub lower: u32,
}

/// The weight of a server of which none is said.
const fn one() -> u32 {
    1
}

/// Persistence (`-p`): one client stays with one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// Seconds, 1 to 2678400.
    pub timeout: u32,
    /// `-M` as the field is written: an IPv4 netmask in host byte order, or an IPv6 prefix length.
    /// Need not be contiguous; `u32::MAX` (IPv4) or 128 (IPv6) = one client each.
    pub mask: u32,
}

/// What becomes of the connections of a removed real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRemoval {
    /// As IPVS does: they stay, and their packets are dropped until the server is back or their time is
    /// over; `expire_nodest_conn` = 1 ends them.
    #[default]
    Keep,
    /// They end at once and silently: a UDP client's next packet goes to another server, a TCP client's
    /// next segment is answered with a RST.
    Drop,
    /// They end at once, and their ends are told: RST to both for TCP, ICMP to the client for UDP.
    Tell,
}

/// How idle connections end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExpiry {
    /// As IPVS does: silently.
    #[default]
    Drop,
    /// RST to both ends of an open TCP connection.
    Tell,
}

/// How a service's connections are torn down. The default is IPVS's way throughout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TeardownPolicy {
    /// When their real server is removed.
    pub on_removal: OnRemoval,
    /// When their time is over.
    pub on_expiry: OnExpiry,
    /// Seconds after which a real server of weight 0 loses those that are left; 0 = never.
    pub drain_timeout: u32,
}

/// How fast new connections may come: TCP's SYN, a first datagram, SCTP's INIT. Those beyond are dropped;
/// packets of known connections, a SYN that is sent again among them, do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NewConnections {
    /// So many a second of all clients together; 0 = no limit.
    pub per_second: u32,
    /// So many of them at once; 0 = as many as a second has.
    pub burst: u32,
    /// So many a second of each client; 0 = no limit.
    pub per_client: u32,
    /// So many of them at once; 0 = as many as a second has.
    pub per_client_burst: u32,
    /// Bits of an address that make a client: up to 32 for IPv4, up to 128 for IPv6; 0 = 32, or 64 for IPv6.
    pub client_prefix: u8,
}

impl NewConnections {
    /// Bits of an address of this family that make a client.
    pub const fn prefix(&self, family: Family) -> u8 {
        match (self.client_prefix, family) {
            (0, Family::V4) => 32,
            (0, Family::V6) => 64,
            (length, _) => length,
        }
    }

    /// What stands for the client with this address.
    pub fn client(&self, addr: Addr) -> Addr {
        addr.masked(self.prefix(addr.family()))
    }
}

/// What the connection log says of a service's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionLog {
    /// Nothing.
    #[default]
    Off,
    /// Each one's end, with all there is to say.
    Ends,
    /// Each one's start as well.
    StartsAndEnds,
}

impl ConnectionLog {
    /// Whether they are logged.
    pub const fn is_on(self) -> bool {
        !matches!(self, Self::Off)
    }
}

/// The persistence engines that there are. `sip` reads the Call-ID of SIP's datagrams (`ip_vs_pe_sip`).
pub const PERSISTENCE_ENGINES: &[&str] = &["sip"];

/// A virtual service as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// What it is known by.
    pub key: ServiceKey,
    /// The scheduler's name.
    pub scheduler: String,
    /// [`FLAG_1`](crate::scheduler::FLAG_1) and so on.
    #[serde(default)]
    pub flags: u32,
    /// Persistence, where asked for.
    #[serde(default)]
    pub persistence: Option<Persistence>,
    /// The persistence engine's name (`--pe`), one of [`PERSISTENCE_ENGINES`], where asked for: a client's packets stay with
    /// one server for as long as they are of one call.
    #[serde(default)]
    pub engine: Option<String>,
    /// One-packet scheduling (`-o`): every datagram is scheduled on its own.
    #[serde(default)]
    pub one_packet: bool,
    /// FULLNAT's local addresses (`--laddr`).
    #[serde(default)]
    pub local: Vec<Addr>,
    /// Entries of the scheduler's look-up table (mh); 0 = its default.
    #[serde(default)]
    pub table_size: u32,
    /// Seconds over which a new or recovered server comes to its weight; 0 = at once.
    #[serde(default)]
    pub slow_start: u32,
    /// What happens to connections that have to go.
    #[serde(default, rename = "care")]
    pub teardown: TeardownPolicy,
    /// How fast new connections may come.
    #[serde(default)]
    pub new_connections: NewConnections,
    /// What is logged of its connections.
    #[serde(default)]
    pub connection_log: ConnectionLog,
    /// How real servers learn of their clients.
    #[serde(default)]
    pub introduction: Box<Introduction>,
    /// Real servers in the kernel's order: the newest first.
    #[serde(default)]
    pub servers: Vec<ServerSpec>,
}

impl ServiceSpec {
    /// A service without servers or options.
    pub fn new(key: ServiceKey, scheduler: &str) -> Self {
        Self {
            key,
            scheduler: scheduler.to_owned(),
            flags: 0,
            persistence: None,
            engine: None,
            one_packet: false,
            local: Vec::new(),
            table_size: 0,
            slow_start: 0,
            teardown: TeardownPolicy::default(),
            new_connections: NewConnections::default(),
            connection_log: ConnectionLog::default(),
            introduction: Box::default(),
            servers: Vec::new(),
        }
    }

    /// Whether its NAT servers may begin connections as the service: where its persistence engine knows to which call a packet
    /// belongs, and it has an address and a port (`ip_vs_new_conn_out`).
    pub const fn has_callers(&self) -> bool {
        match self.key {
            ServiceKey::Address { protocol, port, .. } => {
                matches!(protocol, Protocol::Udp) && port != 0 && self.engine.is_some()
            }
            ServiceKey::Mark { .. } => false,
        }
    }

    /// The port from which a server of this service replies, 0 = any.
    pub const fn reply_port(&self, server: &ServerSpec) -> u16 {
        match self.key {
            // A server of a template for all ports keeps the packet's (`ip_vs_sched_persist`).
            ServiceKey::Mark { .. } if self.persistence.is_some() => 0,
            ServiceKey::Mark { .. } | ServiceKey::Address { .. } => server.endpoint.port,
        }
    }
}

impl ServerSpec {
    /// A server of weight 1 without thresholds.
    pub fn new(endpoint: Endpoint, forwarding: Forwarding) -> Self {
        Self {
            endpoint,
            forwarding,
            tunnel: Tunnel::default(),
            weight: 1,
            upper: 0,
            lower: 0,
        }
    }

    /// The mode in a word ([`Forwarding::mode`]).
    pub const fn mode(&self) -> &'static str {
        self.forwarding.mode(self.tunnel.kind)
    }
}
