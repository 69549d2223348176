//! Connections that the kernel forwards, by a model of the hook: what is told of them is what is true, and what
//! has to reach them reaches them.

use std::sync::Arc;
use std::time::Duration;

use uvs_core::engine::ConnReport;
use uvs_core::fib::{Interface, ReversePath};
use uvs_core::flow::{Endpoint, Protocol};
use uvs_core::offload::{Reach, Untaken, Up};
use uvs_core::service::{Forwarding, OnRemoval, Persistence, ServiceSpec, Tunnel};
use uvs_core::snapshot::Limits;
use uvs_core::testing::bed::{
    Bed, CLIENT, CLIENTS, LOCAL, SERVER, SERVER_PORT, SERVERS, SERVERS_MAC, VIP,
};
use uvs_core::testing::hook::Model;
use uvs_core::testing::packets::{PacketBuilder, TestFrame, tcp, udp};
use uvs_core::wire::tcp::flag::{ACK, FIN, RST, SYN};

/// The first numbers of client and server.
const CLIENT_ISN: u32 = 1000;
const SERVER_ISN: u32 = 5000;

fn bed(protocol: Protocol, forwarding: Forwarding) -> (Bed, Model) {
    let mut bed = Bed::new(uvs_modes::BUILTIN, Limits::default());
    bed.take_back();
    let model = bed.hand_over(Reach::Everything);
    bed.add_service(protocol, forwarding, Tunnel::default());
    (bed, model)
}

fn from_client(bed: &mut Bed, packet: &PacketBuilder) -> usize {
    bed.from_client(TestFrame::finished(&packet.frame())).len()
}

fn from_server(bed: &mut Bed, packet: PacketBuilder) -> usize {
    let frame = packet.to_mac(SERVERS_MAC).frame();
    bed.from_server(TestFrame::finished(&frame)).len()
}

fn server() -> Endpoint {
    Endpoint::new(SERVER, SERVER_PORT)
}

/// A handshake of NAT's, its last segment the client's.
fn establish(bed: &mut Bed, client: Endpoint) {
    let syn = tcp(client, VIP, SYN).seq(CLIENT_ISN, 0);
    from_client(bed, &syn);
    bed.now = bed.now + Duration::from_millis(3);
    let answer = tcp(server(), client, SYN | ACK).seq(SERVER_ISN, CLIENT_ISN + 1);
    from_server(bed, answer);
    bed.now = bed.now + Duration::from_millis(1);
    from_client(bed, &segment(client, ACK));
}

fn segment(client: Endpoint, flags: u8) -> PacketBuilder {
    tcp(client, VIP, flags).seq(CLIENT_ISN + 1, SERVER_ISN + 1)
}

fn connections(bed: &Bed) -> Vec<ConnReport> {
    bed.engine.report_connections(bed.now, 0, 1000).0
}

fn only(bed: &Bed) -> ConnReport {
    let [one] = connections(bed).try_into().expect("one connection");
    one
}

fn change(bed: &mut Bed, by: impl FnOnce(&mut ServiceSpec)) {
    let mut service = ServiceSpec::clone(&bed.snapshot.services[0]);
    by(&mut service);
    bed.snapshot.services[0] = Arc::new(service);
    bed.apply();
}

#[test]
fn only_the_syn_comes_up_and_all_that_is_told_is_true() {
    let (mut bed, model) = bed(Protocol::Tcp, Forwarding::Nat);
    establish(&mut bed, CLIENT);
    assert_eq!(bed.engine.counters().received, 1, "the SYN");
    assert_eq!(model.forwarded(), 2);
    let c = only(&bed);
    assert!(c.in_kernel);
    assert_eq!((c.state, c.expires), ("ESTABLISHED", 900));
    assert_eq!(c.sequence, Some((CLIENT_ISN + 1, SERVER_ISN + 1)));
    bed.wait(Duration::from_secs(2));
    let server = bed.engine.report(bed.now).services[0].servers[0].numbers;
    assert_eq!((server.active, server.inactive), (1, 0));
    assert_eq!((server.stats.in_packets, server.stats.out_packets), (2, 1));
    assert_eq!((server.stats.in_bytes, server.stats.out_bytes), (80, 40));
    assert_eq!(server.handshake, 3000, "microseconds from SYN to SYN-ACK");
    from_client(&mut bed, &segment(CLIENT, FIN | ACK));
    let server = bed.engine.report(bed.now).services[0].servers[0].numbers;
    assert_eq!((server.active, server.inactive), (0, 1));
    let handed = bed.engine.handed_over();
    assert_eq!((handed.taken, handed.takes, handed.releases), (1, 1, 0));
}

