//! The kernel's links, addresses and routes as last read: what changed between two readings, and the
//! forwarding information base made of them. Pure: no socket is touched here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uvs_core::fib::{Fib, Hop, Interface, Mac, Refusal, ReversePath, Route, Target, table};
use uvs_core::flow::Addr;
use uvs_core::verdict::PortId;

use super::event::Event;
use super::messages::{Address, Link, TableRoute};
use super::rules::{HostRule, Unfollowed};

/// One reading. All lists are in the kernel's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tables {
    pub(super) links: Vec<Link>,
    pub(super) addresses: Vec<Address>,
    pub(super) routes: Vec<TableRoute>,
    pub(super) rules: Vec<HostRule>,
    /// Routes that are for one TOS only.
    pub(super) by_tos: usize,
    /// The effective rp_filter of each port, in the order of their ids.
    pub(super) reverse_paths: Vec<ReversePath>,
    pub(super) forwarding: bool,
}

impl Tables {
    /// The link with this name.
    pub(super) fn by_name(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|l| l.name == name)
    }

    /// The name of an interface, its index where there is none.
    pub(super) fn name(&self, ifindex: u32) -> String {
        let link = self.links.iter().find(|l| l.ifindex == ifindex);
        link.map_or_else(|| format!("if{ifindex}"), |l| l.name.clone())
    }

    /// The host's own addresses, in order: what the kernel would accept as its own.
    pub(super) fn local_addresses(&self) -> BTreeSet<Addr> {
        let hosts = self
            .routes
            .iter()
            .filter(|r| r.makes_local() && r.route.prefix == 32);
        hosts.map(|r| r.route.dst).collect()
    }

    /// What of the host's routing UVS does not follow.
    pub(super) fn unfollowed(&self) -> Vec<Unfollowed> {
        let mut all: Vec<_> = self.rules.iter().flat_map(HostRule::unfollowed).collect();
        if self.by_tos > 0 {
            all.push(Unfollowed {
                what: format!("{} routes with tos", self.by_tos),
                means: "UVS leaves routes for one TOS out",
            });
        }
        let is_empty = |r: &&TableRoute| matches!(&r.route.target, Target::Hops(h) if h.is_empty());
        all.extend(self.routes.iter().filter(is_empty).map(|r| Unfollowed {
            what: format!("route {}", self.describe(r)),
            means: "its next hop is no IPv4 neighbour, or only a number (net.ipv4.nexthop_compat_mode=0)",
        }));
        all
    }

    /// The forwarding information base, still without neighbours.
    pub(super) fn fib(&self, ports: &[String]) -> Fib {
        let mut fib = Fib::new();
        fib.forwarding = self.forwarding;
        for (port, name) in ports.iter().enumerate() {
            let mode = self.reverse_paths.get(port).copied().unwrap_or_default();
            if let Some(i) = self.by_name(name).and_then(|l| interface(port, l, mode)) {
                fib.set_interface(i);
            }
        }
        // The kernel accepts what its local table says; the address list only gives the order.
        let local = self.local_addresses();
        for a in self.addresses.iter().filter(|a| local.contains(&a.addr)) {
            fib.add_local(a.ifindex, a.addr);
        }
        let index = |name: &str| self.by_name(name).map(|l| l.ifindex);
        let rules: Vec<_> = self.rules.iter().map(|r| r.followed(index)).collect();
        fib.set_rules(&rules);
        for r in &self.routes {
            if r.makes_local() {
                fib.add_local_prefix(r.route.dst, r.route.prefix);
            } else {
                fib.add_route_to(r.table, self.with_source(&r.route));
            }
        }
        fib
    }

    /// What became different since `old`, in the order that a reader wants it.
    pub(super) fn changes_since(&self, old: &Self, ports: &[String]) -> Vec<Event> {
        let mut events = Vec::new();
        for (port, name) in ports.iter().enumerate() {
            interface_changes(port, old.by_name(name), self.by_name(name), &mut events);
        }
        self.address_changes(old, &mut events);
        self.route_changes(old, &mut events);
        if self.rules != old.rules {
            events.push(Event::RulesChanged);
        }
        let modes = self.reverse_paths.iter().zip(&old.reverse_paths);
        for (name, (mode, _)) in ports.iter().zip(modes).filter(|(_, (now, was))| now != was) {
            let (name, mode) = (name.clone(), *mode);
            events.push(Event::ReversePathChanged { name, mode });
        }
        if self.forwarding != old.forwarding {
            events.push(Event::Forwarding(self.forwarding));
        }
        events
    }

    fn address_changes(&self, old: &Self, events: &mut Vec<Event>) {
        let key = |a: &Address| (a.ifindex, a.addr);
        let before: BTreeSet<_> = old.addresses.iter().map(key).collect();
        let now: BTreeSet<_> = self.addresses.iter().map(key).collect();
        for &(ifindex, addr) in before.difference(&now) {
            events.push(Event::AddressRemoved {
                addr,
                dev: old.name(ifindex),
            });
        }
        for &(ifindex, addr) in now.difference(&before) {
            events.push(Event::AddressAdded {
                addr,
                dev: self.name(ifindex),
            });
        }
    }

    fn route_changes(&self, old: &Self, events: &mut Vec<Event>) {
        let (before, now) = (old.routes_by_key(), self.routes_by_key());
        for (_, r) in before.iter().filter(|(key, _)| !now.contains_key(key)) {
            events.push(Event::RouteRemoved {
                route: old.describe(r),
            });
        }
        for (key, r) in &now {
            let route = || self.describe(r);
            match before.get(key) {
                None => events.push(Event::RouteAdded { route: route() }),
                Some(was) if was != r => events.push(Event::RouteChanged { route: route() }),
                Some(_) => {}
            }
        }
    }

    /// The routes that lead somewhere or refuse, by what the kernel tells them apart by. Of several with the
    /// same key (`ip route append`) the first is the one it uses.
    fn routes_by_key(&self) -> BTreeMap<(u32, Addr, u8, u32), &TableRoute> {
        let mut map = BTreeMap::new();
        for r in self
            .routes
            .iter()
            .filter(|r| r.route.target != Target::Local)
        {
            let key = (r.table, r.route.dst, r.route.prefix, r.route.metric);
            map.entry(key).or_insert(r);
        }
        map
    }

    /// A route as `ip route` writes it.
    fn describe(&self, TableRoute { table, route }: &TableRoute) -> String {
        let kind = match route.target {
            Target::Hop(_) | Target::Hops(_) => "",
            Target::Local => "local ",
            Target::Throw => "throw ",
            Target::Refuse(Refusal::Blackhole) => "blackhole ",
            Target::Refuse(Refusal::Unreachable) => "unreachable ",
            Target::Refuse(Refusal::Prohibit) => "prohibit ",
        };
        let mut text = format!("{kind}{}/{}", route.dst, route.prefix);
        for hop in route.hops() {
            let several = route.hops().len() > 1;
            text += if several { " nexthop" } else { "" };
            text += &hop
                .gateway
                .map_or_else(String::new, |a| format!(" via {a}"));
            text += &format!(" dev {}", self.name(hop.ifindex));
            if several {
                text += &format!(" weight {}", hop.weight);
            }
            text += if hop.dead { " dead" } else { "" };
        }
        if route.metric != 0 {
            text += &format!(" metric {}", route.metric);
        }
        if *table != table::MAIN {
            text += &format!(" table {table}");
        }
        text
    }

    /// The route with the source addresses that the kernel would choose.
    fn with_source(&self, route: &Route) -> Route {
        let mut route = route.clone();
        match &mut route.target {
            Target::Hop(hop) => *hop = self.hop_with_source(*hop),
            Target::Hops(hops) => {
                *hops = hops.iter().map(|hop| self.hop_with_source(*hop)).collect();
            }
            Target::Local | Target::Throw | Target::Refuse(_) => {}
        }
        route
    }

    /// The next hop with the source address that the kernel would choose (`inet_select_addr`): the
    /// interface's first primary address in the gateway's subnet, else its first one, else another
    /// interface's.
    fn hop_with_source(&self, hop: Hop) -> Hop {
        let usable = || self.addresses.iter().filter(|a| !a.secondary && !a.narrow);
        let own = || usable().filter(|a| a.ifindex == hop.ifindex);
        let near = |gateway: Addr| own().find(move |a| gateway.masked(a.subnet.1) == a.subnet.0);
        let chosen = || hop.gateway.and_then(near).or_else(|| own().next());
        let source = hop
            .source
            .or_else(|| Some(chosen().or_else(|| usable().next())?.addr));
        Hop { source, ..hop }
    }
}

