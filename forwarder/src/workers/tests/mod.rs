//! The set at one, two and three workers: what is asked of it is asked of all, and nobody sees how many there
//! are but where one is not well.

mod hooked;
mod rig;

use std::collections::BTreeSet;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use uvs_core::engine::{Event, EventKind};
use uvs_core::flow::Endpoint;
use uvs_core::service::ServiceSpec;
use uvs_core::snapshot::Snapshot;
use uvs_core::testing::bed::{SERVER, SERVER_PORT, SERVERS, VIP};
use uvs_core::testing::packets::{ACK, tcp};
use uvs_core::time::Instant;
use uvs_core::trace::Step;
use uvs_core::verdict::PortId;

use super::{Cursor, NotInForce};
use crate::trace::arrival::Arrival;
use crate::worker::Notice;
use rig::{Rig, client, eventually, first, picks};
use uvs_control::trace::LiveRequest;

const AT_SERVER: Endpoint = Endpoint::new(SERVER, SERVER_PORT);

/// The rig's service, changed.
fn changed(rig: &Rig, change: impl FnOnce(&mut ServiceSpec)) -> Snapshot {
    let mut snapshot = rig.snapshot.clone();
    change(Arc::make_mut(&mut snapshot.services[0]));
    snapshot
}

#[test]
fn what_is_published_serves_at_all_and_what_they_count_is_one_sum() {
    for n in [1u32, 2, 3] {
        let workers = n as usize;
        let rig = Rig::serving(workers);
        for worker in 0..workers {
            // One at the first worker, two at the second, three at the third.
            (0..=worker).for_each(|i| rig.open(worker, client(10 * worker + i)));
        }
        let count = n * (n + 1) / 2;
        rig.has_connections(count);
        let counted = rig.workers.status().expect("an answer");
        let each: Vec<u32> = counted.each.iter().map(|w| w.counted.connections).collect();
        assert_eq!(each, (1..=n).collect::<Vec<_>>());

        let (all, packets) = (&counted.all, u64::from(count));
        assert_eq!(all.counters.accounted(), all.counters.received);
        assert_eq!(all.counters.sent, packets);
        let (from, to) = (&all.ports[0].ledger, &all.ports[1].ledger);
        assert_eq!(
            (from.received, to.handed, to.sent),
            (packets, packets, packets)
        );
        let [service] = &all.services.services[..] else {
            panic!("one service: {:?}", all.services)
        };
        let [server] = service.servers[..] else {
            panic!("one server: {service:?}")
        };
        assert_eq!(
            (server.numbers.stats.connections, server.numbers.open),
            (packets, count)
        );
        let at_server = [(service.key, server.endpoint)];
        let connections = rig.workers.connections_of(&at_server).expect("an answer");
        assert_eq!(connections, [count]);
        for worker in 0..workers {
            assert_eq!(rig.sent(worker, SERVERS).len(), worker + 1);
        }
    }
}

#[test]
fn a_change_of_the_network_reaches_all() {
    let rig = Rig::serving(2);
    let mut fib = (*rig.fib).clone();
    fib.remove_neighbour(3, SERVER);
    rig.workers.publish_fib(Arc::new(fib));
    for worker in [0, 1] {
        rig.open(worker, client(worker));
    }
    let waiting = || rig.workers.status().expect("an answer").all.ports[1].waiting;
    eventually(|| waiting() == 2);
    rig.workers.publish_fib(Arc::clone(&rig.fib));
    eventually(|| waiting() == 0);
    assert!(
        [0, 1]
            .iter()
            .all(|worker| rig.sent(*worker, SERVERS).len() == 1)
    );
}

