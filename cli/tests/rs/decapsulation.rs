//! A real server in IPIP mode, fed by a director: real sockets on the VIP get what was wrapped, and the
//! kernel answers nothing of its own.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::director::{Director, icmp_listener, ipv4, next_icmp, send_ipip, udp};
use crate::netns::{Pair, SENDER, SERVER, VIP};
use crate::sys;

const PORT: u16 = 7000;
const CLIENT_PORT: u16 = 6000;
const PROTOCOL_UNREACHABLE: (u8, u8) = (3, 2);
const PORT_UNREACHABLE: (u8, u8) = (3, 3);

/// A server in IPIP mode, with a UDP socket on the VIP that waits at most a few seconds.
fn udp_server() -> (Pair, UdpSocket) {
    let pair = Pair::new();
    pair.rs_ok(&format!("up --mode ipip --vip {VIP}"));
    let socket = pair
        .server
        .enter(|| UdpSocket::bind((VIP, PORT)).expect("the VIP is this host's"));
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("set");
    (pair, socket)
}

fn received(socket: &UdpSocket) -> Vec<u8> {
    let mut buf = vec![0; 65_536];
    let (len, from) = socket.recv_from(&mut buf).expect("a datagram arrives");
    assert_eq!(from.to_string(), format!("{SENDER}:{CLIENT_PORT}"));
    buf.truncate(len);
    buf
}

#[test]
fn datagrams_to_the_vip_come_out_of_the_tunnel() {
    let (pair, socket) = udp_server();
    // The last two do not fit the wire in one piece: the outer packets are fragmented.
    for len in [0, 1, 1000, 1452, 1453, 20_000] {
        let payload: Vec<u8> = (0..251).cycle().take(len).collect();
        let datagram = udp(CLIENT_PORT, VIP, PORT, &payload);
        pair.sender.enter(move || send_ipip(&datagram));
        assert_eq!(received(&socket), payload, "{len} bytes");
    }
}

#[test]
fn the_kernel_does_not_call_ipip_unreachable() {
    let pair = Pair::new();
    let icmp = pair.sender.enter(icmp_listener);
    let ping = || {
        let datagram = udp(CLIENT_PORT, VIP, PORT, b"anyone?");
        pair.sender.enter(move || send_ipip(&datagram));
    };
    // Without a tunnel it does, or the silence below would prove nothing. (A kernel with ipip says "port".)
    ping();
    let before = next_icmp(&icmp).expect("an answer");
    assert!(
        [PROTOCOL_UNREACHABLE, PORT_UNREACHABLE].contains(&before),
        "{before:?}"
    );

    pair.rs_ok(&format!("up --mode ipip --vip {VIP}"));
    // Nobody listens on the port: that the *inner* packet is answered so shows that it came through, and
    // that nothing was said of the outer one before it.
    ping();
    assert_eq!(next_icmp(&icmp), Some(PORT_UNREACHABLE));
    let server = pair
        .server
        .enter(|| UdpSocket::bind((VIP, PORT)).expect("the VIP is this host's"));
    server
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("set");
    ping();
    assert_eq!(received(&server), b"anyone?");
    icmp.set_nonblocking(true).expect("set");
    assert_eq!(next_icmp(&icmp), None);
}

#[test]
fn malformed_packets_are_dropped_and_counted() {
    let (pair, socket) = udp_server();
    let sound = udp(CLIENT_PORT, VIP, PORT, b"sound");
    let outer = |inner: &[u8]| ipv4(SENDER, SERVER, 4, inner);
    let mut wrong_sum = sound.clone();
    wrong_sum[10] ^= 0xff;
    let transit = ipv4(SENDER, "192.0.2.1", 4, &sound);
    let whole = outer(&sound);
    let broken = [
        ("truncated", whole[..whole.len() - 1].to_vec()),
        ("truncated", outer(&sound[..sound.len() - 1])),
        ("truncated", outer(&sound[..19])),
        ("bad_checksum", outer(&wrong_sum)),
        ("bad_header", outer(&[0x60; 40])),
        ("not_ours", transit),
    ];
    let frames: Vec<_> = broken
        .iter()
        .map(|(_, p)| p.clone())
        .chain([whole.clone()])
        .collect();
    let (ifindex, to) = wire(&pair);
    pair.sender.enter(move || {
        for packet in frames {
            let frame = [&to[..], &[2, 0, 0, 0, 0, 1, 8, 0], &packet].concat();
            sys::send_frame(ifindex, &frame).expect("sent");
        }
    });
    // In order on one wire: once the sound one is here, the broken ones have been and gone.
    assert_eq!(received(&socket), b"sound");
    socket.set_nonblocking(true).expect("set");
    assert!(
        socket.recv(&mut [0; 16]).is_err(),
        "only the sound one came through"
    );

    if let Some(log) = counters(&pair) {
        assert_eq!(counter(&log, "packets"), 1, "{log}");
        for reason in ["truncated", "bad_checksum", "bad_header", "not_ours"] {
            let expected = broken.iter().filter(|(r, _)| *r == reason).count();
            assert_eq!(counter(&log, reason), expected as u64, "{reason}: {log}");
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
    let pair = Pair::new();
    let sent = echo_through_tunnel(&pair);
    if let Some(log) = counters(&pair) {
        // The sender's stack fills segments of at most 1500 bytes.
        assert!(
            counter(&log, "unfinished_checksums") >= sent / 1500,
            "{log}"
        );
    }
}

#[test]
fn tcp_passes_in_super_frames() {
    let pair = Pair::new();
    // A veth merges only what comes from a device without segmentation offload, as from a real wire.
    let no_tso = pair.sender.sh("ethtool -K s0 tso off gso off");
    assert!(no_tso.status.success(), "{no_tso:?}");
    // The packets come one by one from the director in this test: held for 2 ms they find each other.
    let gro = "ethtool -K r0 gro on && cd /sys/class/net/r0 \
        && echo 10 > napi_defer_hard_irqs && echo 2000000 > gro_flush_timeout";
    let gro = pair.server.sh(gro);
    assert!(gro.status.success(), "{gro:?}");

    echo_through_tunnel(&pair);
    if let Some(log) = counters(&pair) {
        assert!(counter(&log, "super_frames") > 0, "{log}");
    }
}

/// Sends some megabytes over TCP through a director to the VIP, which sends them back. How many bytes.
fn echo_through_tunnel(pair: &Pair) -> u64 {
    const LEN: u32 = 4_000_000;
    pair.rs_ok(&format!("up --mode ipip --vip {VIP}"));
    // Room for the outer header on the wire, as a director's MSS clamp or MTU makes.
    pair.server.ip("link set r0 mtu 1600");
    pair.sender.ip("link set s0 mtu 1600");
    let _director = Director::start(&pair.sender, VIP);
    let listener = pair
        .server
        .enter(|| TcpListener::bind((VIP, PORT)).expect("the VIP is here"));
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
        let vip = format!("{VIP}:{PORT}").parse().expect("an address");
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
fn counters(pair: &Pair) -> Option<String> {
    pair.state_file("pid")?;
    pair.rs_ok(&format!("down --mode ipip --vip {VIP}"));
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
