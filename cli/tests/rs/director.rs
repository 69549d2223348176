//! A director in a few lines: tunnels' packets built by hand, and a TUN device that wraps what a real TCP stack
//! sends to the VIP, its checksums unfinished, and hands it to the kernel to carry to the real server.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::{Netns, SENDER, SENDER6, SERVER, SERVER6, VIP, VIP6};
use crate::sys;

const VNET_LEN: usize = 10;
const UDP: u8 = 17;

/// What is carried in what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// The outer header's IP version.
    pub(crate) outer: u8,
    /// The inner one's.
    pub(crate) inner: u8,
}

impl Way {
    /// All there are.
    pub(crate) const ALL: [Self; 4] = [
        Self { outer: 4, inner: 4 },
        Self { outer: 4, inner: 6 },
        Self { outer: 6, inner: 4 },
        Self { outer: 6, inner: 6 },
    ];

    /// The VIP, in the inner family.
    pub(crate) const fn vip(self) -> &'static str {
        if self.inner == 4 { VIP } else { VIP6 }
    }

    /// The sender as the VIP's client.
    pub(crate) const fn client(self) -> &'static str {
        if self.inner == 4 { SENDER } else { SENDER6 }
    }

    /// What makes a real server of it.
    pub(crate) fn target(self) -> String {
        format!("--mode ipip --vip {} --outer ipv{}", self.vip(), self.outer)
    }

    const fn server(self) -> &'static str {
        if self.outer == 4 { SERVER } else { SERVER6 }
    }

    /// IP's number of the inner packet.
    const fn number(self) -> u8 {
        if self.inner == 4 { 4 } else { 41 }
    }

    /// An inner packet in an outer header from the sender.
    pub(crate) fn wrapped(self, inner: &[u8]) -> Vec<u8> {
        let from = if self.outer == 4 { SENDER } else { SENDER6 };
        packet(from, self.server(), self.number(), inner)
    }
}

/// An IP packet of the addresses' family, with this protocol and payload.
pub(crate) fn packet(src: &str, dst: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let (src, dst) = (address(src), address(dst));
    let len = |header: usize| {
        u16::try_from(header + payload.len())
            .expect("fits")
            .to_be_bytes()
    };
    let mut p = match src {
        IpAddr::V4(_) => {
            let [a, b] = len(20);
            vec![0x45, 0, a, b, 0, 7, 0x40, 0, 64, protocol, 0, 0]
        }
        IpAddr::V6(_) => {
            let [a, b] = len(0);
            vec![0x60, 0, 0, 0, a, b, protocol, 64]
        }
    };
    p.extend(octets(src));
    p.extend(octets(dst));
    if src.is_ipv4() {
        let sum = (!folded(&p)).to_be_bytes();
        p[10..12].copy_from_slice(&sum);
    }
    p.extend(payload);
    p
}

/// A UDP datagram to the VIP from its client: with a checksum where IPv6 wants one, else without.
pub(crate) fn udp(way: Way, src_port: u16, dst_port: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).expect("fits");
    let words = [src_port, dst_port, len, 0];
    let mut datagram = words.map(u16::to_be_bytes).concat();
    datagram.extend(payload);
    if way.inner == 6 {
        let ends = [way.client(), way.vip()]
            .map(|a| octets(address(a)))
            .concat();
        let pseudo = [&ends[..], &u32::from(len).to_be_bytes(), &[0, 0, 0, UDP]].concat();
        let sum = !folded(&[&pseudo[..], &datagram].concat());
        let sum = if sum == 0 { u16::MAX } else { sum };
        datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    }
    packet(way.client(), way.vip(), UDP, &datagram)
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The sum of big-endian words with its carries (RFC 1071).
fn folded(bytes: &[u8]) -> u16 {
    let word = |w: &[u8]| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}

/// Sends `inner` to the server in an outer header that the kernel makes, fragmented if need be.
pub(crate) fn send_tunnelled(way: Way, inner: &[u8]) {
    let domain = if way.outer == 4 {
        Domain::IPV4
    } else {
        Domain::IPV6
    };
    let protocol = Protocol::from(i32::from(way.number()));
    let socket = Socket::new(domain, Type::RAW, Some(protocol)).expect("raw");
    let to = SocketAddr::new(address(way.server()), 0);
    socket.send_to(inner, &to.into()).expect("sent");
}

/// A socket that gets every ICMP message of an IP version to the sender.
pub(crate) fn icmp_listener(version: u8) -> Socket {
    let (domain, protocol) = if version == 4 {
        (Domain::IPV4, Protocol::ICMPV4)
    } else {
        (Domain::IPV6, Protocol::ICMPV6)
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol)).expect("raw");
    socket
        .set_read_timeout(Some(std::time::Duration::from_secs(5)))
        .expect("set");
    socket
}

/// Type and code of the next ICMP error. What neighbours ask each other is none.
pub(crate) fn next_error(version: u8, mut socket: &Socket) -> Option<(u8, u8)> {
    const FIRST_INFORMATIONAL: u8 = 128;
    let mut bytes = [0u8; 2048];
    loop {
        let len = socket.read(&mut bytes).ok()?;
        // A raw socket of IPv6 does not get the header.
        let header = if version == 4 {
            usize::from(bytes[0] & 15) * 4
        } else {
            0
        };
        if len > header + 1 && (version == 4 || bytes[header] < FIRST_INFORMATIONAL) {
            return Some((bytes[header], bytes[header + 1]));
        }
    }
}

/// The TUN device `d0` and its thread.
pub(crate) struct Director {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Director {
    /// Takes over the way from the sender to the VIP.
    pub(crate) fn start(ns: &Netns, way: Way) -> Self {
        let mut tun = ns.enter(|| sys::open_tun("d0").expect("a TUN device"));
        ns.ip("link set d0 up");
        ns.ip(&format!(
            "route add {} dev d0 src {}",
            way.vip(),
            way.client()
        ));
        ns.set("d0", "rp_filter", "0");
        ns.set_in("ipv6", "all", "forwarding", "1");
        assert!(
            ns.sh("echo 1 > /proc/sys/net/ipv4/ip_forward")
                .status
                .success()
        );
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let vip = octets(address(way.vip()));
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
                    // Others are the kernel's own multicast.
                    let at = VNET_LEN + if way.inner == 4 { 16 } else { 24 };
                    if buf[VNET_LEN] >> 4 == way.inner && buf[at..].starts_with(&vip) {
                        tun.write_all(&wrap(way, &buf[..len])).expect("taken");
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
fn wrap(way: Way, frame: &[u8]) -> Vec<u8> {
    // Not the sender's own address, which its kernel would take for a forgery when it comes in by d0.
    let (outer_source, added) = if way.outer == 4 {
        ("10.9.0.254", 20)
    } else {
        ("2001:db8::254", 40)
    };
    let mut vnet = frame[..VNET_LEN].to_vec();
    if vnet[0] & 1 != 0 {
        let start = u16::from_ne_bytes([vnet[6], vnet[7]]) + added;
        vnet[6..8].copy_from_slice(&start.to_ne_bytes());
        let header = u16::from_ne_bytes([vnet[2], vnet[3]]) + added;
        vnet[2..4].copy_from_slice(&header.to_ne_bytes());
    }
    let inner = &frame[VNET_LEN..];
    vnet.extend(packet(outer_source, way.server(), way.number(), inner));
    vnet
}
