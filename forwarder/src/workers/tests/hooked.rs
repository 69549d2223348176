//! A worker with the hook: its orders come before its frames, and what was hidden in vain goes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use uvs_core::flow::{Endpoint, Protocol};
use uvs_core::offload::{
    Birth, Cell, Event, Found, Hook, Kept, Orders, Seen, ServerCell, Tracked, Traffic,
};
use uvs_core::service::ServiceKey;
use uvs_core::tcp::TcpState;
use uvs_core::testing::bed::{SERVER, SERVER_PORT, SERVERS, SERVERS_MAC, VIP};
use uvs_core::testing::hook::Model;
use uvs_core::testing::packets::{ACK, tcp};
use uvs_core::time::Instant;

use super::rig::{Rig, client, eventually};
use crate::clock::monotonic;
use crate::port::memory::Wire;
use crate::worker::Inheritance;

/// The model, that notes whether a frame had left before an order to take its connection came.
struct Watched {
    model: Model,
    to_servers: Wire,
    late: Arc<AtomicU32>,
}

impl Hook for Watched {
    fn apply(&mut self, orders: &Orders, refused: &mut Vec<(Cell, Birth)>) {
        if !orders.taken.is_empty() && self.to_servers.has_sent() {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
        self.model.apply(orders, refused);
    }

    fn seen(&self, cell: Cell, birth: Birth) -> Option<Seen> {
        self.model.seen(cell, birth)
    }

    fn put(
        &mut self,
        cell: Cell,
        birth: Birth,
        before: &Tracked,
        after: &Tracked,
        last: Instant,
    ) -> bool {
        self.model.put(cell, birth, before, after, last)
    }

    fn next_event(&mut self) -> Option<Event> {
        self.model.next_event()
    }

    fn events_lost(&self) -> u64 {
        self.model.events_lost()
    }

    fn traffic(&self, server: ServerCell) -> Traffic {
        self.model.traffic(server)
    }

    fn counted(&self, cell: Cell, birth: Birth) -> Traffic {
        self.model.counted(cell, birth)
    }
}

fn hooked(model: &Model, late: &Arc<AtomicU32>) -> Rig {
    heir(model, late, None)
}

/// One that finds something in the kernel.
fn heir(model: &Model, late: &Arc<AtomicU32>, inheritance: Option<Inheritance>) -> Rig {
    Rig::hooked(inheritance, |wires| {
        Box::new(Watched {
            model: model.clone(),
            to_servers: wires[1].clone(),
            late: Arc::clone(late),
        })
    })
}

#[test]
fn a_connection_is_in_the_kernel_before_its_first_frame_leaves() {
    let (model, late) = (Model::default(), Arc::default());
    let mut rig = hooked(&model, &late);
    rig.publish(&rig.snapshot.clone()).expect("in force");
    for n in 0..20 {
        rig.open(0, client(n));
        eventually(|| !rig.sent(0, SERVERS).is_empty());
    }
    assert_eq!(late.load(Ordering::Relaxed), 0);
    assert_eq!(model.memory().keys.len(), 40, "both directions of each");
    let counted = rig.workers.status().expect("an answer").all;
    assert_eq!((counted.handed_over.taken, counted.connections), (20, 20));
}

#[test]
fn frames_that_came_before_the_first_services_wait_for_them() {
    let (model, late) = (Model::default(), Arc::default());
    let mut rig = hooked(&model, &late);
    rig.open(0, client(1));
    let counted = rig.workers.status().expect("an answer").all;
    assert_eq!(counted.counters.received, 0, "not even passed");
    rig.publish(&rig.snapshot.clone()).expect("in force");
    eventually(|| !rig.sent(0, SERVERS).is_empty());
}

#[test]
fn what_was_hidden_and_is_of_nobody_goes_back_to_the_hosts_stack_but_not_arp() {
    let (model, late) = (Model::default(), Arc::default());
    let mut rig = hooked(&model, &late);
    rig.publish(&rig.snapshot.clone()).expect("in force");
    // A server's last packet, whose connection has ended meanwhile.
    let at_server = Endpoint::new(SERVER, SERVER_PORT);
    let late_reply = tcp(at_server, client(1), ACK).to_mac(SERVERS_MAC).frame();
    rig.put(&late_reply);
    let mut back = Vec::new();
    eventually(|| {
        back.extend(rig.given_back());
        !back.is_empty()
    });
    assert_eq!(back[0][12..], late_reply[12..], "but for MAC addresses");
    let mut arp = late_reply.clone();
    arp[12..14].copy_from_slice(&[8, 6]);
    rig.put(&arp);
    rig.put(&late_reply);
    eventually(|| {
        back.extend(rig.given_back());
        back.len() > 1
    });
    assert_eq!(back[1][12..], late_reply[12..]);
}

/// A client's connection that an earlier daemon has left.
fn left(service: ServiceKey, client: Endpoint) -> Found {
    let server = Endpoint::new(SERVER, SERVER_PORT);
    let state = TcpState::Established as u8;
    Found {
        cell: Cell(7),
        birth: Birth(1),
        server: ServerCell(0),
        kept: Kept {
            service,
            member: server,
            protocol: Protocol::Tcp,
            client,
            vip: VIP,
            server,
            local: Endpoint::NONE,
            mode: 0,
            persistent: false,
            introduced: false,
            client_packets: 2,
            timeout: 900,
        },
        seen: Seen {
            tracked: Tracked {
                state,
                ..Tracked::default()
            },
            last: monotonic(),
            ..Seen::default()
        },
    }
}

#[test]
fn what_an_earlier_daemon_left_waits_for_its_servers_and_frames_wait_with_it() {
    let (model, late) = (Model::default(), Arc::default());
    let service = ServiceKey::address(Protocol::Tcp, VIP);
    let inheritance = Inheritance {
        servers: Vec::new(),
        connections: vec![left(service, client(1))],
    };
    let mut rig = heir(&model, &late, Some(inheritance));
    let mut without = rig.snapshot.clone();
    Arc::make_mut(&mut without.services[0]).servers.clear();
    rig.publish(&without).expect("in force");
    rig.open(0, client(2));
    let counted = rig.workers.status().expect("an answer").all;
    assert_eq!((counted.counters.received, counted.connections), (0, 0));
    rig.publish(&rig.snapshot.clone()).expect("in force");
    rig.has_connections(2);
}
