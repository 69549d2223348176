//! The persistence engine sip, in virtual time: each call of a client's has one server, whoever begins it, and other calls
//! have others.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use uvs_core::counters::ScheduleFailure;
use uvs_core::engine::ConnReport;
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::fragment::{self, Cut};
use uvs_core::outbox::Outbox;
use uvs_core::peer::TakenUp;
use uvs_core::service::{Forwarding, Persistence, ServerSpec, ServiceKey, ServiceSpec};
use uvs_core::snapshot::Peers;
use uvs_core::testing::bed::{Bed, CLIENTS, SERVERS, SERVERS_MAC};
use uvs_core::testing::packets::{PacketBuilder, TestFrame, tcp, udp};
use uvs_core::trace::{Step, Template, Trace};
use uvs_core::verdict::{DropReason, Egress, Verdict};
use uvs_core::wire::tcp::flag::SYN;

const VIP: Endpoint = Endpoint::new(Addr::v4([10, 0, 1, 100]), 5060);
/// Where the bed's clients are.
const CLIENT: Endpoint = Endpoint::new(Addr::v4([10, 0, 1, 10]), 5060);
const TIMEOUT: u32 = 300;
/// Connections and templates that there may be.
const LIMIT: u32 = 1000;

const fn server(n: u8) -> Endpoint {
    Endpoint::new(Addr::v4([10, 0, 2, 10 + n]), 5060)
}

/// `-A -u VIP:5060 -s rr -p 300 -o --pe sip` with four servers, the newest of which, number 3, is rr's first.
fn service(vip: Endpoint, forwarding: Forwarding) -> ServiceSpec {
    let mut service = ServiceSpec::new(ServiceKey::address(Protocol::Udp, vip), "rr");
    service.persistence = Some(Persistence {
        timeout: TIMEOUT,
        mask: u32::MAX,
    });
    service.engine = Some("sip".to_owned());
    service.one_packet = true;
    service.servers = (0..4)
        .rev()
        .map(|n| ServerSpec::new(server(n), forwarding))
        .collect();
    service
}

fn bed(forwarding: Forwarding) -> Bed {
    let mut bed = common::bed(LIMIT);
    bed.change_fib(|fib| {
        for n in 0..4 {
            fib.set_neighbour(3, server(n).addr, [2, 0, 0, 0, 2, n]);
        }
    });
    bed.snapshot.services = vec![Arc::new(service(VIP, forwarding))].into();
    bed.apply();
    bed
}

fn change(bed: &mut Bed, change: impl FnOnce(&mut ServiceSpec)) {
    change(Arc::make_mut(&mut bed.snapshot.services[0]));
    bed.apply();
}

fn message(call: &str) -> Vec<u8> {
    format!("INVITE sip:bob@example.com SIP/2.0\r\nVia: x\r\nCall-ID: {call}\r\n\r\nv=0\r\n").into()
}

fn of_call(from: Endpoint, to: Endpoint, call: &str) -> PacketBuilder {
    udp(from, to).payload(&message(call))
}

/// The number of the server that a client's message of a call goes to.
fn send_from(bed: &mut Bed, client: Endpoint, call: &str) -> u8 {
    let frame = of_call(client, VIP, call).frame();
    let sent = bed.from_client(TestFrame::finished(&frame));
    assert_eq!((sent.len(), &sent[0].bytes[..5]), (1, &[2, 0, 0, 0, 2][..]));
    sent[0].bytes[5]
}

fn send(bed: &mut Bed, call: &str) -> u8 {
    send_from(bed, CLIENT, call)
}

fn receive(bed: &mut Bed, packet: &PacketBuilder) -> Verdict {
    bed.receive(CLIENTS, TestFrame::finished(&packet.frame()))
}

/// What becomes of a server's message.
fn call_out(bed: &mut Bed, packet: PacketBuilder) -> Verdict {
    bed.sent.clear();
    let frame = packet.to_mac(SERVERS_MAC).frame();
    bed.receive(SERVERS, TestFrame::finished(&frame))
}

fn templates(bed: &Bed) -> Vec<ConnReport> {
    let (all, _) = bed.engine.report_connections(bed.now, 0, u32::MAX);
    all.into_iter().filter(|c| c.client.port == 0).collect()
}

