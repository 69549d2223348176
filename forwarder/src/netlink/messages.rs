//! From rtnetlink messages to the few facts UVS needs of them. Nothing here does I/O.

use std::net::IpAddr;

use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
    NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHopFlags,
    RouteProtocol, RouteType,
};
use netlink_packet_route::rule::{RuleAttribute, RuleMessage};
use uvs_core::fib::{Mac, Route};
use uvs_core::flow::Addr;

/// The routing tables that the three default rules consult, in their order.
pub(super) const TABLE_LOCAL: u32 = 255;
/// See [`TABLE_LOCAL`].
pub(super) const TABLE_MAIN: u32 = 254;
/// See [`TABLE_LOCAL`].
pub(super) const TABLE_DEFAULT: u32 = 253;

/// Marks (`NDA_PROTOCOL`) the neighbour entries that UVS asked for, so that a later run finds what a
/// killed one left; `u` for uvs, a number that nobody has registered.
pub(super) const OUR_PROTOCOL: RouteProtocol = RouteProtocol::Other(b'u');

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) ifindex: u32,
    pub(super) name: String,
    /// `None` = not Ethernet.
    pub(super) mac: Option<Mac>,
    pub(super) mtu: u32,
    pub(super) up: bool,
}

/// An IPv4 address of the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) ifindex: u32,
    pub(super) addr: Addr,
    /// Its subnet, the peer's on a point-to-point link.
    pub(super) subnet: (Addr, u8),
    /// The kernel picks only primary addresses as a source.
    pub(super) secondary: bool,
    /// Scope `host` or `link`: never the source towards another network.
    pub(super) narrow: bool,
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteKind {
    /// Leads somewhere, or refuses.
    Way,
    /// Makes its prefix the host's own.
    Local,
}

/// An IPv4 route with its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableRoute {
    pub(super) table: u32,
    pub(super) kind: RouteKind,
    pub(super) route: Route,
}

/// A neighbour entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// `None` in a state in which the kernel would not send to it.
    pub(super) mac: Option<Mac>,
    /// ARP went unanswered.
    pub(super) failed: bool,
    /// Set by an administrator or a routing daemon: never ours to touch.
    pub(super) maintained: bool,
    /// The kernel keeps it resolved (NTF_MANAGED).
    pub(super) managed: bool,
    /// UVS, this run or an earlier one, asked for it.
    pub(super) ours: bool,
}

