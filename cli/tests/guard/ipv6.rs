//! The guard in IPv6: the same addresses' ends in 2001:db8:1::/64 and 2001:db8:2::/64.

use std::io;
use std::net::{SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use uvs_core::flow::{Addr, Protocol};
use uvs_forwarder::guard::{GuardSpec, Nat};

use super::{Lab, SILENCE, count};

const VIP: &str = "2001:db8:1::100";
const DIRECTOR: &str = "2001:db8:1::1";
const CLIENT: &str = "2001:db8:1::2";
const SERVER: &str = "2001:db8:2::2";

fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<std::net::Ipv6Addr>().unwrap())
}

/// A lab with these addresses beside IPv4's, whose director forwards.
fn lab() -> Lab {
    let lab = Lab::new(true, "0");
    // The director's own link-local addresses are not there yet, from which it asks for neighbours.
    for (host, address) in [
        (&lab.director, "fe80::d0/64 dev d0"),
        (&lab.director, "fe80::d1/64 dev d1"),
        (&lab.director, "2001:db8:1::1/64 dev d0"),
        (&lab.director, "2001:db8:1::100/128 dev d0"),
        (&lab.director, "2001:db8:2::1/64 dev d1"),
        (&lab.client, "2001:db8:1::2/64 dev c0"),
        (&lab.server, "2001:db8:2::2/64 dev s0"),
    ] {
        host.ip(&format!("address add {address} nodad"));
    }
    lab.client.ip("-6 route add default via 2001:db8:1::1");
    lab.server.ip("-6 route add default via 2001:db8:2::1");
    lab.director.enter(|| {
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/icmp/ratelimit", "0").unwrap();
    });
    lab
}

fn spec(lab: &Lab) -> GuardSpec {
    let vip = addr(VIP);
    GuardSpec {
        nat: Nat {
            services: [(Protocol::Tcp, vip, 80), (Protocol::Udp, vip, 53)].into(),
            ..lab.spec().nat
        },
        nat_servers: [(addr(SERVER), Protocol::Tcp, 8080)].into(),
        local: ["2001:db8:1::1", VIP, "2001:db8:2::1"].map(addr).into(),
        ..lab.spec()
    }
}

/// Connects from a port, any where it is 0; what went wrong, `None` where nothing did. A RST ends the connection.
fn connect(from: u16, to: &str, port: u16) -> Option<io::ErrorKind> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    let own = SocketAddrV6::new(std::net::Ipv6Addr::UNSPECIFIED, from, 0, 0);
    socket.bind(&own.into()).unwrap();
    let to = SocketAddr::new(to.parse().unwrap(), port);
    let connected = socket.connect_timeout(&to.into(), SILENCE);
    connected.err().map(|e| e.kind())
}

/// Whether a datagram of so many bytes is answered with port unreachable.
fn refused(to: &str, port: u16, bytes: usize) -> bool {
    let socket = UdpSocket::bind("[::]:0").unwrap();
    socket.connect((to, port)).unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    socket.send(&vec![0; bytes]).unwrap();
    let answer = socket.recv(&mut [0; 16]).unwrap_err().kind();
    answer == io::ErrorKind::ConnectionRefused
}

#[test]
fn a_services_packets_are_kept_from_the_kernel_and_no_others() {
    let lab = lab();
    let _guard = lab.guard(&spec(&lab));
    let timed_out = Some(io::ErrorKind::TimedOut);
    let closed = Some(io::ErrorKind::ConnectionRefused);
    lab.client.enter(|| {
        assert_eq!(connect(0, VIP, 80), timed_out);
        assert_eq!(connect(0, VIP, 81), closed);
        assert_eq!(connect(0, DIRECTOR, 80), closed);
        assert!(!refused(VIP, 53, 10) && refused(VIP, 54, 10));
        let before = count(&lab, "fragment");
        assert!(!refused(VIP, 53, 4000) && refused(VIP, 54, 4000));
        assert_eq!(count(&lab, "fragment") - before, 2, "of three fragments");
    });
    lab.director
        .enter(|| assert_eq!(connect(0, VIP, 80), closed));
}

#[test]
fn a_vip_on_no_interface_is_dropped_whole() {
    let lab = lab();
    let owned = "2001:db8:1::200";
    lab.client.ip(&format!(
        "neighbour add {owned} lladdr 02:00:00:00:01:01 dev c0"
    ));
    let spec = GuardSpec {
        owned: [addr(owned)].into(),
        ..spec(&lab)
    };
    let _guard = lab.guard(&spec);
    lab.client.enter(|| {
        assert_eq!(connect(0, owned, 81), Some(io::ErrorKind::TimedOut));
    });
    assert!(count(&lab, "owned") >= 1);
}

#[test]
fn what_a_nat_server_sends_to_a_services_client_is_dropped_and_nothing_else() {
    let lab = lab();
    let _listener = lab
        .server
        .enter(|| TcpListener::bind(("::", 8080)).unwrap());
    let _guard = lab.guard(&spec(&lab));
    lab.client.enter(|| {
        assert_eq!(connect(4001, SERVER, 8080), None, "no client of UVS's yet");
        assert_eq!(connect(4002, VIP, 80), Some(io::ErrorKind::TimedOut));
        let to_a_client = connect(4002, SERVER, 8080);
        assert_eq!(to_a_client, Some(io::ErrorKind::TimedOut));
        assert_eq!(connect(4003, SERVER, 8080), None);
    });
    assert!(count(&lab, "nat_reply") >= 1);
}

#[test]
fn clients_that_were_forgotten_are_told_again() {
    let lab = lab();
    let _listener = lab
        .server
        .enter(|| TcpListener::bind(("::", 8080)).unwrap());
    let mut guard = lab.guard(&spec(&lab));
    guard.replace(&spec(&lab));
    let timed_out = Some(io::ErrorKind::TimedOut);
    lab.client
        .enter(|| assert_eq!(connect(4001, SERVER, 8080), timed_out, "not sure"));
    assert!(guard.tell(&[(addr(CLIENT), Protocol::Tcp, 4002)]));
    lab.client.enter(|| {
        assert_eq!(connect(4001, SERVER, 8080), None);
        assert_eq!(connect(4002, SERVER, 8080), timed_out, "remembered");
    });
    lab.director.enter(|| {
        let to = SocketAddr::new(SERVER.parse().unwrap(), 8080);
        assert!(
            TcpStream::connect_timeout(&to, SILENCE).is_ok(),
            "a health check"
        );
    });
}
