//! The desired state as one immutable value: the control plane builds it, the engine applies it whole.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::flow::Addr;
use crate::marks::MarkRule;
use crate::service::ServiceSpec;

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

macro_rules! sysctls {
    ($($name:ident = $default:literal, $low:literal ..= $high:literal, $doc:literal;)*) => {
        /// IPVS's sysctls by their names under `net.ipv4.vs.`, with the kernel's defaults.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Sysctls { $(#[doc = $doc] pub $name: i32,)* }

        impl Default for Sysctls {
            fn default() -> Self { Self { $($name: $default,)* } }
        }

        impl Sysctls {
            /// Every name, in order.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// The value, `None` for an unknown name.
            pub fn get(&self, name: &str) -> Option<i32> {
                match name { $(stringify!($name) => Some(self.$name),)* _ => None }
            }

            /// What it does, one sentence; `None` for an unknown name.
            pub fn about(name: &str) -> Option<&'static str> {
                match name { $(stringify!($name) => Some($doc),)* _ => None }
            }

            /// The values it takes; `None` for an unknown name.
            pub fn range(name: &str) -> Option<std::ops::RangeInclusive<i32>> {
                match name { $(stringify!($name) => Some($low..=$high),)* _ => None }
            }

            /// Sets a value.
            ///
            /// # Errors
            /// An unknown name, or a value out of its range; nothing is changed.
            pub fn set(&mut self, name: &str, value: i32) -> Result<(), SysctlError> {
                match name {
                    $(stringify!($name) => {
                        if !($low..=$high).contains(&value) {
                            return Err(SysctlError::Range { low: $low, high: $high });
                        }
                        self.$name = value;
                        Ok(())
                    })*
                    _ => Err(SysctlError::Unknown),
                }
            }
        }
    };
}

/// Why a sysctl could not be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SysctlError {
    /// There is none of that name.
    Unknown,
    /// The value must be within `low..=high`.
    Range {
        /// Smallest value.
        low: i32,
        /// Largest value.
        high: i32,
    },
}

sysctls! {
    am_droprate = 10, 1..=2147483647, "drop_packet = 3 drops one new connection in this many.";
    amemthresh = 1024, 0..=2147483647, "Free places in the connection table under which the automatic defences switch on, at most a sixteenth of it (the kernel counts free pages).";
    conn_reuse_mode = 1, 0..=3, "What a SYN on a known tuple does: 0 reuse the entry, bit 0 reschedule in TIME_WAIT and CLOSE, bit 1 also in FIN_WAIT where replies are unseen.";
    drop_entry = 0, 0..=3, "End half-open and idle entries, 1/32 of the table looked at each second: 0 never, 1 or 2 while places are scarce (amemthresh), 3 always.";
    drop_packet = 0, 0..=3, "Drop a share of the new connections: 0 never, 1 or 2 while places are scarce (the fewer the more), 3 always one in am_droprate.";
    expire_nodest_conn = 0, 0..=1, "Whether a connection of a removed server ends with its next packet.";
    expire_quiescent_template = 0, 0..=1, "Whether persistence leaves a server whose weight becomes 0.";
    nat_icmp_send = 0, 0..=1, "Whether a NAT server is told (ICMP 3/3) of a packet that has no connection.";
    pmtu_disc = 1, 0..=1, "Whether a packet that is too big with DF is answered (ICMP 3/4) and tunnels copy DF.";
    schedule_icmp = 0, 0..=1, "Whether an ICMP error about an unknown connection is scheduled.";
    secure_tcp = 0, 0..=3, "Stricter TCP states, ESTABLISHED only after the whole handshake: 0 never, 1 or 2 while places are scarce, 3 always.";
    sloppy_tcp = 0, 0..=1, "Whether any TCP segment may start a connection.";
    sloppy_sctp = 0, 0..=1, "Whether any SCTP packet may start a connection.";
    snat_reroute = 1, 0..=1, "A reply is routed by the VIP, as far as routing rules ask for sources; 0: as it came, by its server and interface.";
    conntrack = 0, 0..=0, "Kept for scripts: UVS never enters netfilter's connection tracking.";
    cache_bypass = 0, 0..=0, "Kept for scripts: not supported.";
    ignore_tunneled = 0, 0..=1, "Kept for scripts: packets that come out of a tunnel come from no interface of UVS's.";
    run_estimation = 1, 0..=1, "Kept for scripts: rates are always estimated.";
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

/// The whole desired state.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Services; real servers newest first within each.
    pub services: Vec<Arc<ServiceSpec>>,
    /// Rules that mark packets; those of marks without a service have no effect.
    pub marks: Vec<MarkRule>,
    /// IPVS's sysctls.
    pub sysctls: Sysctls,
    /// Time-outs.
    pub timeouts: Timeouts,
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
}
