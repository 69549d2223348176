//! The kernel's links, addresses and routes as last read: what changed between two readings, and the
//! forwarding information base made of them. Pure: no socket is touched here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uvs_core::fib::{Fib, Interface, Mac, Route};
use uvs_core::flow::Addr;
use uvs_core::verdict::PortId;

use super::event::Event;
use super::messages::{
    Address, Link, RouteKind, TABLE_DEFAULT, TABLE_LOCAL, TABLE_MAIN, TableRoute,
};

/// One reading. All lists are in the kernel's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tables {
    pub(super) links: Vec<Link>,
    pub(super) addresses: Vec<Address>,
    pub(super) routes: Vec<TableRoute>,
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
        let local = self.routes.iter().filter(|r| r.kind == RouteKind::Local);
        local
            .filter(|r| r.route.prefix == 32)
            .map(|r| r.route.dst)
            .collect()
    }

    /// The forwarding information base, still without neighbours.
    pub(super) fn fib(&self, ports: &[String]) -> Fib {
        let mut fib = Fib::new();
        fib.forwarding = self.forwarding;
        for (port, name) in ports.iter().enumerate() {
            if let Some(i) = self.by_name(name).and_then(|l| interface(port, l)) {
                fib.set_interface(i);
            }
        }
        // The kernel accepts what its local table says; the address list only gives the order.
        let local = self.local_addresses();
        for a in self.addresses.iter().filter(|a| local.contains(&a.addr)) {
            fib.add_local(a.ifindex, a.addr);
        }
        for r in self.routes.iter().filter(|r| r.kind == RouteKind::Local) {
            fib.add_local_prefix(r.route.dst, r.route.prefix);
        }
        for route in self.ways() {
            fib.add_route(route);
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
        for (_, route) in before.iter().filter(|(key, _)| !now.contains_key(key)) {
            events.push(Event::RouteRemoved {
                route: *route,
                dev: old.name(route.ifindex),
            });
        }
        for (key, route) in &now {
            let dev = self.name(route.ifindex);
            match before.get(key) {
                None => events.push(Event::RouteAdded { route: *route, dev }),
                Some(was) if was != route => {
                    events.push(Event::RouteChanged { route: *route, dev })
                }
                Some(_) => {}
            }
        }
    }

    /// The routes that lead somewhere, by what the kernel tells them apart by. Of several with the
    /// same key (`ip route append`) the first is the one it uses.
    fn routes_by_key(&self) -> BTreeMap<(u32, Addr, u8, u32), Route> {
        let mut map = BTreeMap::new();
        for r in self.routes.iter().filter(|r| r.kind == RouteKind::Way) {
            let key = (r.table, r.route.dst, r.route.prefix, r.route.metric);
            map.entry(key).or_insert(r.route);
        }
        map
    }

    /// The routes as one table. The kernel looks into `main` first and into `default` only where `main`
    /// has nothing, so a route of `default` counts only outside of `main`'s prefixes.
    fn ways(&self) -> impl Iterator<Item = Route> {
        let of = |table| {
            let ways = self.routes.iter().filter(|r| r.kind == RouteKind::Way);
            ways.filter(move |r| r.table == table).map(|r| r.route)
        };
        let hidden = move |d: &Route| {
            of(TABLE_MAIN).any(|m| m.prefix <= d.prefix && d.dst.masked(m.prefix) == m.dst)
        };
        let ways = of(TABLE_LOCAL).chain(of(TABLE_MAIN));
        ways.chain(of(TABLE_DEFAULT).filter(move |d| !hidden(d)))
            .map(|r| self.with_source(r))
    }

    /// The route with the source address that the kernel would choose (`inet_select_addr`): the
    /// interface's first primary address in the gateway's subnet, else its first one, else another
    /// interface's.
    fn with_source(&self, route: Route) -> Route {
        if route.source.is_some() || route.ifindex == 0 {
            return route;
        }
        let usable = || self.addresses.iter().filter(|a| !a.secondary && !a.narrow);
        let own = || usable().filter(|a| a.ifindex == route.ifindex);
        let near = |gateway: Addr| own().find(move |a| gateway.masked(a.subnet.1) == a.subnet.0);
        let chosen = route.gateway.and_then(near).or_else(|| own().next());
        Route {
            source: chosen.or_else(|| usable().next()).map(|a| a.addr),
            ..route
        }
    }
}

/// A port's interface, `None` where it is not Ethernet any more.
fn interface(port: usize, link: &Link) -> Option<Interface> {
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

    use uvs_core::fib::Query;

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
        let gateway = gateway.map(a);
        let route = Route {
            dst: a(dst),
            prefix,
            gateway,
            ifindex: 2,
            source: None,
            metric: 0,
            mtu: None,
        };
        TableRoute {
            table,
            kind: RouteKind::Way,
            route,
        }
    }

    fn local(dst: [u8; 4], prefix: u8) -> TableRoute {
        TableRoute {
            kind: RouteKind::Local,
            ..way(TABLE_LOCAL, dst, prefix, None)
        }
    }

    fn tables() -> Tables {
        Tables {
            links: vec![link(2, "eth0")],
            addresses: vec![address(2, [10, 0, 1, 1], 24), address(2, [10, 0, 2, 1], 24)],
            routes: vec![
                local([10, 0, 1, 1], 32),
                way(TABLE_MAIN, [10, 0, 1, 0], 24, None),
                way(TABLE_MAIN, [10, 0, 2, 0], 24, None),
                way(TABLE_MAIN, [10, 5, 0, 0], 16, Some([10, 0, 2, 9])),
            ],
            forwarding: false,
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
    fn the_default_table_counts_only_outside_of_main() {
        let mut t = tables();
        t.routes
            .push(way(TABLE_DEFAULT, [10, 5, 1, 0], 24, Some([10, 0, 1, 8])));
        t.routes
            .push(way(TABLE_DEFAULT, [0, 0, 0, 0], 0, Some([10, 0, 1, 254])));
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
        new.routes[3].route.gateway = Some(a([10, 0, 1, 7]));
        let route = new.routes[3].route;
        let expected = [Event::RouteChanged {
            route,
            dev: "eth0".into(),
        }];
        assert_eq!(new.changes_since(&old, &ports()), expected);
        assert_eq!(new.changes_since(&new.clone(), &ports()), []);
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
