//! Where packets go next: interfaces, routes and neighbours as the kernel has them.
//!
//! The shell fills it from netlink; the engine only looks things up. IPv4 today.

use std::collections;
use std::hash::{BuildHasherDefault, Hasher};

use crate::flow::{Addr, Endpoint};
use crate::verdict::PortId;

/// Each packet asks several of these maps. What is in them comes from the host's own kernel, so that a
/// client cannot make them collide, and a cheap hash will do.
type HashMap<K, V> = collections::HashMap<K, V, BuildHasherDefault<Mix>>;
type HashSet<K> = collections::HashSet<K, BuildHasherDefault<Mix>>;

/// A MAC address.
pub type Mac = [u8; 6];

/// An interface that UVS runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its place in the shell's list.
    pub port: PortId,
    /// The kernel's index.
    pub ifindex: u32,
    /// Its MAC address.
    pub mac: Mac,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// Administratively and physically up.
    pub up: bool,
}

/// A unicast route of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination; bits after `prefix` are zero.
    pub dst: Addr,
    /// Prefix length, 0 to 32.
    pub prefix: u8,
    /// Next hop, `None` = on the link.
    pub gateway: Option<Addr>,
    /// Outgoing interface; 0 = the kernel refuses (blackhole, unreachable, prohibit).
    pub ifindex: u32,
    /// Source address that the kernel prefers, `None` = the interface's first in scope.
    pub source: Option<Addr>,
    /// The kernel's metric: the lowest wins among equal prefixes.
    pub metric: u32,
    /// The route's own MTU, where it has one.
    pub mtu: Option<u32>,
}

/// The index of `lo` in every network namespace: where packets of the director's own come from
/// (LOOPBACK_IFINDEX in include/net/flow.h).
pub const LOOPBACK: u32 = 1;

/// What a route is looked up by, as the kernel's `flowi4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Where the packet goes.
    pub dst: Addr,
    /// Where it comes from, [`Addr::UNSPECIFIED`] while the director's own address is still to be chosen.
    pub src: Addr,
    /// The kernel's index of the interface that it came in by, [`LOOPBACK`] where the director sends it.
    pub iif: u32,
    /// What tells one connection from another where there are several next hops: its client.
    pub client: Endpoint,
}

impl Query {
    /// For a packet that the director sends to `dst`, from an address that the route chooses.
    pub const fn to(dst: Addr) -> Self {
        Self {
            dst,
            src: Addr::UNSPECIFIED,
            iif: LOOPBACK,
            client: Endpoint::NONE,
        }
    }

    /// For one that comes from `src`.
    pub const fn from(self, src: Addr) -> Self {
        Self { src, ..self }
    }

    /// For one that came in by an interface.
    pub const fn by(self, iif: u32) -> Self {
        Self { iif, ..self }
    }

    /// For one of this client's connection.
    pub const fn of(self, client: Endpoint) -> Self {
        Self { client, ..self }
    }
}

/// How to reach an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The port to send through.
    pub port: PortId,
    /// The port's MAC address.
    pub source_mac: Mac,
    /// The neighbour to send to: the gateway, or the destination itself.
    pub via: Addr,
    /// The neighbour's MAC address, where the kernel knows it.
    pub mac: Option<Mac>,
    /// The director's own address on this way, [`Addr::UNSPECIFIED`] where it has none.
    pub source: Addr,
    /// Bytes of the largest IP packet on this way.
    pub mtu: u32,
}

/// Why an address cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// No route.
    NoRoute,
    /// The route leads out of an interface that UVS does not run on.
    NotAPort,
    /// It is one of the host's own addresses.
    Local,
}

