//! Pieces of text that several listings share: endpoints with or without names, flags, numbers.

use std::net::{IpAddr, Ipv4Addr};

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::scheduler::{FLAG_1, FLAG_2, FLAG_3};
use uvs_core::service::{ServiceKey, ServiceSpec};

use super::names::Names;

/// How addresses are written.
pub(super) struct Style<'a> {
    /// Without names (`-n`).
    pub(super) numeric: bool,
    /// Where names come from.
    pub(super) names: &'a dyn Names,
}

impl Style<'_> {
    /// `host:port`; only ports of a known protocol have names.
    pub(super) fn endpoint(&self, endpoint: Endpoint, protocol: Option<Protocol>) -> String {
        let Endpoint { addr, port } = endpoint;
        let host = if self.numeric {
            None
        } else {
            self.names.host(addr)
        };
        let host = host.unwrap_or_else(|| address(addr));
        let protocol = protocol.filter(|_| !self.numeric);
        let name = protocol.and_then(|p| self.names.service(port, p));
        let port = name.unwrap_or_else(|| port.to_string());
        if addr.is_v4() {
            format!("{host}:{port}")
        } else {
            format!("[{host}]:{port}")
        }
    }
}

/// The protocol whose port names a service's endpoints have.
pub(super) fn protocol(key: &ServiceKey) -> Option<Protocol> {
    match key {
        ServiceKey::Address { protocol, .. } => Some(*protocol),
        ServiceKey::Mark { .. } => None,
    }
}

/// An address as libc's `inet_ntop` writes it: the last 32 bits of `::/96` as an IPv4 address.
fn address(addr: Addr) -> String {
    if let IpAddr::V6(six) = addr.into() {
        let [head @ .., a, b, c, d] = six.octets();
        if head == [0; 12] && (a, b) != (0, 0) {
            return format!("::{}", Ipv4Addr::new(a, b, c, d));
        }
    }
    addr.to_string()
}

/// The scheduler flags by their names, `None` where there are none; sh and mh have names of their own
/// for two of them and show no third.
pub(super) fn sched_flags(spec: &ServiceSpec) -> Option<String> {
    if spec.flags & (FLAG_1 | FLAG_2 | FLAG_3) == 0 {
        return None;
    }
    let names: &[(u32, &str)] = match spec.scheduler.as_str() {
        "sh" => &[(FLAG_1, "sh-fallback"), (FLAG_2, "sh-port")],
        "mh" => &[(FLAG_1, "mh-fallback"), (FLAG_2, "mh-port")],
        _ => &[(FLAG_1, "flag-1"), (FLAG_2, "flag-2"), (FLAG_3, "flag-3")],
    };
    let set = names.iter().filter(|(bit, _)| spec.flags & bit != 0);
    Some(set.map(|&(_, name)| name).collect::<Vec<_>>().join(","))
}

/// The persistence mask where it groups clients, as `-M` takes it.
pub(super) fn mask(spec: &ServiceSpec) -> Option<String> {
    let mask = spec.persistence?.mask;
    let v4 = match spec.key {
        ServiceKey::Address { addr, .. } => addr.is_v4(),
        ServiceKey::Mark { ipv6, .. } => !ipv6,
    };
    match (v4, mask) {
        (true, u32::MAX) | (false, 128) => None,
        (true, mask) => Some(Ipv4Addr::from(mask).to_string()),
        (false, prefix) => Some(prefix.to_string()),
    }
}

/// A blank and a number in a column of eight; from nine digits on in thousands, millions and so on.
pub(super) fn short_number(value: u64) -> String {
    const K: u64 = 1000;
    match value {
        0..100_000_000 => format!(" {value:8}"),
        100_000_000..1_000_000_000 => format!(" {:7}K", value / K),
        1_000_000_000..100_000_000_000 => format!(" {:7}M", value / K.pow(2)),
        100_000_000_000..100_000_000_000_000 => format!(" {:7}G", value / K.pow(3)),
        _ => format!(" {:7}T", value / K.pow(4)),
    }
}

/// The same, whole.
pub(super) fn exact_number(value: u64) -> String {
    format!(" {value:8}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::tests::FewNames;

    #[test]
    fn long_numbers_are_cut_as_ipvsadm_cuts_them() {
        let shown = [
            (0, "        0"),
            (99_999_999, " 99999999"),
            (100_000_000, "  100000K"),
            (999_999_999, "  999999K"),
            (1_000_000_000, "    1000M"),
            (99_999_999_999, "   99999M"),
            (100_000_000_000, "     100G"),
            (99_999_999_999_999, "   99999G"),
            (100_000_000_000_000, "     100T"),
        ];
        for (value, want) in shown {
            assert_eq!(short_number(value), want);
        }
        assert_eq!(exact_number(7_100_000_000), " 7100000000");
    }

    #[test]
    fn ipv6_addresses_are_libcs() {
        let of = |text: &str| address(text.parse::<IpAddr>().expect("an address").into());
        for text in [
            "::",
            "::1",
            "::ffff",
            "fd00::1",
            "1:0:0:2::3",
            "1:0:2:3:4:5:6:7",
        ] {
            assert_eq!(of(text), text);
        }
        assert_eq!(of("::5:6"), "::0.5.0.6");
    }

    #[test]
    fn names_come_for_what_has_one() {
        let named = Style {
            numeric: false,
            names: &FewNames,
        };
        let numeric = Style {
            numeric: true,
            names: &FewNames,
        };
        let web = Endpoint::new(Addr::v4([127, 0, 0, 1]), 80);
        assert_eq!(named.endpoint(web, Some(Protocol::Tcp)), "localhost:http");
        assert_eq!(
            named.endpoint(web, None),
            "localhost:80",
            "a mark's servers have no protocol"
        );
        assert_eq!(numeric.endpoint(web, Some(Protocol::Tcp)), "127.0.0.1:80");
        let six = Endpoint::new("::1".parse::<IpAddr>().expect("an address").into(), 81);
        assert_eq!(named.endpoint(six, Some(Protocol::Tcp)), "[localhost]:81");
    }
}
