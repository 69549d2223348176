//! What a trace tells, decision by decision, and that a dry run leaves the engine as it was. That its
//! decisions are the engine's is checked by the bed, for every frame of every test.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::service::{Forwarding, Persistence, ServerSpec, ServiceSpec, Tunnel};
use uvs_core::snapshot::Limits;
use uvs_core::testing::bed::{Bed, CLIENT, CLIENTS, SERVER, SERVER_PORT, VIP};
use uvs_core::testing::packets::{PacketBuilder, TestFrame, tcp, udp};
use uvs_core::trace::{Candidate, End, Fate, NoHop, SetAside, Step, Template, Trace};
use uvs_core::wire::tcp::flag::{ACK, FIN, RST, SYN};

const OTHER: Endpoint = Endpoint::new(Addr::v4([10, 0, 2, 12]), SERVER_PORT);
const MINE: Endpoint = Endpoint::new(SERVER, SERVER_PORT);

fn bed() -> Bed {
    Bed::with_service(
        uvs_modes::BUILTIN,
        Protocol::Tcp,
        Forwarding::Nat,
        Tunnel::default(),
    )
}

/// Changes the service.
fn change(bed: &mut Bed, edit: impl FnOnce(&mut ServiceSpec)) {
    edit(Arc::make_mut(&mut bed.snapshot.services[0]));
    bed.apply();
}

fn trace(bed: &Bed, packet: &PacketBuilder) -> Trace {
    let mut frame = TestFrame::finished(&packet.frame());
    let mut dry_run = bed.start_dry_run();
    dry_run.frame(&bed.engine, bed.now, CLIENTS, &frame.frame())
}

fn receive(bed: &mut Bed, packet: &PacketBuilder) {
    bed.receive(CLIENTS, TestFrame::finished(&packet.frame()));
}

fn syn() -> PacketBuilder {
    tcp(CLIENT, VIP, SYN)
}

fn candidates(trace: &Trace) -> Vec<(Endpoint, Fate)> {
    let of = |all: &Vec<Candidate>| all.iter().map(|c| (c.server, c.fate)).collect();
    let mut schedule = trace.steps.iter().filter_map(|e| match e {
        Step::Schedule { candidates, .. } => Some(of(candidates)),
        _ => None,
    });
    schedule.next().unwrap_or_default()
}

fn has(trace: &Trace, wanted: impl Fn(&Step) -> bool) -> bool {
    trace.steps.iter().any(wanted)
}

