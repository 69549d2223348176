//! What the engine is told, and what is put back at the way out.

use uvs_core::flow::Protocol;
use uvs_core::offload::{Event, Hook as _, Taken, Tracked};
use uvs_core::tcp::TcpState;
use uvs_core::testing::packets::{tcp, udp};
use uvs_core::time::Instant;
use uvs_core::wire::tcp::flag::{ACK, FIN, SYN};

use super::direct::{Direct, end, nat};
use crate::layout::OURS_MARK;
use crate::testing::net::inside;
use crate::testing::{Arrival, Outcome};

/// How many events find room.
const ROOM: u64 = (1 << 20) / 24;

fn ends() -> [uvs_core::flow::Endpoint; 3] {
    [
        end("192.0.2.7", 40_000),
        end("10.0.1.100", 80),
        end("10.0.2.11", 8080),
    ]
}

fn in_state(state: TcpState) -> Tracked {
    Tracked {
        state: state as u8,
        ..Tracked::default()
    }
}

#[test]
fn a_close_is_told_and_a_handshake_where_it_is_asked_for() {
    inside(|net| {
        let [client, vip, server] = ends();
        for tells_proven in [false, true] {
            let name = if tells_proven { "t0" } else { "c0" };
            let mut d = Direct::new_at(net, name);
            let opening = Taken {
                tells_proven,
                tracked: in_state(TcpState::SynRecv),
                ..nat(3, 11, Protocol::Tcp, ends())
            };
            d.take(opening);
            let told = Event {
                cell: opening.cell,
                birth: opening.birth,
            };
            let syn_ack = tcp(server, client, SYN | ACK).seq(500, 101).frame();
            assert!(matches!(d.run(&syn_ack), Outcome::Taken(_)));
            assert_eq!(d.worker.next_event(), None);
            let seen = d.worker.seen(opening.cell, opening.birth).unwrap();
            assert!(seen.answered.is_some() && !seen.proven);
            let ack = tcp(client, vip, ACK).seq(101, 501).frame();
            assert!(matches!(d.run(&ack), Outcome::Taken(_)));
            assert_eq!(d.worker.next_event(), tells_proven.then_some(told));
            assert!(d.worker.seen(opening.cell, opening.birth).unwrap().proven);
            let fin = tcp(client, vip, FIN | ACK).seq(101, 501).frame();
            assert!(matches!(d.run(&fin), Outcome::Taken(_)));
            assert_eq!(d.worker.next_event(), Some(told), "it is inactive now");
            assert_eq!(d.worker.next_event(), None);
        }
    });
}

#[test]
fn events_that_find_no_room_are_counted() {
    inside(|net| {
        let [client, vip, _] = ends();
        let mut d = Direct::new(net);
        let taken = nat(3, 11, Protocol::Tcp, ends());
        d.take(taken);
        let fin = tcp(client, vip, FIN | ACK).frame();
        let closing = in_state(TcpState::CloseWait);
        for _ in 0..=ROOM {
            assert!(matches!(d.run(&fin), Outcome::Taken(_)));
            let seen = d.worker.seen(taken.cell, taken.birth).unwrap().tracked;
            assert_eq!(seen.state, closing.state);
            let open = taken.tracked;
            assert!(
                d.worker
                    .put(taken.cell, taken.birth, &seen, &open, Instant::ZERO)
            );
        }
        let lost = d.worker.events_lost();
        assert!(lost > 0);
        let told = std::iter::from_fn(|| d.worker.next_event()).count();
        assert_eq!(told as u64 + lost, ROOM + 1);
        // There is room again.
        assert!(matches!(d.run(&fin), Outcome::Taken(_)));
        assert!(d.worker.next_event().is_some());
    });
}

#[test]
fn what_moved_meanwhile_is_not_put() {
    inside(|net| {
        let [client, vip, _] = ends();
        let mut d = Direct::new(net);
        let taken = nat(3, 11, Protocol::Tcp, ends());
        d.take(taken);
        let (open, closed) = (taken.tracked, in_state(TcpState::Close));
        let fin = tcp(client, vip, FIN | ACK).frame();
        assert!(matches!(d.run(&fin), Outcome::Taken(_)));
        assert!(
            !d.worker
                .put(taken.cell, taken.birth, &open, &closed, Instant::ZERO)
        );
        let seen = d.worker.seen(taken.cell, taken.birth).unwrap();
        assert_eq!(seen.tracked.state, TcpState::CloseWait as u8);
        assert!(d.worker.put(
            taken.cell,
            taken.birth,
            &seen.tracked,
            &closed,
            Instant::ZERO
        ));
        let after = d.worker.seen(taken.cell, taken.birth).unwrap();
        assert_eq!((after.tracked, after.last), (closed, seen.last));
    });
}

#[test]
fn replies_of_a_server_on_this_host_go_back_in_at_the_way_out() {
    inside(|net| {
        let [client, _, server] = ends();
        let mut d = Direct::new(net);
        let known = Taken {
            forward: None,
            reply: uvs_core::offload::Reply::Known(uvs_core::flow::Flow::new(
                Protocol::Udp,
                server,
                client,
            )),
            ..nat(3, 11, Protocol::Udp, ends())
        };
        d.take(known);
        let leaves = |from, to| {
            let frame = udp(from, to).frame();
            let arrival = Arrival {
                ifindex: d.ifindex,
                ..Arrival::default()
            };
            d.hook.run_at_egress(&frame, arrival).unwrap()
        };
        assert_eq!(
            leaves(server, client),
            Some(OURS_MARK),
            "in by lo, and marked"
        );
        assert_eq!(leaves(server, end("192.0.2.8", 1)), None, "the host's own");
    });
    // The egress program is attached like the other.
    inside(|net| {
        let d = Direct::new(net);
        d.hook.attach_egress(d.ifindex).unwrap();
        assert!(d.hook.is_attached_at_egress(d.ifindex).unwrap());
        d.hook.detach_egress(d.ifindex);
        assert!(!d.hook.is_attached_at_egress(d.ifindex).unwrap());
        assert!(d.hook.is_attached(d.ifindex).unwrap());
    });
}
