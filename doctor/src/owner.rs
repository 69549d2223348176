//! Words for the host that has an address it should not have.

use std::net::IpAddr;

use uvs_realserver::Family;

/// The host of which only the MAC address is known.
pub(super) fn host_with(mac: &str) -> String {
    format!("the host with the MAC address {mac}")
}

/// Takes an address from whatever devices of a host have it, all but `spared`, or answer for it by proxy.
pub(super) fn take_away(addr: IpAddr, spared: Option<&str>) -> String {
    let unless = spared.map_or_else(String::new, |name| format!("[ \"$dev\" = {name} ] || "));
    let (option, proxies) = match Family::of(addr) {
        Family::Ipv4 => ("-4", String::new()),
        Family::Ipv6 => (
            "-6",
            format!(
                "; ip -6 neigh show proxy | while read -r addr _ dev _; do \
                 [ \"$addr\" != {addr} ] || ip -6 neigh del proxy \"$addr\" dev \"$dev\"; done"
            ),
        ),
    };
    format!(
        "ip -o {option} address show to {addr} | while read -r _ dev _ addr _; do \
         {unless}ip address del \"$addr\" dev \"$dev\"; done{proxies}"
    )
}
