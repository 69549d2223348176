//! Who may open connections, and how fast, in virtual time: deny and allow lists of every service and of one,
//! what becomes of running connections when a list changes, and rates of new connections.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use uvs_core::access::{Access, AccessList, Action, Rule};
use uvs_core::counters::ScheduleFailure;
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::service::{Forwarding, NewConnections, Persistence, ServiceKey, Tunnel};
use uvs_core::testing::bed::{Bed, CLIENTS, SERVER, SERVER_PORT, SERVERS, SERVERS_MAC, VIP};
use uvs_core::testing::packets::{ACK, PacketBuilder, SYN, TestFrame, icmp, sctp, tcp, udp};
use uvs_core::trace::Step;
use uvs_core::verdict::{DropReason, Verdict};
use uvs_core::wire::tcp::flag::RST;

const DENIED: Verdict = Verdict::Drop(DropReason::Denied);

fn bed(protocol: Protocol) -> Bed {
    Bed::with_service(
        uvs_modes::BUILTIN,
        protocol,
        Forwarding::Nat,
        Tunnel::default(),
    )
}

fn list(rules: &[(Action, &str)]) -> Arc<AccessList> {
    let rule = |&(action, text): &(Action, &str)| Rule {
        prefix: text.parse().unwrap(),
        action,
    };
    Arc::new(AccessList::new(rules.iter().map(rule)))
}

/// Puts lists in force: of every service, and of the one of [`VIP`].
fn set(bed: &mut Bed, everywhere: &[(Action, &str)], own: &[(Action, &str)]) {
    let key = bed.snapshot.services[0].key;
    bed.snapshot.access = Arc::new(Access {
        everywhere: list(everywhere),
        services: BTreeMap::from([(key, list(own))]),
    });
    bed.apply();
    bed.expire();
}

fn limit(bed: &mut Bed, limits: NewConnections) {
    Arc::make_mut(&mut bed.snapshot.services[0]).new_connections = limits;
    bed.apply();
}

fn client(d: u8, port: u16) -> Endpoint {
    Endpoint::new(Addr::v4([192, 0, 2, d]), port)
}

fn send(bed: &mut Bed, packet: &PacketBuilder) -> Verdict {
    bed.sent.clear();
    bed.receive(CLIENTS, TestFrame::finished(&packet.frame()))
}

fn syn(bed: &mut Bed, from: Endpoint) -> Verdict {
    send(bed, &tcp(from, VIP, SYN))
}

fn is_sent(v: Verdict) -> bool {
    matches!(v, Verdict::Send(_))
}

fn establish(bed: &mut Bed, from: Endpoint) {
    assert!(is_sent(send(bed, &tcp(from, VIP, SYN).seq(5_000, 0))));
    let reply = tcp(Endpoint::new(SERVER, SERVER_PORT), from, SYN | ACK)
        .seq(9_000, 5_001)
        .to_mac(SERVERS_MAC);
    bed.receive(SERVERS, TestFrame::finished(&reply.frame()));
    let ack = tcp(from, VIP, ACK).seq(5_001, 9_001);
    assert!(is_sent(send(bed, &ack)));
}

fn failures(bed: &Bed, of: ScheduleFailure) -> u64 {
    bed.engine.report(bed.now).services[0].numbers.failures[of as usize]
}

#[test]
fn a_denied_client_gets_neither_a_connection_nor_an_answer() {
    let mut bed = bed(Protocol::Tcp);
    set(&mut bed, &[(Action::Deny, "192.0.2.0/28")], &[]);
    assert_eq!(syn(&mut bed, client(7, 1000)), DENIED);
    let late = tcp(client(7, 1000), VIP, ACK);
    assert_eq!(send(&mut bed, &late), DENIED, "no RST, as others get");
    assert!(bed.sent.is_empty());
    assert!(is_sent(syn(&mut bed, client(16, 1000))));
    assert_eq!(bed.engine.connections().len(), 1);
    assert_eq!(failures(&bed, ScheduleFailure::Denied), 2);
    set(&mut bed, &[], &[]);
    assert!(is_sent(syn(&mut bed, client(7, 1000))));
}

#[test]
fn it_holds_for_datagrams_and_sctp_too() {
    for protocol in [Protocol::Udp, Protocol::Sctp] {
        let mut bed = bed(protocol);
        set(&mut bed, &[], &[(Action::Deny, "192.0.2.7")]);
        let first = |from| match protocol {
            Protocol::Udp => udp(from, VIP).payload(b"?"),
            _ => sctp(from, VIP, uvs_core::wire::sctp::chunk::INIT),
        };
        assert_eq!(send(&mut bed, &first(client(7, 1000))), DENIED);
        assert!(is_sent(send(&mut bed, &first(client(8, 1000)))));
    }
}

