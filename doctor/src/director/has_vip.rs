//! Whether servers have the VIP: those of DR at their MAC address, those of IPIP behind their tunnel. Asked of the servers, as
//! their replies to clients pass no director.

use std::net::IpAddr;

use uvs_core::flow::Protocol;
use uvs_core::service::{Forwarding, ServiceKey, TunnelKind};

use super::{Director, Made, Server};
use crate::catalog::Check;
use crate::finding::{Finding, NotMade, Seen};
use crate::probe::{MOST, Outcome, Probe};

pub(super) const CHECKS: &[Made] = &[
    (Check::ServerWithoutVip, without_vip),
    (Check::ServerNoTunnel, without_tunnel),
];

fn without_vip(d: &Director<'_>) -> Result<Seen, NotMade> {
    asked(d, false, |server, outcome| {
        (outcome == Outcome::Silent).then(|| {
            Finding::elsewhere(
                Check::ServerWithoutVip,
                format!(
                    "{} answers neither a ping nor a SYN to {} at its MAC address",
                    server.addr, server.vip
                ),
                server.addr.to_string(),
                format!("uvs rs up --mode dr --vip {}", server.vip),
            )
        })
    })
}

fn without_tunnel(d: &Director<'_>) -> Result<Seen, NotMade> {
    asked(d, true, |server, outcome| {
        let what = match outcome {
            Outcome::Answered => return None,
            Outcome::NoTunnel => format!(
                "{} takes no IPIP packets: it says so (protocol unreachable)",
                server.addr
            ),
            Outcome::Silent => format!(
                "{} answers neither a ping nor a SYN to {} through its tunnel",
                server.addr, server.vip
            ),
        };
        Some(Finding::elsewhere(
            Check::ServerNoTunnel,
            what,
            server.addr.to_string(),
            format!("uvs rs up --mode ipip --vip {}", server.vip),
        ))
    })
}

/// Asks all servers of a mode at once, and judges what came of it.
fn asked(
    d: &Director<'_>,
    tunnel: bool,
    judge: impl Fn(&Server<'_>, Outcome) -> Option<Finding>,
) -> Result<Seen, NotMade> {
    let vips = d.vips();
    let probed: Vec<(Server<'_>, Probe)> = d
        .servers()
        .filter_map(|server| {
            let probe = probe(d, &server, &vips)?;
            (probe.tunnel == tunnel).then_some((server, probe))
        })
        .collect();
    let mut seen = Seen::default();
    if probed.is_empty() {
        seen.well(match tunnel {
            false => "no DR server of IPv4 gets connections",
            true => "no IPIP server of IPv4 gets connections",
        });
        return Ok(seen);
    }
    if probed.len() > MOST {
        let count = probed.len();
        return Err(NotMade(format!(
            "{count} servers to ask are too many (at most {MOST})"
        )));
    }
    let (servers, probes): (Vec<_>, Vec<_>) = probed.into_iter().unzip();
    let outcomes = d.host.has_vip(&probes)?;
    for (server, outcome) in servers.iter().zip(outcomes) {
        match judge(server, outcome) {
            Some(finding) => seen.wrong(finding),
            None => seen.well(format!("{} has {}", server.addr, server.vip)),
        }
    }
    Ok(seen)
}

/// How a server is asked; `None` where it cannot be, or need not: its next hop does not answer, or it replies by way of
/// the director.
fn probe(d: &Director<'_>, server: &Server<'_>, vips: &[IpAddr]) -> Option<Probe> {
    let spec = &server.status.spec;
    let tunnel = match (spec.forwarding, spec.tunnel.kind) {
        (Forwarding::Dr, _) => false,
        (Forwarding::Tunnel, TunnelKind::Ipip) => true,
        _ => return None,
    };
    let hop = server.hop.ok()?;
    let source = IpAddr::from(hop.source);
    let of_v4 = |addr| match addr {
        IpAddr::V4(addr) => Some(addr),
        IpAddr::V6(_) => None,
    };
    // To the VIP itself a server that has it would answer itself.
    let source = of_v4(source).filter(|s| !s.is_unspecified() && !vips.contains(&(*s).into()))?;
    Some(Probe {
        interface: d.port_of(&hop).to_owned(),
        mac: hop.mac?,
        source,
        server: of_v4(server.addr)?,
        vip: of_v4(server.vip)?,
        port: port(&server.service),
        tunnel,
    })
}

/// The port at which a SYN is answered.
const fn port(service: &ServiceKey) -> Option<u16> {
    match *service {
        ServiceKey::Address {
            protocol: Protocol::Tcp,
            port,
            ..
        } if port != 0 => Some(port),
        _ => None,
    }
}
