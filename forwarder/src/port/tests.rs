//! The AF_PACKET port on real veth pairs: what the kernel hands over, and what arrives of what we send.

use std::io::{IoSlice, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use uvs_core::checksum;
use uvs_core::frame::{ETH_LEN, Gso, Offload};
use uvs_core::verdict::{DropReason, PortId};

use super::afpacket::{Geometry, Port, PortOptions};
use super::filter::{FilterSpec, Program};
use super::testnet::Net;
use super::{Budget, Coverage, Flushed, FrameRef, Link, PortError, Receive, Received, Transmit};

/// An address that no interface has, as a VIP's is.
const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);
const A: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

fn to(address: Ipv4Addr) -> Program {
    FilterSpec {
        to: vec![address],
        ..FilterSpec::default()
    }
    .compile()
}

fn open(net: &Net, ns: &str, dev: &str, filter: &Program) -> Port {
    open_with(net, ns, dev, filter, &PortOptions::default())
}

fn open_with(net: &Net, ns: &str, dev: &str, filter: &Program, options: &PortOptions) -> Port {
    net.inside(ns, || Port::open(dev, options, filter))
        .expect("the port opens")
}

/// Waits until the port is readable; `false` once the patience is at an end.
fn wait(rx: &dyn Receive, until: Instant) -> bool {
    while !rx.is_ready() {
        if Instant::now() > until {
            return false;
        }
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: 10_000_000,
        };
        poll(
            &mut [PollFd::from_borrowed_fd(rx.as_fd(), PollFlags::IN)],
            Some(&timeout),
        )
        .expect("poll");
    }
    true
}

/// What arrived: the bytes, or the reason for a drop.
type Arrival = Result<(Vec<u8>, Offload), DropReason>;

/// Receives `count` frames.
fn receive(rx: &mut dyn Receive, count: usize) -> Vec<Arrival> {
    let until = Instant::now() + PATIENCE;
    let mut arrived = Vec::new();
    while arrived.len() < count {
        assert!(
            wait(rx, until),
            "{} of {count} frames arrived: {arrived:?}",
            arrived.len()
        );
        for i in 0..rx.fill(Budget::default()) {
            match rx.frame(i) {
                Received::Frame(frame, _) => {
                    arrived.push(Ok((frame.bytes().to_vec(), frame.offload)))
                }
                Received::Drop(reason, _) => arrived.push(Err(reason)),
                Received::Pass => panic!("the filter rejects tagged frames"),
            }
        }
        rx.release();
    }
    arrived
}

/// The bytes of one whole frame.
fn receive_one(rx: &mut dyn Receive) -> (Vec<u8>, Offload) {
    receive(rx, 1).remove(0).expect("a whole frame")
}

/// An Ethernet frame with an IPv4 header for `transport`, whose checksum field is `at` bytes into it and
/// is left as offloads leave it: the sum of the pseudo-header.
fn frame(
    macs: ([u8; 6], [u8; 6]),
    ips: (Ipv4Addr, Ipv4Addr),
    protocol: u8,
    at: usize,
    transport: &[u8],
) -> Vec<u8> {
    let mut f = [&macs.1[..], &macs.0[..], &[0x08, 0x00]].concat();
    let total = (20 + transport.len()) as u16;
    let mut ip = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0].to_vec();
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ip.extend([ips.0.octets(), ips.1.octets()].concat());
    let sum = checksum::of(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    f.extend(ip);
    f.extend(transport);
    let pseudo = checksum::pseudo_header_v4(
        ips.0.octets(),
        ips.1.octets(),
        protocol,
        transport.len() as u32,
    );
    f[ETH_LEN + 20 + at..][..2].copy_from_slice(&pseudo.to_be_bytes());
    f
}

/// A UDP datagram to port 9 with `len` bytes of data, its checksum unfinished.
fn udp(macs: ([u8; 6], [u8; 6]), dst: Ipv4Addr, len: usize) -> (Vec<u8>, Offload) {
    let mut datagram = [
        &4000u16.to_be_bytes()[..],
        &9u16.to_be_bytes(),
        &(8 + len as u16).to_be_bytes(),
        &[0, 0],
    ]
    .concat();
    datagram.extend((0..len).map(|i| i as u8));
    let offload = Offload {
        csum_start: Some(34),
        csum_offset: 6,
        ..Offload::default()
    };
    (frame(macs, (A, dst), 17, 6, &datagram), offload)
}

