//! What the connection log says, in virtual time: of each connection its ends, its times, its state, why it ended, and
//! exactly the packets that were forwarded, whether the engine or the kernel's program did it.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use uvs_core::counters::Stats;
use uvs_core::flow::{Endpoint, Protocol};
use uvs_core::offload::{Reach, Traffic};
use uvs_core::record::{Ended, Event, Record, Why};
use uvs_core::service::{ConnectionLog, Forwarding, ServiceKey, ServiceSpec, Tunnel};
use uvs_core::snapshot::Limits;
use uvs_core::testing::bed::{
    Bed, CLIENT, CLIENTS, LOCAL, SERVER, SERVER_PORT, SERVERS, SERVERS_MAC, VIP,
};
use uvs_core::testing::packets::{ACK, PacketBuilder, SYN, TestFrame, tcp, udp};
use uvs_core::time::Instant;
use uvs_core::wire::tcp::flag::{FIN, RST};

/// FULLNAT's only local port.
const LOCAL_PORT: u16 = 1024;
const METHODS: [Forwarding; 4] = [
    Forwarding::Nat,
    Forwarding::FullNat,
    Forwarding::Dr,
    Forwarding::Tunnel,
];

fn bed(protocol: Protocol, forwarding: Forwarding, log: ConnectionLog) -> Bed {
    let limits = Limits {
        local_ports: (LOCAL_PORT, LOCAL_PORT),
        ..Limits::default()
    };
    let mut bed = Bed::new(uvs_modes::BUILTIN, limits);
    bed.add_service(protocol, forwarding, Tunnel::default());
    change(&mut bed, |s| s.connection_log = log);
    bed
}

fn change(bed: &mut Bed, edit: impl FnOnce(&mut ServiceSpec)) {
    edit(Arc::make_mut(&mut bed.snapshot.services[0]));
    bed.apply();
}

fn client(bed: &mut Bed, flags: u8, seq: (u32, u32), data: &[u8]) {
    let segment = tcp(CLIENT, VIP, flags).seq(seq.0, seq.1).payload(data);
    bed.receive(CLIENTS, whole(&segment));
}

fn server(bed: &mut Bed, forwarding: Forwarding, flags: u8, seq: (u32, u32), data: &[u8]) {
    let to = match forwarding {
        Forwarding::FullNat => Endpoint::new(LOCAL, LOCAL_PORT),
        _ => CLIENT,
    };
    let from = Endpoint::new(SERVER, SERVER_PORT);
    let segment = tcp(from, to, flags).seq(seq.0, seq.1).payload(data);
    bed.receive(SERVERS, whole(&segment.to_mac(SERVERS_MAC)));
}

fn whole(packet: &PacketBuilder) -> TestFrame {
    TestFrame::finished(&packet.frame())
}

fn records(bed: &mut Bed) -> Vec<Record> {
    let mut records = Vec::new();
    assert_eq!(bed.engine.take_records(|record| records.push(record)), 0);
    records
}

/// The one record, of an end.
fn end(bed: &mut Bed) -> (Record, Ended) {
    let records = records(bed);
    let [record] = &records[..] else {
        panic!("one record: {records:?}");
    };
    let Event::Ended(ended) = record.event else {
        panic!("an end: {record:?}");
    };
    (*record, ended)
}

/// A request and its answer, closed by both; when it began and when its last packet came.
fn conversation(bed: &mut Bed, forwarding: Forwarding) -> (Instant, Instant) {
    let replies = forwarding.passes_replies();
    client(bed, SYN, (100, 0), b"");
    let began = bed.now;
    if replies {
        server(bed, forwarding, SYN | ACK, (5000, 101), b"");
    }
    bed.wait(Duration::from_secs(2));
    client(bed, ACK, (101, 5001), b"");
    client(bed, ACK, (101, 5001), b"request");
    if replies {
        server(bed, forwarding, ACK, (5001, 108), b"an answer");
        server(bed, forwarding, FIN | ACK, (5010, 108), b"");
    }
    client(bed, FIN | ACK, (108, 5011), b"");
    if replies {
        server(bed, forwarding, ACK, (5011, 109), b"");
    }
    (began, bed.now)
}

fn counted(stats: &Stats) -> Traffic {
    Traffic {
        in_packets: stats.in_packets,
        out_packets: stats.out_packets,
        in_bytes: stats.in_bytes,
        out_bytes: stats.out_bytes,
    }
}

/// The same, by the engine alone and by the model of the kernel's program.
fn with_and_without_hook(check: impl Fn(&dyn Fn(&mut Bed))) {
    check(&|_| {});
    check(&|bed| {
        bed.hand_over(Reach::Everything);
    });
}

#[test]
fn a_record_tells_all_of_a_connection_in_every_mode() {
    for forwarding in METHODS {
        with_and_without_hook(|hook| {
            let mut bed = bed(Protocol::Tcp, forwarding, ConnectionLog::Ends);
            hook(&mut bed);
            let (began, last) = conversation(&mut bed, forwarding);
            assert_eq!(records(&mut bed), [], "nothing before its end");
            bed.wait(Duration::from_secs(1000));
            let (record, ended) = end(&mut bed);
            assert_eq!(record.client, CLIENT);
            assert_eq!(record.vip, VIP);
            assert_eq!(record.service, ServiceKey::address(Protocol::Tcp, VIP));
            assert_eq!(record.server.addr, SERVER);
            let local = Endpoint::new(LOCAL, LOCAL_PORT);
            let has_local = forwarding == Forwarding::FullNat;
            assert_eq!(record.local, has_local.then_some(local));
            assert_eq!(record.began, Some(began));
            assert_eq!(ended.last_packet, last, "{forwarding:?}");
            assert_eq!(record.lasted(), Some(last.since(began)));
            assert!(record.made > last);
            let replies = forwarding.passes_replies();
            assert_eq!(ended.replies_pass, replies);
            // Of a server that answers past the director, nobody knows that it has closed.
            let why = if replies { Why::Closed } else { Why::TimedOut };
            assert_eq!(ended.why, why, "{forwarding:?} {}", ended.state);
            let stats = bed.engine.report(bed.now).services[0].numbers.stats;
            assert_eq!(ended.traffic, Some(counted(&stats)), "{forwarding:?}");
            let packets = if replies { (4, 4) } else { (4, 0) };
            assert_eq!((stats.in_packets, stats.out_packets), packets);
        });
    }
}

