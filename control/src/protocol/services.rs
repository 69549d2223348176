//! Services, their servers and connections with their state.

use serde::{Deserialize, Serialize};
use uvs_core::counters::Stats;
use uvs_core::flow::{Endpoint, Protocol};
use uvs_core::marks::Destination;
use uvs_core::service::{ServerSpec, ServiceSpec};

/// Services with their counters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Services {
    /// Slots of the connection table (the `size=` of ipvsadm's first line).
    pub table_size: u32,
    /// The services, in no particular order.
    pub services: Vec<ServiceStatus>,
}

/// Traffic of all services.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Traffic {
    /// Totals.
    pub stats: Stats,
    /// Per second, by the kernel's estimator.
    pub rates: Stats,
}

/// A service with its state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// The service as asked for; the servers are in `servers`, its own list is empty.
    pub spec: ServiceSpec,
    /// Totals.
    pub stats: Stats,
    /// Per second, by the kernel's estimator.
    pub rates: Stats,
    /// The servers, newest first.
    pub servers: Vec<ServerStatus>,
    /// New connections that got no server: the reason's label and count, without the zeros.
    #[serde(default)]
    pub failures: Vec<(String, u64)>,
    /// What is marked for it, where it is a service of a firewall mark.
    #[serde(default)]
    pub matches: Vec<Destination>,
}

/// A real server with its state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerStatus {
    /// The server as asked for.
    pub spec: ServerSpec,
    /// Whether the address is the director's own (shown as `Local`).
    pub local: bool,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// What it counts for during its slow start; its weight otherwise.
    #[serde(default)]
    pub effective_weight: f64,
    /// Smoothed time of its TCP handshakes in microseconds; 0 = not known.
    #[serde(default)]
    pub handshake: u32,
    /// Connections that are neither closed by both sides nor reset.
    pub open: u32,
    /// Seconds since its weight became 0, while it is.
    pub draining: Option<u64>,
    /// Totals.
    pub stats: Stats,
    /// Per second.
    pub rates: Stats,
}

/// A connection or a persistence template.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// The protocol; `None` shows as `IP` (templates of firewall marks).
    pub protocol: Option<Protocol>,
    /// The client; port 0 in a template.
    pub client: Endpoint,
    /// The VIP.
    pub vip: Endpoint,
    /// The real server.
    pub server: Endpoint,
    /// FULLNAT's local endpoint.
    pub local: Option<Endpoint>,
    /// `NONE`, `SYN_RECV`, `ESTABLISHED`, … `UDP`.
    pub state: String,
    /// Seconds until it expires.
    pub expires: u32,
}
