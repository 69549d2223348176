//! Whether an address is the host's at this moment, as the kernel says. The mirror knows it too, a few milliseconds
//! later.

use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteMessage, RouteType};
use uvs_core::flow::Addr;

use super::questions;
use super::socket::Requests;

/// Asks the kernel, which answers within the call: some microseconds.
pub(crate) struct Locality(Requests);

impl Locality {
    /// # Errors
    /// No netlink socket could be had.
    pub(crate) fn new() -> io::Result<Self> {
        Requests::new().map(Self)
    }

    /// Whether the host itself would take a packet to this address. Where the kernel does not say, it would not.
    pub(crate) fn has(&mut self, addr: Addr) -> bool {
        let answer = self.0.one(&questions::get_route(addr));
        let is_local = |m| matches!(m, RouteNetlinkMessage::NewRoute(RouteMessage { header, .. }) if header.kind == RouteType::Local);
        answer.is_ok_and(|answer| answer.is_some_and(is_local))
    }
}