#[test]
fn it_is_idle_since_its_last_packet_in_the_kernel_by_the_time_out_in_force_then() {
    let (mut bed, _) = bed(Protocol::Udp, Forwarding::Dr);
    bed.snapshot.timeouts.udp = 5;
    bed.apply();
    for _ in 0..20 {
        from_client(&mut bed, &udp(CLIENT, VIP));
        bed.wait(Duration::from_secs(3));
        assert_eq!(only(&bed).expires, 2);
    }
    bed.snapshot.timeouts.udp = 60;
    bed.apply();
    assert_eq!(only(&bed).expires, 2, "as long as no packet comes");
    from_client(&mut bed, &udp(CLIENT, VIP));
    assert_eq!(only(&bed).expires, 60);
    bed.snapshot.timeouts.udp = 10;
    bed.apply();
    assert_eq!(only(&bed).expires, 60);
    bed.wait(Duration::from_secs(12));
    assert_eq!(only(&bed).expires, 48);
    from_client(&mut bed, &udp(CLIENT, VIP));
    assert_eq!(only(&bed).expires, 10);
    bed.wait(Duration::from_millis(10_500));
    assert!(
        connections(&bed).is_empty(),
        "long before the 60 s are over"
    );
}

#[test]
fn the_ends_of_a_removed_servers_connection_are_reset_by_the_numbers_that_the_kernel_saw() {
    let (mut bed, model) = bed(Protocol::Tcp, Forwarding::Nat);
    change(&mut bed, |service| {
        service.teardown.on_removal = OnRemoval::Tell
    });
    establish(&mut bed, CLIENT);
    from_client(&mut bed, &segment(CLIENT, ACK).payload(&[7; 100]));
    let reply = tcp(server(), CLIENT, ACK).seq(SERVER_ISN + 1, CLIENT_ISN + 101);
    from_server(&mut bed, reply.payload(&[8; 50]));
    bed.sent.clear();
    change(&mut bed, |service| service.servers.clear());
    bed.expire();
    let numbers: Vec<(u8, u32)> = bed
        .sent
        .iter()
        .map(|sent| {
            let at = |i: usize| u32::from_be_bytes([0, 1, 2, 3].map(|n| sent.bytes[i + n]));
            (sent.bytes[47], at(38))
        })
        .collect();
    assert_eq!(
        numbers,
        [(RST | ACK, SERVER_ISN + 51), (RST | ACK, CLIENT_ISN + 101),]
    );
    assert!(model.memory().keys.is_empty());
    assert!(connections(&bed).is_empty());
}

#[test]
fn a_new_mac_address_is_one_store_and_a_new_route_brings_each_connection_up_once() {
    let (mut bed, model) = bed(Protocol::Tcp, Forwarding::Nat);
    establish(&mut bed, CLIENT);
    bed.change_fib(|fib| fib.set_neighbour(3, SERVER, [2, 9, 9, 9, 9, 9]));
    let sent = bed.from_client(TestFrame::finished(&segment(CLIENT, ACK).frame()));
    assert_eq!(sent[0].bytes[..6], [2, 9, 9, 9, 9, 9]);
    assert_eq!(bed.engine.counters().received, 1, "none came up");
    bed.change_fib(|fib| fib.remove_neighbour(3, SERVER));
    from_client(&mut bed, &segment(CLIENT, ACK));
    assert_eq!(bed.engine.counters().received, 2, "the kernel knows no way");
    bed.change_fib(|fib| {
        fib.set_neighbour(3, SERVER, [2, 9, 9, 9, 9, 9]);
        fib.set_interface(Interface {
            port: SERVERS,
            ifindex: 3,
            mac: SERVERS_MAC,
            mtu: 1400,
            up: true,
            reverse_path: ReversePath::Off,
        });
    });
    for _ in 0..3 {
        from_client(&mut bed, &segment(CLIENT, ACK));
    }
    assert_eq!(bed.engine.counters().received, 3, "once more");
    assert_eq!(bed.engine.handed_over().retakes, 1);
    let memory = model.memory();
    assert!(memory.hops.values().any(|hop| hop.mtu == 1400));
}

