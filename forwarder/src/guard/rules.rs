//! The guard's rules. Pure.
//!
//! Only IP frames to this host are looked at, so ARP always passes, and so do neighbour solicitations, which come to
//! groups. Everything is looked up in hash sets: a frame costs the same with one service and with thousands. Each
//! family has sets and chains of its own, and in them the same rules.
//!
//! Fragments: only the first has ports. The set `fragments` remembers a datagram whose first fragment
//! was dropped, and the others follow it. Where they overtake it they reach the kernel, which does no
//! harm: without the first it neither completes nor answers the datagram (RFC 1122 §3.3.2, RFC 4443 §3.3), and a
//! client discards it the same way.

use uvs_core::flow::{Addr, Family, Protocol};
use uvs_core::marks::Destination;
use uvs_core::shared;
use uvs_core::wire::protocol;

use super::clients;
use super::elements::{addresses, ends, octets, tuples};
use super::nft::field::{
    Field, HAS_FRAG, IP6_NEXT_HEADER, L4_PROTOCOL, MARK, PACKET_TYPE, PROTOCOL, TCP_DPORT, TH_DPORT,
};
use super::nft::rule::Rule;
use super::nft::table::{At, Chain, Dynamic, Hook, Set, Table};
use super::sets::{Key, SIDES, Side, TABLE, set};
use super::spec::{Destined, GuardSpec, HOST_MARK, LOOPBACK, Server};

/// Before every other chain at the ingress hook: what is ours is nobody else's.
const PRIORITY: i32 = -500;
/// Datagrams remembered; of more, the later fragments reach the kernel.
const FRAGMENT_LIMIT: u32 = 65_535;
/// A frame to this host's own address (PACKET_HOST).
const TO_US: u32 = 0;
/// Active FTP's data port, and those that passive FTP's are of.
const FTP_DATA: [(u32, u32); 2] = [(20, 20), (1024, 65535)];

/// The table, with a chain on each of `interfaces`.
pub(super) fn table(spec: &GuardSpec, interfaces: &[String]) -> Table {
    let mut chains: Vec<Chain> = SIDES
        .iter()
        .flat_map(|side| side_chains(spec, side))
        .collect();
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
        if !spec.nat.own_servers.is_empty() && device != LOOPBACK {
            let egress = SIDES.iter().flat_map(|side| clients::egress(side));
            chains.push(hooked("egress", At::Egress, egress.collect()));
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
        sets: SIDES.iter().flat_map(|side| sets(spec, side)).collect(),
        chains,
    }
}

/// The chains of a family.
fn side_chains(spec: &GuardSpec, side: &Side) -> Vec<Chain> {
    let names = &side.names;
    let nat = &spec.nat;
    let reasons = [
        (names.drop_service, "service"),
        (names.drop_nat_reply, "nat_reply"),
        (names.drop_fullnat_reply, "fullnat_reply"),
    ];
    let mut chains: Vec<Chain> = reasons
        .map(|(name, reason)| chain(name, dropping(side, reason)))
        .into();
    chains.extend([
        chain(names.remember, clients::remember(side, nat.idle)),
        chain(names.reply, clients::reply(side, nat.idle)),
        chain(names.stray, clients::stray(side, nat.answers_strays)),
    ]);
    chains.extend((side.family == Family::V6).then(|| chain(names.untold, untold(side))));
    chains.push(chain(names.ours, ours(spec, side)));
    chains
}

