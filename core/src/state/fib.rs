//! Where packets go next: interfaces, routing rules, routes and neighbours as the kernel has them.
//!
//! The shell fills it from netlink; the engine only looks things up. Each address family has rules and tables
//! of its own; of which one a look-up is, [`Query::family`] says.

use std::collections;
use std::hash::{BuildHasherDefault, Hasher};

use crate::flow::{Addr, Family};
use crate::verdict::{Egress, PortId};
use crate::wire::ethernet::Mac;

mod cache;
mod multipath;
mod policy;
mod query;
mod reverse;
mod route;
mod source;
#[cfg(test)]
mod tests;

pub use cache::{RouteCache, Towards, Ways};
use policy::Policy;
pub use policy::{Action, Rule, table};
pub use query::{LOOPBACK, Query};
pub use reverse::ReversePath;
pub use route::{Hop, Refusal, Route, Target};
use source::Sources;

/// Each packet asks several of these maps. What is in them comes from the host's own kernel, so that a
/// client cannot make them collide, and a cheap hash will do.
type HashMap<K, V> = collections::HashMap<K, V, BuildHasherDefault<Mix>>;
type HashSet<K> = collections::HashSet<K, BuildHasherDefault<Mix>>;

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
    /// How it filters what comes in by its source.
    pub reverse_path: ReversePath,
}

