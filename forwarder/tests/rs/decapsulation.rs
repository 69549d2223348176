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
        let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
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

    if pair.state_file("pid").is_some() {
        pair.rs_ok(&format!("down --mode ipip --vip {VIP}"));
        let log = pair.state_file("log").expect("counters at the end");
        for wanted in [
            "packets=1 ",
            "truncated=3 ",
            "bad_checksum=1 ",
            "bad_header=1 ",
            "not_ours=1 ",
        ] {
            assert!(log.contains(wanted), "{wanted}: {log}");
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
fn tcp_passes_both_ways_with_its_checksums_unfinished() {
    let pair = Pair::new();
    pair.rs_ok(&format!("up --mode ipip --vip {VIP}"));
    // Room for the outer header on the wire, as a director's MSS clamp or MTU makes.
    pair.server.ip("link set r0 mtu 1600");
    pair.sender.ip("link set s0 mtu 1600");
    let _director = Director::start(&pair.sender, VIP);
    let listener = pair
        .server
        .enter(|| TcpListener::bind((VIP, PORT)).expect("the VIP is this host's"));
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("all of it");
        stream.write_all(&all).expect("and back");
    });
    let sent: Vec<u8> = (0..4_000_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let upload = sent.clone();
    let back = pair.sender.enter(move || {
        let mut stream = TcpStream::connect((VIP, PORT)).expect("a connection through the tunnel");
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

    if pair.state_file("pid").is_some() {
        pair.rs_ok(&format!("down --mode ipip --vip {VIP}"));
        let log = pair.state_file("log").expect("counters at the end");
        let unfinished = log
            .split("unfinished_checksums=")
            .nth(1)
            .and_then(|r| r.split(' ').next());
        let unfinished: u64 = unfinished.and_then(|n| n.parse().ok()).expect("a counter");
        assert!(unfinished > 1000, "{log}");
    }
}
