//! A real server's routes: what segments it asks clients for, and its way back to FULLNAT's director.

use std::collections::BTreeSet;
use std::net::IpAddr;

use uvs_realserver::Family;

use super::Request;
use crate::catalog::Check;
use crate::finding::{Finding, NotMade, Seen};
use crate::host::Host;

/// What this host asks the clients of its VIPs to send, in each family.
pub(super) fn segments(host: &dyn Host, vips: &[IpAddr]) -> Result<Seen, NotMade> {
    let mut seen = Seen::default();
    for family in families(vips) {
        of_family(host, family, &mut seen)?;
    }
    if seen == Seen::default() {
        seen.well("there is no default route");
    }
    Ok(seen)
}

/// `advmss` of a family's default route, else its device's MTU.
fn of_family(host: &dyn Host, family: Family, seen: &mut Seen) -> Result<(), NotMade> {
    /// An Ethernet packet.
    const PACKET: u32 = 1500;
    // Bytes of the IP header, once inside and once outside, and of TCP's (RFC 2003, RFC 2473, RFC 9293 §3.7.1).
    let (option, ip, tcp) = match family {
        Family::Ipv4 => ("-4", 20, 20),
        Family::Ipv6 => ("-6", 40, 20),
    };
    let fits = PACKET - ip - ip - tcp;
    let devices = host.devices()?;
    let routes = host.ip(&["-o", option, "route", "show", "default"])?;
    for line in routes.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |word: &str| {
            let at = words.iter().position(|w| *w == word)?;
            words.get(at + 1).copied()
        };
        let mtu = after("dev")
            .and_then(|dev| devices.iter().find(|d| d.ifname == dev))
            .map(|d| d.mtu);
        let announced = after("advmss").and_then(|mss| mss.parse().ok());
        let announced = announced.or_else(|| mtu.map(|mtu| mtu.saturating_sub(ip + tcp)));
        match announced {
            Some(mss) if mss <= fits => {
                seen.well(format!("{family} clients are asked for segments of {mss}"));
            }
            Some(mss) => seen.wrong(Finding::here(
                Check::RsTunnelMss,
                format!("{family} clients are asked for segments of {mss} bytes, {fits} fit"),
                format!(
                    "ip {option} route replace {} advmss {fits}",
                    without_mss(&words)
                ),
            )),
            None => {}
        }
    }
    Ok(())
}

/// Whether replies to clients beyond this host's own networks have a way.
pub(super) fn back(host: &dyn Host, vips: &[IpAddr]) -> Result<Seen, NotMade> {
    let mut seen = Seen::default();
    for family in families(vips) {
        let option = match family {
            Family::Ipv4 => "-4",
            Family::Ipv6 => "-6",
        };
        let routes = host.ip(&[option, "route", "show", "default"])?;
        if routes.trim().is_empty() {
            seen.wrong(Finding::here(
                Check::RsNoWayBack,
                format!("there is no default route of {family}"),
                format!("ip {option} route add default via ROUTER"),
            ));
        } else {
            seen.well(format!("there is a default route of {family}"));
        }
    }
    Ok(seen)
}

fn families(vips: &[IpAddr]) -> BTreeSet<Family> {
    vips.iter().copied().map(Family::of).collect()
}

/// A route's words, but for `advmss` and what `ip` shows and does not take, such as how long a router's
/// advertisement holds.
fn without_mss(words: &[&str]) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "advmss" | "expires" => {
                words.next();
            }
            "linkdown" | "dead" | "onlink" => {}
            word => kept.push(word),
        }
    }
    kept.join(" ")
}

/// FULLNAT: the way back to each local address.
pub(super) fn local(host: &dyn Host, request: &Request) -> Result<Seen, NotMade> {
    if request.local.is_empty() {
        return Err(NotMade(
            "name the director's local addresses with --laddr".to_owned(),
        ));
    }
    let mut seen = Seen::default();
    for local in &request.local {
        let family = Family::of(*local);
        let gateway = request.gateways.iter().find(|g| Family::of(**g) == family);
        let gateway = gateway.ok_or_else(|| {
            NotMade("name the director, as this host reaches it, with --gateway".to_owned())
        })?;
        match host.ip(&["-o", "route", "get", &local.to_string()]) {
            Ok(way) => seen.well(way.trim().to_owned()),
            Err(NotMade(said)) => seen.wrong(Finding::here(
                Check::RsLocalRoute,
                format!("there is no route to {local} ({said})"),
                format!(
                    "ip route replace {local}/{} via {gateway}",
                    family.host_bits()
                ),
            )),
        }
    }
    Ok(seen)
}