#[test]
fn a_start_is_told_where_that_is_asked_for() {
    let mut bed = bed(Protocol::Tcp, Forwarding::Nat, ConnectionLog::StartsAndEnds);
    client(&mut bed, SYN, (100, 0), b"");
    let records = records(&mut bed);
    let [record] = &records[..] else {
        panic!("one record: {records:?}");
    };
    assert_eq!(
        (record.event, record.began),
        (Event::Started, Some(bed.now))
    );
    assert_eq!(record.lasted(), None);
    server(&mut bed, Forwarding::Nat, RST | ACK, (0, 101), b"");
    bed.wait(Duration::from_secs(100));
    let (_, ended) = end(&mut bed);
    assert_eq!((ended.state, ended.why), ("CLOSE", Why::Reset));
}

#[test]
fn a_service_that_is_not_logged_is_silent_and_one_that_is_later_has_no_beginning() {
    let mut bed = bed(Protocol::Udp, Forwarding::Nat, ConnectionLog::Off);
    let datagram = |from| whole(&udp(from, VIP).payload(b"question"));
    bed.receive(CLIENTS, datagram(CLIENT));
    bed.wait(Duration::from_secs(400));
    assert_eq!(records(&mut bed), []);
    bed.receive(CLIENTS, datagram(CLIENT));
    change(&mut bed, |s| s.connection_log = ConnectionLog::Ends);
    bed.wait(Duration::from_secs(400));
    let (record, ended) = end(&mut bed);
    assert_eq!((record.began, ended.traffic), (None, None));
    assert_eq!((ended.state, ended.why), ("UDP", Why::TimedOut));
}

#[test]
fn why_a_connection_ended_is_told() {
    let logged = |forwarding| {
        let mut bed = bed(Protocol::Tcp, forwarding, ConnectionLog::Ends);
        client(&mut bed, SYN, (100, 0), b"");
        server(&mut bed, forwarding, SYN | ACK, (5000, 101), b"");
        client(&mut bed, ACK, (101, 5001), b"");
        bed
    };
    let mut bed = logged(Forwarding::Nat);
    bed.wait(Duration::from_secs(1000));
    let (_, ended) = end(&mut bed);
    assert_eq!((ended.state, ended.why), ("ESTABLISHED", Why::TimedOut));

    let mut bed = logged(Forwarding::Nat);
    bed.sysctl("expire_nodest_conn", 1);
    change(&mut bed, |s| s.servers.clear());
    bed.wait(Duration::from_secs(10));
    assert_eq!(end(&mut bed).1.why, Why::ServerLeft);

    // With its service gone as well, it is logged to its end.
    let mut bed = logged(Forwarding::FullNat);
    bed.snapshot.services.clear();
    bed.apply();
    bed.wait(Duration::from_secs(1000));
    let (record, ended) = end(&mut bed);
    assert_eq!(record.service, ServiceKey::address(Protocol::Tcp, VIP));
    assert_eq!(ended.why, Why::TimedOut);

    let bed = logged(Forwarding::Nat);
    let mut last = Vec::new();
    bed.engine.log_stop(bed.now, |record| last.push(record));
    let whys: Vec<_> = last.iter().map(|r| r.event).collect();
    assert!(
        matches!(
            whys[..],
            [Event::Ended(Ended {
                why: Why::Stopped,
                traffic: Some(_),
                ..
            })]
        ),
        "{whys:?}"
    );
}

#[test]
fn an_engine_that_goes_on_logs_what_began_before_it_once() {
    with_and_without_hook(|hook| {
        let mut bed = bed(Protocol::Tcp, Forwarding::Nat, ConnectionLog::Ends);
        hook(&mut bed);
        client(&mut bed, SYN, (100, 0), b"");
        let began = bed.now;
        server(&mut bed, Forwarding::Nat, SYN | ACK, (5000, 101), b"");
        bed.hand_down(uvs_modes::BUILTIN, Limits::default());
        client(&mut bed, ACK, (101, 5001), b"");
        client(&mut bed, RST, (101, 5001), b"");
        bed.wait(Duration::from_secs(100));
        let (record, ended) = end(&mut bed);
        assert_eq!(record.began, Some(began));
        let traffic = ended.traffic.unwrap();
        assert_eq!((traffic.in_packets, traffic.out_packets), (3, 1));
    });
}

#[test]
fn what_is_not_taken_in_time_is_counted_and_takes_no_room() {
    let mut bed = bed(Protocol::Udp, Forwarding::Dr, ConnectionLog::Ends);
    change(&mut bed, |s| s.one_packet = true);
    for _ in 0..5000 {
        bed.receive(CLIENTS, whole(&udp(CLIENT, VIP).payload(b"question")));
    }
    let mut taken = 0;
    let lost = bed.engine.take_records(|record| {
        assert!(matches!(record.event, Event::Ended(e) if e.why == Why::OnePacket));
        taken += 1;
    });
    assert_eq!((taken, lost), (4096, 904));
    assert_eq!(records(&mut bed), []);
}
