//! The values of options as ipvsadm reads them: C's numbers and addresses, `host[:port]`, masks.

use std::net::{Ipv4Addr, Ipv6Addr};

use uvs_core::flow::{Addr, Protocol};

use super::names::Names;

/// A decimal number within `low..=high`, as C's `strtol` takes it: blanks and a sign may lead.
pub(super) fn number(text: &str, low: u32, high: u32) -> Option<u32> {
    let value: i64 = text.trim_ascii_start().parse().ok()?;
    u32::try_from(value)
        .ok()
        .filter(|v| (low..=high).contains(v))
}

/// `host`, `host:port`, `[v6]:port` or a bare IPv6 address; the port is `None` where none is given.
/// Port names need the protocol.
pub(super) fn endpoint(
    text: &str,
    protocol: Option<Protocol>,
    names: &dyn Names,
) -> Option<(Addr, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once("]:")?;
        let Ok(addr) = host.parse::<Ipv6Addr>() else {
            return Some((ipv4_host(host, names)?, None));
        };
        return Some((addr.into(), Some(port_of(port, protocol, names)?)));
    }
    if let Ok(addr) = text.parse::<Ipv6Addr>() {
        return Some((addr.into(), None));
    }
    let Some((host, port)) = text.split_once(':') else {
        let all_digits = number(text, 0, u32::MAX).is_some();
        return if all_digits {
            None
        } else {
            Some((ipv4_host(text, names)?, None))
        };
    };
    Some((
        ipv4_host(host, names)?,
        Some(port_of(port, protocol, names)?),
    ))
}

/// The four numbers of an IPv4 address, the last of which may stand for several bytes; each decimal,
/// octal (`0…`) or hexadecimal (`0x…`).
pub(super) fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = text.split('.').map(c_number).collect::<Option<_>>()?;
    let (&last, bytes) = parts.split_last().filter(|(_, b)| b.len() < 4)?;
    let room = 32 - 8 * u32::try_from(bytes.len()).ok()?;
    if bytes.iter().any(|&b| b > 255) || u64::from(last) >= 1 << room {
        return None;
    }
    let high = bytes.iter().enumerate();
    let high = high.fold(0, |sum, (n, b)| sum | b << (24 - 8 * n));
    Some((high | last).into())
}

/// An IPv6 mask: a prefix length of 1 to 128, read by `atoi`, which stops at the first non-digit.
pub(super) fn ipv6_mask(text: &str) -> Option<u32> {
    let text = text.trim_ascii_start();
    let end = text.find(|c: char| !c.is_ascii_digit());
    number(&text[..end.unwrap_or(text.len())], 1, 128)
}

fn port_of(text: &str, protocol: Option<Protocol>, names: &dyn Names) -> Option<u16> {
    match number(text, 0, u32::from(u16::MAX)) {
        Some(port) => u16::try_from(port).ok(),
        None => names.port(text, protocol?),
    }
}

fn ipv4_host(host: &str, names: &dyn Names) -> Option<Addr> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.is_empty() || !host.chars().all(is_name) {
        return None;
    }
    ipv4(host).or_else(|| names.address(host)).map(Addr::from)
}

fn c_number(text: &str) -> Option<u32> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u32::from_str_radix(digits, 16)
            .ok()
            .filter(|_| !digits.starts_with('+'));
    }
    let radix = if text.len() > 1 && text.starts_with('0') {
        8
    } else {
        10
    };
    u32::from_str_radix(text, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::tests::FewNames;

    #[test]
    fn numbers_are_cs() {
        assert_eq!(number(" +010", 0, 99), Some(10));
        assert_eq!(number("-0", 0, 9), Some(0));
        for bad in [
            "",
            " ",
            "x",
            "1x",
            "1 ",
            "0x1",
            "1.0",
            "-1",
            "100",
            "99999999999999999999",
        ] {
            assert_eq!(number(bad, 0, 99), None, "{bad:?}");
        }
    }

    #[test]
    fn ipv4_addresses_are_inet_atons() {
        let good = [
            ("10.0.1.100", [10, 0, 1, 100]),
            ("127.1", [127, 0, 0, 1]),
            ("1.2.772", [1, 2, 3, 4]),
            ("0x7f000001", [127, 0, 0, 1]),
            ("010.0x10.0.1", [8, 16, 0, 1]),
            ("4294967295", [255; 4]),
        ];
        for (text, bytes) in good {
            assert_eq!(ipv4(text), Some(bytes.into()), "{text}");
        }
        for bad in [
            "",
            "1.",
            ".1",
            "256.1.1.1",
            "1.16777216",
            "09.1.1.1",
            "1.1.1.1.1",
            "0x+1",
            "4294967296",
            "a",
        ] {
            assert_eq!(ipv4(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn endpoints_follow_ipvsadm() {
        let of = |text| {
            let (addr, port) = endpoint(text, Some(Protocol::Tcp), &FewNames)?;
            Some((addr.to_string(), port))
        };
        let some = |addr: &str, port| Some((addr.to_owned(), port));
        assert_eq!(of("10.0.0.1:80"), some("10.0.0.1", Some(80)));
        assert_eq!(of("10.0.0.1:http"), some("10.0.0.1", Some(80)));
        assert_eq!(of("10.0.0.1"), some("10.0.0.1", None));
        assert_eq!(of("localhost:80"), some("127.0.0.1", Some(80)));
        assert_eq!(of("[fd00::1]:80"), some("fd00::1", Some(80)));
        assert_eq!(
            of("fd00::1:80"),
            some("fd00::1:80", None),
            "unbracketed: all address"
        );
        assert_eq!(
            of("[10.0.0.1]:80"),
            some("10.0.0.1", None),
            "brackets are for IPv6"
        );
        assert_eq!(
            of("[::ffff:10.0.0.1]:80"),
            some("::ffff:10.0.0.1", Some(80)),
            "an IPv6 address like any other"
        );
        for bad in [
            "",
            "80",
            ":80",
            "10.0.0.1:",
            "10.0.0.1:x",
            "10.0.0.1:65536",
            "10.0.0.1:domain ",
            "1.2.3.4:80:80",
            "[fd00::1]",
            "[fd00::1]:",
            "[fd00::1]x:80",
            "fd00::1]:80",
            "[]:80",
            "fe80::1%lo",
        ] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
    }
}
