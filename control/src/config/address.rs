//! Addresses as the configuration writes them: `192.168.0.38`, `192.168.0.38:80`, `[2001:db8::1]:80`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use uvs_core::flow::Addr;

use super::fields::Value;

/// An address and, where it is written, a port. What is wrong is noted at `value`.
pub(super) fn with_port(value: &Value<'_>) -> Option<(Addr, Option<u16>)> {
    let text = value.string()?;
    let (host, port) = split(text);
    let addr = unicast(value, host)?;
    match port {
        None => Some((addr, None)),
        Some(port) => Some((addr, Some(number(value, port)?))),
    }
}

/// An address without a port. What is wrong is noted at `value`.
pub(super) fn plain(value: &Value<'_>) -> Option<Addr> {
    unicast(value, value.string()?)
}

/// Host and port; a bare IPv6 address has no port, for its last group could be taken for one.
fn split(text: &str) -> (&str, Option<&str>) {
    if text.parse::<Ipv6Addr>().is_ok() {
        return (text, None);
    }
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|t| t.split_once(']'))
        && (rest.is_empty() || rest.starts_with(':'))
    {
        return (host, rest.strip_prefix(':'));
    }
    match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    }
}

fn unicast(value: &Value<'_>, host: &str) -> Option<Addr> {
    let parsed = parse(host);
    if let Err((what, help)) = &parsed {
        value.refuse(what.clone(), *help);
    }
    parsed.ok()
}

/// One host's address.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub(super) fn parse(host: &str) -> Result<Addr, (String, &'static str)> {
    let Ok(addr) = host.parse::<IpAddr>() else {
        return Err((
            format!("\"{host}\" is not an IP address"),
            "write an address such as 192.168.0.38 or [2001:db8::1]; names are not looked up",
        ));
    };
    let broadcast = addr == IpAddr::V4(Ipv4Addr::BROADCAST);
    if addr.is_unspecified() || addr.is_multicast() || broadcast {
        let what = format!("{addr} is not one host's address");
        return Err((what, "use a unicast address"));
    }
    Ok(addr.into())
}

fn number(value: &Value<'_>, port: &str) -> Option<u16> {
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let parsed = if digits { port.parse().ok() } else { None };
    if parsed.is_none() {
        let what = if digits {
            "out of range"
        } else {
            "not a number"
        };
        value.refuse(
            format!("port \"{port}\" is {what}"),
            "use a port from 1 to 65535",
        );
    }
    parsed
}