#[test]
fn a_listing_goes_through_all_tables_and_its_cursors_name_the_worker() {
    let rig = Rig::serving(3);
    // More than a page at the first, none at the second.
    let clients: BTreeSet<Endpoint> = (0..520).map(client).collect();
    for (n, client) in clients.iter().enumerate() {
        rig.open(if n < 515 { 0 } else { 2 }, *client);
    }
    rig.has_connections(520);
    let (listed, cursors) = rig.walk();
    assert_eq!(listed.len(), 520);
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), clients);
    let places: Vec<(u32, u32)> = cursors
        .into_iter()
        .map(|c| (Cursor::from(c).worker, Cursor::from(c).place))
        .collect();
    assert_eq!(places, [(0, 0), (0, 512), (1, 0), (2, 0)]);
    let nobodys = Cursor {
        worker: 3,
        place: 0,
    };
    assert_eq!(rig.workers.connections(nobodys), Ok((Vec::new(), None)));
}

#[test]
fn a_state_that_one_engine_refuses_is_not_in_force() {
    let mut rig = Rig::with(vec![first(), Box::new(|_, _| None)]);
    let refused = rig.publish(&rig.snapshot.clone());
    assert!(
        matches!(refused, Err(NotInForce::Refused(_))),
        "{refused:?}"
    );
    let all = rig.workers.status().expect("an answer").all;
    assert_eq!(all.services.services.len(), 1, "the first has taken it up");
    rig.publish(&Snapshot::default()).expect("taken back");
    let all = rig.workers.status().expect("an answer").all;
    assert_eq!(all.services.services.len(), 0);
}

#[test]
fn a_worker_that_dies_is_named() {
    let dies = picks(|| panic!("a scheduler's fault, as this test wants it"));
    let mut rig = Rig::with(vec![first(), dies]);
    rig.publish(&rig.snapshot.clone()).expect("in force");
    assert_eq!(rig.workers.ended(), None);
    rig.open(1, client(0));
    eventually(|| rig.workers.ended().is_some());
    let name = rig.workers.ended().map(|name| name.to_string());
    assert_eq!(name.as_deref(), Some("worker 1"));
    let error = rig.workers.status().err().map(|e| e.to_string());
    assert_eq!(error.as_deref(), Some("worker 1 has ended"));
}

#[test]
fn a_worker_that_is_stuck_is_named_and_the_others_go_on() {
    let (entered, enters) = channel();
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let stuck = picks(move || {
        entered.send(()).ok()?;
        released.lock().ok()?.recv().ok().map(|()| 0)
    });
    let mut rig = Rig::with(vec![first(), stuck]);
    rig.publish(&rig.snapshot.clone()).expect("in force");
    rig.open(1, client(0));
    enters.recv().expect("it is asked");
    // As if it had been so for long.
    rig.workers.all[1].heartbeat.heartbeat.beat(Instant::ZERO);
    let error = rig.workers.status().err().map(|e| e.to_string());
    assert_eq!(
        error.as_deref(),
        Some("worker 1 did not answer within 0.2 s")
    );
    rig.open(0, client(1));
    eventually(|| rig.sent(0, SERVERS).len() == 1);

    release.send(()).expect("it waits");
    rig.has_connections(2);
}

#[test]
fn the_only_worker_has_no_number() {
    let rig = Rig::serving(1);
    let names = |rig: &Rig| -> Vec<String> {
        let heartbeats = rig.workers.heartbeats();
        heartbeats
            .iter()
            .map(|heartbeat| heartbeat.name.to_string())
            .collect()
    };
    assert_eq!(names(&rig), ["the worker"]);
    assert_eq!(names(&Rig::serving(2)), ["worker 0", "worker 1"]);
}

#[test]
fn all_end_when_they_are_told() {
    let mut rig = Rig::serving(3);
    rig.workers.stop();
    assert!(rig.workers.all.iter().all(|worker| worker.has_ended()));
}

#[test]
fn each_worker_is_given_a_port_of_its_own() {
    let mut rig = Rig::serving(2);
    for worker in [0, 1] {
        rig.open(worker, client(worker));
    }
    rig.has_connections(2);
    rig.plug_anew();
    for worker in [0, 1] {
        rig.open(worker, client(2 + worker));
    }
    rig.has_connections(4);
    let all = rig.workers.status().expect("an answer").all;
    assert_eq!(all.ports[0].rx.received, 4, "they go on counting");
}

