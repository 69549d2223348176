//! A call that one director has given a server has it at another one too, through the bytes of messages: the kernel's options
//! for a persistence engine.

mod common;

use std::sync::Arc;

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::service::{Forwarding, Persistence, ServerSpec, Tunnel};
use uvs_core::snapshot::Peers;
use uvs_core::testing::bed::{Bed, CLIENT, CLIENTS, SERVER, SERVER_PORT, VIP};
use uvs_core::testing::packets::{TestFrame, udp};
use uvs_core::verdict::Verdict;
use uvs_sync::message::flag;

use common::through_bytes;

/// Servers, of which a bed's scheduler takes the first with a weight.
const REAL: [Endpoint; 2] = [
    Endpoint::new(SERVER, SERVER_PORT),
    Endpoint::new(Addr::v4([10, 0, 2, 12]), SERVER_PORT),
];

/// A director with a service of calls, one datagram at a time.
fn director() -> Bed {
    let (forwarding, tunnel) = (Forwarding::Nat, Tunnel::default());
    let mut bed = Bed::with_service(uvs_modes::BUILTIN, Protocol::Udp, forwarding, tunnel);
    bed.change_fib(|fib| fib.set_neighbour(3, REAL[1].addr, [2, 0, 0, 0, 2, 12]));
    let service = Arc::make_mut(&mut bed.snapshot.services[0]);
    service.servers = REAL.map(|end| ServerSpec::new(end, forwarding)).into();
    service.persistence = Some(Persistence {
        timeout: 300,
        mask: u32::MAX,
    });
    service.engine = Some("sip".to_owned());
    service.one_packet = true;
    bed.snapshot.peers = Peers {
        master: true,
        backup: true,
    };
    bed.apply();
    bed
}

/// New calls go to the second server from now on.
fn turn(bed: &mut Bed) {
    Arc::make_mut(&mut bed.snapshot.services[0]).servers[0].weight = 0;
    bed.apply();
}

fn send(bed: &mut Bed, call: &str) {
    let message = format!("BYE sip:bob@example.com SIP/2.0\r\ni: {call}\r\n\r\n");
    let packet = udp(CLIENT, VIP).payload(message.as_bytes());
    let verdict = bed.receive(CLIENTS, TestFrame::finished(&packet.frame()));
    assert!(matches!(verdict, Verdict::Send(_)), "{verdict:?}");
}

/// Which server each call has.
fn calls(bed: &Bed) -> Vec<(String, Endpoint)> {
    let (conns, _) = bed.engine.report_connections(bed.now, 0, 100);
    let mut calls: Vec<_> = conns
        .into_iter()
        .map(|c| (c.call.expect("a call's template").into(), c.server))
        .collect();
    calls.sort_unstable();
    calls
}

#[test]
fn calls_are_told_and_stay_where_they_are() {
    let mut first = director();
    send(&mut first, "a@h");
    turn(&mut first);
    send(&mut first, "b@h");
    let want = [("a@h".to_owned(), REAL[0]), ("b@h".to_owned(), REAL[1])];
    assert_eq!(calls(&first), want);

    // As its packets come, and whoever asks for all.
    let (by_packets, lost) = first.engine.take_told();
    let (all, _) = first.engine.tell_all(first.now, 0, 100);
    assert_eq!((by_packets.len(), all.len(), lost), (2, 2, 0));
    for told in [by_packets, all] {
        let messages = through_bytes(&told);
        for message in &messages {
            assert_eq!(
                (message.flags & flag::TEMPLATE, &message.engine[..]),
                (flag::TEMPLATE, &b"sip"[..])
            );
        }
        let mut second = director();
        turn(&mut second);
        for message in &messages {
            let taken = second.engine.take_up(second.now, &message.taken_up());
            assert_eq!(taken, Ok(()));
        }
        send(&mut second, "a@h");
        send(&mut second, "b@h");
        assert_eq!(calls(&second), want);
        second.engine.audit();
        // And from there to a third.
        let (again, _) = second.engine.tell_all(second.now, 0, 100);
        assert_eq!(through_bytes(&again).len(), 2);
    }
}