/// A TCP super-frame with `len` bytes of data in segments of 1448.
fn super_frame(macs: ([u8; 6], [u8; 6]), dst: Ipv4Addr, len: usize) -> (Vec<u8>, Offload) {
    let mut segment = [
        &4000u16.to_be_bytes()[..],
        &9u16.to_be_bytes(),
        &[0; 8],
        &[0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0],
    ]
    .concat();
    segment.extend((0..len).map(|i| i as u8));
    let offload = Offload {
        csum_start: Some(34),
        csum_offset: 16,
        gso: Gso::TcpV4 { ecn: false },
        gso_size: 1448,
        hdr_len: 54,
    };
    (frame(macs, (A, dst), 6, 16, &segment), offload)
}

fn send(tx: &mut dyn Transmit, frames: &[(Vec<u8>, Offload)]) -> Flushed {
    for (bytes, offload) in frames {
        tx.queue_copy(bytes, offload).expect("room for the copy");
    }
    tx.flush(&[])
}

fn sent(frames: &[(Vec<u8>, Offload)]) -> Flushed {
    let bytes = frames.iter().map(|(f, _)| f.len() as u64).sum();
    Flushed {
        sent: frames.len() as u64,
        bytes,
        ..Flushed::default()
    }
}

/// The MAC addresses of the pair, source and destination of what `a` sends.
fn macs(net: &Net) -> ([u8; 6], [u8; 6]) {
    (net.mac("a", "a0"), net.mac("b", "b0"))
}

/// Whether the transport checksum of an IPv4 frame without options is right.
fn transport_checksum_holds(frame: &[u8]) -> bool {
    let word = |at: usize| [frame[at], frame[at + 1], frame[at + 2], frame[at + 3]];
    let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let transport = &frame[ETH_LEN + 20..ETH_LEN + total];
    let pseudo = checksum::pseudo_header_v4(word(26), word(30), frame[23], transport.len() as u32);
    checksum::add(pseudo, checksum::sum(transport)) == 0xffff
}

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
fn an_unfinished_checksum_is_finished_where_the_device_cannot() {
    let net = Net::pair();
    net.run("a", "ethtool -K a0 tx off");
    let mut a = open(&net, "a", "a0", &to(A));
    let mut b = open(&net, "b", "b0", &to(B));
    let listener = net
        .inside("b", || UdpSocket::bind((B, 9)))
        .expect("a socket");
    let datagram = udp(macs(&net), B, 300);
    assert_eq!(
        send(&mut a.transmit, std::slice::from_ref(&datagram)),
        sent(&[datagram])
    );

    let (bytes, offload) = receive_one(&mut b.receive);
    assert_eq!(offload, Offload::default());
    assert!(transport_checksum_holds(&bytes));
    let mut data = [0; 400];
    listener
        .set_read_timeout(Some(PATIENCE))
        .expect("a time-out");
    assert_eq!(
        listener
            .recv(&mut data)
            .expect("the kernel takes the datagram too"),
        300
    );
}

#[test]
fn a_super_frame_is_cut_where_the_device_cannot_carry_it() {
    let net = Net::pair();
    net.run("a", "ethtool -K a0 tx off");
    let mut a = open(&net, "a", "a0", &to(A));
    let mut b = open(&net, "b", "b0", &to(B));
    let whole = super_frame(macs(&net), B, 10 * 1448);
    assert_eq!(
        send(&mut a.transmit, std::slice::from_ref(&whole)),
        sent(&[whole])
    );
    for segment in receive(&mut b.receive, 10) {
        let (bytes, offload) = segment.expect("a whole frame");
        assert_eq!(offload, Offload::default());
        assert_eq!(bytes.len(), 54 + 1448);
        assert!(transport_checksum_holds(&bytes));
    }
}

