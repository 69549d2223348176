//! A service's persistence: how long one client stays with one server, who counts as one client, and whether each of its
//! calls is a client of its own.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use uvs_core::flow::{Addr, Protocol};
use uvs_core::service::{PERSISTENCE_ENGINES, Persistence, ServiceKey, ServiceSpec};

use super::fields::{Fields, Value};

pub(super) const KEYS: &[&str] = &["timeout", "netmask", "engine"];

/// Seconds: up to 31 days, as `ipvsadm -p` takes.
const SECONDS: RangeInclusive<i64> = 1..=2_678_400;
/// Seconds, where only a netmask is given: `ipvsadm -p` without a number.
const DEFAULT: u32 = 360;

/// Reads a service's `persistent` into it: `300`, or `{ timeout = 300, netmask = "255.255.255.0" }`.
pub(super) fn read(service: &Fields<'_>, vip: Addr, spec: &mut ServiceSpec) {
    let Some(value) = service.get("persistent") else {
        return;
    };
    if !value.is_table() {
        let seconds = value.integer(SECONDS);
        spec.persistence = seconds.map(|timeout| Persistence {
            timeout,
            mask: one_client(vip),
        });
        return;
    }
    if let Some(fields) = value.fields(KEYS) {
        spec.persistence = persistence(&fields, vip);
        let engine = fields.get("engine");
        spec.engine = engine.and_then(|value| engine_of(&value, &spec.key));
    }
}

/// Each address is a client.
const fn one_client(vip: Addr) -> u32 {
    if vip.is_v4() { u32::MAX } else { 128 }
}

/// A persistence engine that finds something in the service's packets.
fn engine_of(value: &Value<'_>, service: &ServiceKey) -> Option<String> {
    let name = value.string()?;
    if !PERSISTENCE_ENGINES.contains(&name) {
        value.refuse(
            format!("no persistence engine is called \"{name}\""),
            format!("there is {}", PERSISTENCE_ENGINES.join(", ")),
        );
        return None;
    }
    if let ServiceKey::Address { protocol, .. } = service
        && *protocol != Protocol::Udp
    {
        value.refuse(
            format!("{name} looks into datagrams, of which a service of {protocol} has none"),
            "use it with udp, or with fwmark",
        );
        return None;
    }
    Some(name.to_owned())
}

fn persistence(fields: &Fields<'_>, vip: Addr) -> Option<Persistence> {
    let timeout = match fields.get("timeout") {
        Some(value) => value.integer(SECONDS)?,
        None => DEFAULT,
    };
    let mask = match fields.get("netmask") {
        Some(value) => netmask(&value, vip)?,
        None => one_client(vip),
    };
    Some(Persistence { timeout, mask })
}

/// A dotted IPv4 mask, or for IPv6 the length of a prefix.
fn netmask(value: &Value<'_>, vip: Addr) -> Option<u32> {
    if !vip.is_v4() {
        return value.integer(1..=128);
    }
    let text = value.string()?;
    let mask = text
        .parse::<Ipv4Addr>()
        .ok()
        .map(u32::from)
        .filter(|&mask| mask != 0);
    if mask.is_none() {
        value.refuse(
            format!("\"{text}\" is not a netmask"),
            "write it as \"255.255.255.0\"",
        );
    }
    mask
}