fn sets(spec: &GuardSpec, side: &Side) -> Vec<Set> {
    let names = &side.names;
    let services = |names, of: &shared::Set<Destined>| {
        pair(side, names, &side.destination, of.iter().map(ends))
    };
    let servers =
        |names, of: &shared::Set<Server>| pair(side, names, &side.source, of.iter().copied());
    let nat = &spec.nat;
    let mut sets = Vec::from_iter(
        [
            services([names.service, names.service_any_port], &spec.services),
            services(
                [names.nat_service, names.nat_service_any_port],
                &nat.services,
            ),
            servers(
                [names.nat_server, names.nat_server_any_port],
                &spec.nat_servers,
            ),
            servers(
                [names.own_server, names.own_server_any_port],
                &nat.own_servers,
            ),
            servers([names.caller, names.caller_any_port], &nat.callers),
            servers(
                [names.fullnat_server, names.fullnat_server_any_port],
                &spec.fullnat.servers,
            ),
            pair(
                side,
                [names.inner, names.inner_any_port],
                &side.inner,
                spec.nat_servers.iter().copied(),
            ),
        ]
        .into_iter()
        .flatten(),
    );
    let of_addresses =
        |name, of: &shared::Set<Addr>| set(name, side.daddr, addresses(side.family, of.iter()));
    sets.extend([
        of_addresses(names.fullnat_local, &spec.fullnat.local),
        of_addresses(names.ftp, &spec.ftp),
        of_addresses(names.owned, &spec.owned),
        of_addresses(names.local, &spec.local),
        set(
            names.icmp_errors,
            side.icmp_type,
            side.icmp_errors.iter().map(|kind| vec![*kind]).collect(),
        ),
    ]);
    if side.family == Family::V6 {
        sets.push(of_addresses(names.vips, &vips(spec)));
    }
    sets.extend(clients::sets(side, nat.idle));
    sets.push(Set {
        dynamic: Some(Dynamic {
            seconds: side.fragment_seconds,
            limit: FRAGMENT_LIMIT,
        }),
        ..set(names.fragments, side.datagram, Vec::new())
    });
    sets
}

/// Two sets: those with a port, and those for all ports.
fn pair(
    side: &Side,
    names: [&'static str; 2],
    key: &Key,
    of: impl Iterator<Item = Server>,
) -> [Set; 2] {
    let [with_port, any_port] = tuples(side.family, of);
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
    let given_back = Rule::new().is(MARK, HOST_MARK).set_mark(0).accept();
    let mut rules = Vec::from_iter((device == LOOPBACK).then_some(given_back));
    rules.extend(SIDES.map(|side| {
        let to_us = Rule::new()
            .is(PROTOCOL, side.ether_type)
            .is(PACKET_TYPE, TO_US);
        to_us.jump(side.names.ours)
    }));
    rules
}

/// Drops for a reason, and remembers the datagram of which more is to come.
fn dropping(side: &Side, reason: &str) -> Vec<Rule> {
    let more = &side.more_fragments;
    vec![
        Rule::new()
            .has_any(more.field, more.mask)
            .update(side.datagram, side.names.fragments),
        Rule::new().count(reason).drop(),
    ]
}

fn ours(spec: &GuardSpec, side: &Side) -> Vec<Rule> {
    let Side {
        source,
        destination,
        names,
        ..
    } = side;
    let new = Rule::new;
    let within = |key: &[Field], set| new().within(key, set);
    let (low, high) = spec.fullnat.ports;
    let to_fullnat =
        || within(side.daddr, names.fullnat_local).between(TH_DPORT, low.into(), high.into());
    let from_nat = || {
        [
            within(source.with_port, names.nat_server),
            within(source.any_port, names.nat_server_any_port),
        ]
    };
    let ftp = |(first, last)| {
        let to_vip = within(side.daddr, names.ftp).between(TCP_DPORT, first, last);
        to_vip.goto(names.remember)
    };
    let offset = &side.fragment_offset;
    let mut rules = vec![
        new()
            .has_any(offset.field, offset.mask)
            .within(side.datagram, names.fragments)
            .count("fragment")
            .drop(),
        within(destination.with_port, names.nat_service).goto(names.remember),
        within(destination.any_port, names.nat_service_any_port).goto(names.remember),
    ];
    rules.extend(wide(side, &spec.nat.wide, Of::Host, names.remember));
    rules.extend(FTP_DATA.map(ftp));
    rules.extend([
        within(side.daddr, names.owned).count("owned").drop(),
        within(destination.with_port, names.service).goto(names.drop_service),
        within(destination.any_port, names.service_any_port).goto(names.drop_service),
    ]);
    rules.extend(wide(side, &spec.wide, Of::Host, names.drop_service));
    if side.family == Family::V6 {
        rules.push(within(side.daddr, names.vips).jump(names.untold));
    }
    rules.extend([
        to_fullnat()
            .within(source.with_port, names.fullnat_server)
            .goto(names.drop_fullnat_reply),
        to_fullnat()
            .within(source.any_port, names.fullnat_server_any_port)
            .goto(names.drop_fullnat_reply),
    ]);
    // A program on the host may be a client.
    rules.extend(from_nat().map(|rule| rule.jump(names.reply)));
    rules.push(within(side.daddr, names.local).accept());
    rules.extend(wide(side, &spec.nat.wide, Of::Network, names.remember));
    rules.extend(wide(side, &spec.wide, Of::Network, names.drop_service));
    rules.extend([
        within(source.with_port, names.caller).goto(names.drop_nat_reply),
        within(source.any_port, names.caller_any_port).goto(names.drop_nat_reply),
    ]);
    rules.extend(from_nat().map(|rule| rule.goto(names.stray)));
    rules.extend([
        icmp_error(side, side.inner.with_port, names.inner),
        icmp_error(side, side.inner.any_port, names.inner_any_port),
    ]);
    rules
}

/// The addresses of services.
pub(super) fn vips(spec: &GuardSpec) -> shared::Set<Addr> {
    let services = spec.services.iter().chain(spec.nat.services.iter());
    services.map(|(_, vip, _)| *vip).collect()
}

/// Drops what goes to a VIP and may be a service's, though its ports cannot be told: what is authenticated, whose
/// header nf_tables does not walk past, and fragments that are cut before the ports, which a host discards (RFC 7112
/// §5), but not in silence.
fn untold(side: &Side) -> Vec<Rule> {
    let new = Rule::new;
    let offset = &side.fragment_offset;
    vec![
        new()
            .is(L4_PROTOCOL, protocol::AH.into())
            .goto(side.names.drop_service),
        new()
            .is(IP6_NEXT_HEADER, protocol::FRAGMENT.into())
            .is(HAS_FRAG, 0)
            .goto(side.names.drop_service),
        new().is(HAS_FRAG, 0).leave(),
        new().has_any(offset.field, offset.mask).leave(),
        new().between(TH_DPORT, 0, u16::MAX.into()).leave(),
        new().goto(side.names.drop_service),
    ]
}

/// Drops ICMP errors about what NAT servers were sent.
fn icmp_error(side: &Side, key: &[Field], set: &str) -> Rule {
    let error = Rule::new().within(side.icmp_type, side.names.icmp_errors);
    let first = &side.inner_first;
    let about_ip = match first.mask {
        0xff => error.is(first.field, side.inner_is),
        mask => error.masked_is(first.field, mask, side.inner_is),
    };
    about_ip.within(key, set).count("icmp_error").drop()
}

/// A host is spared nothing of a range of ports; a network spares the host's own addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Host,
    Network,
}

