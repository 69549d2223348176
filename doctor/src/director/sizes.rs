//! Packet sizes on the way to the servers: room for a tunnel's outer header, and black holes.

use std::net::Ipv4Addr;

use serde::Deserialize;
use uvs_core::fib::NextHop;
use uvs_core::flow::Addr;
use uvs_core::service::Forwarding;

use super::{Director, Made, Server};
use crate::catalog::Check;
use crate::finding::{Finding, NotMade, Seen};

pub(super) const CHECKS: &[Made] = &[(Check::TunnelMtu, room), (Check::PathMtu, holes)];

/// What clients send: Ethernet's payload (RFC 894).
const CLIENT_MTU: u32 = 1500;

/// Servers that are pinged at once.
const MOST_PATHS: usize = 256;

/// The kernel's answer about a route: the path's MTU where it has learnt one.
#[derive(Default, Deserialize)]
struct Got {
    #[serde(default)]
    metrics: Vec<Metrics>,
}

#[derive(Deserialize)]
struct Metrics {
    mtu: Option<u32>,
}

fn room(d: &Director<'_>) -> Result<Seen, NotMade> {
    let mut seen = Seen::default();
    for server in d
        .servers()
        .filter(|s| s.status.spec.forwarding == Forwarding::Tunnel)
    {
        let Ok(hop) = server.hop else { continue };
        let addr = server.addr.to_string();
        let mtu = known_mtu(d, &server, &hop)?;
        let name = d.port_of(&hop);
        let outer = server
            .status
            .spec
            .tunnel
            .overhead(server.status.spec.endpoint.addr.family());
        let outer = u32::try_from(outer).unwrap_or(0);
        let state = format!(
            "{addr} by {name}: the path's MTU is {mtu}, of which the outer header takes {outer}"
        );
        if mtu >= CLIENT_MTU + outer {
            seen.well(state);
        } else {
            let command = format!("ip link set dev {name} mtu {}", CLIENT_MTU + outer);
            seen.wrong(Finding::here(Check::TunnelMtu, state, command));
        }
    }
    if seen == Seen::default() {
        seen.well("no server behind a tunnel gets connections");
    }
    Ok(seen)
}

/// The MTU by the route, or less where the kernel has learnt so from an ICMP message.
fn known_mtu(d: &Director<'_>, server: &Server<'_>, hop: &NextHop) -> Result<u32, NotMade> {
    let addr = server.addr.to_string();
    let got: Vec<Got> = d.host.ip_json(&["route", "get", &addr])?;
    let learnt = got.into_iter().flat_map(|g| g.metrics).find_map(|m| m.mtu);
    Ok(learnt.map_or(hop.mtu, |learnt| learnt.min(hop.mtu)))
}

/// Pings every server with packets as large as they are allowed to be.
fn holes(d: &Director<'_>) -> Result<Seen, NotMade> {
    let mut ways: Vec<(Ipv4Addr, u32, NextHop)> = Vec::new();
    for server in d.servers() {
        let Ok(hop) = server.hop else { continue };
        let mtu = known_mtu(d, &server, &hop)?;
        if !ways.iter().any(|(addr, ..)| *addr == server.addr) {
            ways.push((server.addr, mtu, hop));
        }
    }
    if ways.len() > MOST_PATHS {
        let count = ways.len();
        return Err(NotMade(format!(
            "{count} servers to ping are too many (at most {MOST_PATHS})"
        )));
    }
    let paths: Vec<_> = ways.iter().map(|(addr, mtu, _)| (*addr, *mtu)).collect();
    let largest = d.host.largest(&paths)?;
    let mut seen = Seen::default();
    for (addr, mtu, hop) in ways {
        match largest.get(&addr) {
            None => seen.well(format!("{addr} answers no ping")),
            Some(size) if *size >= mtu => seen.well(format!("{mtu} bytes reach {addr}")),
            Some(size) => {
                let via = Some(hop.via).filter(|via| *via != Addr::from(addr));
                let via = via.map_or_else(String::new, |via| format!("via {via} "));
                let name = d.port_of(&hop);
                seen.wrong(Finding::here(
                    Check::PathMtu,
                    format!("of the {mtu} bytes that the way to {addr} allows, {size} get through"),
                    format!("ip route replace {addr}/32 {via}dev {name} mtu {size}"),
                ));
            }
        }
    }
    if seen == Seen::default() {
        seen.well("no real server gets connections");
    }
    Ok(seen)
}
