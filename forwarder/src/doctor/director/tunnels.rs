//! Room for the outer header on the way to tunnel servers.

use serde::Deserialize;
use uvs_core::flow::{Endpoint, Flow, Protocol};
use uvs_core::mode::Path;
use uvs_core::service::{Forwarding, Tunnel};

use super::{Director, Made};
use crate::doctor::catalog::Check;
use crate::doctor::finding::{Finding, NotMade, Seen};

pub(super) const CHECKS: &[Made] = &[(Check::TunnelMtu, room)];

/// What clients send: Ethernet's payload (RFC 894).
const CLIENT_MTU: u32 = 1500;

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
        let got: Vec<Got> = d.host.ip_json(&["route", "get", &addr])?;
        let learnt = got.into_iter().flat_map(|g| g.metrics).find_map(|m| m.mtu);
        let mtu = learnt.map_or(hop.mtu, |learnt| learnt.min(hop.mtu));
        let name = d.port_of(&hop);
        let outer = overhead(server.status.spec.tunnel);
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

/// Bytes that the mode of a tunnel adds.
fn overhead(tunnel: Tunnel) -> u32 {
    let flow = Flow::new(Protocol::Tcp, Endpoint::NONE, Endpoint::NONE);
    let path = Path {
        tunnel,
        ..Path::plain(&flow)
    };
    let mode = uvs_modes::BUILTIN
        .iter()
        .find(|m| m.encapsulation() == Some(tunnel.kind));
    mode.map_or(0, |mode| u32::try_from(mode.overhead(&path)).unwrap_or(0))
}
