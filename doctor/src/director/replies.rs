//! Replies that never come back: seen from the counters of servers whose replies pass the director.

use uvs_core::flow::Protocol;
use uvs_core::service::{Forwarding, ServiceKey};

use super::words::{alone, set_weight};
use super::{Director, Made, Server};
use crate::catalog::Check;
use crate::finding::{Finding, NotMade, Seen};

pub(super) const CHECKS: &[Made] = &[
    (Check::NatNoReply, nat),
    (Check::FullNatNoReply, fullnat),
    (Check::ServerNoAnswers, dead),
];

/// Packets to a server, without one back, from which on it is no coincidence: a first SYN and its repeats.
const ENOUGH: u64 = 3;
/// The same a second, for a server that did reply once: rates are rounded.
const ENOUGH_NOW: u64 = 10;

fn nat(d: &Director<'_>) -> Result<Seen, NotMade> {
    silent(d, Forwarding::Nat, Check::NatNoReply, |server, director| {
        format!(
            "uvs rs up --mode nat --vip {} --gateway {director}",
            server.vip
        )
    })
}

fn fullnat(d: &Director<'_>) -> Result<Seen, NotMade> {
    silent(
        d,
        Forwarding::FullNat,
        Check::FullNatNoReply,
        |server, director| {
            let service = d
                .wanted
                .services
                .iter()
                .find(|s| s.spec.key == server.service);
            let local = service.into_iter().flat_map(|s| &s.spec.local);
            let routes =
                local.map(|l| format!("ip route replace {} via {director}", alone((*l).into())));
            routes.collect::<Vec<_>>().join("; ")
        },
    )
}

/// Servers whose last handshakes have all failed.
fn dead(d: &Director<'_>) -> Result<Seen, NotMade> {
    of_daemon(d)?;
    let mut seen = Seen::default();
    let answering = |s: &Server<'_>| s.status.spec.forwarding.passes_replies();
    for server in d
        .servers()
        .filter(answering)
        .filter(|s| must_answer(&s.service))
    {
        let handshakes = &server.status.handshakes;
        let of = format!("{} of {}", server.status.spec.endpoint, server.service);
        if handshakes.is_dead() {
            seen.wrong(Finding::here(
                Check::ServerNoAnswers,
                format!("{of}: {}", handshakes.failures()),
                set_weight(&server, 0),
            ));
        } else {
            seen.well(format!("{of}: {} handshakes answered", handshakes.ok));
        }
    }
    if seen == Seen::default() {
        seen.well("no such server gets connections");
    }
    Ok(seen)
}

/// What is counted, a running daemon counts.
fn of_daemon(d: &Director<'_>) -> Result<(), NotMade> {
    let counts = d.wanted.daemon.is_some();
    counts
        .then_some(())
        .ok_or_else(|| NotMade("the counters are a running daemon's".to_owned()))
}

/// Servers of a method that got packets and sent none; `fix` is told the director's address there.
fn silent(
    d: &Director<'_>,
    method: Forwarding,
    check: Check,
    fix: impl Fn(&Server<'_>, String) -> String,
) -> Result<Seen, NotMade> {
    of_daemon(d)?;
    let mut seen = Seen::default();
    let of_method = d.servers().filter(|s| s.status.spec.forwarding == method);
    for server in of_method.filter(|s| must_answer(&s.service)) {
        let (all, now) = (server.status.stats, server.status.rates);
        let never = all.in_packets >= ENOUGH && all.out_packets == 0;
        let no_more = now.in_packets >= ENOUGH_NOW && now.out_packets == 0;
        let counted = format!(
            "{}: {} packets to it, {} back",
            server.addr, all.in_packets, all.out_packets
        );
        match server.hop {
            Ok(hop) if never || no_more => seen.wrong(Finding::elsewhere(
                check,
                counted,
                server.addr.to_string(),
                fix(&server, hop.source.to_string()),
            )),
            _ => seen.well(counted),
        }
    }
    if seen == Seen::default() {
        seen.well("no such server gets connections of a protocol that must be answered");
    }
    Ok(seen)
}

/// Datagrams may go one way only (syslog); connections cannot.
const fn must_answer(service: &ServiceKey) -> bool {
    match service {
        ServiceKey::Address { protocol, .. } => !matches!(protocol, Protocol::Udp),
        ServiceKey::Mark { .. } => false,
    }
}
