//! Words for the host that has an address it should not have.

use std::net::Ipv4Addr;

/// The host of which only the MAC address is known.
pub(super) fn host_with(mac: &str) -> String {
    format!("the host with the MAC address {mac}")
}

/// Takes an address from whatever devices of a host have it, all but `spared`.
pub(super) fn take_away(addr: Ipv4Addr, spared: Option<&str>) -> String {
    let unless = spared.map_or_else(String::new, |name| format!("[ \"$dev\" = {name} ] || "));
    format!(
        "ip -o -4 address show to {addr} | while read -r _ dev _ addr _; do \
         {unless}ip address del \"$addr\" dev \"$dev\"; done"
    )
}