#[test]
fn an_address_must_pass_both_lists() {
    use Action::{Allow, Deny};
    let mut bed = bed(Protocol::Tcp);
    let other = Endpoint::new(VIP.addr, 81);
    let mut second = bed.snapshot.services[0].as_ref().clone();
    second.key = ServiceKey::address(Protocol::Tcp, other);
    bed.snapshot.services.push(Arc::new(second));
    set(
        &mut bed,
        &[(Deny, "192.0.2.7")],
        &[(Deny, "0.0.0.0/0"), (Allow, "192.0.2.0/29")],
    );
    let mut to = |d, vip| send(&mut bed, &tcp(client(d, 1000), vip, SYN));
    assert_eq!(to(7, VIP), DENIED, "the service's list does not overrule");
    assert_eq!(to(7, other), DENIED);
    assert!(is_sent(to(6, VIP)));
    assert_eq!(to(9, VIP), DENIED);
    assert!(is_sent(to(9, other)), "the list is one service's");
}

#[test]
fn connections_of_a_client_that_is_denied_end_and_only_the_server_is_told() {
    let mut bed = bed(Protocol::Tcp);
    establish(&mut bed, client(7, 1000));
    establish(&mut bed, client(8, 1000));
    syn(&mut bed, client(7, 2000));
    bed.sent.clear();
    set(&mut bed, &[], &[(Action::Deny, "192.0.2.7")]);
    let (left, _) = bed.engine.report_connections(bed.now, 0, u32::MAX);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].client, client(8, 1000));
    let told: Vec<_> = bed.sent.iter().map(|s| s.port).collect();
    assert_eq!(told, [SERVERS], "half-open ones are not told of");
    let rst = &bed.sent[0].bytes[34..];
    assert_eq!(
        (rst[13] & RST, &rst[4..8]),
        (RST, &5_001u32.to_be_bytes()[..])
    );
    let more = tcp(client(7, 1000), VIP, ACK).seq(5_001, 9_001);
    assert_eq!(send(&mut bed, &more), DENIED);
    let others = tcp(client(8, 1000), VIP, ACK).seq(5_001, 9_001);
    assert!(is_sent(send(&mut bed, &others)));
}

#[test]
fn a_removed_services_list_still_ends_its_connections() {
    let mut bed = bed(Protocol::Tcp);
    establish(&mut bed, client(7, 1000));
    let key = bed.snapshot.services[0].key;
    bed.snapshot.services.clear();
    bed.snapshot.access = Arc::new(Access {
        services: BTreeMap::from([(key, list(&[(Action::Deny, "192.0.2.7")]))]),
        ..Access::default()
    });
    bed.apply();
    bed.expire();
    assert_eq!(bed.engine.connections().len(), 0);
}

#[test]
fn a_table_that_changes_elsewhere_ends_no_connection() {
    let mut bed = bed(Protocol::Tcp);
    establish(&mut bed, client(8, 1000));
    set(&mut bed, &[(Action::Deny, "192.0.2.7")], &[]);
    bed.sysctl("drop_entry", 0);
    bed.expire();
    assert_eq!(bed.engine.connections().len(), 1);
}

#[test]
fn a_networks_template_outlives_a_member_that_is_denied() {
    let mut bed = bed(Protocol::Tcp);
    Arc::make_mut(&mut bed.snapshot.services[0]).persistence = Some(Persistence {
        timeout: 300,
        mask: 0xffff_ff00,
    });
    bed.apply();
    establish(&mut bed, client(0, 1000));
    set(&mut bed, &[], &[(Action::Deny, "192.0.2.0")]);
    assert_eq!(bed.engine.connections().len(), 1, "the template");
}

#[test]
fn a_client_that_is_denied_everywhere_is_not_answered_for_an_owned_vip() {
    let mut bed = bed(Protocol::Tcp);
    let owned = Endpoint::new(Addr::v4([198, 51, 100, 1]), 80);
    bed.snapshot.owned_vips = vec![owned.addr];
    set(&mut bed, &[(Action::Deny, "192.0.2.7")], &[]);
    let ping = |from: Endpoint| icmp(from.addr, owned.addr, 8, 0, 0);
    assert_eq!(send(&mut bed, &ping(client(7, 0))), DENIED);
    assert_eq!(send(&mut bed, &ping(client(8, 0))), Verdict::Answered);
    let closed = |from| tcp(from, owned, SYN);
    assert_eq!(send(&mut bed, &closed(client(7, 1))), DENIED);
    assert_eq!(send(&mut bed, &closed(client(8, 1))), Verdict::Answered);
}