/// The calls that templates stand for, and their servers.
fn calls(bed: &Bed) -> Vec<(String, Endpoint)> {
    let templates = templates(bed).into_iter();
    let mut calls: Vec<_> = templates
        .map(|t| (t.call.map_or_else(String::new, String::from), t.server))
        .collect();
    calls.sort_unstable();
    calls
}

#[test]
fn each_call_stays_with_a_server_of_its_own() {
    for forwarding in [Forwarding::Nat, Forwarding::Dr, Forwarding::Tunnel] {
        let mut bed = bed(forwarding);
        let first = ["a@h", "b@h", "c@h", "d@h"].map(|call| send(&mut bed, call));
        assert_eq!(first, [3, 2, 1, 0], "{forwarding:?}");
        for _ in 0..3 {
            let again = ["d@h", "b@h", "a@h", "c@h"].map(|call| send(&mut bed, call));
            assert_eq!(again, [0, 2, 3, 1], "{forwarding:?}");
        }
        let templates = templates(&bed);
        assert_eq!(templates.len(), 4);
        let one = templates.iter().find(|t| t.call.as_deref() == Some("b@h"));
        let one = one.expect("a template");
        let ends = (one.client, one.vip, one.server, one.expires);
        let client = Endpoint::new(CLIENT.addr, 0);
        assert_eq!(ends, (client, VIP, server(2), TIMEOUT));
        bed.engine.audit();
    }
}

#[test]
fn a_call_is_one_clients() {
    let mut bed = bed(Forwarding::Nat);
    let other = Endpoint::new(Addr::v4([10, 0, 1, 11]), 5060);
    assert_eq!(send(&mut bed, "a@h"), 3);
    assert_eq!(send_from(&mut bed, other, "a@h"), 2, "another client");
    let port = Endpoint::new(CLIENT.addr, 1024);
    assert_eq!(send_from(&mut bed, port, "a@h"), 3, "another of its ports");
    change(&mut bed, |s| {
        let network = u32::MAX << 8;
        s.persistence = Some(Persistence {
            timeout: TIMEOUT,
            mask: network,
        });
    });
    let both = [CLIENT, other].map(|client| send_from(&mut bed, client, "b@h"));
    assert_eq!(both, [1, 1], "clients of a network are one");
}

#[test]
fn what_names_no_call_is_dropped() {
    let mut bed = bed(Forwarding::Nat);
    let longest = "x".repeat(256);
    for payload in [
        &b""[..],
        b"\r\n\r\n",
        b"jaK",
        b"BYE x SIP/2.0\r\nTo: x\r\n\r\n",
        &message(&longest),
    ] {
        let verdict = receive(&mut bed, &udp(CLIENT, VIP).payload(payload));
        assert_eq!(verdict, Verdict::Drop(DropReason::NoCallId), "{payload:?}");
    }
    let report = bed.engine.report(bed.now);
    let failures = &report.services[0].numbers.failures;
    assert_eq!(failures[ScheduleFailure::NoCallId as usize], 5);
    // Nor is there one in a segment, whatever it says (`ip_vs_sip_fill_param`).
    change(&mut bed, |s| {
        s.key = ServiceKey::address(Protocol::Tcp, VIP);
        s.one_packet = false;
    });
    let verdict = receive(&mut bed, &tcp(CLIENT, VIP, SYN).payload(&message("a@h")));
    assert_eq!(verdict, Verdict::Drop(DropReason::NoCallId));
    assert!(templates(&bed).is_empty());
}

#[test]
fn a_name_without_persistence_is_a_name() {
    let mut bed = bed(Forwarding::Nat);
    change(&mut bed, |s| s.persistence = None);
    assert_eq!(["a@h", "a@h"].map(|call| send(&mut bed, call)), [3, 2]);
    let verdict = receive(&mut bed, &udp(CLIENT, VIP).payload(b"jaK"));
    assert!(matches!(verdict, Verdict::Send(_)), "{verdict:?}");
    assert!(templates(&bed).is_empty());
}

#[test]
fn a_connection_stays_where_its_first_call_went() {
    let mut bed = bed(Forwarding::Nat);
    change(&mut bed, |s| s.one_packet = false);
    assert_eq!(["a@h", "b@h"].map(|call| send(&mut bed, call)), [3, 3]);
    assert_eq!(calls(&bed), [("a@h".to_owned(), server(3))]);
    let next = Endpoint::new(CLIENT.addr, 1024);
    assert_eq!(send_from(&mut bed, next, "b@h"), 2);
    assert_eq!(
        send_from(&mut bed, Endpoint::new(CLIENT.addr, 1025), "a@h"),
        3
    );
    bed.engine.audit();
}

