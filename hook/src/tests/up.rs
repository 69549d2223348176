//! What is not forwarded in the kernel, why, and that nothing of it is changed.

use std::time::Duration;

use uvs_core::flow::Protocol;
use uvs_core::offload::{Hook as _, Orders, ServerCell, Taken, Tracked, Up};
use uvs_core::tcp::TcpState;
use uvs_core::testing::packets::{PacketBuilder, tcp, udp};
use uvs_core::time::Instant;
use uvs_core::wire::tcp::flag::{ACK, RST, SYN};

use super::direct::{Direct, end, end_of, hop, nat};
use super::load::small;
use crate::hook::{Hook, Setup};
use crate::testing::net::inside;
use crate::testing::{Arrival, Outcome};

const CLIENT: (&str, u16) = ("192.0.2.7", 40_000);
const VIP: (&str, u16) = ("10.0.1.100", 80);
const SERVER: (&str, u16) = ("10.0.2.11", 8080);

fn ends() -> [uvs_core::flow::Endpoint; 3] {
    [CLIENT, VIP, SERVER].map(|(addr, port)| end(addr, port))
}

fn segment() -> PacketBuilder {
    tcp(ends()[0], ends()[1], ACK).seq(100, 200)
}

impl Direct {
    /// A frame comes up for this reason alone; the connection is as it was.
    fn comes_up(&self, why: Up, frame: &[u8], arrival: Arrival) {
        let (before, there) = (self.count(why), self.hook.found());
        assert_eq!(self.run_as(frame, arrival), Outcome::Ours, "{why:?}");
        assert_eq!(self.count(why), before + 1, "{why:?}");
        assert_eq!(self.hook.found(), there, "{why:?}");
    }

    fn count(&self, why: Up) -> u64 {
        self.hook.port(self.ifindex).unwrap().up[why as usize].packets
    }

    fn is_taken(&self, frame: &[u8]) -> bool {
        matches!(self.run(frame), Outcome::Taken(_))
    }
}

#[test]
fn what_is_unusual_comes_up() {
    inside(|net| {
        let mut d = Direct::new(net);
        d.take(nat(3, 11, Protocol::Tcp, ends()));
        assert!(d.is_taken(&segment().frame()));
        let plain = Arrival::default();
        let long = vec![0; 1500];
        let mut cut = segment().frame();
        cut[24] ^= 1;
        let mut odd = segment().frame();
        odd[46] = 0xf0;
        for (why, frame) in [
            (Up::Syn, tcp(ends()[0], ends()[1], SYN).frame()),
            (Up::Options, segment().ip_options(&[1, 1, 1, 0]).frame()),
            (Up::Ttl, segment().ttl(1).frame()),
            (Up::TooLarge, segment().payload(&long).frame()),
            (Up::Malformed, cut),
            (Up::Malformed, odd),
        ] {
            d.comes_up(why, &frame, plain);
        }
        let super_frame = segment().payload(&long);
        let large = |gso_size| Arrival { gso_size, ..plain };
        d.comes_up(Up::TooLarge, &super_frame.frame(), large(1461));
        let fits = d.run_as(&super_frame.frame(), large(1460));
        assert!(matches!(fits, Outcome::Taken(_)));
    });
}

#[test]
fn what_a_short_packet_was_padded_with_is_not_sent_on() {
    inside(|net| {
        let mut d = Direct::new(net);
        d.take(nat(3, 11, Protocol::Tcp, ends()));
        let bare = segment().frame();
        let padded = [&bare[..], &[0xaa; 6]].concat();
        let Outcome::Taken(sent) = d.run(&padded) else {
            panic!("it is forwarded");
        };
        assert_eq!(sent.len(), bare.len());
        assert_eq!(d.run(&bare), Outcome::Taken(sent));
    });
}