/// A rule each and for each protocol: a packet may be of several, so that no set could have them all.
fn wide(side: &Side, all: &shared::Set<Destination>, of: Of, chain: &str) -> Vec<Rule> {
    let rules = |to: &Destination| {
        let (addr, prefix) = (octets(&to.addr), to.prefix);
        let (first, last) = to.ports;
        let rule = |protocol: Protocol| {
            Rule::new()
                .begins_with(side.daddr[0], &addr, prefix)
                .is(side.protocol[0], protocol as u32)
                .between(TH_DPORT, first.into(), last.into())
                .goto(chain)
        };
        to.protocols().map(rule).collect::<Vec<_>>()
    };
    let of_family = all.iter().filter(|to| to.addr.family() == side.family);
    let those = of_family.filter(|to| to.is_host() == (of == Of::Host));
    those.flat_map(rules).collect()
}

#[cfg(test)]
mod tests {

    use super::*;

    fn spec() -> GuardSpec {
        let (vip, server) = (Addr::v4([10, 0, 1, 100]), Addr::v4([10, 0, 2, 1]));
        GuardSpec {
            services: [(Protocol::Tcp, vip, 80), (Protocol::Udp, vip, 0)].into(),
            nat_servers: [
                (server, Protocol::Tcp, 8080),
                (Addr([0x20; 16]), Protocol::Tcp, 8080),
            ]
            .into(),
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
        assert_eq!(elements("nat_server"), std::slice::from_ref(&server));
        assert_eq!(elements("inner"), [server]);
        let mut six = vec![0x20; 16];
        six.extend([6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(elements("nat_server6"), std::slice::from_ref(&six));
        assert_eq!(elements("inner6"), [six]);
    }
}
