//! The socket filter in the kernel.

use std::net::Ipv4Addr;
use std::time::Instant;

use super::net::Net;
use super::packets::{super_frame, tagged, udp};
use super::{A, B, PATIENCE, VIP, macs, open, receive, receive_one, send, to, wait};
use crate::port::filter::{FilterSpec, Program};
use crate::port::{Budget, Coverage, Receive as _, Received};

#[test]
fn the_filter_keeps_foreign_and_tagged_frames_out_and_changes_live() {
    let net = Net::pair();
    let mut a = open(&net, "a", "a0", &to(A));
    let mut b = open(&net, "b", "b0", &to(VIP));
    let (ours, foreign) = (udp(macs(&net), VIP, 50), udp(macs(&net), B, 60));
    let other_mac = udp((net.mac("a", "a0"), [2, 0, 0, 0, 0, 9]), VIP, 70);

    send(
        &mut a.transmit,
        &[tagged(&ours), foreign.clone(), other_mac, ours.clone()],
    );
    assert_eq!(receive_one(&mut b.receive).0, ours.0);

    assert_eq!(
        b.receive.set_filter(&to(B)).expect("attaches"),
        Coverage::Exact
    );
    send(&mut a.transmit, &[ours.clone(), foreign.clone()]);
    assert_eq!(receive_one(&mut b.receive).0, foreign.0);

    assert_eq!(
        b.receive
            .set_filter(&Program::everything())
            .expect("attaches"),
        Coverage::Everything
    );
    send(
        &mut a.transmit,
        &[tagged(&ours), ours.clone(), foreign.clone()],
    );
    let both: Vec<Vec<u8>> = receive(&mut b.receive, 2)
        .into_iter()
        .map(|f| f.expect("a whole frame").0)
        .collect();
    assert_eq!(both, [ours.0, foreign.0]);
    assert_eq!(b.receive.statistics().received, 4);
}

#[test]
fn a_tagged_frame_that_a_filter_lets_through_is_not_ours_either() {
    let net = Net::pair();
    let mut a = open(&net, "a", "a0", &to(A));
    let accept = libc::sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: u32::MAX,
    };
    let mut b = open(
        &net,
        "b",
        "b0",
        &Program {
            code: vec![accept],
            exact: false,
            without_mark: None,
        },
    );
    let (small, large) = (
        udp(macs(&net), VIP, 100),
        super_frame(macs(&net), VIP, 4 * 1448),
    );
    send(
        &mut a.transmit,
        &[tagged(&small), tagged(&large), large.clone()],
    );
    assert!(wait(&b.receive, Instant::now() + PATIENCE));
    assert_eq!(
        b.receive.fill(Budget {
            frames: 2,
            bytes: 1 << 20
        }),
        2
    );
    for index in 0..2 {
        assert!(matches!(b.receive.frame(index), Received::Pass));
    }
    b.receive.release();
    assert_eq!(
        receive_one(&mut b.receive),
        large,
        "the copies stay in step with their slots"
    );
}

#[test]
fn a_filter_of_two_thousand_addresses_attaches_and_finds_each() {
    let net = Net::pair();
    let address = |i: u32| Ipv4Addr::from_bits(0x0a0a_0000 + i * 3);
    let spec = FilterSpec {
        to: (0..2000).map(address).collect(),
        ..FilterSpec::default()
    };
    let mut a = open(&net, "a", "a0", &to(A));
    let mut b = open(&net, "b", "b0", &spec.compile());
    // Kernels before 6.9 have room for less (net.core.optmem_max) and get the open filter: never a loss.
    for i in [0, 1, 7, 8, 999, 1000, 1001, 1998, 1999] {
        let ours = udp(macs(&net), address(i), i as usize % 100);
        send(&mut a.transmit, std::slice::from_ref(&ours));
        assert_eq!(receive_one(&mut b.receive).0, ours.0);
    }
    if b.coverage == Coverage::Exact {
        let ours = udp(macs(&net), address(3), 30);
        send(&mut a.transmit, &[udp(macs(&net), VIP, 20), ours.clone()]);
        assert_eq!(receive_one(&mut b.receive).0, ours.0);
    }
}
