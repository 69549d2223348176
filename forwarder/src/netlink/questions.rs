//! What UVS asks of rtnetlink: whole tables, and the resolution of neighbours. Nothing here does I/O.

use std::net::IpAddr;

use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
    NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use uvs_core::flow::{Addr, Family};

use super::messages::OUR_PROTOCOL;

/// Asks for all interfaces, without their statistics.
pub(super) fn get_links() -> RouteNetlinkMessage {
    let mut m = LinkMessage::default();
    m.attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(m)
}

/// Asks for all addresses.
pub(super) fn get_addresses(of: Family) -> RouteNetlinkMessage {
    let mut m = AddressMessage::default();
    m.header.family = number(of);
    RouteNetlinkMessage::GetAddress(m)
}

/// Asks for all routes.
pub(super) fn get_routes(of: Family) -> RouteNetlinkMessage {
    let mut m = RouteMessage::default();
    m.header.address_family = number(of);
    RouteNetlinkMessage::GetRoute(m)
}

/// Asks for the way to one address.
pub(super) fn get_route(to: Addr) -> RouteNetlinkMessage {
    let mut m = RouteMessage::default();
    m.header.address_family = number(to.family());
    let to = IpAddr::from(to);
    m.header.destination_prefix_length = if to.is_ipv4() { 32 } else { 128 };
    m.attributes
        .push(RouteAttribute::Destination(RouteAddress::from(to)));
    RouteNetlinkMessage::GetRoute(m)
}

/// Asks for all rules.
pub(super) fn get_rules(of: Family) -> RouteNetlinkMessage {
    let mut m = RuleMessage::default();
    m.header.family = number(of);
    RouteNetlinkMessage::GetRule(m)
}

/// Asks for all neighbours.
pub(super) fn get_neighbours(of: Family) -> RouteNetlinkMessage {
    let mut m = NeighbourMessage::default();
    m.header.family = number(of);
    RouteNetlinkMessage::GetNeighbour(m)
}

/// Asks the kernel to resolve a neighbour now (NTF_USE) and, where `keep`, to keep it resolved
/// (NTF_MANAGED, kernel 5.16; an older one ignores the attribute). Without `keep` the kernel stops
/// keeping it.
pub(super) fn resolve(ifindex: u32, addr: Addr, keep: bool) -> RouteNetlinkMessage {
    let mut m = entry(ifindex, addr);
    m.header.flags = NeighbourFlags::Use;
    if keep {
        m.attributes
            .push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        m.attributes
            .push(NeighbourAttribute::Protocol(OUR_PROTOCOL));
    }
    RouteNetlinkMessage::NewNeighbour(m)
}

/// Ends the keeping of a neighbour that has not answered, and asks nothing.
pub(super) fn rest(ifindex: u32, addr: Addr) -> RouteNetlinkMessage {
    let mut m = entry(ifindex, addr);
    m.header.state = NeighbourState::Failed;
    RouteNetlinkMessage::NewNeighbour(m)
}

/// Deletes a neighbour entry.
pub(super) fn forget(ifindex: u32, addr: Addr) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelNeighbour(entry(ifindex, addr))
}

fn entry(ifindex: u32, addr: Addr) -> NeighbourMessage {
    let mut m = NeighbourMessage::default();
    m.header.family = number(addr.family());
    m.header.ifindex = ifindex;
    let addr = match addr.into() {
        IpAddr::V4(addr) => NeighbourAddress::Inet(addr),
        IpAddr::V6(addr) => NeighbourAddress::Inet6(addr),
    };
    m.attributes.push(NeighbourAttribute::Destination(addr));
    m
}

const fn number(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}