#[test]
fn a_trace_sees_the_frames_of_a_taken_connection_while_it_asks_for_them() {
    let (mut bed, model) = bed(Protocol::Tcp, Forwarding::Nat);
    establish(&mut bed, CLIENT);
    bed.engine
        .watch(Some(Box::new(|flow| flow.src == CLIENT.addr)));
    bed.engine.give_orders(bed.now);
    let before = model.forwarded();
    from_client(&mut bed, &segment(CLIENT, ACK));
    establish(&mut bed, Endpoint::new(CLIENT.addr, 7));
    assert_eq!(model.forwarded(), before);
    bed.engine.watch(None);
    bed.engine.give_orders(bed.now);
    from_client(&mut bed, &segment(CLIENT, ACK));
    assert_eq!(model.forwarded(), before + 1);
}

/// A NAT service with two connections, and a kernel that has room for one.
fn with_room_for_one() -> (Bed, Model) {
    let mut bed = Bed::new(uvs_modes::BUILTIN, Limits::default());
    bed.take_back();
    let model = Model::default();
    model.memory().limit = Some(1);
    bed.hand_over_to(model.clone(), Reach::Everything);
    bed.add_service(Protocol::Tcp, Forwarding::Nat, Tunnel::default());
    establish(&mut bed, CLIENT);
    establish(&mut bed, Endpoint::new(CLIENT.addr, 7));
    (bed, model)
}

#[test]
fn where_the_table_is_full_it_stays_in_user_space_and_its_replies_are_ours() {
    let (mut bed, model) = with_room_for_one();
    let ours = (Protocol::Tcp, server());
    assert_eq!(model.memory().whole, [ours]);
    let handed = bed.engine.handed_over();
    assert_eq!(handed.untaken[Untaken::Refused as usize], 1);
    assert_eq!(connections(&bed).iter().filter(|c| c.in_kernel).count(), 1);
    bed.wait(Duration::from_secs(1000));
    assert_eq!(model.memory().whole, []);
}

#[test]
fn another_engine_goes_on_with_what_the_kernel_forwards() {
    let (mut bed, model) = with_room_for_one();
    bed.engine.watch(Some(Box::new(|_| true)));
    let before = bed.engine.handed_over();
    bed.hand_down(uvs_modes::BUILTIN, Limits::default());
    let after = bed.engine.handed_over();
    assert_eq!((after.taken, after.takes), (before.taken, before.takes));
    // Another process has other routes until it is shown that they are the same: the next packet comes up, and with
    // it nobody looks any more.
    let forwarded = model.forwarded();
    from_client(&mut bed, &segment(CLIENT, ACK));
    from_client(&mut bed, &segment(CLIENT, ACK));
    assert_eq!(model.forwarded(), forwarded + 1);
    assert_eq!(model.memory().whole, [(Protocol::Tcp, server())]);
    bed.engine.audit();
    bed.wait(Duration::from_secs(1000));
    assert_eq!(model.memory().whole, []);
    assert_eq!(bed.engine.handed_over().taken, 0);
}

#[test]
fn an_established_connection_is_not_evicted_as_a_half_open_one() {
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let mut bed = Bed::new(uvs_modes::BUILTIN, limits);
    bed.take_back();
    bed.hand_over(Reach::Everything);
    bed.add_service(Protocol::Tcp, Forwarding::Nat, Tunnel::default());
    establish(&mut bed, CLIENT);
    for port in 1..5 {
        from_client(&mut bed, &tcp(Endpoint::new(CLIENT.addr, port), VIP, SYN));
    }
    let ports: Vec<u16> = connections(&bed).iter().map(|c| c.client.port).collect();
    assert!(
        ports.contains(&CLIENT.port) && ports.contains(&4),
        "{ports:?}"
    );
}

#[test]
fn events_that_were_lost_are_made_up_for() {
    let (mut bed, model) = bed(Protocol::Tcp, Forwarding::Nat);
    establish(&mut bed, CLIENT);
    let frame = segment(CLIENT, FIN | ACK).frame();
    let mut t = TestFrame::finished(&frame);
    // As in `Bed::receive`, but nobody takes the event in.
    let fib = bed.fib().clone();
    model.frame(bed.now, &fib, CLIENTS, &mut t.frame());
    model.lose_events();
    bed.engine.catch_up();
    let server = bed.engine.report(bed.now).services[0].servers[0].numbers;
    assert_eq!((server.active, server.inactive), (0, 1));
}