#[test]
fn a_servers_refusal_comes_up() {
    inside(|net| {
        let [client, _, server] = ends();
        let mut d = Direct::new(net);
        d.take(Taken {
            tracked: Tracked {
                state: TcpState::SynRecv as u8,
                ..Tracked::default()
            },
            ..nat(3, 11, Protocol::Tcp, ends())
        });
        let refusal = tcp(server, client, RST | ACK).seq(0, 101).frame();
        d.comes_up(Up::Refused, &refusal, Arrival::default());
    });
}

#[test]
fn what_the_engine_changed_comes_up_at_once() {
    inside(|net| {
        let mut d = Direct::new(net);
        let taken = nat(3, 11, Protocol::Tcp, ends());
        let frame = segment().frame();
        let plain = Arrival::default();
        d.take(taken);
        assert!(d.is_taken(&frame));

        let look = |up| Orders {
            looks: vec![(taken.cell, taken.birth, up)],
            ..Orders::default()
        };
        d.order(look(true));
        d.comes_up(Up::Asked, &frame, plain);
        d.order(look(false));
        assert!(d.is_taken(&frame));

        d.order(Orders {
            hops: vec![(0, hop(None))],
            ..Orders::default()
        });
        d.comes_up(Up::Hop, &frame, plain);
        let mac = [2, 9, 9, 9, 9, 9];
        d.order(Orders {
            hops: vec![(0, hop(Some(mac)))],
            ..Orders::default()
        });
        let Outcome::Taken(sent) = d.run(&frame) else {
            panic!("the next hop is known");
        };
        assert_eq!(sent[..6], mac);

        d.order(Orders {
            ways: Some(1),
            ..Orders::default()
        });
        d.comes_up(Up::Stale, &frame, plain);
        d.take(Taken { ways: 1, ..taken });
        assert!(d.is_taken(&frame));

        d.order(end_of(&taken));
        assert_eq!(d.run(&frame), Outcome::NotOurs(0));
        assert_eq!(d.hook.fill().connections, 0);
    });
}

#[test]
fn a_late_release_leaves_the_next_connection_alone() {
    inside(|net| {
        let mut d = Direct::new(net);
        let (old, new) = (
            nat(3, 11, Protocol::Tcp, ends()),
            nat(4, 12, Protocol::Tcp, ends()),
        );
        d.take(old);
        // A new SYN on the tuple, and only then what ends the old one.
        d.take(new);
        d.order(end_of(&old));
        assert!(d.is_taken(&segment().frame()));
        assert_eq!(d.worker.seen(old.cell, old.birth), None);
        let seen = d.worker.seen(new.cell, new.birth).unwrap();
        assert_eq!(seen.client_packets, 1);
        // And what ends a connection of a cell that has another by now ends nothing.
        d.order(end_of(&uvs_core::offload::Taken {
            birth: old.birth,
            ..new
        }));
        assert!(d.is_taken(&segment().frame()));
        // A kernel that cannot call programs compares as well.
        let newest = nat(5, 13, Protocol::Tcp, ends());
        d.take(newest);
        d.worker.release_without_call(&end_of(&new).released);
        assert!(d.is_taken(&segment().frame()));
        d.worker.release_without_call(&end_of(&newest).released);
        assert_eq!(d.run(&segment().frame()), Outcome::NotOurs(0));
    });
}

#[test]
fn a_full_map_refuses_and_leaves_nothing_behind() {
    inside(|net| {
        let setup = Setup {
            limits: crate::Limits {
                connections: 4,
                ..small().limits
            },
            ..small()
        };
        let mut d = Direct::with(net, &setup);
        let many = (0..5).map(|i| {
            let client = end("192.0.2.7", 40_000 + i);
            let [_, vip, server] = ends();
            nat(
                i.into(),
                20 + u64::from(i),
                Protocol::Tcp,
                [client, vip, server],
            )
        });
        let orders = Orders {
            taken: many.collect(),
            ..Orders::default()
        };
        let mut refused = Vec::new();
        d.worker.apply(&orders, &mut refused);
        assert_eq!(refused, [(orders.taken[4].cell, orders.taken[4].birth)]);
        assert_eq!(d.hook.fill().connections, 4);
        let of = |port| tcp(end("192.0.2.7", port), ends()[1], ACK).frame();
        assert!(d.is_taken(&of(40_003)));
        assert_eq!(d.run(&of(40_004)), Outcome::NotOurs(0));
    });
}

