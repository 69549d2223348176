//! Rules that give packets a firewall mark by where they go, as nft's `meta mark set` would: a packet socket
//! sees a frame before netfilter could mark it.
//!
//! A rule counts while its mark has a service; a network's, for all of its addresses that are not the
//! director's own, lest it lose its connections to everywhere. Of several rules for a packet the most exact one counts: the
//! longest prefix, then the fewest ports, then one protocol before all of them, then the older rule.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::flow::{Addr, Flow, Protocol};
use crate::service::ServiceKey;

/// Every port.
const ALL_PORTS: (u16, u16) = (0, u16::MAX);
/// The prefix length of one IPv4 address.
const HOST: u8 = 32;
/// Protocols by their names; `None` = each of them.
const PROTOCOLS: [(&str, Option<Protocol>); 4] = [
    ("tcp", Some(Protocol::Tcp)),
    ("udp", Some(Protocol::Udp)),
    ("sctp", Some(Protocol::Sctp)),
    ("any", None),
];

/// Where packets go: a protocol or each, an address or a network, a port, a range or every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Destination {
    /// The protocol; `None` = each that UVS balances.
    pub protocol: Option<Protocol>,
    /// The address, or a network's first.
    pub addr: Addr,
    /// Bits of `addr` that count within its family: 32 = one IPv4 address.
    pub prefix: u8,
    /// First and last port.
    pub ports: (u16, u16),
}

/// A rule: packets to `to` have `mark`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkRule {
    /// The mark, never 0.
    pub mark: u32,
    /// What it matches.
    pub to: Destination,
}

/// Why a text is no [`Destination`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationError {
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub help: &'static str,
}

impl Destination {
    /// One port of one address, or every port where it is 0.
    pub const fn host(protocol: Protocol, addr: Addr, port: u16) -> Self {
        Self {
            protocol: Some(protocol),
            addr,
            prefix: if addr.is_v4() { HOST } else { 128 },
            ports: if port == 0 { ALL_PORTS } else { (port, port) },
        }
    }

    /// Its protocols.
    pub fn protocols(&self) -> impl Iterator<Item = Protocol> + use<> {
        let wanted = self.protocol;
        let all = PROTOCOLS.iter().filter_map(|(_, protocol)| *protocol);
        all.filter(move |p| wanted.is_none_or(|wanted| wanted == *p))
    }

    /// Whether it is one address, not a network.
    pub const fn is_host(&self) -> bool {
        self.prefix >= if self.addr.is_v4() { HOST } else { 128 }
    }

    /// The port, 0 for every one; `None` for a range.
    pub fn port(&self) -> Option<u16> {
        match self.ports {
            ALL_PORTS => Some(0),
            (first, last) => (first == last).then_some(first),
        }
    }

    /// Whether packets of this flow go there.
    pub fn has(&self, flow: &Flow) -> bool {
        (self.ports.0..=self.ports.1).contains(&flow.dst_port)
            && self.protocol.is_none_or(|p| p as u8 == flow.protocol)
            && self.has_address(flow.dst)
    }

    /// Whether an address is the one, or in the network.
    pub fn has_address(&self, addr: Addr) -> bool {
        addr.is_v4() == self.addr.is_v4() && addr.masked(self.prefix) == self.addr
    }

    /// The more exact comes first.
    fn exactness(&self) -> (Reverse<u8>, u16, bool) {
        let width = self.ports.1 - self.ports.0;
        (Reverse(self.prefix), width, self.protocol.is_none())
    }
}

/// Where a service's packets go: to its own address, or to what `rules` mark for it.
pub fn destinations(key: ServiceKey, rules: &[MarkRule]) -> impl Iterator<Item = Destination> {
    let (own, mark) = match key {
        ServiceKey::Address {
            protocol,
            addr,
            port,
        } => (Some(Destination::host(protocol, addr, port)), None),
        ServiceKey::Mark { mark, ipv6: false } => (None, Some(mark)),
        ServiceKey::Mark { ipv6: true, .. } => (None, None),
    };
    let marked = rules.iter().filter(move |r| mark == Some(r.mark));
    own.into_iter().chain(marked.map(|r| r.to))
}

