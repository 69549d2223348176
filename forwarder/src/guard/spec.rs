//! What the guard must hold back from the kernel, as the daemon states it. Pure.

use uvs_core::flow::{Addr, Protocol};
use uvs_core::marks::Destination;

/// Address and port of a real server, port 0 = all ports.
pub type Server = (Addr, Protocol, u16);

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
    pub services: Vec<(Protocol, Addr, u16)>,
    /// What services have beside these: ranges of ports, and networks without the host's own addresses.
    pub wide: Vec<Destination>,
    /// VIPs with a persistent FTP service, which has all TCP ports that its data connections may use.
    pub ftp: Vec<Addr>,
    /// VIPs that UVS owns: everything to them is dropped, since UVS answers.
    pub owned: Vec<Addr>,
    /// NAT's real servers: what they send to clients of NAT services is dropped, and ICMP errors about what
    /// they were sent.
    pub nat_servers: Vec<Server>,
    /// NAT's services.
    pub nat: Nat,
    /// FULLNAT's side.
    pub fullnat: FullNat,
    /// The host's own addresses.
    pub local: Vec<Addr>,
    /// Real servers that are reached by tunnels. What routers say of a tunnel's packets comes to the host's
    /// addresses: the nft table leaves it to both, the hook gives it to UVS.
    pub tunnels: Vec<TunnelEnd>,
}

/// The far end of a tunnel: a real server's address, the outer header's protocol, and its port where that is UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TunnelEnd {
    /// The server.
    pub addr: Addr,
    /// The IP protocol of what it is sent.
    pub protocol: u8,
    /// The port that it is sent to, 0 where the protocol has none.
    pub port: u16,
}

/// NAT's services, whose clients are remembered: by them a server's replies are told from all else that it
/// sends. See `guard::clients`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nat {
    /// As [`GuardSpec::services`].
    pub services: Vec<(Protocol, Addr, u16)>,
    /// As [`GuardSpec::wide`].
    pub wide: Vec<Destination>,
    /// Servers that are the host itself.
    pub own_servers: Vec<Server>,
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
    pub local: Vec<Addr>,
    /// First and last local port.
    pub ports: (u16, u16),
    /// Real servers.
    pub servers: Vec<Server>,
}

impl GuardSpec {
    /// Puts its lists in order, each member once, so that equal states compare equal.
    pub(crate) fn put_in_order(&mut self) {
        let nat = &mut self.nat;
        for services in [&mut self.services, &mut nat.services] {
            in_order(services);
        }
        for wide in [&mut self.wide, &mut nat.wide] {
            in_order(wide);
        }
        let fullnat = &mut self.fullnat;
        for servers in [
            &mut self.nat_servers,
            &mut nat.own_servers,
            &mut fullnat.servers,
        ] {
            in_order(servers);
        }
        for addresses in [
            &mut self.ftp,
            &mut self.owned,
            &mut fullnat.local,
            &mut self.local,
        ] {
            in_order(addresses);
        }
        in_order(&mut self.tunnels);
    }

    /// What keeps all that either keeps, its lists in order: for the moment between two states.
    #[must_use]
    pub(crate) fn union(&self, other: &Self) -> Self {
        fn both<T: Clone + Ord>(a: &[T], b: &[T]) -> Vec<T> {
            let mut all: Vec<T> = a.iter().chain(b).cloned().collect();
            in_order(&mut all);
            all
        }
        Self {
            interfaces: self.interfaces.clone(),
            services: both(&self.services, &other.services),
            wide: both(&self.wide, &other.wide),
            ftp: both(&self.ftp, &other.ftp),
            owned: both(&self.owned, &other.owned),
            nat_servers: both(&self.nat_servers, &other.nat_servers),
            nat: Nat {
                services: both(&self.nat.services, &other.nat.services),
                wide: both(&self.nat.wide, &other.nat.wide),
                own_servers: both(&self.nat.own_servers, &other.nat.own_servers),
                ..self.nat
            },
            fullnat: FullNat {
                local: both(&self.fullnat.local, &other.fullnat.local),
                ports: self.fullnat.ports,
                servers: both(&self.fullnat.servers, &other.fullnat.servers),
            },
            local: both(&self.local, &[]),
            tunnels: both(&self.tunnels, &other.tunnels),
        }
    }
}

/// Puts a list in order, each member once. It is a walk where the list is in order already, or two such lists.
fn in_order<T: Ord>(list: &mut Vec<T>) {
    list.sort();
    list.dedup();
}