#[test]
fn what_the_port_sends_it_does_not_receive() {
    let net = Net::pair();
    let mut a = open(&net, "a", "a0", &Program::everything());
    let mut b = open(&net, "b", "b0", &Program::everything());
    let out = udp(macs(&net), VIP, 10);
    send(&mut a.transmit, std::slice::from_ref(&out));
    assert_eq!(receive_one(&mut b.receive).0, out.0);
    let (a_mac, b_mac) = macs(&net);
    let back = udp((b_mac, a_mac), VIP, 20);
    send(&mut b.transmit, std::slice::from_ref(&back));
    assert_eq!(
        receive_one(&mut a.receive).0,
        back.0,
        "the first that `a` sees is what `b` sent"
    );
}

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

/// The frame in VLAN 5.
fn tagged((bytes, offload): &(Vec<u8>, Offload)) -> (Vec<u8>, Offload) {
    let mut bytes = bytes.clone();
    bytes.splice(12..12, [0x81, 0x00, 0, 5]);
    (
        bytes,
        Offload {
            csum_start: offload.csum_start.map(|s| s + 4),
            ..*offload
        },
    )
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
fn a_frame_above_the_mtu_is_skipped_and_the_rest_goes_on() {
    let net = Net::pair();
    let mut a = open(&net, "a", "a0", &to(A));
    let mut b = open(&net, "b", "b0", &to(VIP));
    let good = udp(macs(&net), VIP, 100);
    let flushed = send(
        &mut a.transmit,
        &[good.clone(), udp(macs(&net), VIP, 5000), good.clone()],
    );
    assert_eq!(
        (flushed.sent, flushed.failed, flushed.queue_full),
        (2, 1, 0)
    );
    assert_eq!(a.transmit.errors(), [(libc::EMSGSIZE, 1)]);
    assert_eq!(receive(&mut b.receive, 2), [Ok(good.clone()), Ok(good)]);
}

#[test]
fn an_interface_that_goes_and_comes_back_is_told_and_recovers() {
    let net = Net::pair();
    let mut a = open(&net, "a", "a0", &to(A));
    let mut b = open(&net, "b", "b0", &to(VIP));
    let datagram = udp(macs(&net), VIP, 100);
    assert_eq!(b.receive.link(), Link::Up);
    net.run("b", "ip link set b0 down");
    assert!(reports_an_error(&b.receive));
    assert_eq!(b.receive.link(), Link::Down);
    assert!(!reports_an_error(&b.receive), "asking takes the error off");
    assert_eq!(
        send(&mut b.transmit, std::slice::from_ref(&datagram)).failed,
        1
    );
    assert_eq!(b.transmit.errors(), [(libc::ENETDOWN, 1)]);
    net.run("b", "ip link set b0 up");
    assert_eq!(b.receive.link(), Link::Up);
    send(&mut a.transmit, std::slice::from_ref(&datagram));
    assert_eq!(receive_one(&mut b.receive), datagram);

    net.run("b", "ip link delete b0");
    assert_eq!(
        (a.receive.link(), b.receive.link()),
        (Link::Gone, Link::Gone)
    );
    assert_eq!(
        send(&mut a.transmit, std::slice::from_ref(&datagram)).failed,
        1
    );
    assert_eq!(a.transmit.errors(), [(libc::ENXIO, 1)]);
    assert_eq!(b.receive.fill(Budget::default()), 0);

    net.veth(("a", "a0"), ("b", "b0"));
    let mut a = open(&net, "a", "a0", &to(A));
    let mut b = open(&net, "b", "b0", &to(VIP));
    let datagram = udp(macs(&net), VIP, 100);
    send(&mut a.transmit, std::slice::from_ref(&datagram));
    assert_eq!(receive_one(&mut b.receive), datagram);
}

fn reports_an_error(rx: &dyn Receive) -> bool {
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::from_borrowed_fd(rx.as_fd(), PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).expect("poll");
    fds[0].revents().contains(PollFlags::ERR)
}

#[test]
fn what_cannot_be_opened_is_told_with_the_fix() {
    let net = Net::pair();
    let failure = |dev: &str| {
        let dev = dev.to_owned();
        net.inside("b", move || {
            Port::open(&dev, &PortOptions::default(), &to(VIP))
        })
        .expect_err("must not open")
        .to_string()
    };
    assert_eq!(
        failure("eth7"),
        "no interface is named `eth7`; `ip link` lists those there are"
    );
    assert!(failure("").starts_with("no interface is named ``"));
    // Cut to 15 bytes, as the kernel would, it would be another name.
    assert!(failure("b0-and-much-too-long").starts_with("no interface is named `b0-and"));
    assert!(failure("lo").starts_with("`lo` is not an Ethernet interface (ARPHRD type 772)"));
}

/// Opens `b0` without some capabilities; they are a thread's own.
fn open_without(
    net: &Net,
    dropped: CapabilitySet,
    options: &PortOptions,
) -> Result<Port, PortError> {
    net.inside("b", || {
        let mut sets = capabilities(None).expect("capget");
        sets.effective.remove(dropped);
        set_capabilities(None, sets).expect("capset");
        Port::open("b0", options, &to(VIP))
    })
}

#[test]
fn without_net_raw_the_capability_is_named() {
    let net = Net::pair();
    let e = open_without(&net, CapabilitySet::NET_RAW, &PortOptions::default())
        .expect_err("not allowed");
    assert!(e.to_string().contains("CAP_NET_RAW is missing"), "{e}");
}

#[test]
fn without_net_admin_the_port_opens_with_the_buffer_that_is_allowed() {
    let net = Net::pair();
    let options = PortOptions {
        receive_buffer: 64 << 20,
        ..PortOptions::default()
    };
    let port = open_without(&net, CapabilitySet::NET_ADMIN, &options).expect("opens");
    let allowed = std::fs::read_to_string("/proc/sys/net/core/rmem_max").expect("procfs");
    let allowed: usize = allowed.trim().parse().expect("a number");
    assert_eq!(port.receive_buffer, 2 * allowed.min(64 << 20));
    assert_eq!(open(&net, "b", "b0", &to(VIP)).receive_buffer, 32 << 20);
}

/// A forwarder of two ports that changes MAC addresses only, as DR does, until told to stop.
fn forward(ports: [Port; 2], next_hops: [[u8; 6]; 2], stop: &AtomicBool) -> (Flushed, u64) {
    let macs = ports.each_ref().map(|p| p.interface.mac);
    let [p0, p1] = ports;
    let mut rx: Vec<Box<dyn Receive>> = vec![Box::new(p0.receive), Box::new(p1.receive)];
    let mut tx: Vec<Box<dyn Transmit>> = vec![Box::new(p0.transmit), Box::new(p1.transmit)];
    let mut total = Flushed::default();
    while !stop.load(Ordering::Relaxed) {
        for source in 0..2 {
            let out = 1 - source;
            for index in 0..rx[source].fill(Budget::default()) {
                let Received::Frame(mut frame, _) = rx[source].frame(index) else {
                    panic!("a frame did not arrive whole")
                };
                frame.bytes_mut()[..6].copy_from_slice(&next_hops[out]);
                frame.bytes_mut()[6..12].copy_from_slice(&macs[out]);
                let (range, offload) = (frame.range(), frame.offload);
                rx[source].seal(index, range, &offload);
                tx[out].queue(FrameRef {
                    source: PortId(source as u16),
                    index,
                });
            }
        }
        for tx in &mut tx {
            let flushed = tx.flush(&rx);
            total.sent += flushed.sent;
            total.queue_full += flushed.queue_full;
            total.failed += flushed.failed;
        }
        rx.iter_mut().for_each(|rx| rx.release());
        if !rx.iter().any(|rx| rx.is_ready()) {
            let mut fds = rx
                .iter()
                .map(|rx| PollFd::from_borrowed_fd(rx.as_fd(), PollFlags::IN));
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: 10_000_000,
            };
            poll(
                &mut [fds.next().expect("two"), fds.next().expect("two")],
                Some(&timeout),
            )
            .expect("poll");
        }
    }
    (total, rx.iter_mut().map(|rx| rx.statistics().copied).sum())
}

