//! A real server in IPIP mode, fed by a director: real sockets on the VIP get what was wrapped, of either family
//! in either, and the kernel answers nothing of its own.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::director::{Director, Way, icmp_listener, next_error, packet, send_tunnelled, udp};
use crate::netns::{Pair, SENDER, SENDER6};
use crate::sys;

const PORT: u16 = 7000;
const CLIENT_PORT: u16 = 6000;
const V4: Way = Way { outer: 4, inner: 4 };
const V6: Way = Way { outer: 6, inner: 6 };

/// What says that nobody listens on a UDP port.
const fn port_unreachable(version: u8) -> (u8, u8) {
    if version == 4 { (3, 3) } else { (1, 4) }
}

/// What says that nobody handles a protocol.
const fn protocol_unknown(version: u8) -> (u8, u8) {
    if version == 4 { (3, 2) } else { (4, 1) }
}

/// A server in IPIP mode, with a UDP socket on the VIP that waits at most a few seconds.
fn udp_server(way: Way) -> (Pair, UdpSocket) {
    let pair = Pair::new();
    pair.rs_ok(&format!("up {}", way.target()));
    let socket = listen(&pair, way);
    (pair, socket)
}

fn listen(pair: &Pair, way: Way) -> UdpSocket {
    let socket = pair
        .server
        .enter(move || UdpSocket::bind((way.vip(), PORT)).expect("the VIP is this host's"));
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("set");
    socket
}

fn received(way: Way, socket: &UdpSocket) -> Vec<u8> {
    let mut buf = vec![0; 65_536];
    let (len, from) = socket.recv_from(&mut buf).expect("a datagram arrives");
    let client: IpAddr = way.client().parse().expect("an address");
    assert_eq!(from, SocketAddr::new(client, CLIENT_PORT));
    buf.truncate(len);
    buf
}

#[test]
fn datagrams_to_the_vip_come_out_of_the_tunnel() {
    for way in Way::ALL {
        let (pair, socket) = udp_server(way);
        // Those from 1453 bytes on do not fit the wire in one piece: the outer packets are fragmented.
        for len in [0, 1, 1000, 1412, 1413, 1432, 1433, 1452, 1453, 20_000] {
            let payload: Vec<u8> = (0..251).cycle().take(len).collect();
            let datagram = udp(way, CLIENT_PORT, PORT, &payload);
            pair.sender.enter(move || send_tunnelled(way, &datagram));
            assert_eq!(received(way, &socket), payload, "{way:?}: {len} bytes");
        }
    }
}

#[test]
fn the_kernel_does_not_call_the_tunnel_unreachable() {
    for way in Way::ALL {
        let pair = Pair::new();
        let outer = pair.sender.enter(move || icmp_listener(way.outer));
        let inner = pair.sender.enter(move || icmp_listener(way.inner));
        let ping = || {
            let datagram = udp(way, CLIENT_PORT, PORT, b"anyone?");
            pair.sender.enter(move || send_tunnelled(way, &datagram));
        };
        // Without a tunnel it does, or the silence below would prove nothing. (A kernel with the tunnel's driver
        // says "port".)
        ping();
        let before = next_error(way.outer, &outer).expect("an answer");
        assert!(
            [protocol_unknown(way.outer), port_unreachable(way.outer)].contains(&before),
            "{way:?}: {before:?}"
        );
        if way.outer == way.inner {
            assert_eq!(next_error(way.inner, &inner), Some(before));
        }

        pair.rs_ok(&format!("up {}", way.target()));
        // Nobody listens on the port: that the *inner* packet is answered so shows that it came through, and
        // that nothing was said of the outer one before it.
        ping();
        let unreachable = Some(port_unreachable(way.inner));
        assert_eq!(next_error(way.inner, &inner), unreachable, "{way:?}");
        let server = listen(&pair, way);
        ping();
        assert_eq!(received(way, &server), b"anyone?");
        inner.set_nonblocking(true).expect("set");
        outer.set_nonblocking(true).expect("set");
        assert_eq!(next_error(way.inner, &inner), None, "{way:?}");
        if way.outer != way.inner {
            assert_eq!(next_error(way.outer, &outer), None, "{way:?}");
        }
    }
}

/// Packets that are no tunnel's, each with the reason by which it is counted.
fn broken(way: Way) -> Vec<(&'static str, Vec<u8>)> {
    let sound = udp(way, CLIENT_PORT, PORT, b"sound");
    let whole = way.wrapped(&sound);
    let elsewhere = if way.outer == 4 {
        packet(SENDER, "192.0.2.1", 4, &sound)
    } else {
        packet(SENDER6, "2001:db8:ffff::1", 41, &sound)
    };
    let mut broken = vec![
        ("truncated", whole[..whole.len() - 1].to_vec()),
        ("truncated", way.wrapped(&sound[..sound.len() - 1])),
        ("truncated", way.wrapped(&sound[..19])),
        // Of the other version than the outer header says.
        (
            "bad_header",
            way.wrapped(&[if way.inner == 4 { 0x60 } else { 0x45 }; 40]),
        ),
        ("not_ours", elsewhere),
    ];
    if way.inner == 4 {
        let mut wrong_sum = sound;
        wrong_sum[10] ^= 0xff;
        broken.push(("bad_checksum", way.wrapped(&wrong_sum)));
    }
    broken
}

