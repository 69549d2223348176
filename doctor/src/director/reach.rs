//! The way to the real servers: route, interface, segment, next hop.

use uvs_core::fib::Unreachable;
use uvs_core::flow::Addr;
use uvs_core::service::Forwarding;
use uvs_realserver::Family;

use super::ports::run_on;
use super::words::{alone, by_tunnel, set_weight};
use super::{Director, Made, Server};
use crate::catalog::Check;
use crate::finding::{Finding, NotMade, Seen};

pub(super) const CHECKS: &[Made] = &[
    (Check::NoRoute, no_route),
    (Check::NotAPort, not_a_port),
    (Check::OffSegment, off_segment),
    (Check::NeighbourUnresolved, unresolved),
];

/// Judges every server that gets connections.
fn each(d: &Director<'_>, judge: impl Fn(&Server<'_>) -> Option<Finding>) -> Seen {
    let mut seen = Seen::default();
    for server in d.servers() {
        match judge(&server) {
            Some(finding) => seen.wrong(finding),
            None => seen.well(way(d, &server)),
        }
    }
    if seen == Seen::default() {
        seen.well("no real server gets connections");
    }
    seen
}

/// The way to a server, in words.
fn way(d: &Director<'_>, server: &Server<'_>) -> String {
    match &server.hop {
        Ok(hop) if hop.via == Addr::from(server.addr) => {
            format!("{} on {}", server.addr, d.port_of(hop))
        }
        Ok(hop) => format!("{} via {} on {}", server.addr, hop.via, d.port_of(hop)),
        Err(Unreachable::Local) => format!("{} is this host", server.addr),
        Err(Unreachable::NoRoute) => format!("{}: no route", server.addr),
        Err(Unreachable::Refused(_)) => format!("{}: refused by its route", server.addr),
        Err(Unreachable::NotAPort) => format!("{}: by another interface", server.addr),
    }
}

fn no_route(d: &Director<'_>) -> Result<Seen, NotMade> {
    // Where there are two, the last one is the servers' side by custom.
    let interface = d.ports.last().map_or("IF", String::as_str);
    Ok(each(d, |server| {
        let what = match server.hop {
            Err(Unreachable::NoRoute) => "there is no route to",
            Err(Unreachable::Refused(_)) => "a route (blackhole, unreachable, prohibit) refuses",
            _ => return None,
        };
        Some(Finding::here(
            Check::NoRoute,
            format!("{what} {} of {}", server.addr, server.service),
            format!("ip route replace {} dev {interface}", alone(server.addr)),
        ))
    }))
}

fn not_a_port(d: &Director<'_>) -> Result<Seen, NotMade> {
    #[derive(serde::Deserialize)]
    struct Got {
        dev: String,
    }
    let mut seen = each(d, |_| None);
    for server in d.servers().filter(|s| s.hop == Err(Unreachable::NotAPort)) {
        let addr = server.addr.to_string();
        let got: Vec<Got> = d.host.ip_json(&["route", "get", &addr])?;
        let other = got.first().map_or("IF", |g| g.dev.as_str());
        let mut interfaces: Vec<&str> = d.ports.iter().map(String::as_str).collect();
        interfaces.push(other);
        seen.wrong(Finding::here(
            Check::NotAPort,
            format!(
                "{addr} of {} is reached by {other}, where UVS does not run",
                server.service
            ),
            run_on(d, &interfaces),
        ));
    }
    Ok(seen)
}

fn off_segment(d: &Director<'_>) -> Result<Seen, NotMade> {
    Ok(each(d, |server| {
        let hop = server.hop.ok()?;
        let wrong =
            server.status.spec.forwarding == Forwarding::Dr && hop.via != Addr::from(server.addr);
        wrong.then(|| {
            Finding::here(
                Check::OffSegment,
                format!("the DR server {} is reached via {}", server.addr, hop.via),
                by_tunnel(server),
            )
        })
    }))
}

/// The kernel's entry counts, and where it has none an answer now: without a daemon nobody has asked yet.
fn unresolved(d: &Director<'_>) -> Result<Seen, NotMade> {
    let is_open = |s: &Server<'_>| s.hop.as_ref().is_ok_and(|hop| hop.mac.is_none());
    let answers = if d.servers().any(|s| is_open(&s)) {
        d.answers()?
    } else {
        &[]
    };
    Ok(each(d, |server| {
        let hop = server.hop.ok().filter(|hop| hop.mac.is_none())?;
        let answered = answers.iter().any(|a| Addr::from(a.to.target) == hop.via);
        (!answered).then(|| {
            Finding::here(
                Check::NeighbourUnresolved,
                format!(
                    "{} does not answer {} on {}: the way to {} of {}",
                    hop.via,
                    Family::of(hop.via.into()).question(),
                    d.port_of(&hop),
                    server.addr,
                    server.service
                ),
                set_weight(server, 0),
            )
        })
    }))
}