/// All nodes of a link (RFC 4291 §2.7.1).
const ALL_NODES: Addr = Addr([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

/// The host's own stack, where others have an interface.
static HOST: Interface = Interface {
    port: PortId::HOST,
    ifindex: LOOPBACK,
    mac: [0; 6],
    mtu: 65_535,
    up: true,
    reverse_path: ReversePath::Off,
};

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
    /// The route refuses.
    Refused(Refusal),
    /// The route leads out of an interface that UVS does not run on.
    NotAPort,
    /// It is one of the host's own addresses.
    Local,
}

/// The forwarding information base.
#[derive(Clone, Debug)]
pub struct Fib {
    interfaces: Vec<Interface>,
    ipv4: Policy,
    ipv6: Policy,
    neighbours: HashMap<(u32, Addr), Mac>,
    /// Neighbours that did not answer.
    failed: HashSet<(u32, Addr)>,
    /// Whether an interface filters sources.
    filters: bool,
    local: HashSet<Addr>,
    broadcasts: HashSet<Addr>,
    /// Local prefixes shorter than an address, e.g. 127.0.0.0/8.
    local_prefixes: Vec<(Addr, u8)>,
    /// For routes without a preferred source.
    sources: Sources,
    /// Whether the host forwards IPv4 (`net.ipv4.ip_forward`).
    pub forwarding: bool,
    /// Whether the host forwards IPv6 (`net.ipv6.conf.all.forwarding`).
    pub forwarding_ipv6: bool,
}

impl Default for Fib {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            ipv4: Policy::new(Family::V4),
            ipv6: Policy::new(Family::V6),
            neighbours: HashMap::default(),
            failed: HashSet::default(),
            filters: false,
            local: HashSet::default(),
            broadcasts: HashSet::default(),
            local_prefixes: Vec::new(),
            sources: Sources::default(),
            forwarding: false,
            forwarding_ipv6: false,
        }
    }
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
        let off = |i: &Interface| i.reverse_path == ReversePath::Off;
        self.filters = !self.interfaces.iter().all(off);
    }

    /// The interfaces that UVS runs on, in no particular order.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The interface behind a port; [`PortId::HOST`] is always there.
    #[inline]
    pub fn interface(&self, port: PortId) -> Option<&Interface> {
        // Most are at the places of their ports.
        match self.interfaces.get(usize::from(port.0)) {
            Some(there) if there.port == port => Some(there),
            _ => self.find_interface(port),
        }
    }

    fn find_interface(&self, port: PortId) -> Option<&Interface> {
        let host = (port == PortId::HOST).then_some(&HOST);
        host.or_else(|| self.interfaces.iter().find(|i| i.port == port))
    }

    /// Whether the host forwards packets of a family.
    pub const fn forwards(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.forwarding,
            Family::V6 => self.forwarding_ipv6,
        }
    }

    /// Adds an address of the host's without a network. The first IPv4 address of an interface is its default
    /// source.
    pub fn add_local(&mut self, ifindex: u32, a: Addr) {
        self.add_address(ifindex, a, a.family().bits());
    }

    /// Adds an address of the host's with the length of its prefix, which counts where IPv6 chooses a source:
    /// of equals the one that was added last, as the kernel does.
    pub fn add_address(&mut self, ifindex: u32, a: Addr, prefix: u8) {
        self.local.insert(a);
        self.sources.add(ifindex, a, prefix);
    }

    /// Whether another has the same addresses of the host's.
    pub fn has_addresses_of(&self, other: &Self) -> bool {
        self.local == other.local && self.local_prefixes == other.local_prefixes
    }

    /// Takes an address of the host's away; as a default source it stays.
    pub fn remove_local(&mut self, a: Addr) {
        self.local.remove(&a);
    }

    /// Adds a prefix whose every address is the host's (a route of type `local`).
    pub fn add_local_prefix(&mut self, dst: Addr, prefix: u8) {
        if prefix == dst.family().bits() {
            self.local.insert(dst);
        } else {
            self.local_prefixes.push((dst, prefix));
        }
    }

    /// Adds the broadcast address of a network that the host is in.
    pub fn add_broadcast(&mut self, a: Addr) {
        self.broadcasts.insert(a);
    }

    /// Whether this is the broadcast address of a network that the host is in.
    pub fn is_broadcast(&self, a: Addr) -> bool {
        self.broadcasts.contains(&a)
    }

    /// Whether the host has this address.
    pub fn is_local(&self, a: Addr) -> bool {
        self.local.contains(&a)
            || self
                .local_prefixes
                .iter()
                .any(|(dst, prefix)| a.is_v4() == dst.is_v4() && a.masked(*prefix) == *dst)
    }

    /// The host's link-local address on an interface.
    pub fn link_local(&self, ifindex: u32) -> Option<Addr> {
        let source = self.sources.towards(Family::V6, ifindex, ALL_NODES);
        source.filter(Addr::is_link_local)
    }

    const fn policy(&self, family: Family) -> &Policy {
        match family {
            Family::V4 => &self.ipv4,
            Family::V6 => &self.ipv6,
        }
    }

    const fn policy_mut(&mut self, family: Family) -> &mut Policy {
        match family {
            Family::V4 => &mut self.ipv4,
            Family::V6 => &mut self.ipv6,
        }
    }

    /// Takes a family's routing rules in place of those that every host starts with, in the order in which they
    /// are asked.
    pub fn set_rules(&mut self, family: Family, rules: &[Rule]) {
        self.policy_mut(family).set_rules(rules);
    }

    /// Whether a family has other rules than those that every host starts with.
    pub const fn has_rules(&self, family: Family) -> bool {
        self.policy(family).is_custom()
    }

    /// Adds a route to the main table; of two to the same prefix the one with the lower metric stays.
    pub fn add_route(&mut self, r: Route) {
        self.add_route_to(table::MAIN, r);
    }

    /// Adds a route to a table of its family; of two to the same prefix the one with the lower metric stays.
    pub fn add_route_to(&mut self, table: u32, r: Route) {
        self.policy_mut(r.family()).table(table).add(r);
    }

    /// Forgets the main table's route to a prefix.
    pub fn remove_route(&mut self, dst: Addr, prefix: u8) {
        let policy = self.policy_mut(dst.family());
        policy.table(table::MAIN).remove(dst, prefix);
    }

    /// Notes a neighbour's MAC address.
    pub fn set_neighbour(&mut self, ifindex: u32, a: Addr, mac: Mac) {
        self.failed.remove(&(ifindex, a));
        self.neighbours.insert((ifindex, a), mac);
    }

    /// Notes that a neighbour does not answer.
    pub fn set_failed(&mut self, ifindex: u32, a: Addr) {
        self.neighbours.remove(&(ifindex, a));
        self.failed.insert((ifindex, a));
    }

    /// Forgets a neighbour.
    pub fn remove_neighbour(&mut self, ifindex: u32, a: Addr) {
        self.failed.remove(&(ifindex, a));
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
        if query.dst.is_link_local() {
            return self.on_link(&query);
        }
        let hop = self.hop(self.find(&query)?, &query)?;
        if query.binds_source && self.has_rules(query.family()) {
            let NextHop { source, .. } = hop;
            let bound = query.from(source);
            let hop = self.hop(self.find(&bound)?, &bound)?;
            return Ok(NextHop { source, ..hop });
        }
        Ok(hop)
    }

    /// Whether every packet goes the way that it goes by another one, and is filtered alike: what may differ
    /// is neighbours' MAC addresses.
    pub fn has_ways_of(&self, other: &Self) -> bool {
        // By name, so that the compiler asks for what is new.
        let Self {
            interfaces,
            ipv4,
            ipv6,
            neighbours: _,
            failed,
            filters,
            local,
            broadcasts,
            local_prefixes,
            sources,
            forwarding,
            forwarding_ipv6,
        } = self;
        // Who does not answer matters where there is another way.
        let several = ipv4.has_several_hops() || ipv6.has_several_hops();
        let same_failed = !several || *failed == other.failed;
        same_failed
            && (interfaces, ipv4, ipv6, filters)
                == (&other.interfaces, &other.ipv4, &other.ipv6, &other.filters)
            && (local, broadcasts, local_prefixes)
                == (&other.local, &other.broadcasts, &other.local_prefixes)
            && (sources, forwarding, forwarding_ipv6)
                == (&other.sources, &other.forwarding, &other.forwarding_ipv6)
    }

    /// The way to a link-local address, which is on the link that the query names, whatever routes there are.
    fn on_link(&self, query: &Query) -> Result<NextHop, Unreachable> {
        if self.is_local(query.dst) {
            return Err(Unreachable::Local);
        }
        if query.out == 0 {
            return Err(Unreachable::NoRoute);
        }
        self.by_hop(&Hop::by(query.out, None), None, query)
    }

    /// The way by a route.
    fn hop(&self, route: &Route, query: &Query) -> Result<NextHop, Unreachable> {
        let hop = self.choose(route, query).ok_or(Unreachable::NoRoute)?;
        self.by_hop(hop, route.mtu, query)
    }

    /// The way by a next hop of a route with this MTU.
    fn by_hop(&self, hop: &Hop, mtu: Option<u32>, query: &Query) -> Result<NextHop, Unreachable> {
        let interface = self
            .interfaces
            .iter()
            .find(|i| i.ifindex == hop.ifindex)
            .ok_or(Unreachable::NotAPort)?;
        let via = hop.gateway.unwrap_or(query.dst);
        let source = || self.sources.towards(query.family(), hop.ifindex, query.dst);
        Ok(NextHop {
            port: interface.port,
            source_mac: interface.mac,
            via,
            mac: self.neighbours.get(&(interface.ifindex, via)).copied(),
            source: hop.source.or_else(source).unwrap_or(Addr::UNSPECIFIED),
            mtu: mtu.map_or(interface.mtu, |m| m.min(interface.mtu)),
        })
    }

    fn find(&self, query: &Query) -> Result<&Route, Unreachable> {
        self.policy(query.family())
            .find(query, |a| self.is_local(a))
    }
}

impl NextHop {
    /// Into the host's own stack, for `own`, an address of the host's.
    pub const fn host(own: Addr) -> Self {
        Self {
            port: PortId::HOST,
            source_mac: HOST.mac,
            via: own,
            mac: Some(HOST.mac),
            source: own,
            mtu: HOST.mtu,
        }
    }

    /// Where a frame on this way goes; zeros where the kernel does not know it.
    #[inline]
    pub(crate) fn destination_mac(&self) -> &Mac {
        self.mac.as_ref().unwrap_or(&[0; 6])
    }

    /// Where a frame on this way leaves.
    pub fn egress(&self) -> Egress {
        Egress {
            port: self.port,
            unresolved: self.mac.is_none().then_some(self.via),
        }
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
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
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