#[test]
fn a_call_ends_with_its_time_and_with_its_server() {
    let mut bed = bed(Forwarding::Nat);
    assert_eq!(["a@h", "b@h"].map(|call| send(&mut bed, call)), [3, 2]);
    bed.wait(Duration::from_secs(u64::from(TIMEOUT) - 10));
    assert_eq!(send(&mut bed, "b@h"), 2);
    bed.wait(Duration::from_secs(20));
    assert_eq!(calls(&bed), [("b@h".to_owned(), server(2))]);
    change(&mut bed, |s| s.servers.retain(|s| s.endpoint != server(2)));
    let moved = send(&mut bed, "b@h");
    assert_ne!(moved, 2);
    assert_eq!(send(&mut bed, "b@h"), moved);
    bed.wait(Duration::from_secs(u64::from(TIMEOUT) + 70));
    assert!(bed.engine.connections().is_empty());
    bed.engine.audit();
}

#[test]
fn a_message_in_fragments_is_of_its_call() {
    let mut bed = bed(Forwarding::Nat);
    assert_eq!(["a@h", "b@h"].map(|call| send(&mut bed, call)), [3, 2]);
    let long = [message("a@h"), vec![b' '; 2000]].concat();
    let whole = udp(CLIENT, VIP).payload(&long).may_fragment().frame();
    let mut pieces = Outbox::new();
    fragment::cut(&whole, &Cut::to(1500), Egress::default(), &mut pieces);
    let pieces = pieces.iter().map(|(bytes, ..)| TestFrame::finished(bytes));
    let sent: Vec<_> = pieces.flat_map(|piece| bed.from_client(piece)).collect();
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|s| s.bytes[..6] == [2, 0, 0, 0, 2, 3]));
}

#[test]
fn a_server_begins_calls_as_the_service() {
    let mut bed = bed(Forwarding::Nat);
    let out = |bed: &mut Bed, n, call: &str| call_out(bed, of_call(server(n), CLIENT, call));
    assert!(matches!(out(&mut bed, 1, "new@h"), Verdict::Send(_)));
    let want = of_call(VIP, CLIENT, "new@h").frame();
    assert_eq!(
        bed.sent[0].finished()[26..],
        want[26..],
        "addresses, ports, data"
    );
    assert_eq!(send(&mut bed, "new@h"), 1, "the answer finds it");
    assert_eq!(send(&mut bed, "other@h"), 3);
    // Another server that goes on with the call has it from then on.
    assert!(matches!(out(&mut bed, 0, "new@h"), Verdict::Send(_)));
    assert_eq!(send(&mut bed, "new@h"), 0);
    assert!(matches!(out(&mut bed, 0, "new@h"), Verdict::Send(_)));
    // The template that it had before is nobody's.
    let [nobodys, new, other] = ["", "new@h", "other@h"].map(str::to_owned);
    let want = [(nobodys, 0xffff, 1), (new, 5060, 0), (other, 5060, 3)];
    let want = want.map(|(call, port, n)| (call, Endpoint::new(server(n).addr, port)));
    assert_eq!(calls(&bed), want);
    let numbers = bed.engine.report(bed.now).services.remove(0).numbers;
    assert_eq!(
        (numbers.stats.connections, numbers.stats.out_packets),
        (6, 3)
    );
    bed.engine.audit();
}

#[test]
fn a_trace_tells_of_calls_and_who_begins_them() {
    let mut bed = bed(Forwarding::Nat);
    assert_eq!(send(&mut bed, "a@h"), 3);
    let traced = |port, packet: PacketBuilder| {
        let mut frame = TestFrame::finished(&packet.frame());
        let mut dry_run = bed.start_dry_run();
        dry_run.frame(&bed.engine, bed.now, port, &frame.frame())
    };
    let found = |trace: &Trace, wanted: &str| {
        let mut steps = trace.steps.iter();
        steps.find_map(|step| match step {
            Step::Persistence { call, template, .. } if call.as_deref() == Some(wanted) => {
                Some(template.clone())
            }
            _ => None,
        })
    };
    let known = traced(CLIENTS, of_call(CLIENT, VIP, "a@h"));
    let hit = Template::Hit {
        server: server(3),
        expires: TIMEOUT,
    };
    assert_eq!(found(&known, "a@h"), Some(hit.clone()));
    let begins = |trace: &Trace| {
        let service = ServiceKey::address(Protocol::Udp, VIP);
        trace.steps.contains(&Step::Begun { service })
    };
    assert!(!begins(&known));
    for (n, call, template) in [(3, "a@h", hit), (0, "new@h", Template::Miss)] {
        let begun = traced(
            SERVERS,
            of_call(server(n), CLIENT, call).to_mac(SERVERS_MAC),
        );
        assert!(begins(&begun));
        assert_eq!(found(&begun, call), Some(template));
    }
}

