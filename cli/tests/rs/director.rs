//! A director in a few lines: IPIP packets built by hand, and a TUN device that wraps what a real TCP stack
//! sends to the VIP, its checksums unfinished, and hands it to the kernel to carry to the real server.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::{Netns, SENDER, SERVER};
use crate::sys;

const VNET_LEN: usize = 10;

/// An IPv4 packet with this protocol and payload.
pub(crate) fn ipv4(src: &str, dst: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let addr = |a: &str| a.parse::<Ipv4Addr>().expect("an address").octets();
    let total = u16::try_from(20 + payload.len())
        .expect("fits")
        .to_be_bytes();
    let mut p = vec![
        0x45, 0, total[0], total[1], 0, 7, 0x40, 0, 64, protocol, 0, 0,
    ];
    p.extend(addr(src));
    p.extend(addr(dst));
    let sum: u32 = p
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("folded");
    p[10..12].copy_from_slice(&sum.to_be_bytes());
    p.extend(payload);
    p
}

/// A UDP datagram without checksum from the sender to the VIP.
pub(crate) fn udp(src_port: u16, vip: &str, dst_port: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).expect("fits");
    let mut d = [
        src_port.to_be_bytes(),
        dst_port.to_be_bytes(),
        len.to_be_bytes(),
        [0, 0],
    ]
    .concat();
    d.extend(payload);
    ipv4(SENDER, vip, 17, &d)
}

/// Sends `inner` to the server in an outer header that the kernel makes, fragmented if need be.
pub(crate) fn send_ipip(inner: &[u8]) {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(4))).expect("raw");
    let to = SocketAddrV4::new(SERVER.parse().expect("an address"), 0);
    socket.send_to(inner, &to.into()).expect("sent");
}

/// A socket that gets every ICMP message to the sender.
pub(crate) fn icmp_listener() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).expect("raw");
    socket
        .set_read_timeout(Some(std::time::Duration::from_secs(5)))
        .expect("set");
    socket
}

/// Type and code of the next ICMP message.
pub(crate) fn next_icmp(mut socket: &Socket) -> Option<(u8, u8)> {
    let mut bytes = [0u8; 2048];
    let len = socket.read(&mut bytes).ok()?;
    let header = usize::from(bytes[0] & 15) * 4;
    (len > header + 1).then(|| (bytes[header], bytes[header + 1]))
}

/// The TUN device `d0` and its thread.
pub(crate) struct Director {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Director {
    /// Takes over the way from the sender to the VIP.
    pub(crate) fn start(ns: &Netns, vip: &str) -> Self {
        let mut tun = ns.enter(|| sys::open_tun("d0").expect("a TUN device"));
        ns.ip("link set d0 up");
        ns.ip(&format!("route add {vip} dev d0 src {SENDER}"));
        ns.set("d0", "rp_filter", "0");
        assert!(
            ns.sh("echo 1 > /proc/sys/net/ipv4/ip_forward")
                .status
                .success()
        );
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut buf = vec![0; 70_000];
            while !stopped.load(Ordering::Relaxed) {
                let tick = Timespec {
                    tv_sec: 0,
                    tv_nsec: 50_000_000,
                };
                let ready = poll(&mut [PollFd::new(&tun, PollFlags::IN)], Some(&tick));
                if ready.expect("poll") > 0 {
                    let len = tun.read(&mut buf).expect("a packet");
                    // Other than IPv4: the kernel's own multicast.
                    if buf[VNET_LEN] >> 4 == 4 {
                        tun.write_all(&wrap(&buf[..len])).expect("taken");
                    }
                }
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The packet behind its `virtio_net_hdr`, in an outer header; the unfinished checksum's place moves along.
fn wrap(packet: &[u8]) -> Vec<u8> {
    // Not the sender's own address, which its kernel would take for a forgery when it comes in by d0.
    const OUTER_SOURCE: &str = "10.9.0.254";
    let mut vnet = packet[..VNET_LEN].to_vec();
    if vnet[0] & 1 != 0 {
        let start = u16::from_ne_bytes([vnet[6], vnet[7]]) + 20;
        vnet[6..8].copy_from_slice(&start.to_ne_bytes());
        let header = u16::from_ne_bytes([vnet[2], vnet[3]]) + 20;
        vnet[2..4].copy_from_slice(&header.to_ne_bytes());
    }
    vnet.extend(ipv4(OUTER_SOURCE, SERVER, 4, &packet[VNET_LEN..]));
    vnet
}
