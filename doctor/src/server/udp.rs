//! A DR or IPIP server's UDP programs: whether they can be trusted to answer from the VIP.
//!
//! TCP answers from the address that it was asked at. A UDP socket on all addresses answers from the one that the route to
//! the client prefers, which the client does not take, unless its program says which one (IP_PKTINFO); whether it does
//! cannot be seen from outside.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::catalog::Check;
use crate::finding::{Finding, NotMade, Seen};
use crate::host::Host;

/// Ports on which a host's own programs listen for the answers to what they ask: DHCP, DHCPv6, multicast DNS and LLMNR.
const OWN: [u16; 4] = [68, 546, 5353, 5355];

/// A socket of /proc/net/udp that takes packets of anybody.
struct Listener {
    port: u16,
    /// Whether it is on all addresses.
    wildcard: bool,
}

/// The UDP ports below those of clients that are open on all addresses and on no single one.
pub(super) fn answers(host: &dyn Host, vips: &[IpAddr]) -> Result<Seen, NotMade> {
    let clients = host.read("/proc/sys/net/ipv4/ip_local_port_range")?;
    let mut clients = clients.split_whitespace().map(str::parse::<u16>);
    let (Some(Ok(first)), Some(Ok(last))) = (clients.next(), clients.next()) else {
        return Err(NotMade("ip_local_port_range is not two ports".to_owned()));
    };
    // A socket of IPv6 on all addresses has those of IPv4 too.
    let mut tables = vec!["/proc/net/udp6"];
    if vips.iter().any(IpAddr::is_ipv4) {
        tables.push("/proc/net/udp");
    }
    let mut ports: BTreeMap<u16, bool> = BTreeMap::new();
    for table in tables {
        // A kernel without IPv6 has no table of it.
        let Ok(table) = host.read(table) else {
            continue;
        };
        for one in table.lines().filter_map(listener) {
            let everywhere = ports.entry(one.port).or_insert(true);
            *everywhere &= one.wildcard;
        }
    }
    let asked = |port: &u16| !OWN.contains(port) && !(first..=last).contains(port);
    let mut seen = Seen::default();
    for (port, _) in ports.iter().filter(|(port, all)| **all && asked(port)) {
        seen.wrong(Finding::here(
            Check::RsUdpAnswers,
            format!("a program listens for UDP on port {port} of all addresses"),
            format!("tcpdump -ni any udp src port {port}"),
        ));
    }
    if seen == Seen::default() {
        seen.well("no UDP program listens on all addresses");
    }
    Ok(seen)
}

/// A line of /proc/net/udp or udp6 (`udp4_format_sock`): number, local address and port, remote ones, and so on, in
/// hexadecimal digits. `None` for the heading, and for a socket that has a peer.
fn listener(line: &str) -> Option<Listener> {
    let mut words = line.split_whitespace().skip(1);
    let (local, remote) = (words.next()?, words.next()?);
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let zeros = |digits: &str| digits.bytes().all(|digit| digit == b'0');
    let (peer, _) = remote.split_once(':')?;
    zeros(peer).then(|| Listener {
        port,
        wildcard: zeros(address),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_read_from_its_line() {
        let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when";
        assert!(listener(heading).is_none());
        let dns =
            "  641: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0";
        let one = listener(dns).expect("it takes anybody's");
        assert_eq!((one.port, one.wildcard), (53, true));
        let on_vip =
            "  641: 2600A8C0:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0";
        assert!(!listener(on_vip).expect("so does it").wildcard);
        let connected =
            "  641: 00000000:0035 2600A8C0:1F90 01 00000000:00000000 00:00000000 00000000     0";
        assert!(listener(connected).is_none());
        let v6 = "  641: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 07 0:0";
        assert!(listener(v6).expect("so does it").wildcard);
    }
}