/// Rules as packets ask for them: a look-up, and a walk through ranges and networks only.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// One port of one address.
    ports: HashMap<(Protocol, Addr, u16), u32>,
    /// Ranges of ports of one address, the most exact first.
    ranges: Vec<MarkRule>,
    /// All ports of one address.
    hosts: HashMap<(Protocol, Addr), u32>,
    /// Networks, the most exact first.
    networks: Vec<MarkRule>,
}

impl Marks {
    /// A table of these rules.
    pub fn new(rules: impl Iterator<Item = MarkRule>) -> Self {
        let mut rules: Vec<MarkRule> = rules.collect();
        rules.sort_by_key(|r| r.to.exactness());
        let mut marks = Self::default();
        for rule in rules {
            marks.insert(rule);
        }
        marks
    }

    fn insert(&mut self, rule: MarkRule) {
        let MarkRule { mark, to } = rule;
        match to.port() {
            _ if !to.is_host() => self.networks.push(rule),
            None => self.ranges.push(rule),
            Some(0) => to.protocols().for_each(|p| {
                self.hosts.entry((p, to.addr)).or_insert(mark);
            }),
            Some(port) => to.protocols().for_each(|p| {
                self.ports.entry((p, to.addr, port)).or_insert(mark);
            }),
        }
    }

    /// The mark of a packet with this flow, 0 = none; `is_own` tells the director's addresses.
    pub fn of(&self, flow: &Flow, is_own: impl FnOnce(Addr) -> bool) -> u32 {
        let Some(protocol) = Protocol::from_number(flow.protocol) else {
            return 0;
        };
        let first = |rules: &[MarkRule]| rules.iter().find(|r| r.to.has(flow)).map(|r| r.mark);
        self.ports
            .get(&(protocol, flow.dst, flow.dst_port))
            .copied()
            .or_else(|| first(&self.ranges))
            .or_else(|| self.hosts.get(&(protocol, flow.dst)).copied())
            .or_else(|| first(&self.networks).filter(|_| !is_own(flow.dst)))
            .unwrap_or(0)
    }

    /// Whether packets to an address may be marked for the network it is in.
    pub fn has_network_of(&self, addr: Addr) -> bool {
        self.networks.iter().any(|r| r.to.has_address(addr))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = PROTOCOLS.iter().find(|(_, p)| *p == self.protocol);
        write!(f, "{} {}", name.map_or("", |(name, _)| name), self.addr)?;
        if !self.is_host() {
            write!(f, "/{}", self.prefix)?;
        }
        match (self.port(), self.ports) {
            (Some(0), _) => Ok(()),
            (Some(port), _) => write!(f, ":{port}"),
            (None, (first, last)) => write!(f, ":{first}-{last}"),
        }
    }
}

impl From<Destination> for String {
    fn from(to: Destination) -> Self {
        to.to_string()
    }
}

impl TryFrom<String> for Destination {
    type Error = DestinationError;

    fn try_from(text: String) -> Result<Self, DestinationError> {
        text.parse()
    }
}

impl FromStr for Destination {
    type Err = DestinationError;

    /// `PROTOCOL ADDRESS[/LENGTH][:PORT[-LAST]]`.
    fn from_str(text: &str) -> Result<Self, DestinationError> {
        const FORM: &str = "write PROTOCOL ADDRESS[/LENGTH][:PORT[-LAST]], such as \"tcp 192.0.2.1:80\", \
                            \"udp 192.0.2.0/24:5000-5100\" or \"any 192.0.2.1\"";
        let words: Vec<&str> = text.split_whitespace().collect();
        let &[protocol, place] = &words[..] else {
            return wrong(
                format!("\"{text}\" is not a protocol and a destination"),
                FORM,
            );
        };
        let Some((_, protocol)) = PROTOCOLS.iter().find(|(name, _)| *name == protocol) else {
            let help = "protocols are tcp, udp, sctp, and any for all three";
            return wrong(format!("\"{protocol}\" is no protocol"), help);
        };
        let (network, ports) = match place.rsplit_once(':') {
            Some((network, ports)) => (network, Some(ports)),
            None => (place, None),
        };
        let (addr, prefix) = read_network(network)?;
        let ports = ports.map_or(Ok(ALL_PORTS), read_ports)?;
        Ok(Self {
            protocol: *protocol,
            addr,
            prefix,
            ports,
        })
    }
}

