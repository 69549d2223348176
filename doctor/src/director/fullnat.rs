//! FULLNAT's local addresses: are they the host's, and are their ports UVS's alone?

use std::collections::BTreeSet;

use uvs_core::flow::Addr;
use uvs_core::service::Forwarding;

use super::words::alone;
use super::{Director, Made, Server};
use crate::catalog::Check;
use crate::finding::{Finding, NotMade, Seen};

pub(super) const CHECKS: &[Made] = &[
    (Check::LocalAddressAbsent, absent),
    (Check::LocalPortsShared, shared),
];

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
/// The first port that needs no privilege.
const FIRST_PORT: u16 = 1024;
/// Ports that a host needs for its own connections, at the very least.
const FEW_PORTS: u16 = 1024;

fn full_nat<'d>(d: &'d Director<'_>) -> impl Iterator<Item = Server<'d>> {
    d.servers()
        .filter(|s| s.status.spec.forwarding == Forwarding::FullNat)
}

fn local_addresses(d: &Director<'_>) -> BTreeSet<Addr> {
    d.services()
        .flat_map(|(s, _)| s.spec.local.clone())
        .collect()
}

fn absent(d: &Director<'_>) -> Result<Seen, NotMade> {
    let way = full_nat(d).find_map(|s| s.hop.ok());
    let interface = way.map(|hop| d.port_of(&hop).to_owned());
    let interface = interface
        .or_else(|| d.ports.last().cloned())
        .unwrap_or_default();
    let mut seen = Seen::default();
    for local in local_addresses(d) {
        if d.fib.is_local(local) {
            seen.well(format!("{local} is the host's"));
        } else {
            seen.wrong(Finding::here(
                Check::LocalAddressAbsent,
                format!("{local} is on none of this host's interfaces"),
                format!("ip address add {} dev {interface}", alone(local.into())),
            ));
        }
    }
    if seen == Seen::default() {
        seen.well("no service has local addresses");
    }
    Ok(seen)
}

/// The kernel picks ports of its range but for the reserved ones, and as source the address of the route.
fn shared(d: &Director<'_>) -> Result<Seen, NotMade> {
    let (first, last) = d.wanted.local_ports;
    let kernel = ranges(&d.host.read(PORT_RANGE)?);
    let reserved = ranges(&d.host.read(RESERVED)?);
    let is_in = |ranges: &[(u16, u16)], port| ranges.iter().any(|r| (r.0..=r.1).contains(&port));
    let shared = (first..=last)
        .filter(|&p| is_in(&kernel, p) && !is_in(&reserved, p))
        .count();
    let local = local_addresses(d);
    let mut seen = Seen::default();
    for server in full_nat(d) {
        let source = server
            .hop
            .ok()
            .map(|hop| hop.source)
            .filter(|s| local.contains(s));
        match source {
            Some(source) if shared > 0 && first > 0 => seen.wrong(Finding::here(
                Check::LocalPortsShared,
                format!(
                    "{shared} ports of {first}-{last} on {source} are also the host's own towards {}",
                    server.addr
                ),
                give_way(first, last),
            )),
            _ => seen.well(format!("the host's connections to {} are apart", server.addr)),
        }
    }
    if seen == Seen::default() {
        seen.well("no FULLNAT server gets connections");
    }
    Ok(seen)
}

/// The larger part of the ports beside the range becomes the host's.
fn give_way(first: u16, last: u16) -> String {
    let below = first.saturating_sub(FIRST_PORT);
    let above = u16::MAX - last;
    if below.max(above) < FEW_PORTS {
        // No room beside it: the host's connections must have another source.
        return "ip address add SPARE/32 dev IF; then name SPARE as the local address".to_owned();
    }
    let (low, high) = if above >= below {
        (last + 1, u16::MAX)
    } else {
        (FIRST_PORT, first - 1)
    };
    format!("echo '{low} {high}' > {PORT_RANGE}")
}

/// Two numbers with a tab between them, or a list like `80,8000-8100`.
fn ranges(text: &str) -> Vec<(u16, u16)> {
    let numbers = |t: &str| -> Option<(u16, u16)> {
        let mut ports = t.split(['-', '\t', ' ']).map(str::parse);
        let first = ports.next()?.ok()?;
        Some((first, ports.next().map_or(Some(first), Result::ok)?))
    };
    text.trim().split(',').filter_map(numbers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_ranges_are_read() {
        assert_eq!(ranges("32768\t60999\n"), [(32768, 60999)]);
        assert_eq!(ranges("80,8000-8100\n"), [(80, 80), (8000, 8100)]);
        assert_eq!(ranges("\n"), []);
    }

    #[test]
    fn the_host_gets_the_larger_part_that_is_left() {
        assert!(give_way(1024, 32767).starts_with("echo '32768 65535' >"));
        assert!(give_way(40000, 65535).starts_with("echo '1024 39999' >"));
        assert!(give_way(1024, 65000).starts_with("ip address add"));
    }
}
