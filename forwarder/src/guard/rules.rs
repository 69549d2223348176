//! The guard's rules. Pure.
//!
//! Only IPv4 frames to this host are looked at, so ARP always passes. Everything is looked up in hash
//! sets: a frame costs the same with one service and with thousands.
//!
//! Fragments: only the first has ports. The set `fragments` remembers a datagram whose first fragment
//! was dropped, and the others follow it. Where they overtake it they reach the kernel, which does no
//! harm: without the first it neither completes nor answers the datagram (RFC 1122 §3.3.2), and a
//! client discards it the same way.

use uvs_core::flow::{Addr, Protocol};
use uvs_core::marks::Destination;
use uvs_core::wire::{ethernet, icmp, ipv4, ports};

use super::clients;
use super::elements::{addresses, tuples};
use super::nft::field::{
    Field, ICMP_TYPE, IP_DADDR, IP_FRAG_OFF, IP_ID, IP_PROTOCOL, IP_SADDR, MARK, PACKET_TYPE,
    PROTOCOL, TCP_DPORT, TH_DPORT, th,
};
use super::nft::rule::Rule;
use super::nft::table::{At, Chain, Dynamic, Hook, Set, Table};
use super::sets::{Key, SOURCE, TABLE, set};
use super::spec::{GuardSpec, HOST_MARK, LOOPBACK, Server};

/// Before every other chain at the ingress hook: what is ours is nobody else's.
const PRIORITY: i32 = -500;
/// The kernel's own reassembly time (net.ipv4.ipfrag_time).
const FRAGMENT_SECONDS: u32 = 30;
/// Datagrams remembered; of more, the later fragments reach the kernel.
const FRAGMENT_LIMIT: u32 = 65_535;
/// Bits of a fragment's field: more follow, and where it belongs.
const MORE_FRAGMENTS: u32 = ipv4::MORE_FRAGMENTS as u32;
const FRAGMENT_OFFSET: u32 = ipv4::FRAGMENT_OFFSET as u32;
/// EtherType of IPv4, and a frame to this host's own address (PACKET_HOST).
const IPV4: u32 = ethernet::ethertype::IPV4 as u32;
const TO_US: u32 = 0;

const DESTINATION: Key = Key {
    with_port: &[IP_DADDR, IP_PROTOCOL, TH_DPORT],
    any_port: &[IP_DADDR, IP_PROTOCOL],
};
/// Destination, protocol and destination port of the packet within an ICMP error (RFC 792), from the
/// start of the ICMP header, where the inner IP header has no options.
const INNER_DESTINATION: Key = Key {
    with_port: &[INNER_DADDR, INNER_PROTOCOL, INNER_DPORT],
    any_port: &[INNER_DADDR, INNER_PROTOCOL],
};
const INNER: usize = icmp::LEN;
const INNER_DADDR: Field = th(INNER + ipv4::offset::DST, 4);
const INNER_PROTOCOL: Field = th(INNER + ipv4::offset::PROTOCOL, 1);
const INNER_DPORT: Field = th(INNER + ipv4::MIN_LEN + ports::offset::DST, 2);
/// The inner header's first byte: IPv4, five words.
const INNER_VERSION: Field = th(INNER, 1);
const INNER_IS_PLAIN: u32 = 0x45;
/// Active FTP's data port, and those that passive FTP's are of.
const FTP_DATA: [(u32, u32); 2] = [(20, 20), (1024, 65535)];
/// What the fragments of one datagram have in common (RFC 791 §3.2).
const DATAGRAM: &[Field] = &[IP_SADDR, IP_DADDR, IP_ID, IP_PROTOCOL];

/// The table, with a chain on each of `interfaces`.
pub(super) fn table(spec: &GuardSpec, interfaces: &[String]) -> Table {
    let mut chains: Vec<Chain> = ["service", "nat_reply", "fullnat_reply"]
        .map(|reason| chain(&format!("drop_{reason}"), dropping(reason)))
        .into();
    let nat = &spec.nat;
    chains.extend([
        chain("remember", clients::remember(nat.idle)),
        chain("reply", clients::reply(nat.idle)),
        chain("stray", clients::stray(nat.answers_strays)),
        chain("ours", ours(spec)),
    ]);
    for (i, device) in interfaces.iter().enumerate() {
        let hooked = |kind: &str, at, rules| Chain {
            hook: Some(Hook {
                at,
                device: device.clone(),
                priority: PRIORITY,
            }),
            ..chain(&format!("{kind}_{i}"), rules)
        };
        chains.push(hooked("ingress", At::Ingress, ingress(device)));
        if !nat.own_servers.is_empty() && device != LOOPBACK {
            chains.push(hooked("egress", At::Egress, clients::egress()));
        }
    }
    Table {
        name: TABLE,
        counters: vec![
            "service",
            "owned",
            "nat_reply",
            "fullnat_reply",
            "icmp_error",
            "fragment",
        ],
        sets: sets(spec),
        chains,
    }
}

