//! The desired state as one immutable value: the control plane builds it, the engine applies it whole.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::crew::Steering;
use crate::flow::Addr;
use crate::marks::MarkRule;
use crate::services::Services;
pub use crate::sysctls::{SysctlError, Sysctls};

/// Time-outs that `ipvsadm --set` changes, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// TCP ESTABLISHED.
    pub tcp: u32,
    /// TCP FIN_WAIT.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp: 900,
            tcp_fin: 120,
            udp: 300,
        }
    }
}

/// Fixed sizes, from the configuration; they hold for the life of the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Connections in the table, 1 to 16777216.
    pub connections: u32,
    /// FULLNAT's local ports, first and last, host byte order.
    pub local_ports: (u16, u16),
    /// Bytes of fragments waiting for their datagrams.
    pub fragment_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_000_000,
            local_ports: (1024, 32767),
            fragment_bytes: 4 << 20,
        }
    }
}

/// Which ends of the synchronisation with other directors are at work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// Connections are told to other directors.
    pub master: bool,
    /// Those of other directors are taken up.
    pub backup: bool,
}

/// The whole desired state.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Services; real servers newest first within each.
    pub services: Services,
    /// Rules that mark packets; those of marks without a service have no effect.
    pub marks: Vec<MarkRule>,
    /// IPVS's sysctls.
    pub sysctls: Sysctls,
    /// Time-outs.
    pub timeouts: Timeouts,
    /// The synchronisation with other directors.
    pub peers: Peers,
    /// VIPs that are on none of the host's interfaces and that UVS was told to own: it answers for them.
    pub owned_vips: Vec<Addr>,
    /// Those of [`Snapshot::owned_vips`] that another host claims: ARP requests for them are not answered.
    pub yielded_vips: Vec<Addr>,
    /// VIPs that the director does not have, neither on the host nor owned: what is sent to them is the
    /// host's, as if they had no service.
    pub absent_vips: Vec<Addr>,
    /// Who is kept out. What is not changed stays the same `Arc`: running connections are looked at again
    /// where it is another.
    pub access: Arc<Access>,
    /// Which worker a connection belongs to, where there are several.
    pub steering: Arc<Steering>,
}
