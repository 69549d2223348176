//! Which worker a client's connections belong to.
//!
//! By the client's address and port, so that both directions of a connection come to the same worker: a packet to a VIP
//! has them as its source, a NAT server's reply as its destination. A reply of FULLNAT has neither; its local port names
//! the worker that has given it out. Where something is one client's, whatever its port, as persistence and a limit of a
//! client's are, the client's address counts alone, masked as for these: a template lives with its connections.
//!
//! The kernel's fan-out program and the engine follow the same rule; the engine decides, and where the program cannot
//! say it as well, a frame is handed over.

use std::collections::{BTreeMap, BTreeSet};

use crate::flow::{Addr, Endpoint, Family, Flow};
use crate::marks::{MarkRule, destinations};
use crate::service::{Replies, ServiceKey, ServiceSpec};
use crate::services::Services;

/// What of a client counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    /// Its port does too.
    pub port: bool,
    /// The bits of an IPv4 address that do, host byte order.
    pub v4: u32,
    /// Those of an IPv6 one.
    pub v6: u128,
}

impl Class {
    /// All of it.
    pub const WHOLE: Self = Self {
        port: true,
        v4: u32::MAX,
        v6: u128::MAX,
    };

    /// What counts of a service's clients.
    pub fn of(spec: &ServiceSpec) -> Self {
        let mut class = Self::WHOLE;
        if let Some(persistence) = spec.persistence {
            let prefix = persistence.mask;
            class = class.and(match spec.key.is_v4() {
                true => Self::masked(prefix, u128::MAX),
                false => Self::masked(u32::MAX, first_bits(prefix)),
            });
        }
        let limits = spec.new_connections;
        if limits.per_client != 0 {
            let [v4, v6] = Family::ALL.map(|family| limits.prefix(family).min(family.bits()));
            let v4 = u32::MAX.checked_shl(32 - u32::from(v4)).unwrap_or_default();
            class = class.and(Self::masked(v4, first_bits(v6.into())));
        }
        class
    }

    const fn masked(v4: u32, v6: u128) -> Self {
        Self {
            port: false,
            v4,
            v6,
        }
    }

    /// What counts in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            port: self.port && other.port,
            v4: self.v4 & other.v4,
            v6: self.v6 & other.v6,
        }
    }
}

/// The first bits of an IPv6 address.
fn first_bits(prefix: u32) -> u128 {
    u128::MAX
        .checked_shl(128_u32.saturating_sub(prefix))
        .unwrap_or_default()
}

/// An IPv6 address as four words, as a program of words of 32 bits loads them.
pub fn words(addr: u128) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = addr.to_be_bytes();
    [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]].map(u32::from_be_bytes)
}

/// How clients and workers belong together: a keyed hash, since clients choose their ports. It is one that a classic
/// BPF program can take too, of words of 32 bits; who knew the key could have one worker do everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fan {
    workers: u32,
    secret: u32,
}

/// The steps of [`Fan::of`]: multipliers that spread bits (the finaliser of MurmurHash3, and 2^32 divided by the golden
/// ratio).
pub const MULTIPLIERS: [u32; 3] = [0x9e37_79b1, 0x85eb_ca6b, 0xc2b2_ae35];
/// After each multiplication the upper bits, so far to the right, are folded in: a client's ports share parity.
pub const SHIFTS: [u32; 3] = [16, 13, 16];

impl Fan {
    /// For so many workers, 1 to [`MOST`](super::MOST); `secret` must be random.
    pub fn new(workers: u32, secret: u32) -> Self {
        Self {
            workers: workers.clamp(1, super::MOST),
            secret,
        }
    }

    /// How many workers there are.
    pub const fn workers(self) -> u32 {
        self.workers
    }

    /// Its key.
    pub const fn secret(self) -> u32 {
        self.secret
    }

    /// The worker of a client with this address and port.
    pub fn of(self, class: Class, client: Addr, port: u16) -> u32 {
        let words = match client.as_v4() {
            Some(v4) => u32::from_be_bytes(v4) & class.v4,
            None => words(u128::from_be_bytes(client.v6_octets()) & class.v6)
                .into_iter()
                .fold(0, |all, word| all ^ word),
        };
        let port = if class.port { u32::from(port) } else { 0 };
        let [first, rest @ ..] = MULTIPLIERS;
        let mut n = fold((words ^ self.secret).wrapping_mul(first), SHIFTS[0]) ^ port;
        for (by, shift) in rest.into_iter().zip([SHIFTS[1], SHIFTS[2]]) {
            n = fold(n.wrapping_mul(by), shift);
        }
        n % self.workers
    }

