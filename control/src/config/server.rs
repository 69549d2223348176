//! One `[[service.server]]`: a real server's address, weight, thresholds and way there.

use std::ops::RangeInclusive;

use uvs_core::flow::{Addr, Endpoint};
use uvs_core::service::{Forwarding, ServerSpec, Tunnel, TunnelChecksum, TunnelKind};

use super::fields::{Fields, Value};
use super::{address, modes};

pub(super) const KEYS: &[&str] = &[
    "address",
    "weight",
    "mode",
    "upper_threshold",
    "lower_threshold",
    "tunnel",
];
pub(super) const TUNNEL_KEYS: &[&str] = &["kind", "port", "checksum"];

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
    let mode = modes::mode(&fields, default_mode);
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
fn same_family(at: &Value<'_>, addr: Addr, vip: Addr) -> bool {
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
    if !mode.def().mixes_families && !same_family(at, addr, vip.addr) {
        return None;
    }
    let port = port.unwrap_or(vip.port);
    if port == 0 && vip.port != 0 {
        at.refuse(
            "a server cannot have port 0",
            "use a port from 1 to 65535, or none for the service's",
        );
        return None;
    }
    if port != vip.port && !mode.def().maps_port {
        let keep = modes::methods_that(|method| !method.def().maps_port);
        let map = modes::one_method_that(|method| method.def().maps_port);
        at.refuse(
            format!("port {port} is not the service's port {}", vip.port),
            format!(
                "modes {keep} do not touch the port, so the server sees the service's: write \
                 \"{addr}\", or use mode = {map}"
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
        .map_or(Some(TunnelKind::Ipip), |kind| kind.choice(&modes::kinds()))?;
    let checksum = fields
        .get("checksum")
        .map_or(Some(TunnelChecksum::None), |c| c.choice(modes::CHECKSUMS))?;
    let port = match (kind.def().has_port, fields.get("port")) {
        (true, Some(port)) => port.integer(PORT)?,
        (true, None) => {
            let word = kind.def().word;
            value.refuse(format!("kind \"{word}\" needs a port"), "add: port = 6080");
            return None;
        }
        (false, Some(port)) => {
            let with_port = modes::one_kind_that(|kind| kind.def().has_port);
            port.refuse(format!("only kind {with_port} has a port"), "remove it");
            return None;
        }
        (false, None) => 0,
    };
    check_checksum(&fields, kind, checksum);
    Some(Tunnel {
        kind,
        port,
        checksum,
    })
}

fn check_checksum(fields: &Fields<'_>, kind: TunnelKind, checksum: TunnelChecksum) {
    let allowed = modes::can_have(kind, checksum);
    if let Some(value) = fields.get("checksum").filter(|_| !allowed) {
        let help = modes::checksums_of_each();
        value.refuse("this kind of tunnel has no such checksum", help);
    }
}