#[test]
fn without_a_heartbeat_the_host_gets_everything_back() {
    inside(|net| {
        let setup = Setup {
            stale_after: Duration::from_secs(60),
            ..small()
        };
        let mut d = Direct::with(net, &setup);
        d.take(nat(3, 11, Protocol::Tcp, ends()));
        assert!(d.is_taken(&segment().frame()));
        d.hook.heartbeat(Hook::clock() - Duration::from_secs(61));
        assert_eq!(d.run(&segment().frame()), Outcome::NotOurs(0));
        d.hook.heartbeat(Hook::clock() + Duration::from_secs(1));
        assert!(
            d.is_taken(&segment().frame()),
            "a turn's clock may be ahead"
        );
    });
}

#[test]
fn a_frame_keeps_no_mark_but_ours() {
    inside(|net| {
        let setup = Setup {
            host_mark: 0x5556_5321,
            ..small()
        };
        let mut d = Direct::with(net, &setup);
        d.take(nat(3, 11, Protocol::Tcp, ends()));
        let marked = |mark| Arrival {
            mark,
            ..Arrival::default()
        };
        // What the daemon has sent into the host's stack is the host's.
        let given = d.run_as(&segment().frame(), marked(0x5556_5321));
        assert_eq!(given, Outcome::NotOurs(0));
        // A mark that came with a frame from elsewhere says nothing.
        let foreign = tcp(ends()[0], end("10.0.1.100", 81), ACK).frame();
        let stray = d.run_as(&foreign, marked(crate::OURS_MARK | 5));
        assert_eq!(stray, Outcome::NotOurs(5));
    });
}

#[test]
fn a_super_frame_that_no_ring_can_describe_is_dropped_and_counted() {
    inside(|net| {
        let setup = Setup {
            udp_gso: false,
            ..small()
        };
        let mut d = Direct::with(net, &setup);
        let taken = nat(3, 11, Protocol::Udp, ends());
        d.take(taken);
        let frame = udp(ends()[0], ends()[1]).payload(&[0; 3000]).frame();
        let large = Arrival {
            gso_size: 1000,
            ..Arrival::default()
        };
        assert!(matches!(d.run_as(&frame, large), Outcome::Taken(_)));
        d.order(Orders {
            looks: vec![(taken.cell, taken.birth, true)],
            ..Orders::default()
        });
        assert_eq!(d.run_as(&frame, large), Outcome::Dropped);
        let port = d.hook.port(d.ifindex).unwrap();
        assert_eq!(port.gso_unsupported.packets, 1);
        assert_eq!(port.forwarded.packets, 1);
    });
}

#[test]
fn traffic_is_counted_by_server_and_direction() {
    inside(|net| {
        let mut d = Direct::new(net);
        d.take(nat(3, 11, Protocol::Tcp, ends()));
        let [client, _, server] = ends();
        for _ in 0..3 {
            assert!(d.is_taken(&segment().payload(b"0123456789").frame()));
        }
        assert!(d.is_taken(&tcp(server, client, ACK).frame()));
        let traffic = d.worker.traffic(ServerCell(0));
        assert_eq!((traffic.in_packets, traffic.in_bytes), (3, 150));
        assert_eq!((traffic.out_packets, traffic.out_bytes), (1, 40));
        let forwarded = d.hook.port(d.ifindex).unwrap().forwarded;
        assert_eq!((forwarded.packets, forwarded.bytes), (4, 3 * 64 + 54));
        let seen = d.hook.found()[0].seen;
        assert_eq!(seen.client_packets, 3);
        assert!(seen.last > Instant::ZERO && seen.last <= Hook::clock());
    });
}