fn reason(trace: &Trace) -> &str {
    match &trace.end {
        End::Drop { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_connection_is_told_from_look_up_to_next_hop() {
    let bed = bed();
    let trace = trace(&bed, &syn());
    let steps: Vec<String> = trace
        .steps
        .iter()
        .map(|e| {
            let text = format!("{e:?}");
            text.split([' ', '{']).next().unwrap().to_owned()
        })
        .collect();
    let told = [
        "Packet", "Lookup", "Service", "Schedule", "Opened", "State", "Leave",
    ];
    assert_eq!(steps, told);
    assert_eq!(trace.end, End::Send);
    assert_eq!(trace.server(), Some(MINE));
    let changed: Vec<&str> = trace.leaving[0]
        .changes
        .iter()
        .map(|c| c.field.as_str())
        .collect();
    assert!(changed.contains(&"destination port") && changed.contains(&"destination MAC"));
}

#[test]
fn a_rehearsal_changes_nothing() {
    let mut bed = bed();
    receive(&mut bed, &syn());
    let state = |bed: &Bed| {
        let conns = bed.engine.report_connections(bed.now, 0, 100).0;
        let report = format!("{:?}", bed.engine.report(bed.now));
        (conns, report, bed.engine.counters().clone())
    };
    let before = state(&bed);
    for client in 0..50 {
        trace(&bed, &tcp(Endpoint::new(CLIENT.addr, client), VIP, SYN));
        trace(&bed, &tcp(CLIENT, VIP, FIN));
    }
    assert_eq!(state(&bed), before);
}

#[test]
fn packets_of_one_rehearsal_see_what_those_before_did() {
    let bed = bed();
    let mut dry_run = bed.start_dry_run();
    let mut look = |flags| {
        let mut frame = TestFrame::finished(&tcp(CLIENT, VIP, flags).frame());
        dry_run.frame(&bed.engine, bed.now, CLIENTS, &frame.frame())
    };
    assert!(has(&look(SYN), |e| matches!(e, Step::Opened { .. })));
    let second = look(ACK);
    assert!(has(
        &second,
        |e| matches!(e, Step::Lookup { found: Some(c) } if c.server == MINE)
    ));
    assert_eq!(second.end, End::Send);
}

#[test]
fn without_a_service_the_vips_others_are_named() {
    let bed = bed();
    let elsewhere = trace(&bed, &udp(CLIENT, VIP));
    let others = |e: &Step| matches!(e, Step::Service { found: None, others } if others.len() == 1);
    assert!(has(&elsewhere, others), "{:?}", elsewhere.steps);
    assert_eq!(elsewhere.end, End::Pass);
    let nowhere = trace(&bed, &tcp(CLIENT, Endpoint::new(OTHER.addr, 9), SYN));
    let none = |e: &Step| matches!(e, Step::Service { found: None, others } if others.is_empty());
    assert!(has(&nowhere, none));
}

#[test]
fn a_known_connection_is_told_with_its_state_and_its_end() {
    let mut bed = bed();
    receive(&mut bed, &syn());
    bed.wait(std::time::Duration::from_secs(5));
    let hit = trace(&bed, &tcp(CLIENT, VIP, ACK));
    let known = hit.steps.iter().find_map(|e| match e {
        Step::Lookup { found } => found.clone(),
        _ => None,
    });
    let known = known.unwrap();
    assert_eq!(
        (known.state.as_str(), known.idle, known.expires),
        ("SYN_RECV", 5, 55)
    );
    assert!(known.from_client && !known.removed);
    assert!(candidates(&hit).is_empty(), "no scheduler is asked");
    change(&mut bed, |s| s.servers.clear());
    let gone = trace(&bed, &tcp(CLIENT, VIP, ACK));
    assert!(has(&gone, |e| *e
        == Step::SetAside {
            why: SetAside::ServerGone
        }));
    assert_eq!(reason(&gone), "server_gone");
}

#[test]
fn an_end_that_is_none_of_the_connections_is_told_with_both_numbers() {
    let mut bed = bed();
    receive(&mut bed, &syn().seq(5_000, 0));
    receive(&mut bed, &tcp(CLIENT, VIP, ACK).seq(5_001, 9_001));
    let (seq, expected) = (0x8000_0000, 5_001);
    let forged = trace(&bed, &tcp(CLIENT, VIP, RST).seq(seq, 0));
    assert!(has(&forged, |e| *e == Step::OutOfWindow { seq, expected }));
    assert!(!has(&forged, |e| matches!(e, Step::State { .. })));
    assert_eq!(forged.end, End::Send);
}

#[test]
fn a_candidate_is_told_why_it_was_not_chosen() {
    let mut bed = bed();
    change(&mut bed, |s| {
        let mut idle = ServerSpec::new(Endpoint::new(OTHER.addr, 1), Forwarding::Nat);
        idle.weight = 0;
        s.servers[0].upper = 1;
        s.servers.insert(0, idle);
        s.servers.push(ServerSpec::new(OTHER, Forwarding::Nat));
    });
    let idle = (Endpoint::new(OTHER.addr, 1), Fate::WeightZero);
    let first = trace(&bed, &syn());
    assert_eq!(
        candidates(&first),
        [idle, (MINE, Fate::Chosen), (OTHER, Fate::NotPicked)]
    );
    receive(&mut bed, &syn());
    let second = trace(&bed, &tcp(Endpoint::new(CLIENT.addr, 9), VIP, SYN));
    assert_eq!(
        candidates(&second),
        [idle, (MINE, Fate::Overloaded), (OTHER, Fate::Chosen)]
    );
}

#[test]
fn without_a_usable_server_the_refusal_is_told() {
    let mut bed = bed();
    change(&mut bed, |s| s.servers[0].weight = 0);
    let refused = trace(&bed, &syn());
    assert_eq!(candidates(&refused), [(MINE, Fate::WeightZero)]);
    assert!(has(
        &refused,
        |e| matches!(e, Step::Refused { why } if why.contains("weight above 0"))
    ));
    assert_eq!(refused.end, End::Answered);
    assert_eq!(refused.leaving[0].kind, "ICMP type 3 code 3");
}

#[test]
fn persistence_tells_of_its_template() {
    let mut bed = bed();
    change(&mut bed, |s| {
        s.persistence = Some(Persistence {
            timeout: 300,
            mask: 0xffff_ff00,
        });
    });
    bed.sysctl("expire_quiescent_template", 1);
    let of = |trace: &Trace| {
        let mut all = trace.steps.iter().filter_map(|e| match e {
            Step::Persistence {
                client, template, ..
            } => Some((*client, template.clone())),
            _ => None,
        });
        all.next().unwrap()
    };
    let net = Addr::v4([192, 0, 2, 0]);
    assert_eq!(of(&trace(&bed, &syn())), (net, Template::Miss));
    receive(&mut bed, &syn());
    let neighbour = tcp(Endpoint::new(Addr::v4([192, 0, 2, 99]), 7), VIP, SYN);
    let hit = trace(&bed, &neighbour);
    let (server, expires) = (MINE, 300);
    assert_eq!(of(&hit), (net, Template::Hit { server, expires }));
    assert!(candidates(&hit).is_empty());
    change(&mut bed, |s| s.servers[0].weight = 0);
    assert_eq!(
        of(&trace(&bed, &neighbour)),
        (net, Template::Stale { server: MINE })
    );
}

#[test]
fn a_drop_is_told_with_what_it_means() {
    let mut bed = bed();
    bed.change_fib(|fib| fib.remove_route(Addr::v4([10, 0, 2, 0]), 24));
    bed.change_fib(|fib| fib.remove_route(Addr::UNSPECIFIED, 0));
    let lost = trace(&bed, &syn());
    let no_route = Some(NoHop::NoRoute);
    assert!(has(
        &lost,
        |e| matches!(e, Step::Leave { unreachable, .. } if *unreachable == no_route)
    ));
    assert_eq!(reason(&lost), "no_route");
    let End::Drop {
        meaning, advice, ..
    } = &lost.end
    else {
        panic!("{lost:?}")
    };
    assert!(meaning.contains("no route") && advice.contains("ip route get"));
}

#[test]
fn a_full_table_is_as_full_in_a_rehearsal() {
    let limits = Limits {
        connections: 3,
        ..Limits::default()
    };
    let mut bed = Bed::new(uvs_modes::BUILTIN, limits);
    bed.add_service(Protocol::Tcp, Forwarding::Nat, Tunnel::default());
    for port in 1..=3 {
        let client = Endpoint::new(CLIENT.addr, port);
        receive(&mut bed, &tcp(client, VIP, SYN));
        receive(&mut bed, &tcp(client, VIP, ACK));
    }
    let refused = trace(&bed, &tcp(Endpoint::new(CLIENT.addr, 9), VIP, SYN));
    assert_eq!(reason(&refused), "table_full");
    assert_eq!(
        trace(&bed, &tcp(Endpoint::new(CLIENT.addr, 2), VIP, ACK)).end,
        End::Send
    );
}

#[test]
fn a_trace_survives_the_way_to_the_command_line() {
    let bed = bed();
    let trace = trace(&bed, &syn());
    let text = serde_json::to_string(&trace).unwrap();
    assert_eq!(serde_json::from_str::<Trace>(&text).unwrap(), trace);
    assert!(text.contains(r#""step":"lookup""#) && text.contains(r#""verdict":"send""#));
}
