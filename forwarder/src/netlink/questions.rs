//! What UVS asks of rtnetlink: whole tables, and the resolution of neighbours. Nothing here does I/O.

use std::net::Ipv4Addr;

use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::messages::OUR_PROTOCOL;

/// Asks for all interfaces, without their statistics.
pub(super) fn get_links() -> RouteNetlinkMessage {
    let mut m = LinkMessage::default();
    m.attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(m)
}

/// Asks for all IPv4 addresses.
pub(super) fn get_addresses() -> RouteNetlinkMessage {
    let mut m = AddressMessage::default();
    m.header.family = AddressFamily::Inet;
    RouteNetlinkMessage::GetAddress(m)
}

/// Asks for all IPv4 routes.
pub(super) fn get_routes() -> RouteNetlinkMessage {
    let mut m = RouteMessage::default();
    m.header.address_family = AddressFamily::Inet;
    RouteNetlinkMessage::GetRoute(m)
}

/// Asks for all IPv4 rules.
pub(super) fn get_rules() -> RouteNetlinkMessage {
    let mut m = RuleMessage::default();
    m.header.family = AddressFamily::Inet;
    RouteNetlinkMessage::GetRule(m)
}

/// Asks for all IPv4 neighbours.
pub(super) fn get_neighbours() -> RouteNetlinkMessage {
    let mut m = NeighbourMessage::default();
    m.header.family = AddressFamily::Inet;
    RouteNetlinkMessage::GetNeighbour(m)
}

/// Asks the kernel to resolve a neighbour now (NTF_USE) and, where `keep`, to keep it resolved
/// (NTF_MANAGED, kernel 5.16; an older one ignores the attribute). Without `keep` the kernel stops
/// keeping it.
pub(super) fn resolve(ifindex: u32, addr: Ipv4Addr, keep: bool) -> RouteNetlinkMessage {
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

/// Deletes a neighbour entry.
pub(super) fn forget(ifindex: u32, addr: Ipv4Addr) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelNeighbour(entry(ifindex, addr))
}

fn entry(ifindex: u32, addr: Ipv4Addr) -> NeighbourMessage {
    let mut m = NeighbourMessage::default();
    m.header.family = AddressFamily::Inet;
    m.header.ifindex = ifindex;
    m.attributes
        .push(NeighbourAttribute::Destination(NeighbourAddress::Inet(
            addr,
        )));
    m
}
