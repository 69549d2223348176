//! Rules that give packets a firewall mark by where they go, as nft's `meta mark set` would: a packet socket
//! sees a frame before netfilter could mark it.
//!
//! A rule counts while its mark has a service; a network's, for all of its addresses that are not the
//! director's own, or it would lose its connections to everywhere. Of several rules for a packet the most exact
//! one counts: the longest prefix, then the fewest ports, then one protocol before all of them, then the
//! older rule.

mod destination;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::flow::{Addr, Flow, Protocol};
use crate::service::ServiceKey;
pub use destination::{Destination, DestinationError};

/// A rule: packets to `to` have `mark`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkRule {
    /// The mark, never 0.
    pub mark: u32,
    /// What it matches.
    pub to: Destination,
}

impl MarkRule {
    /// The service that its packets go to: a mark's services are one of each family.
    pub const fn service(&self) -> ServiceKey {
        ServiceKey::Mark {
            mark: self.mark,
            ipv6: !self.to.addr.is_v4(),
        }
    }
}

/// Where a service's packets go: to its own address, or to what `rules` mark for it.
pub fn destinations(key: ServiceKey, rules: &[MarkRule]) -> impl Iterator<Item = Destination> {
    let own = match key {
        ServiceKey::Address {
            protocol,
            addr,
            port,
        } => Some(Destination::host(protocol, addr, port)),
        ServiceKey::Mark { .. } => None,
    };
    let marked = rules.iter().filter(move |r| r.service() == key);
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
            (1, "tcp [2001:db8::1]:80"),
        ]
        .map(|(mark, text)| MarkRule { mark, to: to(text) });
        let of = |key| -> Vec<String> { destinations(key, &rules).map(String::from).collect() };
        let mark = |ipv6| ServiceKey::Mark { mark: 1, ipv6 };
        assert_eq!(of(mark(false)), ["tcp 192.0.2.1:80", "udp 192.0.2.1"]);
        assert_eq!(of(mark(true)), ["tcp [2001:db8::1]:80"]);
        let vip = Endpoint::new(Addr::v4([192, 0, 2, 9]), 443);
        let by_address = ServiceKey::address(Protocol::Tcp, vip);
        assert_eq!(of(by_address), ["tcp 192.0.2.9:443"]);
    }
}
