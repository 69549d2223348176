//! The kernel's recorded behaviour, played against the engine in virtual time: no sockets, no root.
//!
//! `tests/golden/packets.json` and `states.json` were recorded from Linux 6.1's IPVS. What the host's own
//! stack did there (ARP, resets and echoes for its own addresses) is here a `Pass` or an unresolved next
//! hop, which is allowed only for packets that no service and no guard rule would keep from the host.

#![allow(clippy::unwrap_used)]

#[cfg(test)]
mod commands;
pub mod director;
#[cfg(test)]
mod packets;
#[cfg(test)]
mod program;
#[cfg(test)]
mod states;

use serde_json::Value;
use uvs_core::flow::Addr;
use uvs_core::wire::ethernet::Mac;

/// The sides of the director, by the recording's names and in the order of the ports.
const SIDES: [&str; 2] = ["c", "s"];

fn addr(s: &str) -> Addr {
    Addr::from(s.parse::<std::net::IpAddr>().unwrap())
}

fn mac(s: &str) -> Mac {
    let bytes: Vec<u8> = s
        .split(':')
        .map(|x| u8::from_str_radix(x, 16).unwrap())
        .collect();
    bytes.try_into().unwrap()
}

/// Bytes from hex.
pub fn unhex(s: &str) -> Vec<u8> {
    (0..s.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&s[i..i + 2], 16).unwrap())
        .collect()
}

fn text(v: &Value) -> &str {
    v.as_str().unwrap()
}

fn list(v: &Value) -> &[Value] {
    v.as_array().unwrap()
}

/// The recorded packets, with the topology they were recorded on.
pub fn packets_book() -> Value {
    serde_json::from_str(include_str!("../../tests/golden/packets.json")).unwrap()
}