#[test]
fn a_frame_of_the_control_threads_leaves_once() {
    let rig = Rig::serving(3);
    rig.workers.send(SERVERS, vec![7; 42]);
    let sent = || -> u64 {
        let all = rig.workers.status().expect("an answer").all;
        all.ports[1].ledger.sent
    };
    eventually(|| sent() == 1);
    let frames: Vec<_> = (0..3)
        .flat_map(|worker| rig.sent(worker, SERVERS))
        .collect();
    assert_eq!(frames, [[7; 42]]);
}

#[test]
fn a_trace_is_told_by_the_worker_that_has_the_connection() {
    let rig = Rig::serving(3);
    rig.open(2, client(0));
    rig.has_connections(1);
    let frames = [tcp(client(0), VIP, ACK), tcp(client(1), VIP, ACK)];
    let arrivals = frames.map(|frame| Arrival::new(0, frame.frame(), &rig.fib));
    let traces = rig.workers.trace(&arrivals).expect("an answer");
    let servers: Vec<_> = traces.iter().map(|t| t.as_ref()?.server()).collect();
    assert_eq!(servers, [Some(AT_SERVER), None]);
    let found = Step::Lookup { found: None };
    let unknown = traces[1].as_ref().expect("a trace");
    assert!(unknown.steps.contains(&found), "{unknown:?}");
}

#[test]
fn a_look_at_real_frames_is_one_look_at_all_workers() {
    let mut rig = Rig::serving(2);
    for worker in [0, 1] {
        rig.open(worker, client(worker));
    }
    rig.has_connections(2);
    let request = LiveRequest {
        filter: "tcp :80".parse().expect("a filter"),
        count: 3,
        seconds: 60,
    };
    assert_eq!(rig.workers.begin_look(request.clone()), Ok(true));
    assert_eq!(rig.workers.begin_look(request.clone()), Ok(false));
    rig.acknowledge(0, client(0));
    rig.acknowledge(1, client(1));
    let (mut seen, mut over) = (Vec::new(), false);
    eventually(|| {
        let (more, state) = rig.workers.seen().expect("an answer");
        seen.extend(more);
        assert!(!state.over, "one is left");
        seen.len() == 2
    });
    (0..4).for_each(|n| rig.acknowledge(n % 2, client(n % 2)));
    eventually(|| {
        let (more, state) = rig.workers.seen().expect("an answer");
        seen.extend(more);
        over = state.over;
        assert!(state.matched >= seen.len() as u64, "{state:?}");
        over
    });
    assert_eq!(seen.len(), 3);
    let decided = seen.iter().map(|seen| seen.decided.as_ref()?.server);
    assert_eq!(decided.collect::<Vec<_>>(), [Some(AT_SERVER); 3]);
    assert_eq!(
        rig.workers.begin_look(request),
        Ok(true),
        "the next may begin"
    );
}

#[test]
fn what_happens_to_a_server_is_told_once() {
    let mut rig = Rig::serving(3);
    for worker in 0..3 {
        rig.open(worker, client(worker));
    }
    rig.has_connections(3);
    let key = rig.snapshot.services[0].key;
    let quiesced = changed(&rig, |service| service.servers[0].weight = 0);
    rig.publish(&quiesced).expect("in force");
    let mut told = None;
    eventually(|| {
        told = rig.workers.next_notice();
        told.is_some()
    });
    let drains = Event {
        service: key,
        server: AT_SERVER,
        what: EventKind::Drains(3),
    };
    assert_eq!(told, Some(Notice::Server(drains)));
    assert_eq!(rig.workers.next_notice(), None);
}

#[test]
fn a_ring_that_has_stopped_is_told_of_by_whose_it_is() {
    let mut rig = Rig::serving(2);
    rig.stall(1, PortId(1));
    let mut told = None;
    eventually(|| {
        told = rig.workers.next_notice();
        told.is_some()
    });
    assert_eq!(told, Some(Notice::Stalled(PortId(1))));
}
