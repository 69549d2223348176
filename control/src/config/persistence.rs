//! A service's persistence: how long one client stays with one server, and who counts as one client.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use uvs_core::flow::Addr;
use uvs_core::service::Persistence;

use super::fields::Value;

pub(super) const KEYS: &[&str] = &["timeout", "netmask"];

/// Seconds: up to 31 days, as `ipvsadm -p` takes.
const SECONDS: RangeInclusive<i64> = 1..=2_678_400;
/// Seconds, where only a netmask is given: `ipvsadm -p` without a number.
const DEFAULT: u32 = 360;

/// Reads `300`, or `{ timeout = 300, netmask = "255.255.255.0" }`.
pub(super) fn read(value: &Value<'_>, vip: Addr) -> Option<Persistence> {
    let one_client = if vip.is_v4() { u32::MAX } else { 128 };
    if !value.is_table() {
        let timeout = value.integer(SECONDS)?;
        return Some(Persistence {
            timeout,
            mask: one_client,
        });
    }
    let fields = value.fields(KEYS)?;
    let timeout = match fields.get("timeout") {
        Some(value) => value.integer(SECONDS)?,
        None => DEFAULT,
    };
    let mask = match fields.get("netmask") {
        Some(value) => netmask(&value, vip)?,
        None => one_client,
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
