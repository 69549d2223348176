//! From rtnetlink messages to the few facts UVS needs of them. Nothing here does I/O.

use std::net::Ipv6Addr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    InfoPortKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
    NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHopFlags,
    RouteProtocol, RouteType, RouteVia,
};
use uvs_core::fib::{Hop, Refusal, Route, Target};
use uvs_core::flow::Addr;
use uvs_core::wire::ethernet::Mac;

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
    /// What takes the frames that come in by it before the host's stack does: `bridge`, `bond`, …
    pub(super) port_of: Option<String>,
}

/// An address of the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) ifindex: u32,
    pub(super) addr: Addr,
    /// Its subnet, the peer's on a point-to-point link.
    pub(super) subnet: (Addr, u8),
    /// The kernel picks only primary IPv4 addresses as a source, and no IPv6 one that is deprecated.
    pub(super) secondary: bool,
    /// Scope `host` or `link`: in IPv4 never the source towards another network.
    pub(super) narrow: bool,
}

/// A route with its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableRoute {
    pub(super) table: u32,
    pub(super) route: Route,
}

/// A neighbour entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// `None` in a state in which the kernel would not send to it.
    pub(super) mac: Option<Mac>,
    /// ARP or neighbour discovery went unanswered.
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
        port_of: None,
    };
    for attribute in &m.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(mac) if m.header.link_layer_type == LinkLayerType::Ether => {
                link.mac = Mac::try_from(mac.as_slice()).ok();
            }
            LinkAttribute::LinkInfo(infos) => link.port_of = infos.iter().find_map(port_kind),
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

