//! Services and servers as they are read: with every field by name. What serde's `flatten` reads it keeps as a tree before,
//! which takes longer than all else of a long listing.

use serde::Deserialize;
use uvs_core::counters::{ByFailure, Stats};
use uvs_core::marks::Destination;
use uvs_core::numbers::{HandshakeNumbers, ServerNumbers, ServiceNumbers};
use uvs_core::plugins::PluginNumbers;
use uvs_core::service::{ServerSpec, ServiceSpec};

use super::{ServerState, ServerStatus, ServiceStatus};

#[derive(Deserialize)]
pub(super) struct Service {
    spec: ServiceSpec,
    #[serde(default)]
    stats: Stats,
    #[serde(default)]
    failures: ByFailure,
    #[serde(default)]
    plugin: Option<PluginNumbers>,
    rates: Stats,
    servers: Vec<ServerStatus>,
    #[serde(default)]
    matches: Vec<Destination>,
}

#[derive(Deserialize)]
pub(super) struct Server {
    spec: ServerSpec,
    local: bool,
    #[serde(default)]
    state: ServerState,
    #[serde(default)]
    active: u32,
    #[serde(default)]
    inactive: u32,
    #[serde(default)]
    persistent: u32,
    #[serde(default)]
    effective_weight: f64,
    #[serde(default)]
    handshake: u32,
    #[serde(default)]
    handshakes: HandshakeNumbers,
    #[serde(default)]
    open: u32,
    #[serde(default)]
    draining: Option<u64>,
    #[serde(default)]
    overloaded: bool,
    #[serde(default)]
    stats: Stats,
    rates: Stats,
}

impl From<Service> for ServiceStatus {
    fn from(read: Service) -> Self {
        Self {
            spec: read.spec,
            numbers: ServiceNumbers {
                stats: read.stats,
                failures: read.failures,
                plugin: read.plugin,
            },
            rates: read.rates,
            servers: read.servers,
            matches: read.matches,
        }
    }
}

impl From<Server> for ServerStatus {
    fn from(read: Server) -> Self {
        Self {
            spec: read.spec,
            local: read.local,
            state: read.state,
            numbers: ServerNumbers {
                active: read.active,
                inactive: read.inactive,
                persistent: read.persistent,
                effective_weight: read.effective_weight,
                handshake: read.handshake,
                handshakes: read.handshakes,
                open: read.open,
                draining: read.draining,
                overloaded: read.overloaded,
                stats: read.stats,
            },
            rates: read.rates,
        }
    }
}
