//! A real server's routes: what segments it asks clients for, and its way back to FULLNAT's director.

use super::Request;
use crate::catalog::Check;
use crate::finding::{Finding, NotMade, Seen};
use crate::host::Host;

/// What this host asks its clients to send: `advmss` of its default route, else its device's MTU.
pub(super) fn segments(host: &dyn Host) -> Result<Seen, NotMade> {
    /// An Ethernet packet less IPIP's header and those of IP and TCP (RFC 2003, RFC 9293 §3.7.1).
    const FITS: u32 = 1500 - 20 - 40;
    const HEADERS: u32 = 40;
    let devices = host.devices()?;
    let mut seen = Seen::default();
    for line in host.ip(&["-o", "-4", "route", "show", "default"])?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |word: &str| {
            let at = words.iter().position(|w| *w == word)?;
            words.get(at + 1).copied()
        };
        let mtu = after("dev")
            .and_then(|dev| devices.iter().find(|d| d.ifname == dev))
            .map(|d| d.mtu);
        let announced = after("advmss").and_then(|mss| mss.parse().ok());
        let announced = announced.or_else(|| mtu.map(|mtu| mtu.saturating_sub(HEADERS)));
        match announced {
            Some(mss) if mss <= FITS => {
                seen.well(format!("clients are asked for segments of {mss}"))
            }
            Some(mss) => seen.wrong(Finding::here(
                Check::RsTunnelMss,
                format!("clients are asked for segments of {mss} bytes, {FITS} fit"),
                format!("ip route replace {} advmss {FITS}", without_mss(&words)),
            )),
            None => {}
        }
    }
    if seen == Seen::default() {
        seen.well("there is no default route");
    }
    Ok(seen)
}

/// A route's words, but for `advmss` and what `ip` shows and does not take.
fn without_mss(words: &[&str]) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "advmss" => {
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
    let gateway = request.gateway.ok_or_else(|| {
        NotMade("name the director, as this host reaches it, with --gateway".to_owned())
    })?;
    let mut seen = Seen::default();
    for local in &request.local {
        match host.ip(&["-o", "route", "get", &local.to_string()]) {
            Ok(way) => seen.well(way.trim().to_owned()),
            Err(NotMade(said)) => seen.wrong(Finding::here(
                Check::RsLocalRoute,
                format!("there is no route to {local} ({said})"),
                format!("ip route replace {local}/32 via {gateway}"),
            )),
        }
    }
    Ok(seen)
}