#[test]
fn malformed_packets_are_dropped_and_counted() {
    for way in [V4, V6] {
        let (pair, socket) = udp_server(way);
        let broken = broken(way);
        let sound = way.wrapped(&udp(way, CLIENT_PORT, PORT, b"sound"));
        let packets = broken.iter().map(|(_, packet)| packet.clone());
        let packets: Vec<_> = packets.chain([sound]).collect();
        let (ifindex, to) = wire(&pair);
        let ethertype = if way.outer == 4 { [8, 0] } else { [0x86, 0xdd] };
        pair.sender.enter(move || {
            for packet in packets {
                let header = [&to[..], &[2, 0, 0, 0, 0, 1], &ethertype].concat();
                sys::send_frame(ifindex, &[header, packet].concat()).expect("sent");
            }
        });
        // In order on one wire: once the sound one is here, the broken ones have been and gone.
        assert_eq!(received(way, &socket), b"sound");
        socket.set_nonblocking(true).expect("set");
        assert!(
            socket.recv(&mut [0; 16]).is_err(),
            "only the sound one came through"
        );

        if let Some(log) = counters(&pair, way) {
            assert_eq!(counter(&log, "packets"), 1, "{log}");
            for reason in ["truncated", "bad_checksum", "bad_header", "not_ours"] {
                let expected = broken.iter().filter(|(r, _)| *r == reason).count();
                assert_eq!(counter(&log, reason), expected as u64, "{reason}: {log}");
            }
        }
    }
}

/// The sender's end of the wire and the server's MAC address.
fn wire(pair: &Pair) -> (i32, [u8; 6]) {
    let index = pair.sender.sh("cat /sys/class/net/s0/ifindex").stdout;
    let index = String::from_utf8(index)
        .expect("text")
        .trim()
        .parse()
        .expect("a number");
    let mac =
        String::from_utf8(pair.server.sh("cat /sys/class/net/r0/address").stdout).expect("text");
    let mut bytes = mac
        .trim()
        .split(':')
        .map(|b| u8::from_str_radix(b, 16).expect("hex"));
    (
        index,
        std::array::from_fn(|_| bytes.next().expect("six bytes")),
    )
}

#[test]
fn tcp_passes_with_its_checksums_unfinished() {
    for way in Way::ALL {
        let pair = Pair::new();
        let sent = echo_through_tunnel(&pair, way);
        if let Some(log) = counters(&pair, way) {
            // The sender's stack fills segments of at most 1500 bytes.
            assert!(
                counter(&log, "unfinished_checksums") >= sent / 1500,
                "{way:?}: {log}"
            );
        }
    }
}

#[test]
fn tcp_passes_in_super_frames() {
    for way in Way::ALL {
        super_frames(way);
    }
}

fn super_frames(way: Way) {
    let pair = Pair::new();
    // A veth merges only what comes from a device without segmentation offload, as from a real wire.
    let no_tso = pair.sender.sh("ethtool -K s0 tso off gso off");
    assert!(no_tso.status.success(), "{no_tso:?}");
    // The packets come one by one from the director in this test: held for 2 ms they find each other.
    let gro = "ethtool -K r0 gro on && cd /sys/class/net/r0 \
        && echo 10 > napi_defer_hard_irqs && echo 2000000 > gro_flush_timeout";
    let gro = pair.server.sh(gro);
    assert!(gro.status.success(), "{gro:?}");

    echo_through_tunnel(&pair, way);
    if let Some(log) = counters(&pair, way) {
        assert!(counter(&log, "super_frames") > 0, "{way:?}: {log}");
    }
}

/// Sends some megabytes over TCP through a director to the VIP, which sends them back. How many bytes.
fn echo_through_tunnel(pair: &Pair, way: Way) -> u64 {
    const LEN: u32 = 4_000_000;
    pair.rs_ok(&format!("up {}", way.target()));
    // Room for the outer header on the wire, as a director's MSS clamp or MTU makes.
    pair.server.ip("link set r0 mtu 1600");
    pair.sender.ip("link set s0 mtu 1600");
    let _director = Director::start(&pair.sender, way);
    let listener = pair
        .server
        .enter(move || TcpListener::bind((way.vip(), PORT)).expect("the VIP is here"));
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("all of it");
        stream.write_all(&all).expect("and back");
    });
    let sent: Vec<u8> = (0..LEN)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let upload = sent.clone();
    let back = pair.sender.enter(move || {
        let vip = SocketAddr::new(way.vip().parse().expect("an address"), PORT);
        let connected = TcpStream::connect_timeout(&vip, Duration::from_secs(10));
        let mut stream = connected.expect("a connection through the tunnel");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("set");
        stream.write_all(&upload).expect("sent");
        stream.shutdown(Shutdown::Write).expect("half closed");
        let mut back = Vec::new();
        stream.read_to_end(&mut back).expect("all of it");
        back
    });
    echo.join().expect("the server ends well");
    assert!(back == sent, "{} bytes came back", back.len());
    u64::from(LEN)
}

/// Ends the decapsulator and returns what it counted; none where the kernel decapsulates.
fn counters(pair: &Pair, way: Way) -> Option<String> {
    pair.state_file("pid")?;
    pair.rs_ok(&format!("down --mode ipip --vip {}", way.vip()));
    Some(pair.state_file("log").expect("counters at the end"))
}

/// One of them.
fn counter(log: &str, name: &str) -> u64 {
    let found = log
        .split_whitespace()
        .filter_map(|w| w.split_once('='))
        .find(|(n, _)| *n == name);
    found
        .and_then(|(_, value)| value.parse().ok())
        .expect("a counter of this name")
}