#[test]
fn what_a_server_says_outside_of_calls_is_its_own() {
    let mut bed = bed(Forwarding::Nat);
    // The guard has kept it from the host, which gets it by us.
    let keep_alive = udp(server(1), CLIENT).payload(b"no call");
    assert_eq!(call_out(&mut bed, keep_alive), Verdict::Local);
    for packet in [
        of_call(Endpoint::new(server(1).addr, 5061), CLIENT, "a@h"),
        tcp(server(1), CLIENT, SYN),
    ] {
        assert_eq!(call_out(&mut bed, packet), Verdict::Pass);
    }
    change(&mut bed, |s| s.engine = None);
    assert_eq!(
        call_out(&mut bed, of_call(server(1), CLIENT, "a@h")),
        Verdict::Pass
    );
    assert!(templates(&bed).is_empty());
}

#[test]
fn of_two_services_that_of_the_call_answers() {
    let other = Endpoint::new(Addr::v4([10, 0, 1, 101]), 5060);
    let mut bed = bed(Forwarding::Nat);
    bed.snapshot
        .services
        .push(Arc::new(service(other, Forwarding::Nat)));
    bed.apply();
    for vip in [other, VIP] {
        let call = format!("by-{vip}@h");
        let verdict = receive(&mut bed, &of_call(CLIENT, vip, &call));
        assert!(matches!(verdict, Verdict::Send(_)), "{verdict:?}");
        assert!(matches!(
            call_out(&mut bed, of_call(server(3), CLIENT, &call)),
            Verdict::Send(_)
        ));
        let want = of_call(vip, CLIENT, &call).frame();
        assert_eq!(bed.sent[0].finished()[26..], want[26..]);
    }
}

#[test]
fn another_process_and_another_director_know_the_calls() {
    let mut bed = bed(Forwarding::Nat);
    bed.snapshot.peers = Peers {
        master: true,
        backup: false,
    };
    bed.apply();
    assert_eq!(["a@h", "b@h"].map(|call| send(&mut bed, call)), [3, 2]);
    common::hand_down(&mut bed, LIMIT);
    assert_eq!(
        ["b@h", "a@h", "c@h"].map(|call| send(&mut bed, call)),
        [2, 3, 1]
    );
    let (told, _) = bed.engine.tell_all(bed.now, 0, 1000);
    let mut second = self::bed(Forwarding::Nat);
    for told in &told {
        let c = &told.conn.ends;
        let taken = TakenUp {
            protocol: Some(Protocol::Udp),
            client: c.client,
            vip: c.vip,
            server: c.server,
            local: None,
            method: Some(told.method),
            template: true,
            no_output: false,
            inactive: true,
            state: 0,
            timeout: told.conn.timeout,
            mark: 0,
            call: told.call.clone(),
            idle: None,
            shifts: told.shifts,
        };
        second.engine.take_up(second.now, &taken).unwrap();
        second.engine.take_up(second.now, &taken).unwrap();
    }
    assert_eq!(calls(&second), calls(&bed));
    assert_eq!(
        ["b@h", "a@h", "c@h"].map(|call| send(&mut second, call)),
        [2, 3, 1]
    );
    second.engine.audit();
}

#[test]
fn calls_without_end_take_each_others_places() {
    let mut bed = bed(Forwarding::Nat);
    let sent = |n: u32| format!("{n}@h");
    for n in 0..2500 {
        send(&mut bed, &sent(n));
    }
    assert_eq!(calls(&bed).len(), 1000 - 1, "one is of the packet at hand");
    let (last, next) = (send(&mut bed, &sent(2499)), send(&mut bed, &sent(2499)));
    assert_eq!(last, next);
    bed.engine.audit();
}