fn sets(spec: &GuardSpec) -> Vec<Set> {
    let services = |names, of: &[(Protocol, Addr, u16)]| {
        let of: Vec<_> = of.iter().map(|&(p, vip, port)| (vip, p, port)).collect();
        pair(names, &DESTINATION, &of)
    };
    let servers = |names, of: &[Server]| pair(names, &SOURCE, of);
    let nat = &spec.nat;
    let mut sets = Vec::from_iter(
        [
            services(["service", "service_any_port"], &spec.services),
            services(["nat_service", "nat_service_any_port"], &nat.services),
            servers(["nat_server", "nat_server_any_port"], &spec.nat_servers),
            servers(["own_server", "own_server_any_port"], &nat.own_servers),
            servers(
                ["fullnat_server", "fullnat_server_any_port"],
                &spec.fullnat.servers,
            ),
            pair(
                ["inner", "inner_any_port"],
                &INNER_DESTINATION,
                &spec.nat_servers,
            ),
        ]
        .into_iter()
        .flatten(),
    );
    let of_addresses = |name, of: &[Addr]| set(name, &[IP_DADDR], addresses(of));
    sets.extend([
        of_addresses("fullnat_local", &spec.fullnat.local),
        of_addresses("ftp", &spec.ftp),
        of_addresses("owned", &spec.owned),
        of_addresses("local", &spec.local),
        set(
            "icmp_errors",
            &[ICMP_TYPE],
            icmp::ERRORS.map(|kind| vec![kind]).into(),
        ),
    ]);
    sets.extend(clients::sets(nat.idle));
    sets.push(Set {
        dynamic: Some(Dynamic {
            seconds: FRAGMENT_SECONDS,
            limit: FRAGMENT_LIMIT,
        }),
        ..set("fragments", DATAGRAM, Vec::new())
    });
    sets
}

/// Two sets: those with a port, and those for all ports.
fn pair(names: [&'static str; 2], key: &Key, of: &[Server]) -> [Set; 2] {
    let [with_port, any_port] = tuples(of);
    [
        set(names[0], key.with_port, with_port),
        set(names[1], key.any_port, any_port),
    ]
}

fn chain(name: &str, rules: Vec<Rule>) -> Chain {
    Chain {
        name: name.to_owned(),
        hook: None,
        rules,
    }
}

/// What UVS sent into the host's own stack is not ours a second time.
fn ingress(device: &str) -> Vec<Rule> {
    let to_us = Rule::new().is(PROTOCOL, IPV4).is(PACKET_TYPE, TO_US);
    let given_back = Rule::new().is(MARK, HOST_MARK).set_mark(0).accept();
    let mut rules = Vec::from_iter((device == LOOPBACK).then_some(given_back));
    rules.push(to_us.jump("ours"));
    rules
}

/// Drops for a reason, and remembers the datagram of which more is to come.
fn dropping(reason: &str) -> Vec<Rule> {
    vec![
        Rule::new()
            .has_any(IP_FRAG_OFF, MORE_FRAGMENTS)
            .update(DATAGRAM, "fragments"),
        Rule::new().count(reason).drop(),
    ]
}

fn ours(spec: &GuardSpec) -> Vec<Rule> {
    let new = Rule::new;
    let within = |key: &[Field], set| new().within(key, set);
    let (low, high) = spec.fullnat.ports;
    let to_fullnat =
        || within(&[IP_DADDR], "fullnat_local").between(TH_DPORT, low.into(), high.into());
    let from_nat = || {
        [
            within(SOURCE.with_port, "nat_server"),
            within(SOURCE.any_port, "nat_server_any_port"),
        ]
    };
    let icmp_error = |key: &[Field], set| {
        within(&[ICMP_TYPE], "icmp_errors")
            .is(INNER_VERSION, INNER_IS_PLAIN)
            .within(key, set)
            .count("icmp_error")
            .drop()
    };
    let ftp = |(first, last)| {
        let to_vip = within(&[IP_DADDR], "ftp").between(TCP_DPORT, first, last);
        to_vip.goto("remember")
    };
    let later_fragment = new().has_any(IP_FRAG_OFF, FRAGMENT_OFFSET);
    let mut rules = vec![
        later_fragment
            .within(DATAGRAM, "fragments")
            .count("fragment")
            .drop(),
        within(DESTINATION.with_port, "nat_service").goto("remember"),
        within(DESTINATION.any_port, "nat_service_any_port").goto("remember"),
    ];
    rules.extend(wide(&spec.nat.wide, Of::Host, "remember"));
    rules.extend(FTP_DATA.map(ftp));
    rules.extend([
        within(&[IP_DADDR], "owned").count("owned").drop(),
        within(DESTINATION.with_port, "service").goto("drop_service"),
        within(DESTINATION.any_port, "service_any_port").goto("drop_service"),
    ]);
    rules.extend(wide(&spec.wide, Of::Host, "drop_service"));
    rules.extend([
        to_fullnat()
            .within(SOURCE.with_port, "fullnat_server")
            .goto("drop_fullnat_reply"),
        to_fullnat()
            .within(SOURCE.any_port, "fullnat_server_any_port")
            .goto("drop_fullnat_reply"),
    ]);
    // A program on the host may be a client.
    rules.extend(from_nat().map(|rule| rule.jump("reply")));
    rules.push(within(&[IP_DADDR], "local").accept());
    rules.extend(wide(&spec.nat.wide, Of::Network, "remember"));
    rules.extend(wide(&spec.wide, Of::Network, "drop_service"));
    rules.extend(from_nat().map(|rule| rule.goto("stray")));
    rules.extend([
        icmp_error(INNER_DESTINATION.with_port, "inner"),
        icmp_error(INNER_DESTINATION.any_port, "inner_any_port"),
    ]);
    rules
}

/// A host is spared nothing of a range of ports; a network spares the host's own addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Host,
    Network,
}