impl TableRoute {
    /// Whether it makes its prefix the host's own. In another table it only ends a look-up there, as for a
    /// transparent proxy.
    fn makes_local(&self) -> bool {
        self.table == table::LOCAL && self.route.target == Target::Local
    }
}

/// A port's interface, `None` where it is not Ethernet any more.
fn interface(port: usize, link: &Link, reverse_path: ReversePath) -> Option<Interface> {
    let Link {
        ifindex,
        mac,
        mtu,
        up,
        ..
    } = *link;
    Some(Interface {
        port: port_id(port),
        ifindex,
        mac: mac?,
        mtu,
        up,
        reverse_path,
    })
}

/// A port's id. `Mirror::new` has checked that the list is short enough.
pub(super) fn port_id(index: usize) -> PortId {
    PortId(u16::try_from(index).unwrap_or(u16::MAX))
}

fn interface_changes(port: usize, old: Option<&Link>, new: Option<&Link>, events: &mut Vec<Event>) {
    let port = port_id(port);
    let same = old
        .zip(new)
        .is_some_and(|(old, new)| old.ifindex == new.ifindex);
    if let Some(old) = old.filter(|_| !same) {
        events.push(Event::InterfaceGone {
            port,
            name: old.name.clone(),
        });
    }
    let Some(new) = new else { return };
    let name = || new.name.clone();
    if !same {
        events.push(Event::InterfaceBack {
            port,
            name: name(),
            ifindex: new.ifindex,
        });
    }
    let before = old.filter(|_| same);
    if before.is_some_and(|b| (b.mac, b.mtu) != (new.mac, new.mtu)) {
        let mac: Mac = new.mac.unwrap_or_default();
        events.push(Event::InterfaceChanged {
            port,
            name: name(),
            mac,
            mtu: new.mtu,
        });
    }
    match (before.is_some_and(|b| b.up), new.up) {
        (false, true) => events.push(Event::InterfaceUp { port, name: name() }),
        (true, false) => events.push(Event::InterfaceDown { port, name: name() }),
        _ => {}
    }
}

