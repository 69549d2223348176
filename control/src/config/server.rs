//! One `[[service.server]]`: a real server's address, weight, thresholds and way there.

use std::ops::RangeInclusive;

use uvs_core::flow::{Addr, Endpoint};
use uvs_core::service::{Forwarding, ServerSpec, Tunnel, TunnelChecksum, TunnelKind};

use super::address;
use super::fields::{Fields, Value};
use super::service;

const KEYS: &[&str] = &[
    "address",
    "weight",
    "mode",
    "upper_threshold",
    "lower_threshold",
    "tunnel",
];
const TUNNEL_KEYS: &[&str] = &["kind", "port", "checksum"];

const KINDS: &[(&str, TunnelKind)] = &[
    ("ipip", TunnelKind::Ipip),
    ("gue", TunnelKind::Gue),
    ("gre", TunnelKind::Gre),
];
const CHECKSUMS: &[(&str, TunnelChecksum)] = &[
    ("none", TunnelChecksum::None),
    ("full", TunnelChecksum::Full),
    ("remote", TunnelChecksum::Remote),
];

/// Weights and thresholds, as ipvsadm takes them.
const INT: RangeInclusive<i64> = 0..=i32::MAX as i64;
const PORT: RangeInclusive<i64> = 1..=u16::MAX as i64;

/// Reads a server and says where its address is written; `None` where that is wrong.
pub(super) fn read<'a>(
    value: &Value<'a>,
    vip: Endpoint,
    default_mode: Forwarding,
) -> Option<(Value<'a>, ServerSpec)> {
    let fields = value.fields(KEYS)?;
    let mode = service::mode(&fields, default_mode);
    let weight = fields.integer("weight", INT).unwrap_or(1);
    let (lower, upper) = thresholds(&fields);
    let tunnel = fields
        .get("tunnel")
        .and_then(|value| tunnel(&value, mode))
        .unwrap_or_default();
    let Some(at) = fields.get("address") else {
        value.refuse("has no address", "add: address = \"IP\" or \"IP:PORT\"");
        return None;
    };
    let endpoint = endpoint(&at, vip, mode)?;
    Some((
        at,
        ServerSpec {
            endpoint,
            forwarding: mode,
            tunnel,
            weight,
            upper,
            lower,
        },
    ))
}

/// Whether an address is of the VIP's family; noted where it is not.
pub(super) fn same_family(at: &Value<'_>, addr: Addr, vip: Addr) -> bool {
    if addr.is_v4() == vip.is_v4() {
        return true;
    }
    let family = |a: Addr| if a.is_v4() { "an IPv4" } else { "an IPv6" };
    let own = if vip.is_unspecified() {
        "match".to_owned()
    } else {
        vip.to_string()
    };
    at.refuse(
        format!(
            "{addr} is {} address, but the service's {own} is {} one",
            family(addr),
            family(vip)
        ),
        format!("use {} address", family(vip)),
    );
    false
}

fn endpoint(at: &Value<'_>, vip: Endpoint, mode: Forwarding) -> Option<Endpoint> {
    let (addr, port) = address::with_port(at)?;
    if !same_family(at, addr, vip.addr) {
        return None;
    }
    let port = port.unwrap_or(vip.port);
    if port == 0 && vip.port != 0 {
        at.refuse(
            "port 0 is no server's",
            "use a port from 1 to 65535, or none for the service's",
        );
        return None;
    }
    let maps_ports = matches!(mode, Forwarding::Nat | Forwarding::FullNat);
    if port != vip.port && !maps_ports {
        at.refuse(
            format!("port {port} is not the service's port {}", vip.port),
            format!(
                "modes dr and ipip do not touch the port, so the server sees the service's: write \
                 \"{addr}\", or use mode = \"nat\" or \"fullnat\""
            ),
        );
        return None;
    }
    Some(Endpoint::new(addr, port))
}

fn thresholds(fields: &Fields<'_>) -> (u32, u32) {
    let upper = fields.integer("upper_threshold", INT).unwrap_or(0);
    let Some(value) = fields.get("lower_threshold") else {
        return (0, upper);
    };
    let Some(lower) = value.integer(INT) else {
        return (0, upper);
    };
    if lower > upper {
        value.refuse(
            format!("{lower} is more than the upper threshold, {upper}"),
            "the lower threshold is where an overloaded server gets connections again: at most the \
             upper one",
        );
    }
    (lower, upper)
}

fn tunnel(value: &Value<'_>, mode: Forwarding) -> Option<Tunnel> {
    let fields = value.fields(TUNNEL_KEYS)?;
    if mode != Forwarding::Tunnel {
        value.refuse(
            "is only for mode \"ipip\"",
            "remove it, or set mode = \"ipip\"",
        );
    }
    let kind = fields
        .get("kind")
        .map_or(Some(TunnelKind::Ipip), |kind| kind.choice(KINDS))?;
    let checksum = fields
        .get("checksum")
        .map_or(Some(TunnelChecksum::None), |c| c.choice(CHECKSUMS))?;
    let port = match (kind, fields.get("port")) {
        (TunnelKind::Gue, Some(port)) => port.integer(PORT)?,
        (TunnelKind::Gue, None) => {
            value.refuse("kind \"gue\" needs a port", "add: port = 6080");
            return None;
        }
        (TunnelKind::Ipip | TunnelKind::Gre, Some(port)) => {
            port.refuse("only kind \"gue\" has a port", "remove it");
            return None;
        }
        (TunnelKind::Ipip | TunnelKind::Gre, None) => 0,
    };
    check_checksum(&fields, kind, checksum);
    Some(Tunnel {
        kind,
        port,
        checksum,
    })
}

fn check_checksum(fields: &Fields<'_>, kind: TunnelKind, checksum: TunnelChecksum) {
    let allowed = match kind {
        TunnelKind::Ipip => checksum == TunnelChecksum::None,
        TunnelKind::Gre => checksum != TunnelChecksum::Remote,
        TunnelKind::Gue => true,
    };
    if let Some(value) = fields.get("checksum").filter(|_| !allowed) {
        let help = "ipip has none, gre none or full, gue none, full or remote";
        value.refuse("this kind of tunnel has no such checksum", help);
    }
}
