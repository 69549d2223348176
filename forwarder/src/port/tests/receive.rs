//! What the ring hands over: offloads told, super-frames whole, losses counted.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use uvs_core::frame::Gso;
use uvs_core::verdict::DropReason;
use uvs_core::wire::ethernet;

use super::net::Net;
use super::packets::{super_frame, udp};
use super::{
    A, Arrival, PATIENCE, VIP, macs, open, open_with, receive, receive_one, send, sent, to, wait,
};
use crate::port::afpacket::{Geometry, Port, PortOptions};
use crate::port::vnet::VNET_LEN;
use crate::port::{Budget, Coverage, Receive, Received};

#[test]
fn a_kernel_socket_s_syn_arrives_with_its_unfinished_checksum_told() {
    let net = Net::pair();
    let mut port = open(&net, "b", "b0", &to(VIP));
    assert_eq!(port.coverage, Coverage::Exact);
    assert_eq!(port.interface.mac, net.mac("b", "b0"));
    let mac = net.run("b", "cat /sys/class/net/b0/address");
    net.run(
        "a",
        &format!("ip neighbour add {VIP} lladdr {} dev a0", mac.trim()),
    );
    let before = std::time::SystemTime::now();
    let refused = net.inside("a", || {
        TcpStream::connect_timeout(&SocketAddr::from((VIP, 80)), Duration::from_millis(200))
    });
    assert!(refused.is_err(), "nobody answers at the VIP");

    assert!(port.receive.is_ready());
    assert!(port.receive.fill(Budget::default()) >= 1);
    let Received::Frame(frame, meta) = port.receive.frame(0) else {
        panic!("not a frame")
    };
    assert_eq!(
        (frame.offload.csum_start, frame.offload.csum_offset),
        (Some(34), 16)
    );
    assert_eq!(frame.offload.gso, Gso::None);
    assert_eq!(frame.bytes()[47], 0x02, "a SYN");
    assert_eq!(meta.len as usize, frame.len());
    assert!(frame.headroom() >= 64);
    let since_1970 = before
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    assert!(u128::from(meta.arrived_ns) >= since_1970.as_nanos());
    port.receive.release();
}

#[test]
fn of_a_burst_of_200_000_frames_each_is_received_or_counted() {
    let net = Net::pair();
    let mut a = open(&net, "a", "a0", &to(A));
    let options = PortOptions {
        slots: 512,
        ..PortOptions::default()
    };
    let mut b = open_with(&net, "b", "b0", &to(VIP), &options);
    assert_eq!(
        b.geometry,
        Geometry {
            slot_bytes: 2048,
            slots: 512
        }
    );
    let burst = vec![udp(macs(&net), VIP, 18); 1000];
    let (mut taken, mut received) = (0, 0);
    for round in 0..200 {
        taken += send(&mut a.transmit, &burst).sent;
        if round % 2 == 0 {
            received += drain(&mut b.receive);
        }
    }
    let until = Instant::now() + PATIENCE;
    while received + b.receive.statistics().kernel_drops < taken && wait(&b.receive, until) {
        received += drain(&mut b.receive);
    }
    received += drain(&mut b.receive);
    let statistics = b.receive.statistics();
    assert_eq!(statistics.received, received);
    assert_eq!(received + statistics.kernel_drops, taken);
    assert!(
        received >= 512 && statistics.kernel_drops > 0,
        "{statistics:?}"
    );
}

/// Takes what is there now, and returns how many frames that was.
fn drain(rx: &mut dyn Receive) -> u64 {
    let mut frames = 0;
    while rx.is_ready() {
        frames += rx.fill(Budget {
            frames: 7,
            bytes: 256 << 10,
        }) as u64;
        rx.release();
    }
    frames
}

/// Sends `count` super-frames of 60 KB to a port that does not read meanwhile; what arrived, and whether
/// the port needed copies.
fn burst_of_super_frames(options: &PortOptions, count: usize) -> (Vec<Arrival>, Port) {
    let net = Net::pair();
    let mut a = open(&net, "a", "a0", &to(A));
    let mut b = open_with(&net, "b", "b0", &to(VIP), options);
    let whole = super_frame(macs(&net), VIP, 41 * 1448);
    for _ in 0..count {
        assert_eq!(
            send(&mut a.transmit, std::slice::from_ref(&whole)),
            sent(std::slice::from_ref(&whole))
        );
    }
    let arrived = receive(&mut b.receive, count);
    for arrival in arrived.iter().flatten() {
        assert_eq!(*arrival, whole);
    }
    (arrived, b)
}