/// A client at `c`, a director with ports `d0` and `d1`, a server at `s`, offloads as they are by default.
fn client_director_server() -> Net {
    let net = Net::new(&["c", "d", "s"]);
    net.veth(("c", "c0"), ("d", "d0"));
    net.veth(("s", "s0"), ("d", "d1"));
    let text = |ns, dev| net.run(ns, &format!("cat /sys/class/net/{dev}/address"));
    net.run("c", &format!("ip address add {A}/24 dev c0"));
    net.run("s", &format!("ip address add {B}/24 dev s0"));
    net.run(
        "c",
        &format!(
            "ip neighbour add {B} lladdr {} dev c0",
            text("d", "d0").trim()
        ),
    );
    net.run(
        "s",
        &format!(
            "ip neighbour add {A} lladdr {} dev s0",
            text("d", "d1").trim()
        ),
    );
    net
}

#[test]
fn a_tcp_transfer_through_two_ports_keeps_every_byte() {
    const LEN: usize = 30 << 20;
    let net = client_director_server();
    let ports = [open(&net, "d", "d0", &to(B)), open(&net, "d", "d1", &to(A))];
    let next_hops = [net.mac("c", "c0"), net.mac("s", "s0")];
    let listener = net
        .inside("s", || TcpListener::bind((B, 80)))
        .expect("a listener");
    let data: Vec<u8> = (0..LEN).map(|i| (i * 7 + (i >> 11)) as u8).collect();
    let stop = AtomicBool::new(false);
    let (received, forwarded) = std::thread::scope(|scope| {
        let forwarder = scope.spawn(|| forward(ports, next_hops, &stop));
        let client = scope.spawn(|| {
            let mut socket = net.inside("c", || {
                TcpStream::connect_timeout(&SocketAddr::from((B, 80)), PATIENCE).expect("connects")
            });
            socket.write_all(&data).expect("the server takes it all");
        });
        let (mut socket, _) = listener.accept().expect("the handshake passes");
        let mut received = Vec::with_capacity(LEN);
        socket.read_to_end(&mut received).expect("no reset");
        client.join().expect("the client ends");
        stop.store(true, Ordering::Relaxed);
        (received, forwarder.join().expect("the forwarder ends"))
    });
    assert!(
        received == data,
        "{} of {LEN} bytes, or other bytes",
        received.len()
    );
    let (flushed, copied) = forwarded;
    assert_eq!((flushed.queue_full, flushed.failed), (0, 0));
    assert!(
        copied >= 100,
        "{copied} super-frames of {} frames",
        flushed.sent
    );
}

