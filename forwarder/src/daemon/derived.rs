//! What follows from the desired state and the host's addresses: what the guard keeps from the kernel, what the sockets let
//! in, whose next hops stay resolved. Kept, and brought up to date by what has changed, so that one service among
//! thousands costs what it is.
//!
//! Each service counts in what it wants, and out when it goes; so does each server whose replies pass the director. What
//! else it depends on is the [`Ground`]: where that is another, all is counted anew.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use uvs_control::config::OwnVips;
use uvs_control::table::UnassignedVips;
use uvs_core::fib::{Fib, Query};
use uvs_core::flow::{Addr, Family, Protocol};
use uvs_core::marks::{Destination, MarkRule, destinations};
use uvs_core::service::{Forwarding, Replies, ServerSpec, ServiceKey, ServiceSpec, TunnelKind};
use uvs_core::services::Services;
use uvs_core::shared::{Counted, Set, Tally, Way};
use uvs_core::wire::protocol;

use super::derive::Replier;
use crate::guard::{Destined, FullNat, GuardSpec, HOST_MARK, Nat, Server, TunnelEnd};
use crate::port::filter::FilterSpec;

/// FTP's control port: where the service there is persistent, it has the data connections too.
const FTP: u16 = 21;

/// What all of it depends on beside services and servers.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) marks: Vec<MarkRule>,
    pub(crate) own_vips: OwnVips,
    pub(crate) fib: Arc<Fib>,
    /// The host's own addresses.
    pub(crate) local: Vec<Addr>,
}

impl Ground {
    /// Whether the same follows from another: of routes and neighbours nothing here does.
    fn carries(&self, other: &Self) -> bool {
        let addresses = || self.fib.has_addresses_of(&other.fib);
        (&self.marks, &self.own_vips, &self.local) == (&other.marks, &other.own_vips, &other.local)
            && (Arc::ptr_eq(&self.fib, &other.fib) || addresses())
    }
}

/// All of it.
#[derive(Default)]
pub(crate) struct Derived {
    /// What it was derived from last.
    ground: Option<Ground>,
    services: Services,
    repliers: [Set<Replier>; 2],
    /// Services as they were counted in, and whether as NAT's.
    served: HashMap<ServiceKey, (Arc<ServiceSpec>, bool)>,
    /// Services with servers of NAT.
    nat: Counted<ServiceKey>,
    parts: Parts,
}

/// What is counted.
#[derive(Default)]
struct Parts {
    services: Tally<Destined>,
    wide: Tally<Destination>,
    nat_services: Tally<Destined>,
    nat_wide: Tally<Destination>,
    ftp: Tally<Addr>,
    nat_servers: Tally<Server>,
    own_servers: Tally<Server>,
    callers: Tally<Server>,
    fullnat_servers: Tally<Server>,
    fullnat_local: Tally<Addr>,
    tunnels: Tally<TunnelEnd>,
    /// Addresses that services are at:
    vips: Tally<Addr>,
    /// those that the host has,
    vips_here: Set<Addr>,
    /// those that it has not and UVS answers for,
    owned: Set<Addr>,
    /// and those that nobody answers for here.
    absent: Set<Addr>,
    /// Networks that services are at.
    networks: Tally<Destination>,
    /// FULLNAT's local addresses.
    locals: Tally<Addr>,
    /// Servers whose replies pass the director,
    from: Tally<Addr>,
    /// and those of them that are the host.
    from_here: Set<Addr>,
    /// The families that NAT's servers are of.
    nat_families: Counted<Family>,
    /// Services with tunnels.
    tunnelling: Counted<()>,
    /// The ways to servers, as the engine looks them up.
    ways: Tally<Query>,
}

/// The addresses whose packets a socket lets in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Admitted {
    pub(super) to: [Set<Addr>; 2],
    pub(super) networks: Set<Destination>,
    pub(super) from: Set<Addr>,
    pub(super) owned: Set<Addr>,
    pub(super) icmp_errors: bool,
    pub(super) icmp_errors_ipv6: bool,
    pub(super) icmp_to: Vec<Addr>,
    pub(super) without_mark: Option<u32>,
}