#[test]
fn super_frames_arrive_whole_as_copies() {
    let (arrived, mut b) = burst_of_super_frames(&PortOptions::default(), 100);
    assert!(arrived.iter().all(Result::is_ok));
    assert_eq!(b.receive.statistics().copied, 100);
}

#[test]
fn super_frames_that_find_no_room_are_clamped_and_counted() {
    let options = PortOptions {
        receive_buffer: 2 << 20,
        ..PortOptions::default()
    };
    let (arrived, mut b) = burst_of_super_frames(&options, 150);
    let whole = arrived.iter().filter(|a| a.is_ok()).count();
    assert!(whole >= 20, "{whole} arrived");
    assert!(arrived.contains(&Err(DropReason::ClampedFrame)));
    assert_eq!(b.receive.statistics().copied, whole as u64);
}

#[test]
fn with_a_small_receive_buffer_the_slots_hold_super_frames() {
    // What net.core.rmem_max allows by default, which is what a user namespace gets.
    let options = PortOptions {
        receive_buffer: 212_992,
        ..PortOptions::default()
    };
    let (arrived, mut b) = burst_of_super_frames(&options, 150);
    assert!(arrived.iter().all(Result::is_ok));
    assert_eq!(b.receive.statistics().copied, 0);
}

#[test]
fn a_jumbo_frame_fits_its_slot_and_one_that_grew_later_is_copied() {
    let net = Net::pair();
    net.run("a", "ip link set a0 mtu 9000");
    net.run("b", "ip link set b0 mtu 9000");
    let mut a = open(&net, "a", "a0", &to(A));
    let mut b = open(&net, "b", "b0", &to(VIP));
    let jumbo = udp(macs(&net), VIP, 8900);
    send(&mut a.transmit, std::slice::from_ref(&jumbo));
    assert_eq!(receive_one(&mut b.receive), jumbo);
    assert_eq!(b.receive.statistics().copied, 0);
    for (ns, dev) in [("a", "a0"), ("b", "b0")] {
        net.run(ns, &format!("ip link set {dev} mtu 30000"));
    }
    let larger = udp(macs(&net), VIP, 29_000);
    send(&mut a.transmit, std::slice::from_ref(&larger));
    assert_eq!(receive_one(&mut b.receive), larger);
    assert_eq!(b.receive.statistics().copied, 1);
}

#[test]
fn headroom_and_the_send_header_are_there_in_slots_and_in_copies() {
    let net = Net::pair();
    let mut a = open(&net, "a", "a0", &to(A));
    let b = open(&net, "b", "b0", &to(VIP));
    let small = udp(macs(&net), VIP, 100);
    let large = super_frame(macs(&net), VIP, 20 * 1448);
    send(&mut a.transmit, &[small, large]);
    let mut rx: Vec<Box<dyn Receive>> = vec![Box::new(b.receive)];
    assert!(wait(&*rx[0], Instant::now() + PATIENCE));
    assert_eq!(rx[0].fill(Budget::default()), 2);
    for index in 0..2 {
        let Received::Frame(mut frame, _) = rx[0].frame(index) else {
            panic!("not a frame")
        };
        let mut before = frame.bytes().to_vec();
        let gap = frame.headroom();
        assert!(gap >= 64, "{gap} bytes of headroom");
        frame.open_gap(gap).expect("all of it");
        frame.bytes_mut()[ethernet::LEN..ethernet::LEN + gap].fill(0xee);
        let (range, offload) = (frame.range(), frame.offload);
        rx[0].seal(index, range, &offload);
        let sealed = rx[0].sealed(index);
        before.splice(ethernet::LEN..ethernet::LEN, vec![0xee; gap]);
        assert_eq!(sealed[VNET_LEN..], before);
    }
    rx[0].release();
}