#[test]
fn another_engine_goes_on_with_what_is_in_the_kernel() {
    let persistent = |service: &mut ServiceSpec| {
        service.persistence = Some(Persistence {
            timeout: 300,
            mask: u32::MAX,
        });
    };
    for forwarding in [Forwarding::Nat, Forwarding::Dr, Forwarding::FullNat] {
        let (mut first, model) = bed(Protocol::Tcp, forwarding);
        change(&mut first, persistent);
        from_client(&mut first, &tcp(CLIENT, VIP, SYN).seq(CLIENT_ISN, 0));
        from_client(&mut first, &segment(CLIENT, ACK));
        first.wait(Duration::from_secs(3));
        from_client(&mut first, &segment(CLIENT, ACK).payload(&[1; 60]));
        first.wait(Duration::from_secs(3));
        let before = first.engine.report(first.now);
        let is_connection = |c: &ConnReport| c.client.port != 0;
        let shown: Vec<_> = connections(&first)
            .into_iter()
            .filter(is_connection)
            .collect();

        let mut second = Bed::new(uvs_modes::BUILTIN, Limits::default());
        second.take_back();
        second.now = first.now;
        second.snapshot = first.snapshot.clone();
        second.hand_over_to(model.clone(), Reach::Everything);
        second.apply();
        let (servers, found) = model.found();
        let adopted = second.engine.adopt(second.now, &servers, &found);
        assert_eq!((adopted.connections, adopted.servers), (1, 1), "{adopted}");
        second.engine.audit();
        let after = second.engine.report(second.now);
        assert_eq!(after, before, "{forwarding:?}");
        let now: Vec<_> = connections(&second)
            .into_iter()
            .filter(is_connection)
            .collect();
        assert_eq!(now, shown, "{forwarding:?}");
        let forwarded = model.forwarded();
        from_client(&mut second, &segment(CLIENT, ACK));
        assert_eq!(model.forwarded(), forwarded + 1, "it goes on in the kernel");
        let templates = connections(&second)
            .into_iter()
            .filter(|c| c.client.port == 0);
        let templates: Vec<_> = templates.map(|c| (c.state, c.server.addr)).collect();
        assert_eq!(templates, [("ASSURED", SERVER)]);
        second.wait(Duration::from_secs(2000));
        assert!(connections(&second).is_empty() && model.memory().keys.is_empty());
        assert_eq!(LOCAL, second.snapshot.services[0].local[0]);
    }
}

#[test]
fn what_another_engine_has_no_server_for_is_released() {
    let (mut first, model) = bed(Protocol::Tcp, Forwarding::Nat);
    establish(&mut first, CLIENT);
    let mut second = Bed::new(uvs_modes::BUILTIN, Limits::default());
    second.take_back();
    second.hand_over_to(model.clone(), Reach::Everything);
    let (servers, found) = model.found();
    let adopted = second.engine.adopt(second.now, &servers, &found);
    assert_eq!((adopted.connections, adopted.without_server), (0, 1));
    assert!(model.memory().keys.is_empty());
}

#[test]
fn a_dry_run_asks_nothing_of_the_kernel_and_says_what_it_would_do() {
    let (mut bed, model) = bed(Protocol::Tcp, Forwarding::Nat);
    establish(&mut bed, CLIENT);
    let forwarded = model.forwarded();
    let mut said = Vec::new();
    for flags in [ACK, SYN] {
        let mut t = TestFrame::finished(&segment(CLIENT, flags).frame());
        let trace = bed
            .start_dry_run()
            .frame(&bed.engine, bed.now, CLIENTS, &t.frame());
        said.push(serde_json::to_string(&trace).expect("JSON"));
    }
    assert!(
        said[0].contains(r#""step":"taken","up":null"#),
        "{}",
        said[0]
    );
    assert!(said[1].contains(Up::Syn.meaning()), "{}", said[1]);
    assert_eq!(model.forwarded(), forwarded);
    assert_eq!(only(&bed).state, "ESTABLISHED");
}