/// The forwarding information base.
#[derive(Clone, Debug, Default)]
pub struct Fib {
    interfaces: Vec<Interface>,
    /// One map per prefix length in use, the longest first.
    routes: Vec<(u8, HashMap<Addr, Route>)>,
    neighbours: HashMap<(u32, Addr), Mac>,
    local: HashSet<Addr>,
    /// Local prefixes shorter than an address, e.g. 127.0.0.0/8.
    local_prefixes: Vec<(Addr, u8)>,
    /// First address of each interface, for routes without a preferred source.
    first_address: HashMap<u32, Addr>,
    /// Whether the host forwards (`net.ipv4.ip_forward`).
    pub forwarding: bool,
}

impl Fib {
    /// An empty one: nothing is reachable.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces an interface (by its port).
    pub fn set_interface(&mut self, i: Interface) {
        match self.interfaces.iter_mut().find(|o| o.port == i.port) {
            Some(o) => *o = i,
            None => self.interfaces.push(i),
        }
    }

    /// The interfaces that UVS runs on, in no particular order.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The interface behind a port.
    pub fn interface(&self, port: PortId) -> Option<&Interface> {
        self.interfaces.iter().find(|i| i.port == port)
    }

    /// Adds an address of the host's; the first of an interface is its default source.
    pub fn add_local(&mut self, ifindex: u32, a: Addr) {
        self.local.insert(a);
        self.first_address.entry(ifindex).or_insert(a);
    }

    /// Adds a prefix whose every address is the host's (a route of type `local`).
    pub fn add_local_prefix(&mut self, dst: Addr, prefix: u8) {
        self.local_prefixes.push((dst, prefix));
    }

    /// Whether the host has this address.
    pub fn is_local(&self, a: Addr) -> bool {
        self.local.contains(&a)
            || self
                .local_prefixes
                .iter()
                .any(|(dst, prefix)| a.is_v4() == dst.is_v4() && a.masked(*prefix) == *dst)
    }

    /// Adds a route; of two to the same prefix the one with the lower metric stays.
    pub fn add_route(&mut self, r: Route) {
        let at = match self.routes.binary_search_by(|(p, _)| r.prefix.cmp(p)) {
            Ok(i) => i,
            Err(i) => {
                self.routes.insert(i, (r.prefix, HashMap::default()));
                i
            }
        };
        let known = self.routes[at].1.entry(r.dst).or_insert(r);
        if r.metric < known.metric {
            *known = r;
        }
    }

    /// Forgets the route to a prefix.
    pub fn remove_route(&mut self, dst: Addr, prefix: u8) {
        for (_, routes) in self.routes.iter_mut().filter(|(p, _)| *p == prefix) {
            routes.remove(&dst);
        }
    }

    /// Notes a neighbour's MAC address.
    pub fn set_neighbour(&mut self, ifindex: u32, a: Addr, mac: Mac) {
        self.neighbours.insert((ifindex, a), mac);
    }

    /// Forgets a neighbour.
    pub fn remove_neighbour(&mut self, ifindex: u32, a: Addr) {
        self.neighbours.remove(&(ifindex, a));
    }

    /// A neighbour's MAC address behind a port, where the kernel knows it.
    pub fn neighbour(&self, port: PortId, a: Addr) -> Option<Mac> {
        let interface = self.interface(port)?;
        self.neighbours.get(&(interface.ifindex, a)).copied()
    }

    /// The way of a packet.
    ///
    /// # Errors
    /// Why there is none.
    pub fn lookup(&self, query: Query) -> Result<NextHop, Unreachable> {
        let dst = query.dst;
        if self.is_local(dst) {
            return Err(Unreachable::Local);
        }
        let route = self
            .routes
            .iter()
            .find_map(|(prefix, map)| map.get(&dst.masked(*prefix)))
            .filter(|route| route.ifindex != 0)
            .ok_or(Unreachable::NoRoute)?;
        let interface = self
            .interfaces
            .iter()
            .find(|i| i.ifindex == route.ifindex)
            .ok_or(Unreachable::NotAPort)?;
        let via = route.gateway.unwrap_or(dst);
        Ok(NextHop {
            port: interface.port,
            source_mac: interface.mac,
            via,
            mac: self.neighbours.get(&(interface.ifindex, via)).copied(),
            source: route
                .source
                .or_else(|| self.first_address.get(&route.ifindex).copied())
                .unwrap_or(Addr::UNSPECIFIED),
            mtu: route.mtu.map_or(interface.mtu, |m| m.min(interface.mtu)),
        })
    }
}