/// A rule each and for each protocol: a packet may be of several, so that no set could have them all.
fn wide(all: &[Destination], of: Of, chain: &str) -> Vec<Rule> {
    let rules = |to: &Destination| {
        let addr = to.addr.as_v4().map(u32::from_be_bytes)?;
        let mask = u32::MAX.checked_shl(32 - u32::from(to.prefix)).unwrap_or(0);
        let (first, last) = to.ports;
        let rule = move |protocol: Protocol| {
            Rule::new()
                .masked_is(IP_DADDR, mask, addr & mask)
                .is(IP_PROTOCOL, protocol as u32)
                .between(TH_DPORT, first.into(), last.into())
                .goto(chain)
        };
        Some(to.protocols().map(rule).collect::<Vec<_>>())
    };
    let those = all.iter().filter(|to| to.is_host() == (of == Of::Host));
    those.filter_map(rules).flatten().collect()
}

#[cfg(test)]
mod tests {

    use super::*;

    fn spec() -> GuardSpec {
        let (vip, server) = (Addr::v4([10, 0, 1, 100]), Addr::v4([10, 0, 2, 1]));
        GuardSpec {
            services: vec![
                (Protocol::Tcp, vip, 80),
                (Protocol::Udp, vip, 0),
                (Protocol::Tcp, vip, 80),
            ],
            nat_servers: vec![
                (server, Protocol::Tcp, 8080),
                (Addr([0x20; 16]), Protocol::Tcp, 8080),
            ],
            ..GuardSpec::default()
        }
    }

    #[test]
    fn every_element_stands_once_in_the_set_for_its_ports() {
        let table = table(&spec(), &[]);
        let elements = |name| {
            let mut sets = table.sets.iter();
            sets.find(|s| s.name == name).unwrap().elements.clone()
        };
        let http = vec![10, 0, 1, 100, 6, 0, 0, 0, 0, 80, 0, 0];
        assert_eq!(elements("service"), [http]);
        assert_eq!(
            elements("service_any_port"),
            [vec![10, 0, 1, 100, 17, 0, 0, 0]]
        );
        let server = vec![10, 0, 2, 1, 6, 0, 0, 0, 0x1f, 0x90, 0, 0];
        assert_eq!(
            elements("nat_server"),
            std::slice::from_ref(&server),
            "IPv6 is left out"
        );
        assert_eq!(elements("inner"), [server]);
    }

    #[test]
    fn the_same_services_in_another_order_are_the_same_table() {
        let mut other = spec();
        other.services.reverse();
        assert_eq!(table(&spec(), &[]), table(&other, &[]));
    }
}