/// What a link is a port of. A VRF leaves the frames of its ports to the host's stack.
fn port_kind(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::PortKind(InfoPortKind::Vrf) => None,
        LinkInfo::PortKind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

/// The address, `None` where the kernel would not take a packet to it: one that duplicate address detection
/// (RFC 4862 §5.4) has not let through yet, or has found at another host.
pub(super) fn address(m: &AddressMessage) -> Option<Address> {
    let mut local = None;
    let mut peer = None;
    for attribute in &m.attributes {
        match attribute {
            AddressAttribute::Local(a) => local = Some(Addr::from(*a)),
            AddressAttribute::Address(a) => peer = Some(Addr::from(*a)),
            _ => {}
        }
    }
    let addr = local.or(peer)?;
    let has = |flag| m.header.flags.contains(flag);
    let detecting = has(AddressHeaderFlags::Tentative) && !has(AddressHeaderFlags::Optimistic);
    if has(AddressHeaderFlags::Dadfailed) || detecting {
        return None;
    }
    let passed_over = match addr.is_v4() {
        true => AddressHeaderFlags::Secondary,
        false => AddressHeaderFlags::Deprecated,
    };
    let prefix = m.header.prefix_len;
    Some(Address {
        ifindex: m.header.index,
        addr,
        subnet: (peer.unwrap_or(addr).masked(prefix), prefix),
        secondary: has(passed_over),
        narrow: matches!(m.header.scope, AddressScope::Host | AddressScope::Link),
    })
}

/// Whether a route is for one TOS only.
pub(super) fn is_for_one_tos(m: &RouteMessage) -> bool {
    m.header.tos != 0
}

/// Whether a route is for packets from some addresses only (`ip -6 route add … from …`).
pub(super) fn is_for_one_source(m: &RouteMessage) -> bool {
    m.header.source_prefix_length != 0
}

/// The address that a broadcast route leads to, `None` for a route of another kind.
pub(super) fn broadcast(m: &RouteMessage) -> Option<Addr> {
    let to = m.attributes.iter().find_map(|a| match a {
        RouteAttribute::Destination(a) => address_of(a),
        _ => None,
    });
    to.filter(|_| m.header.kind == RouteType::Broadcast)
}

/// The route, `None` for what never carries a unicast packet of UVS's: broadcast and multicast routes,
/// those for one TOS or some sources only, and dead ones.
pub(super) fn route(m: &RouteMessage) -> Option<TableRoute> {
    if is_for_one_tos(m) || is_for_one_source(m) || m.header.flags.contains(RouteFlags::Dead) {
        return None;
    }
    let mut table = u32::from(m.header.table);
    let mut source = None;
    let prefix = m.header.destination_prefix_length;
    // The message names no destination where that is anywhere.
    let anywhere = match m.header.address_family {
        AddressFamily::Inet6 => Addr::from(Ipv6Addr::UNSPECIFIED),
        _ => Addr::UNSPECIFIED,
    };
    let mut route = Route::new(anywhere, prefix, Target::Throw);
    for attribute in &m.attributes {
        match attribute {
            RouteAttribute::Table(t) => table = *t,
            RouteAttribute::Destination(a) => route.dst = address_of(a)?,
            RouteAttribute::PrefSource(a) => source = address_of(a),
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
    route.target = match m.header.kind {
        RouteType::Unicast => next_hops(m, source),
        RouteType::Local => Target::Local,
        RouteType::Throw => Target::Throw,
        RouteType::BlackHole => Target::Refuse(Refusal::Blackhole),
        RouteType::Unreachable => Target::Refuse(Refusal::Unreachable),
        RouteType::Prohibit => Target::Refuse(Refusal::Prohibit),
        _ => return None,
    };
    Some(TableRoute { table, route })
}

/// The next hops of a unicast route, those of a next hop group (`ip nexthop`) too: the kernel tells both in
/// the same way (net.ipv4.nexthop_compat_mode).
fn next_hops(m: &RouteMessage, source: Option<Addr>) -> Target {
    let several = m.attributes.iter().find_map(|a| match a {
        RouteAttribute::MultiPath(hops) => Some(hops),
        _ => None,
    });
    let Some(several) = several else {
        let hop = next_hop(
            &m.attributes,
            Hop {
                source,
                ..Hop::by(0, None)
            },
        );
        return hop.map_or_else(|| Target::Hops([].into()), Target::Hop);
    };
    let gone = RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown;
    let hops = several.iter().filter_map(|h| {
        let hop = Hop {
            source,
            weight: u16::from(h.hops) + 1,
            dead: h.flags.intersects(gone),
            ..Hop::by(h.interface_index, None)
        };
        next_hop(&h.attributes, hop)
    });
    Target::Hops(hops.collect())
}

/// Fills gateway and interface, `None` where there is neither. The gateway may be of another family (`via
/// inet6`).
fn next_hop(attributes: &[RouteAttribute], mut hop: Hop) -> Option<Hop> {
    for attribute in attributes {
        match attribute {
            RouteAttribute::Oif(ifindex) => hop.ifindex = *ifindex,
            RouteAttribute::Gateway(a) => hop.gateway = address_of(a),
            RouteAttribute::Via(RouteVia::Inet(a)) => hop.gateway = Some(Addr::from(*a)),
            RouteAttribute::Via(RouteVia::Inet6(a)) => hop.gateway = Some(Addr::from(*a)),
            RouteAttribute::Via(_) => return None,
            _ => {}
        }
    }
    (hop.ifindex != 0).then_some(hop)
}

fn address_of(a: &RouteAddress) -> Option<Addr> {
    match a {
        RouteAddress::Inet(a) => Some(Addr::from(*a)),
        RouteAddress::Inet6(a) => Some(Addr::from(*a)),
        _ => None,
    }
}

/// A neighbour: where it is, its address, the entry. A multicast group is none, though IPv6 lists it.
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
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) if !a.is_multicast() => {
                addr = Some(Addr::from(*a));
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

#[cfg(test)]
mod tests {
    use netlink_packet_route::route::RouteNextHop;

    use super::*;

    #[test]
    fn of_a_multipath_route_every_hop_is_known_with_its_weight_and_its_health() {
        let hop = |ifindex: u8, gateway: [u8; 4], flags| {
            let mut h = RouteNextHop::default();
            (h.flags, h.hops) = (flags, ifindex);
            h.interface_index = ifindex.into();
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
            hop(4, [10, 0, 1, 4], RouteNextHopFlags::Linkdown),
        ]));
        let read = route(&m).expect("a route").route;
        let known = read.hops().iter().map(|h| (h.ifindex, h.weight, h.dead));
        let known: Vec<_> = known.collect();
        assert_eq!(known, [(2, 3, true), (3, 4, false), (4, 5, true)]);
        assert_eq!(read.hops()[1].gateway, Some(Addr::v4([10, 0, 1, 3])));
    }

    #[test]
    fn each_type_of_route_does_what_it_says() {
        let target = |kind| {
            let mut m = RouteMessage::default();
            m.header.kind = kind;
            route(&m).map(|r| r.route.target)
        };
        let refuse = |why| Some(Target::Refuse(why));
        assert_eq!(target(RouteType::BlackHole), refuse(Refusal::Blackhole));
        assert_eq!(target(RouteType::Unreachable), refuse(Refusal::Unreachable));
        assert_eq!(target(RouteType::Prohibit), refuse(Refusal::Prohibit));
        assert_eq!(target(RouteType::Throw), Some(Target::Throw));
        assert_eq!(target(RouteType::Local), Some(Target::Local));
        assert_eq!(target(RouteType::Broadcast), None);
        // A next hop that has only a number.
        assert_eq!(target(RouteType::Unicast), Some(Target::Hops([].into())));
    }

    #[test]
    fn a_route_of_either_family_may_have_a_gateway_of_the_other() {
        let gateway: Ipv6Addr = "fe80::1".parse().expect("an address");
        let mut m = RouteMessage::default();
        m.header.address_family = AddressFamily::Inet;
        m.header.kind = RouteType::Unicast;
        m.attributes.push(RouteAttribute::Oif(7));
        m.attributes
            .push(RouteAttribute::Via(RouteVia::Inet6(gateway)));
        let read = route(&m).expect("a route").route;
        assert_eq!(read.dst, Addr::UNSPECIFIED);
        assert_eq!(read.hops()[0].gateway, Some(Addr::from(gateway)));
        m.header.address_family = AddressFamily::Inet6;
        let read = route(&m).expect("a route").route;
        assert_eq!(read.dst, Addr::from(Ipv6Addr::UNSPECIFIED));
        m.header.source_prefix_length = 64;
        assert_eq!(route(&m), None, "for some sources only");
    }

    #[test]
    fn an_ipv6_address_counts_when_the_kernel_takes_packets_to_it() {
        let read = |flags| {
            let mut m = AddressMessage::default();
            m.header.family = AddressFamily::Inet6;
            m.header.prefix_len = 64;
            m.header.flags = flags;
            let addr: Ipv6Addr = "2001:db8::7".parse().expect("an address");
            m.attributes.push(AddressAttribute::Address(addr.into()));
            address(&m)
        };
        let known = read(AddressHeaderFlags::Permanent).expect("an address");
        assert_eq!(known.subnet.0.to_string(), "2001:db8::");
        let tentative = AddressHeaderFlags::Tentative;
        assert_eq!(read(tentative), None);
        assert!(read(tentative | AddressHeaderFlags::Optimistic).is_some());
        assert_eq!(read(AddressHeaderFlags::Dadfailed), None);
        let deprecated = read(AddressHeaderFlags::Deprecated).expect("an address");
        assert!(deprecated.secondary && !known.secondary);
        // A temporary one has the bit that means a secondary one in IPv4.
        assert!(
            !read(AddressHeaderFlags::Secondary)
                .expect("an address")
                .secondary
        );
    }
}