    /// The worker that has given out a local port of FULLNAT's.
    pub fn of_port(self, port: u16) -> u32 {
        u32::from(port) % self.workers
    }
}

const fn fold(n: u32, shift: u32) -> u32 {
    n ^ n >> shift
}

/// What addresses say of where a packet goes.
///
/// Services and NAT servers that have to do with each other have the same class, the coarser one: a reply says which
/// server it is from, and not which service it is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steering {
    /// VIPs: a packet to one is its source's, the client's.
    pub vips: BTreeMap<Addr, Class>,
    /// NAT servers, removed ones that still have connections included: a packet from one is its destination's.
    pub servers: BTreeMap<Addr, Class>,
    /// FULLNAT's local addresses: a packet to one is its port's.
    pub locals: BTreeSet<Addr>,
    /// Of packets to no VIP: those of firewall marks.
    pub otherwise: Option<Class>,
    services: BTreeMap<ServiceKey, Class>,
}

/// Something that has a class.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Node {
    Vip(Addr),
    Server(Addr),
    Marked(Family),
}

impl Steering {
    /// What follows from these services, and from the NAT servers that were removed from services and still have
    /// connections.
    pub fn of<'a>(
        services: &Services,
        marks: &[MarkRule],
        removed: impl Iterator<Item = (ServiceKey, Addr)> + 'a,
    ) -> Self {
        let mut left: BTreeMap<ServiceKey, Vec<Addr>> = BTreeMap::new();
        for (service, server) in removed {
            left.entry(service).or_default().push(server);
        }
        let mut groups = Groups::default();
        let mut steering = Self::default();
        let mut firsts = Vec::new();
        for spec in services.iter() {
            let to = destinations(spec.key, marks);
            let hosts = to.filter(|to| to.is_host()).map(|to| Node::Vip(to.addr));
            let marked = match spec.key {
                ServiceKey::Mark { ipv6: true, .. } => Some(Node::Marked(Family::V6)),
                ServiceKey::Mark { ipv6: false, .. } => Some(Node::Marked(Family::V4)),
                ServiceKey::Address { .. } => None,
            };
            let nat = spec.servers.iter();
            let nat = nat.filter(|s| s.forwarding.replies() == Replies::Gateway);
            let before = left.remove(&spec.key).unwrap_or_default();
            let servers = nat.map(|s| s.endpoint.addr).chain(before);
            let nodes = marked
                .into_iter()
                .chain(hosts)
                .chain(servers.map(Node::Server));
            firsts.push((spec.key, groups.join(nodes, Class::of(spec))));
            steering.locals.extend(spec.local.iter().copied());
        }
        // Those of services that are gone have no client that a packet could be scheduled for.
        for server in left.into_values().flatten() {
            groups.join([Node::Server(server)].into_iter(), Class::WHOLE);
        }
        for (key, group) in firsts {
            let class = group.map_or(Class::WHOLE, |group| groups.class(group));
            steering.services.insert(key, class);
        }
        for (node, group) in groups.members() {
            let class = groups.class(group);
            match node {
                Node::Vip(addr) => drop(steering.vips.insert(addr, class)),
                Node::Server(addr) => drop(steering.servers.insert(addr, class)),
                Node::Marked(_) => {
                    let before = steering.otherwise.unwrap_or(Class::WHOLE);
                    steering.otherwise = Some(before.and(class));
                }
            }
        }
        steering
    }

    /// Whether the connections there are may belong to other workers than by another steering.
    pub fn moves_any_of(&self, before: &Self) -> bool {
        let same = |before: &BTreeMap<Addr, Class>, now: &BTreeMap<Addr, Class>| {
            before
                .iter()
                .all(|(addr, class)| now.get(addr) == Some(class))
        };
        !same(&before.vips, &self.vips)
            || !same(&before.servers, &self.servers)
            || before.otherwise.is_some() && before.otherwise != self.otherwise
            || !before.locals.is_subset(&self.locals)
            || before
                .services
                .iter()
                .any(|(key, class)| self.services.get(key) != Some(class))
    }

    /// The worker of a connection or template that is not there yet, as its client comes to it; one of FULLNAT's is with
    /// the worker whose local port it has.
    pub fn worker_of(
        &self,
        fan: Fan,
        (client, vip): (Endpoint, Endpoint),
        local: Option<Endpoint>,
        gives_out: impl Fn(u16) -> bool,
    ) -> u32 {
        match local.filter(|local| gives_out(local.port)) {
            Some(local) => fan.of_port(local.port),
            None => {
                let class = self.vips.get(&vip.addr).copied().or(self.otherwise);
                fan.of(class.unwrap_or(Class::WHOLE), client.addr, client.port)
            }
        }
    }

    /// The worker of a packet of this flow, of the service where it is a client's; `None` = it is nobody's in particular.
    /// `gives_out` says whether a port is one of FULLNAT's.
    pub fn owner(
        &self,
        fan: Fan,
        flow: &Flow,
        service: Option<&ServiceKey>,
        gives_out: impl Fn(u16) -> bool,
    ) -> Option<u32> {
        if let Some(key) = service {
            let class = self.services.get(key).copied().unwrap_or(Class::WHOLE);
            return Some(fan.of(class, flow.src, flow.src_port));
        }
        if self.locals.contains(&flow.dst) && gives_out(flow.dst_port) {
            return Some(fan.of_port(flow.dst_port));
        }
        let class = self.servers.get(&flow.src)?;
        Some(fan.of(*class, flow.dst, flow.dst_port))
    }
}

