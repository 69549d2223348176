//! Two ports and a loop between them: real transfers with the hosts' offloads at their defaults.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::net::Net;
use super::{A, B, PATIENCE, open, to};
use crate::port::afpacket::Port;
use crate::port::{Budget, Flushed, FrameRef, Receive, Received, Transmit, port_id};

/// A forwarder of two ports that changes MAC addresses only, as DR does, until told to stop.
fn forward(ports: [Port; 2], next_hops: [[u8; 6]; 2], stop: &AtomicBool) -> (Flushed, u64) {
    let macs = ports.each_ref().map(|p| p.interface.mac);
    let [p0, p1] = ports;
    let mut rx: Vec<Box<dyn Receive>> = vec![Box::new(p0.receive), Box::new(p1.receive)];
    let mut tx: Vec<Box<dyn Transmit>> = vec![Box::new(p0.transmit), Box::new(p1.transmit)];
    let mut total = Flushed::default();
    while !stop.load(Ordering::Relaxed) {
        for (source, out) in [(0, 1), (1, 0)] {
            for index in 0..rx[source].fill(Budget::default()) {
                let Received::Frame(mut frame, _) = rx[source].frame(index) else {
                    panic!("a frame did not arrive whole")
                };
                frame.bytes_mut()[..6].copy_from_slice(&next_hops[out]);
                frame.bytes_mut()[6..12].copy_from_slice(&macs[out]);
                let (range, offload) = (frame.range(), frame.offload);
                rx[source].seal(index, range, &offload);
                tx[out].queue(FrameRef {
                    source: port_id(source),
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
                .map(|rx| PollFd::from_borrowed_fd(rx.descriptors()[0], PollFlags::IN));
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
    let data: Vec<u8> = (0..LEN)
        .map(|i| (i * 7 + (i >> 11)).to_le_bytes()[0])
        .collect();
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
        let data: Vec<u8> = (0..10).flat_map(|n| [n; 1200]).collect();
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