impl Derived {
    /// Follows from these from now on: the services, and the servers whose replies pass the director, which are those of
    /// services and those that have left them.
    pub(crate) fn follow(
        &mut self,
        services: &Services,
        repliers: [&Set<Replier>; 2],
        ground: Ground,
    ) {
        let stands = |before: &Ground| before.carries(&ground);
        if !self.ground.as_ref().is_some_and(stands) {
            *self = Self::default();
        }
        let before = std::mem::replace(&mut self.services, services.clone());
        let before_them = std::mem::replace(&mut self.repliers, repliers.map(Set::clone));
        let changed = services.since(&before);
        let mut touched: BTreeSet<ServiceKey> = changed.gone.iter().map(|s| s.key).collect();
        let mut now: HashMap<ServiceKey, &Arc<ServiceSpec>> = HashMap::new();
        now.extend(changed.new.iter().map(|s| (s.key, *s)));
        let gone = touched.clone();
        touched.extend(now.keys());
        for (before, now) in before_them.iter().zip(repliers) {
            for (way, replier) in now.since(before).ways() {
                self.parts.count_replier(way, replier, &ground);
                if replier.is_nat() && self.nat.count(way, replier.service) {
                    touched.insert(replier.service);
                }
            }
        }
        let networks = self.parts.networks.members().clone();
        for key in touched {
            let before = self.served.remove(&key);
            let stays = before.as_ref().filter(|_| !gone.contains(&key));
            let spec = now
                .get(&key)
                .copied()
                .or_else(|| stays.map(|(spec, _)| spec))
                .cloned();
            if let Some((spec, as_nat)) = before {
                self.parts.count_service(Way::Out, &spec, as_nat, &ground);
            }
            if let Some(spec) = spec {
                // One-packet scheduling keeps no connection whose replies could be UVS's.
                let as_nat = self.nat.contains(&key) && !spec.one_packet;
                self.parts.count_service(Way::In, &spec, as_nat, &ground);
                self.served.insert(key, (spec, as_nat));
            }
        }
        if *self.parts.networks.members() != networks {
            self.parts.find_absent(&ground);
        }
        self.ground = Some(ground);
    }

    /// What the kernel must not see. `surroundings` has what does not follow from services: interfaces, addresses and
    /// FULLNAT's ports.
    pub(crate) fn guard(&self, surroundings: GuardSpec) -> GuardSpec {
        let parts = &self.parts;
        GuardSpec {
            services: parts.services.members().clone(),
            wide: parts.wide.members().clone(),
            ftp: parts.ftp.members().clone(),
            nat_servers: parts.nat_servers.members().clone(),
            nat: Nat {
                services: parts.nat_services.members().clone(),
                wide: parts.nat_wide.members().clone(),
                own_servers: parts.own_servers.members().clone(),
                callers: parts.callers.members().clone(),
                ..surroundings.nat
            },
            fullnat: FullNat {
                local: parts.fullnat_local.members().clone(),
                servers: parts.fullnat_servers.members().clone(),
                ports: surroundings.fullnat.ports,
            },
            tunnels: parts.tunnels.members().clone(),
            ..surroundings
        }
    }

    /// What the engine must see.
    pub(super) fn filter(&self) -> Admitted {
        let parts = &self.parts;
        // Of what routers say of a tunnel's packets only IPv4's is passed on, of IPv4 in it.
        let local = self.ground.iter().flat_map(|ground| &ground.local);
        let local = local.filter(|a| a.is_v4() && !parts.tunnelling.is_empty());
        Admitted {
            to: [&parts.vips, &parts.locals].map(|to| to.members().clone()),
            networks: parts.networks.members().clone(),
            from: parts.from.members().clone(),
            owned: parts.owned.clone(),
            icmp_errors: parts.nat_families.contains(&Family::V4),
            icmp_errors_ipv6: parts.nat_families.contains(&Family::V6),
            icmp_to: local.copied().collect(),
            without_mark: None,
        }
    }

    /// What the engine must see of what the host itself sends: to VIPs that are its own, and from servers that
    /// it is itself.
    pub(super) fn host_filter(&self) -> Admitted {
        Admitted {
            to: [self.parts.vips_here.clone(), Set::new()],
            from: self.parts.from_here.clone(),
            without_mark: Some(HOST_MARK),
            ..Admitted::default()
        }
    }

    /// The ways to the servers whose next hops the kernel is to keep resolved, as the engine looks them up.
    pub(super) const fn ways(&self) -> &Set<Query> {
        self.parts.ways.members()
    }

    /// The VIPs that no interface has; none is yielded yet. A network of a mark's is routed here, so neither it nor what
    /// lies within it is absent.
    pub(super) fn unassigned(&self) -> UnassignedVips {
        UnassignedVips {
            owned: self.parts.owned.iter().copied().collect(),
            yielded: Vec::new(),
            absent: self.parts.absent.iter().copied().collect(),
        }
    }
}

