//! What the guard shall keep from the kernel, as the daemon says it. Pure.

use uvs_core::flow::{Addr, Protocol};
use uvs_core::marks::Destination;

/// Address and port of a real server, port 0 = all ports.
pub(crate) type Server = (Addr, Protocol, u16);

/// What the kernel shall leave to UVS. IPv4; other addresses are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GuardSpec {
    /// The interfaces that UVS runs on.
    pub(crate) interfaces: Vec<String>,
    /// Services; port 0 = all ports of the VIP for that protocol. What else goes to the VIP, ICMP
    /// included, stays the kernel's.
    pub(crate) services: Vec<(Protocol, Addr, u16)>,
    /// What services have beside these: ranges of ports, and networks without the host's own addresses.
    pub(crate) wide: Vec<Destination>,
    /// VIPs with a persistent FTP service, which has all TCP ports that its data connections may use.
    pub(crate) ftp: Vec<Addr>,
    /// VIPs that UVS owns: everything to them is dropped, since UVS answers.
    pub(crate) owned: Vec<Addr>,
    /// NAT's real servers: their replies through the host are dropped, and ICMP errors about what they
    /// were sent.
    pub(crate) nat_servers: Vec<Server>,
    /// FULLNAT's side.
    pub(crate) fullnat: FullNat,
    /// The host's own addresses: what a NAT server sends to them (a health check's answer) is spared.
    pub(crate) local: Vec<Addr>,
}

/// FULLNAT's replies: from a server to a local address, to a port in the range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FullNat {
    /// Local addresses.
    pub(crate) local: Vec<Addr>,
    /// First and last local port.
    pub(crate) ports: (u16, u16),
    /// Real servers.
    pub(crate) servers: Vec<Server>,
}

impl GuardSpec {
    /// What keeps all that either keeps, its lists in order: for the moment between two states.
    #[must_use]
    pub(crate) fn union(&self, other: &Self) -> Self {
        fn both<T: Clone + PartialEq + Ord>(a: &[T], b: &[T]) -> Vec<T> {
            let mut all: Vec<T> = a.iter().chain(b).cloned().collect();
            all.sort();
            all.dedup();
            all
        }
        Self {
            interfaces: self.interfaces.clone(),
            services: both(&self.services, &other.services),
            wide: both(&self.wide, &other.wide),
            ftp: both(&self.ftp, &other.ftp),
            owned: both(&self.owned, &other.owned),
            nat_servers: both(&self.nat_servers, &other.nat_servers),
            fullnat: FullNat {
                local: both(&self.fullnat.local, &other.fullnat.local),
                ports: self.fullnat.ports,
                servers: both(&self.fullnat.servers, &other.fullnat.servers),
            },
            local: both(&self.local, &[]),
        }
    }
}
