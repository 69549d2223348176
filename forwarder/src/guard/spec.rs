//! What the guard must hold back from the kernel, as the daemon states it. Pure.

use uvs_core::flow::{Addr, Protocol};
use uvs_core::marks::Destination;
use uvs_core::shared::Set;
pub use uvs_hook::TunnelEnd;

/// Address and port of a real server, port 0 = all ports.
pub type Server = (Addr, Protocol, u16);

/// Protocol, address and port of what is sent to a service, port 0 = all ports.
pub type Destined = (Protocol, Addr, u16);

/// How long a connection may be idle, in seconds: the longest of its states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Idle {
    /// TCP.
    pub tcp: u32,
    /// UDP.
    pub udp: u32,
}

/// What the kernel must leave to UVS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardSpec {
    /// The interfaces that UVS runs on.
    pub interfaces: Vec<String>,
    /// Services; port 0 = all ports of the VIP for that protocol. What else goes to the VIP, ICMP
    /// included, stays the kernel's.
    pub services: Set<Destined>,
    /// What services have beside these: ranges of ports, and networks without the host's own addresses.
    pub wide: Set<Destination>,
    /// VIPs with a persistent FTP service, which has all TCP ports that its data connections may use.
    pub ftp: Set<Addr>,
    /// VIPs that UVS owns: everything to them is dropped, since UVS answers.
    pub owned: Set<Addr>,
    /// NAT's real servers: what they send to clients of NAT services is dropped, and ICMP errors about what
    /// they were sent.
    pub nat_servers: Set<Server>,
    /// NAT's services.
    pub nat: Nat,
    /// FULLNAT's side.
    pub fullnat: FullNat,
    /// The host's own addresses.
    pub local: Set<Addr>,
    /// Real servers that are reached by tunnels. What routers say of a tunnel's packets comes to the host's
    /// addresses: the nft table leaves it to both, the hook gives it to UVS.
    pub tunnels: Set<TunnelEnd>,
}

/// NAT's services, whose clients are remembered: by them a server's replies are told from all else that it
/// sends. See `guard::clients`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nat {
    /// As [`GuardSpec::services`].
    pub services: Set<Destined>,
    /// As [`GuardSpec::wide`].
    pub wide: Set<Destination>,
    /// Servers that are the host itself.
    pub own_servers: Set<Server>,
    /// Servers that may begin connections: the engine sees all that they send.
    pub callers: Set<Server>,
    /// How long their connections live.
    pub idle: Idle,
    /// The engine answers what a NAT server sends to nobody's client (nat_icmp_send).
    pub answers_strays: bool,
}

/// Marks what UVS sends into the host's own stack, on its way through the loopback interface: nobody else
/// sees the mark, for the guard there takes it off. "UVS!" in ASCII.
pub const HOST_MARK: u32 = 0x5556_5321;
/// The loopback interface: what programs on the host send to a service comes by it.
pub const LOOPBACK: &str = "lo";

/// FULLNAT's replies: from a server to a local address, to a port in the range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FullNat {
    /// Local addresses.
    pub local: Set<Addr>,
    /// First and last local port.
    pub ports: (u16, u16),
    /// Real servers.
    pub servers: Set<Server>,
}

impl GuardSpec {
    /// What keeps all that either keeps: for the moment between two states.
    #[must_use]
    pub(crate) fn union(&self, other: &Self) -> Self {
        Self {
            interfaces: self.interfaces.clone(),
            services: self.services.union(&other.services),
            wide: self.wide.union(&other.wide),
            ftp: self.ftp.union(&other.ftp),
            owned: self.owned.union(&other.owned),
            nat_servers: self.nat_servers.union(&other.nat_servers),
            nat: Nat {
                services: self.nat.services.union(&other.nat.services),
                wide: self.nat.wide.union(&other.nat.wide),
                own_servers: self.nat.own_servers.union(&other.nat.own_servers),
                callers: self.nat.callers.union(&other.nat.callers),
                idle: self.nat.idle,
                answers_strays: self.nat.answers_strays,
            },
            fullnat: FullNat {
                local: self.fullnat.local.union(&other.fullnat.local),
                ports: self.fullnat.ports,
                servers: self.fullnat.servers.union(&other.fullnat.servers),
            },
            local: self.local.clone(),
            tunnels: self.tunnels.union(&other.tunnels),
        }
    }
}