impl Parts {
    fn count_service(&mut self, way: Way, service: &ServiceSpec, as_nat: bool, ground: &Ground) {
        let (exact, wide) = match as_nat {
            true => (&mut self.nat_services, &mut self.nat_wide),
            false => (&mut self.services, &mut self.wide),
        };
        let to: Vec<Destination> = destinations(service.key, &ground.marks).collect();
        for to in &to {
            match to.port().filter(|_| to.is_host()) {
                Some(port) => to.protocols().for_each(|protocol| {
                    exact.count(way, (protocol, to.addr, port));
                }),
                None => drop(wide.count(way, *to)),
            }
        }
        for to in to {
            if !to.is_host() {
                self.networks.count(way, to);
            } else if self.vips.count(way, to.addr) {
                self.place_vip(way, to.addr, ground);
            }
        }
        if let ServiceKey::Address {
            protocol: Protocol::Tcp,
            addr,
            port: FTP,
        } = service.key
            && service.persistence.is_some()
        {
            self.ftp.count(way, addr);
        }
        for local in &service.local {
            self.locals.count(way, *local);
        }
        let is_tunnelled = |server: &&ServerSpec| server.forwarding == Forwarding::Tunnel;
        for end in service
            .servers
            .iter()
            .filter(is_tunnelled)
            .flat_map(tunnel_ends)
        {
            self.tunnels.count(way, end);
        }
        if service.servers.iter().any(|s| is_tunnelled(&s)) {
            self.tunnelling.count(way, ());
        }
        for caller in callers(service) {
            self.callers.count(way, caller);
        }
        for query in ways(service) {
            self.ways.count(way, query);
        }
    }

    /// A VIP comes or goes: whose it is.
    fn place_vip(&mut self, way: Way, vip: Addr, ground: &Ground) {
        let those = if ground.fib.is_local(vip) {
            &mut self.vips_here
        } else if vip.is_unspecified() {
            return;
        } else if ground.own_vips.has(vip) {
            &mut self.owned
        } else if way == Way::In && is_routed_here(&self.networks, vip) {
            return;
        } else {
            &mut self.absent
        };
        match way {
            Way::In => those.insert(vip),
            Way::Out => those.remove(&vip),
        };
    }

    /// Other networks are routed here: which VIPs are absent.
    fn find_absent(&mut self, ground: &Ground) {
        let is_absent = |vip: &&Addr| {
            let is_nobodys = !vip.is_unspecified() && !ground.own_vips.has(**vip);
            is_nobodys && !ground.fib.is_local(**vip) && !is_routed_here(&self.networks, **vip)
        };
        let vips = self.vips.members().iter();
        self.absent = vips.filter(is_absent).copied().collect();
    }

    fn count_replier(&mut self, way: Way, replier: &Replier, ground: &Ground) {
        let addr = replier.server.addr;
        for protocol in &replier.protocols {
            let server = (addr, *protocol, replier.port);
            if !replier.is_nat() {
                self.fullnat_servers.count(way, server);
                continue;
            }
            self.nat_servers.count(way, server);
            if ground.local.binary_search(&addr).is_ok() {
                self.own_servers.count(way, server);
            }
        }
        for local in &replier.local {
            self.fullnat_local.count(way, *local);
            self.locals.count(way, *local);
        }
        if replier.is_nat() {
            self.nat_families.count(way, addr.family());
        }
        if self.from.count(way, addr) && ground.fib.is_local(addr) {
            match way {
                Way::In => self.from_here.insert(addr),
                Way::Out => self.from_here.remove(&addr),
            };
        }
    }
}

impl Admitted {
    /// As a filter is made from it.
    pub(super) fn spec(&self) -> FilterSpec {
        let mut spec = FilterSpec {
            icmp_errors: self.icmp_errors,
            icmp_to: self
                .icmp_to
                .iter()
                .filter_map(Addr::as_v4)
                .map(Ipv4Addr::from)
                .collect(),
            without_mark: self.without_mark,
            ..FilterSpec::default()
        };
        spec.ipv6.icmp_errors = self.icmp_errors_ipv6;
        for vip in self.owned.iter() {
            put(*vip, &mut spec.arp_for, &mut spec.ipv6.solicited);
        }
        for server in self.from.iter() {
            put(*server, &mut spec.from, &mut spec.ipv6.from);
        }
        for addr in self.to.iter().flat_map(Set::iter) {
            put(*addr, &mut spec.to, &mut spec.ipv6.to);
        }
        for to in self.networks.iter() {
            match to.addr.into() {
                IpAddr::V4(network) => spec.networks.push((network, to.prefix)),
                IpAddr::V6(network) => spec.ipv6.networks.push((network, to.prefix)),
            }
        }
        spec.put_in_order();
        spec
    }
}