#[test]
fn one_client_gets_its_rate_and_the_others_theirs() {
    let mut bed = bed(Protocol::Tcp);
    limit(
        &mut bed,
        NewConnections {
            per_client: 2,
            per_client_burst: 5,
            ..NewConnections::default()
        },
    );
    let opened = |bed: &mut Bed, d, ports: std::ops::Range<u16>| {
        let all = ports.map(|port| syn(bed, client(d, port)));
        all.filter(|v| is_sent(*v)).count()
    };
    assert_eq!(opened(&mut bed, 7, 1000..1020), 5);
    assert_eq!(
        syn(&mut bed, client(7, 1100)),
        Verdict::Drop(DropReason::ClientRate)
    );
    assert_eq!(opened(&mut bed, 8, 1000..1003), 3);
    for _ in 0..10 {
        assert!(
            is_sent(syn(&mut bed, client(7, 1000))),
            "known: not counted"
        );
    }
    bed.wait(Duration::from_secs(1));
    assert_eq!(opened(&mut bed, 7, 2000..2020), 2);
    assert_eq!(failures(&bed, ScheduleFailure::ClientRate), 15 + 1 + 18);
}

#[test]
fn clients_of_a_prefix_share_its_rate() {
    let mut bed = bed(Protocol::Udp);
    limit(
        &mut bed,
        NewConnections {
            per_client: 3,
            client_prefix: 29,
            ..NewConnections::default()
        },
    );
    let mut datagram = |d| send(&mut bed, &udp(client(d, 1000), VIP).payload(b"?"));
    assert!((0..3).all(|d| is_sent(datagram(d))));
    assert_eq!(datagram(3), Verdict::Drop(DropReason::ClientRate));
    assert!(is_sent(datagram(8)), "the next prefix");
}

#[test]
fn a_service_gets_its_rate_and_a_fast_client_does_not_use_it_up() {
    let mut bed = bed(Protocol::Tcp);
    limit(
        &mut bed,
        NewConnections {
            per_second: 10,
            burst: 10,
            per_client: 4,
            ..NewConnections::default()
        },
    );
    for port in 1000..1100 {
        syn(&mut bed, client(7, port));
    }
    let opened = (8..40).filter(|d| is_sent(syn(&mut bed, client(*d, 1000))));
    assert_eq!(opened.count(), 6, "all but what the fast one got");
    assert_eq!(
        syn(&mut bed, client(50, 1000)),
        Verdict::Drop(DropReason::ServiceRate)
    );
    assert_eq!(failures(&bed, ScheduleFailure::ServiceRate), 26 + 1);
    limit(&mut bed, NewConnections::default());
    assert!(
        is_sent(syn(&mut bed, client(51, 1000))),
        "no limit any more"
    );
}

#[test]
fn a_trace_names_the_entry_that_decides_and_takes_no_token() {
    let mut bed = bed(Protocol::Tcp);
    set(&mut bed, &[], &[(Action::Deny, "192.0.2.0/28")]);
    let trace = |bed: &Bed, from: Endpoint| {
        let mut frame = TestFrame::finished(&tcp(from, VIP, SYN).frame());
        let mut dry_run = bed.start_dry_run();
        dry_run.frame(&bed.engine, bed.now, CLIENTS, &frame.frame())
    };
    let told = trace(&bed, client(7, 1000));
    let entry = told.steps.iter().find_map(|step| match step {
        Step::Access { service, rule, .. } => Some((*service, rule.prefix.to_string())),
        _ => None,
    });
    let key = bed.snapshot.services[0].key;
    assert_eq!(entry, Some((Some(key), "192.0.2.0/28".to_owned())));
    set(&mut bed, &[], &[]);
    limit(
        &mut bed,
        NewConnections {
            per_second: 1,
            per_client: 1,
            ..NewConnections::default()
        },
    );
    for _ in 0..3 {
        let told = trace(&bed, client(7, 1000));
        assert!(told.server().is_some(), "{:?}", told.steps);
    }
    assert!(is_sent(syn(&mut bed, client(7, 1000))));
    let refused = trace(&bed, client(7, 1001)).steps;
    assert!(
        refused
            .iter()
            .any(|step| matches!(step, Step::Refused { .. }))
    );
}