pub(super) fn link(m: &LinkMessage) -> Option<Link> {
    let mut link = Link {
        ifindex: m.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: m.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
    };
    for attribute in &m.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(mac) if m.header.link_layer_type == LinkLayerType::Ether => {
                link.mac = Mac::try_from(mac.as_slice()).ok();
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

pub(super) fn address(m: &AddressMessage) -> Option<Address> {
    let mut local = None;
    let mut peer = None;
    for attribute in &m.attributes {
        match attribute {
            AddressAttribute::Local(IpAddr::V4(a)) => local = Some(Addr::from(*a)),
            AddressAttribute::Address(IpAddr::V4(a)) => peer = Some(Addr::from(*a)),
            _ => {}
        }
    }
    let addr = local.or(peer)?;
    let prefix = m.header.prefix_len;
    Some(Address {
        ifindex: m.header.index,
        addr,
        subnet: (peer.unwrap_or(addr).masked(prefix), prefix),
        secondary: m.header.flags.contains(AddressHeaderFlags::Secondary),
        narrow: matches!(m.header.scope, AddressScope::Host | AddressScope::Link),
    })
}

/// The route, `None` for what never carries a unicast packet of UVS's: broadcast and multicast routes,
/// those for one TOS only, dead ones, and other tables than the default three.
pub(super) fn route(m: &RouteMessage) -> Option<TableRoute> {
    if m.header.tos != 0 || m.header.flags.contains(RouteFlags::Dead) {
        return None;
    }
    let kind = match m.header.kind {
        RouteType::Unicast
        | RouteType::BlackHole
        | RouteType::Unreachable
        | RouteType::Prohibit => RouteKind::Way,
        RouteType::Local => RouteKind::Local,
        _ => return None,
    };
    let mut table = u32::from(m.header.table);
    let mut route = Route {
        dst: Addr::UNSPECIFIED,
        prefix: m.header.destination_prefix_length,
        gateway: None,
        ifindex: 0,
        source: None,
        metric: 0,
        mtu: None,
    };
    for attribute in &m.attributes {
        match attribute {
            RouteAttribute::Table(t) => table = *t,
            RouteAttribute::Destination(a) => route.dst = v4(a)?,
            RouteAttribute::PrefSource(a) => route.source = v4(a),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Metrics(metrics) => {
                route.mtu = metrics.iter().find_map(|m| match m {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    next_hop(m, &mut route);
    let mirrored = matches!(table, TABLE_LOCAL | TABLE_MAIN | TABLE_DEFAULT);
    mirrored.then_some(TableRoute { table, kind, route })
}

/// Fills gateway and interface. Of a multipath route the first living hop is taken: all of a
/// director's traffic to one prefix then leaves one way, which is correct, if not balanced. A gateway
/// of another family (`via inet6`) leaves the route refusing, since only IPv4 neighbours are mirrored.
fn next_hop(m: &RouteMessage, route: &mut Route) {
    if m.header.kind != RouteType::Unicast {
        return;
    }
    let mut attributes = m.attributes.as_slice();
    for attribute in attributes {
        if let RouteAttribute::MultiPath(hops) = attribute {
            let dead = RouteNextHopFlags::Dead;
            let Some(hop) = hops.iter().find(|h| !h.flags.contains(dead)) else {
                return;
            };
            route.ifindex = hop.interface_index;
            attributes = &hop.attributes;
            break;
        }
    }
    for attribute in attributes {
        match attribute {
            RouteAttribute::Oif(ifindex) => route.ifindex = *ifindex,
            RouteAttribute::Gateway(a) => route.gateway = v4(a),
            _ => {}
        }
    }
    if attributes
        .iter()
        .any(|a| matches!(a, RouteAttribute::Via(_)))
    {
        route.ifindex = 0;
    }
}

fn v4(a: &RouteAddress) -> Option<Addr> {
    match a {
        RouteAddress::Inet(a) => Some(Addr::from(*a)),
        _ => None,
    }
}

/// An IPv4 neighbour: where it is, its address, the entry.
pub(super) fn neighbour(m: &NeighbourMessage) -> Option<((u32, Addr), Neighbour)> {
    let mut addr = None;
    let mut mac = None;
    let mut managed = false;
    let mut ours = false;
    for attribute in &m.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => {
                addr = Some(Addr::from(*a))
            }
            NeighbourAttribute::LinkLayerAddress(a) => mac = Mac::try_from(a.as_slice()).ok(),
            NeighbourAttribute::ExtFlags(f) => managed = f.contains(NeighbourExtFlags::Managed),
            NeighbourAttribute::Protocol(p) => ours = *p == OUR_PROTOCOL,
            _ => {}
        }
    }
    let (usable, fixed) = match m.header.state {
        NeighbourState::Reachable
        | NeighbourState::Stale
        | NeighbourState::Delay
        | NeighbourState::Probe => (true, false),
        NeighbourState::Permanent | NeighbourState::Noarp => (true, true),
        _ => (false, false),
    };
    let entry = Neighbour {
        mac: mac.filter(|_| usable),
        failed: m.header.state == NeighbourState::Failed,
        maintained: fixed || m.header.flags.contains(NeighbourFlags::ExtLearned),
        managed,
        ours,
    };
    Some(((m.header.ifindex, addr?), entry))
}

/// Whether a rule is one of the three that every network namespace starts with.
pub(super) fn is_default_rule(m: &RuleMessage) -> bool {
    let mut priority = 0;
    let mut table = u32::from(m.header.table);
    let mut plain = m.header.src_len == 0 && m.header.dst_len == 0 && m.header.tos == 0;
    for attribute in &m.attributes {
        match attribute {
            RuleAttribute::Priority(p) => priority = *p,
            RuleAttribute::Table(t) => table = *t,
            RuleAttribute::FwMark(_) | RuleAttribute::Iifname(_) | RuleAttribute::Oifname(_) => {
                plain = false;
            }
            _ => {}
        }
    }
    let known = [
        (0, TABLE_LOCAL),
        (32766, TABLE_MAIN),
        (32767, TABLE_DEFAULT),
    ];
    plain && known.contains(&(priority, table))
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::route::RouteNextHop;

    use super::*;

    fn rule(priority: u32, table: u32) -> RuleMessage {
        let mut m = RuleMessage::default();
        m.attributes.push(RuleAttribute::Priority(priority));
        m.attributes.push(RuleAttribute::Table(table));
        m
    }

    #[test]
    fn only_the_three_rules_of_a_new_namespace_are_default() {
        for (priority, table) in [
            (0, TABLE_LOCAL),
            (32766, TABLE_MAIN),
            (32767, TABLE_DEFAULT),
        ] {
            assert!(is_default_rule(&rule(priority, table)));
        }
        assert!(!is_default_rule(&rule(100, TABLE_MAIN)));
        assert!(!is_default_rule(&rule(32766, 100)));
        let mut marked = rule(32766, TABLE_MAIN);
        marked.attributes.push(RuleAttribute::FwMark(1));
        assert!(!is_default_rule(&marked));
        let mut from = rule(32766, TABLE_MAIN);
        from.header.src_len = 24;
        assert!(!is_default_rule(&from));
    }

    #[test]
    fn of_a_multipath_route_the_first_living_hop_is_taken() {
        let hop = |ifindex, gateway: [u8; 4], flags| {
            let mut h = RouteNextHop::default();
            h.flags = flags;
            h.interface_index = ifindex;
            let gateway = RouteAddress::Inet(gateway.into());
            h.attributes.push(RouteAttribute::Gateway(gateway));
            h
        };
        let mut m = RouteMessage::default();
        m.header.kind = RouteType::Unicast;
        m.header.table = 254;
        m.attributes.push(RouteAttribute::MultiPath(vec![
            hop(2, [10, 0, 1, 2], RouteNextHopFlags::Dead),
            hop(3, [10, 0, 1, 3], RouteNextHopFlags::empty()),
            hop(4, [10, 0, 1, 4], RouteNextHopFlags::empty()),
        ]));
        let found = route(&m).expect("a route").route;
        assert_eq!(
            (found.ifindex, found.gateway),
            (3, Some(Addr::v4([10, 0, 1, 3])))
        );
    }
}
