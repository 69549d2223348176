//! Which of a NAT server's frames are replies of ours: those to a client of a NAT service.
//!
//! A server sends them from the port at which it also answers others (a DNAT of the host's, a resolver, a
//! time server), and with a service for all ports from every port. Only the far end tells them apart, so
//! the guard remembers who has sent to a NAT service: address, protocol and port, in the set `clients`.
//! The client's packet comes first, and is remembered by the same softirq that shows it to UVS, before a
//! server can have answered it. All else a NAT server sends passes untouched: the host's netfilter and
//! routes see it as if there were no UVS.
//!
//! An element must live as long as its connection may, or the kernel would see a reply; and not much
//! longer, or the set would grow with all that ever were. A SYN is remembered for as long as the engine
//! waits for its handshake, so that a flood costs little; what follows, for the time-outs of connections.
//! After the server's FIN or RST (which no client can forge) the client is `closing`, for little more than
//! TIME_WAIT.
//!
//! Where it cannot tell, the guard keeps all that NAT servers send from the kernel, in `unsure`'s
//! protocols: after the table was replaced, until the engine's connections are in it again, and while
//! `clients` is full. The service goes on then, and the servers' own traffic waits.

use uvs_core::wire::protocol::{SCTP, TCP, UDP};

use super::elements::{Change, keys};
use super::nft::field::{Field, TCP_FLAGS};
use super::nft::rule::Rule;
use super::nft::table::{Dynamic, Set};
use super::sets::{IPV4, IPV6, SIDES, Side, set};
use super::spec::{Idle, Server};

/// The sets of protocols in which the guard cannot tell.
pub(super) const UNSURE: [&str; 2] = [IPV4.names.unsure, IPV6.names.unsure];
/// Clients remembered, about 100 bytes each as they come.
const CLIENT_LIMIT: u32 = 2 << 20;
/// The engine's SYN_RECV.
const HANDSHAKE_SECONDS: u32 = 60;
/// The engine's TIME_WAIT, and what the two clocks may differ.
const CLOSING_SECONDS: u32 = 120 + MARGIN_SECONDS;
/// SCTP's longest.
const OTHER_SECONDS: u32 = 900;
const MARGIN_SECONDS: u32 = 30;
/// The kernel keeps all from these servers for this long where nobody says that it is sure again.
const UNSURE_SECONDS: u32 = 30;

/// Bits of [`TCP_FLAGS`].
const FIN: u32 = 0x01;
const SYN: u32 = 0x02;
const RST: u32 = 0x04;
const ACK: u32 = 0x10;
/// The same in every network namespace (include/net/flow.h).
const LOOPBACK_IFINDEX: u32 = 1;

impl Idle {
    /// Seconds for which a client is remembered: in UDP, and in the other protocols.
    const fn lifetimes(self) -> (u32, u32) {
        let tcp = if self.tcp > OTHER_SECONDS {
            self.tcp
        } else {
            OTHER_SECONDS
        };
        (
            self.udp.saturating_add(MARGIN_SECONDS),
            tcp.saturating_add(MARGIN_SECONDS),
        )
    }
}

/// The sets that the rules fill.
pub(super) fn sets(side: &Side, idle: Idle) -> [Set; 3] {
    let (_, lifetime) = idle.lifetimes();
    let (names, from) = (&side.names, side.source.with_port);
    let dynamic = |seconds, limit, set| Set {
        dynamic: Some(Dynamic { seconds, limit }),
        ..set
    };
    let all = [TCP, UDP, SCTP].map(|protocol| vec![protocol]);
    [
        dynamic(lifetime, CLIENT_LIMIT, set(names.clients, from, Vec::new())),
        dynamic(
            CLOSING_SECONDS,
            CLIENT_LIMIT,
            set(names.closing, from, Vec::new()),
        ),
        dynamic(
            UNSURE_SECONDS,
            255,
            set(names.unsure, side.protocol, all.into()),
        ),
    ]
}

/// What becomes of a client's packet to a NAT service.
pub(super) fn remember(side: &Side, idle: Idle) -> Vec<Rule> {
    let new = Rule::new;
    let (udp, _) = idle.lifetimes();
    let (names, from) = (&side.names, side.source.with_port);
    let rules = [
        new()
            .masked_is(TCP_FLAGS, SYN | ACK, SYN)
            .within(from, names.closing)
            .delete(from, names.closing)
            .update_for(from, names.clients, HANDSHAKE_SECONDS),
        new()
            .masked_is(TCP_FLAGS, SYN | ACK, SYN)
            .add_for(from, names.clients, HANDSHAKE_SECONDS),
        new()
            .within(from, names.closing)
            .update(from, names.closing)
            .update_for(from, names.clients, CLOSING_SECONDS),
        new()
            .is(side.protocol[0], UDP.into())
            .update_for(from, names.clients, udp),
        new().update(from, names.clients),
    ];
    // Where the set is full, the rule ends before it goes there.
    let mut rules: Vec<_> = rules.map(|rule| rule.goto(names.drop_service)).into();
    rules.push(new().update(side.protocol, names.unsure));
    rules.push(new().goto(names.drop_service));
    rules
}

/// What becomes of a NAT server's packet to the host or beyond.
pub(super) fn reply(side: &Side, idle: Idle) -> Vec<Rule> {
    let new = Rule::new;
    let (udp, _) = idle.lifetimes();
    let (names, to) = (&side.names, side.destination.with_port);
    vec![
        new()
            .is(side.protocol[0], UDP.into())
            .within(to, names.clients)
            .update_for(to, names.clients, udp)
            .goto(names.drop_nat_reply),
        new()
            .has_any(TCP_FLAGS, FIN | RST)
            .within(to, names.clients)
            .update(to, names.closing),
        new().within(to, names.clients).goto(names.drop_nat_reply),
    ]
}

/// What becomes of a NAT server's packet that is beyond the host and to no client.
pub(super) fn stray(side: &Side, answers_strays: bool) -> Vec<Rule> {
    let new = Rule::new;
    let names = &side.names;
    let mut rules = vec![new().within(side.protocol, names.unsure)];
    // With nat_icmp_send the engine answers them, but for a RST.
    if answers_strays {
        rules.push(new().masked_is(TCP_FLAGS, RST, 0));
        rules.push(new().differs(side.protocol[0], TCP.into()));
    }
    let drop = |rule: Rule| rule.goto(names.drop_nat_reply);
    rules.into_iter().map(drop).collect()
}

/// Puts what this host's own NAT server answers to a client into the loopback interface, where UVS takes
/// it: such a frame leaves by an interface whose ingress it never passes.
pub(super) fn egress(side: &Side) -> [Rule; 2] {
    let Side { source, names, .. } = side;
    let to_client = |key: &[Field], set| {
        let reply = Rule::new().within(key, set);
        let to_client = reply.within(side.destination.with_port, names.clients);
        to_client.fwd_to(LOOPBACK_IFINDEX)
    };
    [
        to_client(source.with_port, names.own_server),
        to_client(source.any_port, names.own_server_any_port),
    ]
}

/// What enters clients, as ends of connections, into the sets.
pub(super) fn changes(clients: &[Server]) -> Vec<Change> {
    let of_family = SIDES.map(|side| Change {
        set: side.names.clients,
        gained: true,
        keys: keys(side.family, clients.iter()),
    });
    let some = of_family.into_iter().filter(|c| !c.keys.is_empty());
    some.collect()
}

/// Whether a set is one of the clients'.
pub(super) fn is_clients(set: &str) -> bool {
    SIDES.iter().any(|side| side.names.clients == set)
}
