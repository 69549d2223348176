//! Two services of one NAT server, and clients that use one source port towards both: by TCP and UDP, one
//! after the other and at once. Needs root, or `make test`.

#[path = "support/stand.rs"]
mod stand;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use uvs_lab::udp::UdpServer;
use uvs_lab::{Daemon, Host, Lab, Mode, Options};

use stand::{PATIENCE, lab, uvs};

/// The second service's port, on the first one's VIP.
const SECOND: u16 = 443;
/// A client that waits for its SYN's retransmission waits for longer (RFC 6298: a second).
const RETRANSMITTED: Duration = Duration::from_millis(900);
/// The UDP services' port, and their servers'.
const DNS: u16 = 53;

/// The second VIP.
fn other_vip(lab: &Lab) -> Ipv4Addr {
    let [a, b, c, d] = lab.plan.vip.ip().octets();
    Ipv4Addr::new(a, b, c, d + 1)
}

/// TCP on two ports of the VIP, UDP on one port of two VIPs, all of them on the first `servers` servers.
fn serving(lab: &Lab, servers: usize) -> Daemon<'_> {
    let (vip, other) = (*lab.plan.vip.ip(), other_vip(lab));
    let add = format!("addr add {other}/32 dev eth0");
    lab.director.ip(&add).expect("a second VIP");
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let mut commands = Vec::new();
    for (kind, service, port) in [
        ("-t", lab.plan.vip, lab.plan.servers[0].port()),
        (
            "-t",
            SocketAddrV4::new(vip, SECOND),
            lab.plan.servers[0].port(),
        ),
        ("-u", SocketAddrV4::new(vip, DNS), DNS),
        ("-u", SocketAddrV4::new(other, DNS), DNS),
    ] {
        commands.push(format!("-A {kind} {service} -s rr"));
        for server in &lab.plan.servers[..servers] {
            commands.push(format!("-a {kind} {service} -r {}:{port} -m", server.ip()));
        }
    }
    for command in commands {
        daemon.ipvsadm(&command).expect("it is carried out");
    }
    daemon
}

/// A connection from this port of the client's, which may be in use towards other services.
fn connect(client: &Host, from: u16, to: SocketAddrV4) -> TcpStream {
    let open = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, from).into())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok::<_, std::io::Error>(TcpStream::from(socket))
    };
    let opened = client.enter(open).expect("the client's namespace");
    opened.unwrap_or_else(|e| panic!("from port {from} to {to}: {e}"))
}

/// Asks for `/`; the server's name.
fn ask(mut stream: &TcpStream) -> String {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    while !(answer.contains("\r\n\r\n") && answer.ends_with('\n')) {
        let mut part = [0; 512];
        let length = stream.read(&mut part).expect("an answer");
        assert!(length > 0, "closed after {answer:?}");
        answer += std::str::from_utf8(&part[..length]).expect("text");
    }
    let name = answer.lines().last();
    name.expect("the server's name").to_owned()
}

/// Asks once more, and that the connection be closed.
fn wait_for_the_server_to_close(mut stream: TcpStream) {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: vip\r\nConnection: close\r\n\r\n")
        .expect("sent");
    stream.read_to_end(&mut Vec::new()).expect("an end");
}

fn ended(daemon: &Daemon<'_>) -> (u64, u64) {
    let shown = daemon.uvs("show drops -o json").expect("shown").stdout;
    let drops: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let of = |name: &str| drops["ended"][name].as_u64().expect("a count");
    (of("replaced_over"), of("replaced_live"))
}

#[test]
fn one_source_port_after_the_other_is_answered_by_both_services() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let daemon = serving(&lab, 1);
    let services = [lab.plan.vip, SocketAddrV4::new(*lab.plan.vip.ip(), SECOND)];
    let mut slow = 0;
    for port in 40_000..40_100 {
        for service in services {
            let since = Instant::now();
            let stream = connect(&lab.client, port, service);
            slow += u32::from(since.elapsed() > RETRANSMITTED);
            ask(&stream);
            // Half of them are closed by the server, which then has them in TIME_WAIT.
            if port % 2 == 0 {
                wait_for_the_server_to_close(stream);
            }
        }
    }
    let (over, live) = ended(&daemon);
    println!("200 connections: {over} over and {live} live gave way, {slow} waited for a second");
    // A close may still be on its way when the port is used again.
    assert_eq!(over + live, 100, "over {over}, live {live}");
    daemon.stop().expect("it ends well");
}

#[test]
fn open_connections_of_one_source_port_have_servers_of_their_own() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let daemon = serving(&lab, 2);
    let second = SocketAddrV4::new(*lab.plan.vip.ip(), SECOND);
    for port in 40_000..40_020 {
        let streams = [lab.plan.vip, second].map(|to| connect(&lab.client, port, to));
        let names = [&streams[0], &streams[1], &streams[0]].map(ask);
        assert_eq!(names[0], names[2]);
        assert_ne!(names[0], names[1], "port {port}");
    }
    assert_eq!(ended(&daemon), (0, 0));
    daemon.stop().expect("it ends well");
}

#[test]
fn the_newer_of_two_counts_where_there_is_one_server_and_the_older_is_reset() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let daemon = serving(&lab, 1);
    let second = SocketAddrV4::new(*lab.plan.vip.ip(), SECOND);
    let mut older = connect(&lab.client, 40_000, lab.plan.vip);
    ask(&older);
    let newer = connect(&lab.client, 40_000, second);
    let error = older.read(&mut [0; 1]).expect_err("nothing is answered");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    ask(&newer);
    ask(&newer);
    assert_eq!(ended(&daemon), (0, 1));
    daemon.stop().expect("it ends well");
}

#[test]
fn a_resolver_that_asks_two_vips_from_one_socket_hears_from_each() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let at = SocketAddrV4::new(*lab.plan.servers[0].ip(), DNS);
    let _server = UdpServer::start(&lab.servers[0].host, at).expect("it listens");
    let daemon = serving(&lab, 1);
    let vips = [*lab.plan.vip.ip(), other_vip(&lab)].map(|vip| SocketAddrV4::new(vip, DNS));
    let open = || UdpSocket::bind("0.0.0.0:40000");
    let socket = lab.client.enter(open).expect("entered").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    for turn in 0..20 {
        let vip = vips[turn % 2];
        socket.send_to(b"?", vip).expect("sent");
        let (_, from) = socket.recv_from(&mut [0; 64]).expect("an answer");
        assert_eq!(from, vip.into());
    }
    assert_eq!(ended(&daemon).1, 19);
    daemon.stop().expect("it ends well");
}
