//! The kernel's links, addresses and routes as last read: what changed between two readings, and the
//! forwarding information base made of them. Pure: no socket is touched here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uvs_core::fib::{Fib, Hop, Interface, Refusal, ReversePath, Route, Target, table};
use uvs_core::flow::{Addr, Family};
use uvs_core::verdict::PortId;
use uvs_core::wire::ethernet::Mac;

use super::event::Event;
use super::messages::{Address, Link, TableRoute};
use super::rules::{HostRule, Unfollowed};
use crate::port::port_id;

/// One reading. All lists are in the kernel's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tables {
    pub(super) links: Vec<Link>,
    pub(super) addresses: Vec<Address>,
    pub(super) routes: Vec<TableRoute>,
    pub(super) per_family: BTreeMap<Family, PerFamily>,
    /// The broadcast addresses of the networks that the host is in.
    pub(super) broadcasts: Vec<Addr>,
    /// Whether there are routes for one TOS only.
    pub(super) by_tos: bool,
    /// Whether there are routes for some sources only.
    pub(super) by_source: bool,
    /// The effective rp_filter of each port, in the order of their ids.
    pub(super) reverse_paths: Vec<ReversePath>,
}

/// What each address family has for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PerFamily {
    pub(super) rules: Vec<HostRule>,
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
        let hosts = self.local_prefixes().into_iter();
        let hosts = hosts.filter(|(dst, prefix)| *prefix == dst.family().bits());
        hosts.map(|(dst, _)| dst).collect()
    }

    /// All that the kernel would accept as the host's own.
    fn local_prefixes(&self) -> BTreeSet<(Addr, u8)> {
        let local = self.routes.iter().filter(|r| r.makes_local());
        local.map(|r| (r.route.dst, r.route.prefix)).collect()
    }

    /// What of the host's routing UVS does not follow.
    pub(super) fn unfollowed(&self) -> Vec<Unfollowed> {
        let of_family = |(family, own): (&Family, &PerFamily)| {
            let rules = own.rules.iter();
            let unfollowed = rules.flat_map(|rule| rule.unfollowed(*family));
            unfollowed.collect::<Vec<_>>()
        };
        let mut all: Vec<_> = self.per_family.iter().flat_map(of_family).collect();
        let note = |what: &str, means| Unfollowed {
            what: what.to_owned(),
            means,
        };
        if self.by_tos {
            all.push(note("route for one TOS", "UVS leaves such routes out"));
        }
        if self.by_source {
            all.push(note(
                "route for some sources only",
                "UVS leaves such routes out",
            ));
        }
        let is_empty = |r: &TableRoute| matches!(&r.route.target, Target::Hops(h) if h.is_empty());
        if self.routes.iter().any(is_empty) {
            all.push(note(
                "route by a next hop's number (net.ipv4.nexthop_compat_mode = 0)",
                "UVS reaches nothing by such routes",
            ));
        }
        all
    }

    /// The forwarding information base, still without neighbours.
    pub(super) fn fib(&self, ports: &[String]) -> Fib {
        let mut fib = Fib::new();
        for (port, name) in ports.iter().enumerate() {
            let mode = self.reverse_paths.get(port).copied().unwrap_or_default();
            if let Some(i) = self.by_name(name).and_then(|l| interface(port, l, mode)) {
                fib.set_interface(i);
            }
        }
        self.add_addresses(&mut fib);
        self.broadcasts.iter().for_each(|a| fib.add_broadcast(*a));
        let index = |name: &str| self.by_name(name).map(|l| l.ifindex);
        for (family, own) in &self.per_family {
            let rules: Vec<_> = own.rules.iter().map(|r| r.followed(index)).collect();
            fib.set_rules(*family, &rules);
            match family {
                Family::V4 => fib.forwarding = own.forwarding,
                Family::V6 => fib.forwarding_ipv6 = own.forwarding,
            }
        }
        for r in &self.routes {
            if r.makes_local() {
                fib.add_local_prefix(r.route.dst, r.route.prefix);
            } else {
                fib.add_route_to(r.table, self.with_source(&r.route));
            }
        }
        fib
    }

    /// The kernel accepts what its local table says; the address list only gives the order.
    fn add_addresses(&self, fib: &mut Fib) {
        let local = self.local_addresses();
        let own = |family| {
            let of_family = move |a: &&Address| a.addr.family() == family;
            let known = self.addresses.iter().filter(of_family);
            known.filter(|a| local.contains(&a.addr))
        };
        for a in own(Family::V4) {
            fib.add_local(a.ifindex, a.addr);
        }
        // The kernel lists the newest first, and takes it of several that serve equally well.
        for a in own(Family::V6).rev() {
            let on_loopback = a.narrow && !a.addr.is_link_local();
            match a.secondary || on_loopback {
                true => fib.add_local_prefix(a.addr, a.addr.family().bits()),
                false => fib.add_address(a.ifindex, a.addr, a.subnet.1),
            }
        }
    }

    /// The gateways of routes with several next hops, each with its interface's index.
    pub(super) fn alternatives(&self) -> impl Iterator<Item = (u32, Addr)> {
        let several = self.routes.iter().map(|r| r.route.hops());
        let hops = several.filter(|hops| hops.len() > 1).flatten();
        hops.filter_map(|h| Some((h.ifindex, h.gateway?)))
    }

    /// What became different since `old`, in the order that a reader wants it.
    pub(super) fn changes_since(&self, old: &Self, ports: &[String]) -> Vec<Event> {
        let mut events = Vec::new();
        for (port, name) in ports.iter().enumerate() {
            interface_changes(port, old.by_name(name), self.by_name(name), &mut events);
        }
        self.address_changes(old, &mut events);
        if self.local_prefixes() != old.local_prefixes() {
            events.push(Event::LocalChanged);
        }
        self.route_changes(old, &mut events);
        let rules = |tables: &Self| -> Vec<_> {
            let own = tables.per_family.values();
            own.map(|own| own.rules.clone()).collect()
        };
        if rules(self) != rules(old) {
            events.push(Event::RulesChanged);
        }
        let modes = self.reverse_paths.iter().zip(&old.reverse_paths);
        for (name, (mode, _)) in ports.iter().zip(modes).filter(|(_, (now, was))| now != was) {
            let (name, mode) = (name.clone(), *mode);
            events.push(Event::ReversePathChanged { name, mode });
        }
        for (family, own) in &self.per_family {
            let was = old.per_family.get(family).map(|old| old.forwarding);
            if was != Some(own.forwarding) {
                events.push(Event::Forwarding(*family, own.forwarding));
            }
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
        // Of IPv6's addresses the destination decides.
        if route.family() == Family::V6 {
            return route;
        }
        match &mut route.target {
            Target::Hop(hop) => *hop = self.hop_with_source(*hop),
            Target::Hops(hops) => {
                *hops = hops.iter().map(|hop| self.hop_with_source(*hop)).collect();
            }
            Target::Local | Target::Throw | Target::Refuse(_) => {}
        }
        route
    }

    /// The next hop with the source address that the kernel would choose, where a route of IPv4's decides it
    /// (`inet_select_addr`): the interface's first primary address in the gateway's subnet, else its first one, else another
    /// interface's.
    fn hop_with_source(&self, hop: Hop) -> Hop {
        let v4 = || self.addresses.iter().filter(|a| a.addr.is_v4());
        let usable = || v4().filter(|a| !a.secondary && !a.narrow);
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
mod tests;