/// Puts an address to its family's.
fn put(addr: Addr, v4: &mut Vec<Ipv4Addr>, v6: &mut Vec<Ipv6Addr>) {
    match addr.into() {
        IpAddr::V4(addr) => v4.push(addr),
        IpAddr::V6(addr) => v6.push(addr),
    }
}

fn is_routed_here(networks: &Tally<Destination>, vip: Addr) -> bool {
    networks.members().iter().any(|to| to.has_address(vip))
}

/// The far ends of a server's tunnel. An IPv6 packet in IP has a protocol of its own (RFC 2473).
fn tunnel_ends(server: &ServerSpec) -> impl Iterator<Item = TunnelEnd> + use<> {
    let (protocols, port): (&[u8], u16) = match server.tunnel.kind {
        TunnelKind::Ipip => (&[protocol::IPIP, protocol::IPV6], 0),
        TunnelKind::Gue => (&[protocol::UDP], server.tunnel.port),
        TunnelKind::Gre => (&[protocol::GRE], 0),
    };
    let addr = server.endpoint.addr;
    protocols.iter().map(move |protocol| TunnelEnd {
        addr,
        protocol: *protocol,
        port,
    })
}

/// A service's servers that may begin connections.
fn callers(service: &ServiceSpec) -> impl Iterator<Item = Server> {
    let gateway = |server: &&ServerSpec| server.forwarding.replies() == Replies::Gateway;
    let servers = service.servers.iter().filter(gateway);
    servers.filter(|_| service.has_callers()).map(|server| {
        let port = service.reply_port(server);
        (server.endpoint.addr, Protocol::Udp, port)
    })
}