/// Multiplies and rotates word by word (as FxHash), and folds the product's halves together.
#[derive(Clone, Copy, Debug, Default)]
struct Mix(u64);

impl Mix {
    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, n: u32) {
        self.word(n.into());
    }

    fn write_usize(&mut self, n: usize) {
        self.word(n as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a(b: [u8; 4]) -> Addr {
        Addr::v4(b)
    }

    fn route(dst: [u8; 4], prefix: u8, gateway: Option<[u8; 4]>, ifindex: u32) -> Route {
        Route {
            dst: a(dst),
            prefix,
            gateway: gateway.map(a),
            ifindex,
            source: None,
            metric: 0,
            mtu: None,
        }
    }

    fn to(b: [u8; 4]) -> Query {
        Query::to(a(b))
    }

    fn fib() -> Fib {
        let mut f = Fib::new();
        f.set_interface(Interface {
            port: PortId(0),
            ifindex: 2,
            mac: [2; 6],
            mtu: 1500,
            up: true,
        });
        f.add_local(2, a([10, 0, 1, 1]));
        f.add_route(route([10, 0, 1, 0], 24, None, 2));
        f.add_route(route([0, 0, 0, 0], 0, Some([10, 0, 1, 254]), 2));
        f.add_route(route([10, 9, 0, 0], 16, None, 7));
        f.set_neighbour(2, a([10, 0, 1, 254]), [9; 6]);
        f
    }

    #[test]
    fn the_longest_prefix_wins() {
        let f = fib();
        let on_link = f.lookup(to([10, 0, 1, 7])).expect("a route");
        assert_eq!(
            (on_link.via, on_link.mac, on_link.source),
            (a([10, 0, 1, 7]), None, a([10, 0, 1, 1]))
        );
        let far = f.lookup(to([192, 0, 2, 1])).expect("a route");
        assert_eq!((far.via, far.mac), (a([10, 0, 1, 254]), Some([9; 6])));
    }

    #[test]
    fn what_cannot_be_reached_says_why() {
        let f = fib();
        assert_eq!(f.lookup(to([10, 0, 1, 1])), Err(Unreachable::Local));
        assert_eq!(f.lookup(to([10, 9, 1, 1])), Err(Unreachable::NotAPort));
        assert_eq!(
            Fib::new().lookup(to([10, 0, 1, 1])),
            Err(Unreachable::NoRoute)
        );
    }

    #[test]
    fn a_route_that_refuses_hides_the_wider_ones() {
        let mut f = fib();
        f.add_route(route([10, 7, 0, 0], 16, None, 0));
        assert_eq!(f.lookup(to([10, 7, 0, 1])), Err(Unreachable::NoRoute));
        assert!(f.lookup(to([10, 6, 0, 1])).is_ok());
    }

    #[test]
    fn a_local_prefix_makes_each_of_its_addresses_local() {
        let mut f = fib();
        f.add_local_prefix(a([127, 0, 0, 0]), 8);
        assert!(f.is_local(a([127, 3, 2, 1])) && !f.is_local(a([128, 0, 0, 1])));
        assert_eq!(f.lookup(to([127, 0, 0, 1])), Err(Unreachable::Local));
    }

    #[test]
    fn the_lower_metric_stays() {
        let mut f = fib();
        f.add_route(Route {
            metric: 5,
            ..route([10, 8, 0, 0], 16, Some([10, 0, 1, 5]), 2)
        });
        f.add_route(Route {
            metric: 1,
            ..route([10, 8, 0, 0], 16, Some([10, 0, 1, 6]), 2)
        });
        assert_eq!(
            f.lookup(to([10, 8, 1, 1])).expect("a route").via,
            a([10, 0, 1, 6])
        );
    }
}