impl fmt::Display for DestinationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.help)
    }
}

impl std::error::Error for DestinationError {}

fn read_network(text: &str) -> Result<(Addr, u8), DestinationError> {
    let (host, length) = text.split_once('/').unwrap_or((text, "32"));
    let Ok(host) = host.parse::<Ipv4Addr>() else {
        let help = "write an IPv4 address such as 192.0.2.1; names are not looked up";
        return wrong(format!("\"{host}\" is not an IPv4 address"), help);
    };
    let prefix = length.parse::<u8>().ok().filter(|n| *n <= HOST);
    let Some(prefix) = prefix else {
        let help = "use a length from 0 to 32";
        return wrong(format!("\"/{length}\" is not a prefix length"), help);
    };
    let addr = Addr::from(host);
    if addr.masked(prefix) != addr {
        let help = "give the network's first address, or leave the length out for one address";
        return wrong(format!("{text} has bits behind its prefix"), help);
    }
    if prefix == HOST && (host.is_unspecified() || host.is_multicast() || host.is_broadcast()) {
        return wrong(
            format!("{host} is not one host's address"),
            "use a unicast address",
        );
    }
    Ok((addr, prefix))
}

fn read_ports(text: &str) -> Result<(u16, u16), DestinationError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |s: &str| s.parse::<u16>().ok().filter(|port| *port != 0);
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => wrong(
            format!("\"{text}\" is not a port or a range of ports"),
            "write PORT or FIRST-LAST within 1 and 65535, the smaller one first; leave it out for every port",
        ),
    }
}