/// The ways to a service's servers.
fn ways(service: &ServiceSpec) -> impl Iterator<Item = Query> {
    let locals: Vec<Option<Addr>> = match service.local.is_empty() {
        true => vec![None],
        false => service.local.iter().copied().map(Some).collect(),
    };
    service.servers.iter().flat_map(move |server| {
        let way = |local: &Option<Addr>| {
            Query::to_server(server.endpoint.addr, server.forwarding, *local)
        };
        locals.iter().map(way).collect::<Vec<_>>()
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use uvs_core::flow::Endpoint;
    use uvs_core::service::Persistence;
    use uvs_core::services::Serial;

    use super::super::removed_servers::RemovedServers;
    use super::*;

    /// One of few addresses, so that services meet on them; some are the host's.
    fn addr(n: u8) -> Addr {
        match n % 2 {
            0 => Addr::v4([10, 0, n % 3, n]),
            _ => Addr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into())),
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Service { vip: u8, port: u16, mark: bool },
        Server { at: usize, host: u8, by: u8 },
        Edit { at: usize, what: u8 },
        Leave { at: usize, server: usize },
        Remove { at: usize },
        Idle,
        Marks { which: u8 },
        Address { host: u8 },
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = any::<usize>;
        prop_oneof![
            3 => (0..6_u8, 20..24_u16, any::<bool>()).prop_map(|(vip, port, mark)| Step::Service { vip, port, mark }),
            6 => (at(), 0..6_u8, 0..5_u8).prop_map(|(at, host, by)| Step::Server { at, host, by }),
            3 => (at(), 0..4_u8).prop_map(|(at, what)| Step::Edit { at, what }),
            3 => (at(), at()).prop_map(|(at, server)| Step::Leave { at, server }),
            2 => at().prop_map(|at| Step::Remove { at }),
            1 => Just(Step::Idle),
            1 => (0..3_u8).prop_map(|which| Step::Marks { which }),
            1 => (0..6_u8).prop_map(|host| Step::Address { host }),
        ]
    }

    fn add_server(service: &mut ServiceSpec, host: u8, by: u8) {
        let forwarding = match by {
            0 => Forwarding::Dr,
            1 => Forwarding::Tunnel,
            2 => Forwarding::FullNat,
            _ => Forwarding::Nat,
        };
        let endpoint = Endpoint::new(addr(host), 80);
        service.servers.retain(|server| server.endpoint != endpoint);
        service.servers.push(ServerSpec::new(endpoint, forwarding));
    }

    fn edit(service: &mut ServiceSpec, what: u8) {
        match what {
            0 => service.one_packet = !service.one_packet,
            3 => {
                service.engine = match service.engine {
                    None => Some("sip".to_owned()),
                    Some(_) => None,
                }
            }
            1 => {
                service.local = match service.local.is_empty() {
                    true => vec![addr(0), addr(1)],
                    false => Vec::new(),
                }
            }
            _ => {
                service.persistence = match service.persistence {
                    None => Some(Persistence {
                        timeout: 60,
                        mask: u32::MAX,
                    }),
                    Some(_) => None,
                }
            }
        }
    }

    /// What all is derived from.
    struct World {
        services: Services,
        serials: Vec<Serial>,
        marks: Vec<MarkRule>,
        fib: Arc<Fib>,
        local: Vec<Addr>,
        removed: RemovedServers,
    }

    impl World {
        fn change(&mut self, at: usize, change: impl FnOnce(&mut ServiceSpec)) {
            let count = self.serials.len().max(1);
            if let Some(serial) = self.serials.get(at % count) {
                let spec = self.services.get_mut(*serial).expect("it is there");
                change(Arc::make_mut(spec));
            }
        }

        fn step(&mut self, step: &Step) {
            match *step {
                Step::Service { vip, port, mark } => self.add(Endpoint::new(addr(vip), port), mark),
                Step::Server { at, host, by } => self.change(at, |s| add_server(s, host, by)),
                Step::Edit { at, what } => self.change(at, |s| edit(s, what)),
                Step::Leave { at, server } => self.change(at, |s| {
                    if !s.servers.is_empty() {
                        s.servers.remove(server % s.servers.len());
                    }
                }),
                Step::Remove { at } => {
                    if !self.serials.is_empty() {
                        let serial = self.serials.remove(at % self.serials.len());
                        self.services.remove(serial);
                    }
                }
                Step::Idle => {
                    let left = self.removed.left().len();
                    let counts: Vec<u32> = (0..left).map(|n| u32::from(n % 2 == 0)).collect();
                    self.removed.forget_idle(&counts);
                }
                Step::Marks { which } => {
                    let to = [
                        "tcp 10.0.0.0/24:22",
                        "tcp 10.0.2.2:20-23",
                        "udp 10.0.1.4:53",
                    ];
                    let rule = |(n, to): (u32, &&str)| MarkRule {
                        mark: 20 + n,
                        to: to.parse().expect("a destination"),
                    };
                    self.marks = (0..).zip(&to[..usize::from(which)]).map(rule).collect();
                }
                Step::Address { host } => {
                    self.local = vec![addr(host)];
                    let mut fib = Fib::new();
                    fib.add_local(2, addr(host));
                    self.fib = Arc::new(fib);
                }
            }
            self.removed.follow(&self.services, &self.marks);
        }

        fn add(&mut self, vip: Endpoint, mark: bool) {
            let key = match mark {
                true => ServiceKey::Mark {
                    mark: u32::from(vip.port),
                    ipv6: !vip.addr.is_v4(),
                },
                false if vip.port.is_multiple_of(2) => ServiceKey::address(Protocol::Tcp, vip),
                false => ServiceKey::address(Protocol::Udp, vip),
            };
            if self.services.iter().all(|s| s.key != key) {
                let spec = ServiceSpec::new(key, "rr");
                self.serials.push(self.services.push(Arc::new(spec)));
            }
        }

        fn ground(&self) -> Ground {
            Ground {
                marks: self.marks.clone(),
                own_vips: OwnVips::Some(vec![addr(2), addr(3)]),
                fib: Arc::clone(&self.fib),
                local: self.local.clone(),
            }
        }
    }

    proptest! {
        #[test]
        fn what_follows_step_by_step_is_what_follows_at_once(steps in vec(step(), 1..60)) {
            let mut world = World {
                services: Services::default(),
                serials: Vec::new(),
                marks: Vec::new(),
                fib: Arc::default(),
                local: Vec::new(),
                removed: RemovedServers::default(),
            };
            let mut derived = Derived::default();
            for step in &steps {
                world.step(step);
                derived.follow(&world.services, world.removed.all(), world.ground());
            }
            let mut fresh = Derived::default();
            fresh.follow(&world.services, world.removed.all(), world.ground());
            let seen = |d: &Derived| {
                let guard = d.guard(GuardSpec::default());
                (guard, d.filter(), d.host_filter(), d.ways().clone(), d.unassigned())
            };
            prop_assert_eq!(seen(&derived), seen(&fresh));
            let to = world.services.iter().flat_map(|s| destinations(s.key, &world.marks));
            let ground = world.ground();
            let unassigned = UnassignedVips::of(to, &ground.own_vips, &ground.fib);
            prop_assert_eq!(derived.unassigned(), unassigned);
        }
    }
}