/// The ports by interface index.
pub(super) fn ports_by_index(tables: &Tables, ports: &[String]) -> HashMap<u32, PortId> {
    let found = ports.iter().enumerate();
    found
        .filter_map(|(i, name)| Some((tables.by_name(name)?.ifindex, port_id(i))))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use uvs_core::fib::{Query, Rule};

    use super::*;

    fn a(b: [u8; 4]) -> Addr {
        Addr::v4(b)
    }

    fn to(b: [u8; 4]) -> Query {
        Query::to(a(b))
    }

    fn link(ifindex: u32, name: &str) -> Link {
        Link {
            ifindex,
            name: name.into(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            up: true,
        }
    }

    fn address(ifindex: u32, addr: [u8; 4], prefix: u8) -> Address {
        let subnet = (a(addr).masked(prefix), prefix);
        Address {
            ifindex,
            addr: a(addr),
            subnet,
            secondary: false,
            narrow: false,
        }
    }

    fn way(table: u32, dst: [u8; 4], prefix: u8, gateway: Option<[u8; 4]>) -> TableRoute {
        let target = Target::Hop(Hop::by(2, gateway.map(a)));
        let route = Route::new(a(dst), prefix, target);
        TableRoute { table, route }
    }

    fn local(dst: [u8; 4], prefix: u8) -> TableRoute {
        let route = Route::new(a(dst), prefix, Target::Local);
        let table = table::LOCAL;
        TableRoute { table, route }
    }

    fn tables() -> Tables {
        Tables {
            links: vec![link(2, "eth0")],
            addresses: vec![address(2, [10, 0, 1, 1], 24), address(2, [10, 0, 2, 1], 24)],
            routes: vec![
                local([10, 0, 1, 1], 32),
                way(table::MAIN, [10, 0, 1, 0], 24, None),
                way(table::MAIN, [10, 0, 2, 0], 24, None),
                way(table::MAIN, [10, 5, 0, 0], 16, Some([10, 0, 2, 9])),
            ],
            rules: Rule::DEFAULT.map(HostRule::from).into(),
            ..Tables::default()
        }
    }

    fn ports() -> Vec<String> {
        vec!["eth0".into()]
    }

    #[test]
    fn the_source_is_the_primary_address_nearest_to_the_gateway() {
        let fib = tables().fib(&ports());
        assert_eq!(
            fib.lookup(to([10, 5, 0, 1])).unwrap().source,
            a([10, 0, 2, 1])
        );
        assert_eq!(
            fib.lookup(to([10, 0, 1, 9])).unwrap().source,
            a([10, 0, 1, 1])
        );
        let mut t = tables();
        t.addresses[1].secondary = true;
        let fib = t.fib(&ports());
        assert_eq!(
            fib.lookup(to([10, 5, 0, 1])).unwrap().source,
            a([10, 0, 1, 1])
        );
    }

    #[test]
    fn only_what_the_kernel_accepts_is_local() {
        let mut t = tables();
        t.routes.push(local([127, 0, 0, 0], 8));
        let fib = t.fib(&ports());
        assert!(fib.is_local(a([10, 0, 1, 1])));
        assert!(fib.is_local(a([127, 0, 0, 53])));
        assert!(!fib.is_local(a([10, 0, 2, 1])), "no local route");
    }

    #[test]
    fn the_default_table_is_asked_after_main() {
        let mut t = tables();
        t.routes
            .push(way(table::DEFAULT, [10, 5, 1, 0], 24, Some([10, 0, 1, 8])));
        t.routes
            .push(way(table::DEFAULT, [0, 0, 0, 0], 0, Some([10, 0, 1, 254])));
        let fib = t.fib(&ports());
        assert_eq!(fib.lookup(to([10, 5, 1, 1])).unwrap().via, a([10, 0, 2, 9]));
        assert_eq!(
            fib.lookup(to([192, 0, 2, 1])).unwrap().via,
            a([10, 0, 1, 254])
        );
    }

    #[test]
    fn a_moved_route_is_one_event() {
        let (old, mut new) = (tables(), tables());
        new.routes[3] = way(table::MAIN, [10, 5, 0, 0], 16, Some([10, 0, 1, 7]));
        let expected = [Event::RouteChanged {
            route: "10.5.0.0/16 via 10.0.1.7 dev eth0".into(),
        }];
        assert_eq!(new.changes_since(&old, &ports()), expected);
        assert_eq!(new.changes_since(&new.clone(), &ports()), []);
    }

    #[test]
    fn a_route_is_described_as_ip_route_does() {
        let t = tables();
        let hop = |gateway, dead| Hop {
            weight: 2,
            dead,
            ..Hop::by(2, Some(a([10, 0, 1, gateway])))
        };
        let hops = [hop(7, false), hop(8, true)];
        let describe = |target| {
            let mut route = Route::new(a([10, 5, 0, 0]), 16, target);
            route.metric = 20;
            t.describe(&TableRoute { table: 100, route })
        };
        assert_eq!(
            describe(Target::Hops(hops.into())),
            "10.5.0.0/16 nexthop via 10.0.1.7 dev eth0 weight 2 \
             nexthop via 10.0.1.8 dev eth0 weight 2 dead metric 20 table 100"
        );
        let prohibit = Target::Refuse(Refusal::Prohibit);
        assert_eq!(
            describe(prohibit),
            "prohibit 10.5.0.0/16 metric 20 table 100"
        );
    }

    #[test]
    fn a_local_route_of_another_table_makes_nothing_the_hosts_own() {
        let mut t = tables();
        t.routes.push(TableRoute {
            table: 100,
            ..local([0, 0, 0, 0], 0)
        });
        assert!(!t.fib(&ports()).is_local(a([192, 0, 2, 1])));
    }

    #[test]
    fn an_interface_that_came_back_between_two_readings_is_gone_and_back() {
        let (old, mut new) = (tables(), tables());
        new.links = vec![link(9, "eth0")];
        new.addresses.clear();
        new.routes.clear();
        let name = String::from("eth0");
        let port = PortId(0);
        let events = new.changes_since(&old, &ports());
        assert_eq!(
            events[..3],
            [
                Event::InterfaceGone {
                    port,
                    name: name.clone()
                },
                Event::InterfaceBack {
                    port,
                    name: name.clone(),
                    ifindex: 9
                },
                Event::InterfaceUp { port, name },
            ]
        );
    }

    #[test]
    fn an_interface_set_down_with_a_new_mac_says_both() {
        let (old, mut new) = (tables(), tables());
        let mac = [2, 0, 0, 0, 0, 9];
        (new.links[0].mac, new.links[0].up) = (Some(mac), false);
        let (port, name) = (PortId(0), String::from("eth0"));
        let expected = [
            Event::InterfaceChanged {
                port,
                name: name.clone(),
                mac,
                mtu: 1500,
            },
            Event::InterfaceDown { port, name },
        ];
        assert_eq!(new.changes_since(&old, &ports()), expected);
    }
}