fn wrong<T>(what: String, help: &'static str) -> Result<T, DestinationError> {
    Err(DestinationError { what, help })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Endpoint;

    const CLIENT: Endpoint = Endpoint::new(Addr::v4([198, 51, 100, 7]), 40_000);

    const OWN: Addr = Addr::v4([192, 0, 2, 200]);

    fn to(text: &str) -> Destination {
        text.parse().expect(text)
    }

    fn marks(rules: &[(u32, &str)]) -> Marks {
        let rule = |&(mark, text): &(u32, &str)| MarkRule { mark, to: to(text) };
        Marks::new(rules.iter().map(rule))
    }

    fn mark_of(marks: &Marks, protocol: Protocol, host: u8, port: u16) -> u32 {
        let vip = Endpoint::new(Addr::v4([192, 0, 2, host]), port);
        marks.of(&Flow::new(protocol, CLIENT, vip), |own| own == OWN)
    }

    #[test]
    fn a_destination_reads_as_it_is_written() {
        for text in [
            "tcp 192.0.2.1:80",
            "udp 192.0.2.0/24:5000-5100",
            "sctp 192.0.2.1",
            "any 0.0.0.0/0:80",
        ] {
            assert_eq!(to(text).to_string(), text);
            let json = serde_json::to_string(&to(text)).expect("JSON");
            assert_eq!(
                serde_json::from_str::<Destination>(&json).expect(text),
                to(text)
            );
        }
        assert_eq!(to("any  192.0.2.1/32"), to("any 192.0.2.1"));
        assert_eq!(to("tcp 192.0.2.1:80-80"), to("tcp 192.0.2.1:80"));
    }

    #[test]
    fn what_is_no_destination_is_named() {
        for (text, said) in [
            ("192.0.2.1:80", "is not a protocol and a destination"),
            (
                "tcp 192.0.2.1:80 443",
                "is not a protocol and a destination",
            ),
            ("icmp 192.0.2.1", "\"icmp\" is no protocol"),
            ("tcp [2001:db8::1]:80", "is not an IPv4 address"),
            ("tcp www.example.org:80", "is not an IPv4 address"),
            ("tcp 192.0.2.1/24:80", "has bits behind its prefix"),
            ("tcp 192.0.2.0/33", "is not a prefix length"),
            ("tcp 224.0.0.1:80", "is not one host's address"),
            ("tcp 192.0.2.1:0", "is not a port or a range of ports"),
            ("tcp 192.0.2.1:90-80", "is not a port or a range of ports"),
            ("tcp 192.0.2.1:", "is not a port or a range of ports"),
        ] {
            let error = text.parse::<Destination>().expect_err(text);
            assert!(error.what.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn the_most_exact_rule_counts_wherever_it_stands() {
        let marks = marks(&[
            (1, "any 0.0.0.0/0"),
            (2, "any 192.0.2.0/24"),
            (3, "any 192.0.2.0/24:80"),
            (4, "tcp 192.0.2.0/24:80"),
            (5, "any 192.0.2.1"),
            (6, "tcp 192.0.2.1:80-89"),
            (7, "any 192.0.2.1:80"),
            (8, "tcp 192.0.2.1:80"),
            (9, "tcp 192.0.2.1:70-80"),
        ]);
        let expected = [
            (Protocol::Tcp, 1, 80, 8),
            (Protocol::Udp, 1, 80, 7),
            (Protocol::Tcp, 1, 81, 6),
            (Protocol::Tcp, 1, 75, 9),
            (Protocol::Udp, 1, 81, 5),
            (Protocol::Tcp, 2, 80, 4),
            (Protocol::Sctp, 2, 80, 3),
            (Protocol::Tcp, 2, 443, 2),
        ];
        for (protocol, host, port, mark) in expected {
            assert_eq!(mark_of(&marks, protocol, host, port), mark, "{host}:{port}");
        }
        let elsewhere = Endpoint::new(Addr::v4([203, 0, 113, 1]), 80);
        let flow = Flow::new(Protocol::Tcp, CLIENT, elsewhere);
        assert_eq!(marks.of(&flow, |_| false), 1);
    }

    #[test]
    fn what_no_rule_matches_has_no_mark() {
        let none = Marks::default();
        assert_eq!(mark_of(&none, Protocol::Tcp, 1, 80), 0);
        let marks = marks(&[(1, "tcp 192.0.2.1:80"), (2, "udp 192.0.2.16/28")]);
        assert_eq!(mark_of(&marks, Protocol::Udp, 1, 80), 0);
        assert_eq!(mark_of(&marks, Protocol::Tcp, 1, 81), 0);
        assert_eq!(mark_of(&marks, Protocol::Udp, 32, 53), 0);
        assert_eq!(mark_of(&marks, Protocol::Udp, 31, 53), 2);
        assert!(marks.has_network_of(Addr::v4([192, 0, 2, 20])));
        assert!(!marks.has_network_of(Addr::v4([192, 0, 2, 1])));
    }

    #[test]
    fn a_network_leaves_the_directors_own_addresses_out() {
        let mut rules = vec![(1, "any 192.0.2.0/24")];
        assert_eq!(mark_of(&marks(&rules), Protocol::Tcp, 199, 80), 1);
        assert_eq!(mark_of(&marks(&rules), Protocol::Tcp, 200, 80), 0);
        rules.push((2, "tcp 192.0.2.200"));
        assert_eq!(mark_of(&marks(&rules), Protocol::Tcp, 200, 80), 2);
    }

    #[test]
    fn a_service_has_its_own_address_or_what_is_marked_for_it() {
        let rules = [
            (1, "tcp 192.0.2.1:80"),
            (2, "tcp 192.0.2.2:80"),
            (1, "udp 192.0.2.1"),
        ]
        .map(|(mark, text)| MarkRule { mark, to: to(text) });
        let of = |key| -> Vec<String> { destinations(key, &rules).map(String::from).collect() };
        let mark = |ipv6| ServiceKey::Mark { mark: 1, ipv6 };
        assert_eq!(of(mark(false)), ["tcp 192.0.2.1:80", "udp 192.0.2.1"]);
        assert!(of(mark(true)).is_empty());
        let vip = Endpoint::new(Addr::v4([192, 0, 2, 9]), 443);
        let by_address = ServiceKey::address(Protocol::Tcp, vip);
        assert_eq!(of(by_address), ["tcp 192.0.2.9:443"]);
    }
}