/// What has to do with each other, as sets that are joined.
#[derive(Default)]
struct Groups {
    places: BTreeMap<Node, usize>,
    /// Each node's parent, its own where it is a set's first, which has the set's class.
    parents: Vec<(usize, Class)>,
}

impl Groups {
    /// Makes these one, with what counts in all; one of its places, where there is a node.
    fn join(&mut self, nodes: impl Iterator<Item = Node>, class: Class) -> Option<usize> {
        let mut all = None;
        for node in nodes {
            let new = self.parents.len();
            let place = *self.places.entry(node).or_insert(new);
            if place == new {
                self.parents.push((new, Class::WHOLE));
            }
            let (root, other) = (self.root(place), self.root(all.unwrap_or(place)));
            let both = self.parents[root].1.and(self.parents[other].1);
            self.parents[other].0 = root;
            self.parents[root].1 = both.and(class);
            all = Some(root);
        }
        all
    }

    fn root(&self, mut at: usize) -> usize {
        while self.parents[at].0 != at {
            at = self.parents[at].0;
        }
        at
    }

    fn class(&self, at: usize) -> Class {
        self.parents[self.root(at)].1
    }

    fn members(&self) -> impl Iterator<Item = (Node, usize)> + '_ {
        self.places.iter().map(|(node, place)| (*node, *place))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::flow::Protocol;
    use crate::service::{Forwarding, NewConnections, Persistence, ServerSpec};

    const fn at(last: u8, port: u16) -> Endpoint {
        Endpoint::new(Addr::v4([10, 0, 0, last]), port)
    }

    fn service(vip: u8, port: u16, servers: &[(u8, Forwarding)]) -> ServiceSpec {
        let key = ServiceKey::address(Protocol::Tcp, at(vip, port));
        let mut spec = ServiceSpec::new(key, "rr");
        let server =
            |(last, forwarding): &(u8, Forwarding)| ServerSpec::new(at(*last, 8080), *forwarding);
        spec.servers = servers.iter().map(server).collect();
        spec
    }

    fn persistent(mut spec: ServiceSpec, mask: u32) -> ServiceSpec {
        spec.persistence = Some(Persistence { timeout: 50, mask });
        spec
    }

    fn steering(services: Vec<ServiceSpec>) -> Steering {
        let services = services.into_iter().map(Arc::new).collect();
        Steering::of(&services, &[], std::iter::empty())
    }