#[test]
fn a_sender_s_udp_segmentation_passes_through_two_ports() {
    let net = client_director_server();
    let ports = [open(&net, "d", "d0", &to(B)), open(&net, "d", "d1", &to(A))];
    let next_hops = [net.mac("c", "c0"), net.mac("s", "s0")];
    let server = net
        .inside("s", || UdpSocket::bind((B, 9)))
        .expect("a socket");
    server.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let client = net
        .inside("c", || UdpSocket::bind((A, 0)))
        .expect("a socket");
    client.connect((B, 9)).expect("connects");
    crate::sys::set_option(client.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 1200)
        .expect("UDP_SEGMENT");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let forwarder = scope.spawn(|| forward(ports, next_hops, &stop));
        let data: Vec<u8> = (0..12_000).map(|i| (i / 1200) as u8).collect();
        client
            .send(&data)
            .expect("one super-frame of ten datagrams");
        for n in 0..10 {
            let mut datagram = [0; 2000];
            let len = server.recv(&mut datagram).expect("ten datagrams arrive");
            assert_eq!(datagram[..len], [n; 1200]);
        }
        stop.store(true, Ordering::Relaxed);
        let (flushed, copied) = forwarder.join().expect("the forwarder ends");
        assert_eq!((flushed.sent, copied), (1, 1));
    });
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
        frame.bytes_mut()[ETH_LEN..ETH_LEN + gap].fill(0xee);
        let (range, offload) = (frame.range(), frame.offload);
        rx[0].seal(index, range, &offload);
        let sealed = rx[0].sealed(index);
        before.splice(ETH_LEN..ETH_LEN, vec![0xee; gap]);
        assert_eq!(sealed[super::vnet::VNET_LEN..], before);
        assert_eq!(IoSlice::new(sealed).len(), before.len() + 10);
    }
    rx[0].release();
}
