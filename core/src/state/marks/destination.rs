//! Where packets go, and how a person writes it: `tcp 192.0.2.1:80`, `udp 192.0.2.0/24:5000-5100`,
//! `any 192.0.2.1`, `tcp [2001:db8::1]:80`, `any 2001:db8::/64`.

use std::cmp::Reverse;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::flow::{Addr, Flow, Protocol};

/// Every port.
const ALL_PORTS: (u16, u16) = (0, u16::MAX);
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
    /// Bits of `addr` that count within its family: 32 = one IPv4 address, 128 = one IPv6 address.
    pub prefix: u8,
    /// First and last port.
    pub ports: (u16, u16),
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
            prefix: width(addr),
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
        self.prefix >= width(self.addr)
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
    pub(super) fn exactness(&self) -> (Reverse<u8>, u16, bool) {
        let width = self.ports.1 - self.ports.0;
        (Reverse(self.prefix), width, self.protocol.is_none())
    }
}

/// Bits of an address of this family.
const fn width(addr: Addr) -> u8 {
    if addr.is_v4() { 32 } else { 128 }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = PROTOCOLS.iter().find(|(_, p)| *p == self.protocol);
        write!(f, "{} ", name.map_or("", |(name, _)| name))?;
        // What stands behind an IPv6 address could be taken for its last group.
        let brackets = !self.addr.is_v4() && self.port() != Some(0);
        let [open, close] = if brackets { ["[", "]"] } else { [""; 2] };
        write!(f, "{open}{}", self.addr)?;
        if !self.is_host() {
            write!(f, "/{}", self.prefix)?;
        }
        write!(f, "{close}")?;
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

    /// `PROTOCOL ADDRESS[/LENGTH][:PORT[-LAST]]`, an IPv6 address or network with a port in brackets.
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
        let (network, ports) = split(place);
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

/// An address or network, and what is written of ports. Without brackets, two colons make an IPv6 address.
fn split(place: &str) -> (&str, Option<&str>) {
    if let Some((network, rest)) = place.strip_prefix('[').and_then(|p| p.split_once(']')) {
        return match rest.strip_prefix(':') {
            None if rest.is_empty() => (network, None),
            // What is wrong is the address: all of it is shown.
            None => (place, None),
            ports => (network, ports),
        };
    }
    match place.split_once(':') {
        Some((network, ports)) if !ports.contains(':') => (network, Some(ports)),
        _ => (place, None),
    }
}

fn read_network(text: &str) -> Result<(Addr, u8), DestinationError> {
    let (host, length) = text
        .split_once('/')
        .map_or((text, None), |(h, l)| (h, Some(l)));
    let Ok(host) = host.parse::<IpAddr>() else {
        let help =
            "write an address such as 192.0.2.1 or [2001:db8::1]:80; names are not looked up";
        return wrong(format!("\"{host}\" is not an IP address"), help);
    };
    let addr = Addr::from(host);
    let read = |length: &str| length.parse::<u8>().ok().filter(|n| *n <= width(addr));
    let Some(prefix) = length.map_or(Some(width(addr)), read) else {
        let help = "use a length from 0 to 32, or to 128 for IPv6";
        let length = length.unwrap_or_default();
        return wrong(format!("\"/{length}\" is not a prefix length"), help);
    };
    if addr.masked(prefix) != addr {
        let help = "give the network's first address, or leave the length out for one address";
        return wrong(format!("{text} has bits behind its prefix"), help);
    }
    let broadcast = host == IpAddr::V4(Ipv4Addr::BROADCAST);
    if prefix == width(addr) && (host.is_unspecified() || host.is_multicast() || broadcast) {
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

    fn to(text: &str) -> Destination {
        text.parse().expect(text)
    }

    #[test]
    fn a_destination_reads_as_it_is_written() {
        for text in [
            "tcp 192.0.2.1:80",
            "udp 192.0.2.0/24:5000-5100",
            "sctp 192.0.2.1",
            "any 0.0.0.0/0:80",
            "tcp [2001:db8::1]:80",
            "udp [2001:db8::/64]:5000-5100",
            "any 2001:db8::/32",
            "sctp ::ffff:192.0.2.1",
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
            ("tcp [2001:db8::1]80", "is not an IP address"),
            ("tcp 2001:db8::1:http", "is not an IP address"),
            ("tcp [2001:db8::1/64]:80", "has bits behind its prefix"),
            ("any 2001:db8::/129", "is not a prefix length"),
            ("tcp [ff02::1]:80", "is not one host's address"),
            ("tcp www.example.org:80", "is not an IP address"),
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
}