    #[test]
    fn clients_are_spread_evenly_also_where_their_ports_share_parity() {
        for of in [2, 3, 4, 8, 64] {
            let fan = Fan::new(of, 0x1234_5678);
            for class in [Class::WHOLE, Class::masked(u32::MAX, u128::MAX)] {
                let mut counts = vec![0_u32; of as usize];
                for n in 0..64_000_u16 {
                    // Of one class the ports differ and not the addresses, of the other the addresses alone.
                    let (addr, port) = match class.port {
                        true => (Addr::v4([192, 0, 2, 9]), 2 * (n % 32_000)),
                        false => {
                            let [a, b] = n.to_be_bytes();
                            (Addr::v4([10, 0, a, b]), 4)
                        }
                    };
                    counts[fan.of(class, addr, port) as usize] += 1;
                }
                let fair = 64_000 / of;
                let is_fair = |n: &u32| n.abs_diff(fair) < fair / 5;
                assert!(counts.iter().all(is_fair), "{of} {class:?}: {counts:?}");
            }
        }
    }

    #[test]
    fn both_directions_of_a_connection_are_one_workers() {
        let persistent_v4 = persistent(service(100, 443, &[(2, Forwarding::Nat)]), 0xffff_ff00);
        let all = steering(vec![
            service(100, 80, &[(1, Forwarding::Nat)]),
            persistent_v4,
        ]);
        let fan = Fan::new(8, 9);
        for n in 0..200 {
            let client = Endpoint::new(Addr::v4([198, 51, 100, n]), 40_000 + u16::from(n));
            for (port, server) in [(80, 1), (443, 2)] {
                let key = ServiceKey::address(Protocol::Tcp, at(100, port));
                let to = Flow::new(Protocol::Tcp, client, at(100, port));
                let back = Flow::new(Protocol::Tcp, at(server, 8080), client);
                let owner = all.owner(fan, &to, Some(&key), |_| false);
                assert_eq!(all.owner(fan, &back, None, |_| false), owner);
                if port == 443 {
                    let other = Endpoint::new(Addr::v4([198, 51, 100, 7]), 1);
                    let of_network = Flow::new(Protocol::Tcp, other, at(100, 443));
                    assert_eq!(all.owner(fan, &of_network, Some(&key), |_| false), owner);
                }
            }
        }
    }

    #[test]
    fn what_has_to_do_with_each_other_has_one_class() {
        let all = steering(vec![
            service(100, 80, &[(1, Forwarding::Nat), (2, Forwarding::Nat)]),
            persistent(service(101, 80, &[(2, Forwarding::Nat)]), 0xffff_0000),
            persistent(service(102, 80, &[(3, Forwarding::Nat)]), u32::MAX),
            service(103, 80, &[(2, Forwarding::Dr), (4, Forwarding::Dr)]),
        ]);
        let coarse = Class::masked(0xffff_0000, u128::MAX);
        for node in [100, 101] {
            assert_eq!(all.vips[&at(node, 0).addr], coarse, "{node}");
        }
        for node in [1, 2] {
            assert_eq!(all.servers[&at(node, 0).addr], coarse, "{node}");
        }
        assert_eq!(
            all.vips[&at(102, 0).addr],
            Class::masked(u32::MAX, u128::MAX)
        );
        assert_eq!(all.vips[&at(103, 0).addr], Class::WHOLE);
        assert!(
            !all.servers.contains_key(&at(4, 0).addr),
            "it replies past us"
        );
    }

    #[test]
    fn a_client_with_a_limit_of_its_own_is_one_workers() {
        let mut limited = service(100, 80, &[]);
        limited.new_connections = NewConnections {
            per_client: 5,
            ..NewConnections::default()
        };
        let all = steering(vec![limited]);
        let class = Class::masked(u32::MAX, u128::MAX << 64);
        assert_eq!(all.vips[&at(100, 0).addr], class);
    }

    #[test]
    fn a_removed_servers_replies_are_where_they_were() {
        let with = service(100, 80, &[(1, Forwarding::Nat)]);
        let key = with.key;
        let without = [Arc::new(service(100, 80, &[]))].into_iter().collect();
        let left = [(key, at(1, 0).addr)];
        let after = Steering::of(&without, &[], left.into_iter());
        assert!(!after.moves_any_of(&steering(vec![with])));
        let gone = Steering::of(&without, &[], std::iter::empty());
        assert!(gone.moves_any_of(&after));
        assert!(
            !after.moves_any_of(&gone),
            "who comes new has no connections"
        );
    }
}
