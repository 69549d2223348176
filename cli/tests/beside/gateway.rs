//! The director as its NAT servers' gateway: what they send beside their services' replies is netfilter's
//! and the routes', in full: MASQUERADE, DNAT, a stateful FORWARD chain by interface, strict reverse paths.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::ops::Range;

use crate::site::{
    CLIENT, DIRECTOR, PATIENCE, SERVERS, SILENCE, Site, VIP, ask_udp, echo_tcp, echo_udp,
    eventually, exchange, greet, udp,
};

/// A firewall that knows every way in and out by its interface, and nothing else.
const FIREWALL: &str = r#"table ip site {
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state invalid drop
        ct state established,related accept
        iifname "SERVERS" oifname "d0" ct state new accept
        iifname "d0" oifname "SERVERS" ct status dnat accept
    }
    chain translate {
        type nat hook postrouting priority 100;
        ip saddr 10.2.0.0/16 oifname "d0" masquerade
    }
    chain publish {
        type nat hook prerouting priority -100;
        ip daddr 10.1.0.1 tcp dport 8080 dnat to 10.2.1.11:80
        ip daddr 10.1.0.1 udp dport 5300 dnat to 10.2.1.11:53
    }
}"#;

const PORT: &str = "-A -t VIP:80 -s rr
-a -t VIP:80 -r S1:80 -m
-A -u VIP:53 -s rr
-a -u VIP:53 -r S1:53 -m";

const ALL_PORTS: &str = "-A -t VIP:0 -s rr -p 300
-a -t VIP:0 -r S1:0 -m
-A -u VIP:0 -s rr -p 300
-a -u VIP:0 -r S1:0 -m";

const MARK: &str = "uvs mark 1 tcp VIP:80 VIP:443 udp VIP:53
-A -f 1 -s rr -p 300
-a -f 1 -r S1 -m";

fn gateway(mut site: Site, servers: &str, commands: &str) -> Site {
    site.nft(&FIREWALL.replace("SERVERS", servers));
    site.filter_reverse_paths();
    site.serve(commands);
    echo_tcp(&site.servers[0], "s1", 80);
    echo_udp(&site.servers[0], "s1", 53);
    site
}

/// The service, what the server does on its own, and what the firewall publishes of it.
fn all_goes_on(site: &Site) {
    echo_tcp(&site.client, "outside", 9999);
    echo_udp(&site.client, "outside", 9953);
    let (open, greeting) = greet(&site.client, VIP, 80);
    assert_eq!(greeting, "s1 10.1.0.2");
    let datagram = ask_udp(&udp(&site.client, 0), VIP, 53);
    assert!(datagram.starts_with("s1 10.1.0.2:"), "{datagram}");
    for _ in 0..3 {
        let outside = greet(&site.servers[0], CLIENT, 9999);
        assert_eq!(outside.1, "outside 10.1.0.1");
        exchange(outside.0);
        let answer = ask_udp(&udp(&site.servers[0], 0), CLIENT, 9953);
        assert!(answer.starts_with("outside 10.1.0.1:"), "{answer}");
        let published = greet(&site.client, DIRECTOR, 8080);
        assert_eq!(published.1, "s1 10.1.0.2");
        exchange(published.0);
        let answer = ask_udp(&udp(&site.client, 0), DIRECTOR, 5300);
        assert!(answer.starts_with("s1 10.1.0.2:"), "{answer}");
    }
    exchange(open);
}

#[test]
fn beside_a_service_on_a_port() {
    all_goes_on(&gateway(Site::routed(), "d1", PORT));
}

#[test]
fn beside_a_service_on_all_ports() {
    all_goes_on(&gateway(Site::routed(), "d1", ALL_PORTS));
}

#[test]
fn beside_a_service_of_a_firewall_mark() {
    all_goes_on(&gateway(Site::routed(), "d1", MARK));
}

#[test]
fn of_a_container_on_a_bridge() {
    all_goes_on(&gateway(Site::bridged(), "docker0", PORT));
}

#[test]
fn from_the_very_port_that_is_balanced() {
    let mut site = Site::routed();
    site.nft(&FIREWALL.replace("SERVERS", "d1"));
    site.filter_reverse_paths();
    site.serve("-A -u VIP:123 -s rr\n-a -u VIP:123 -r S1:123 -m");
    echo_udp(&site.client, "peer", 123);
    let server = udp(&site.servers[0], 123);
    assert_eq!(ask_udp(&server, CLIENT, 123), "peer 10.1.0.1:123");
    // Its service goes on, in the same socket.
    let client = udp(&site.client, 0);
    client.send_to(b"time?", (VIP, 123)).expect("sent");
    let (_, from) = server.recv_from(&mut [0; 16]).expect("a request");
    server.send_to(b"noon", from).expect("sent");
    client.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let (n, from) = client.recv_from(&mut [0; 16]).expect("a reply");
    assert_eq!((n, from), (4, (VIP, 123).into()));
    assert_eq!(ask_udp(&server, CLIENT, 123), "peer 10.1.0.1:123");
}

#[test]
fn two_servers_and_a_client_that_use_one_port_at_all_ends() {
    let mut site = Site::routed();
    site.client.ip("route add 10.2.0.0/16 via 10.1.0.1");
    site.serve(
        "-A -u VIP:5060 -s fo\n-a -u VIP:5060 -r S1:5060 -m -w 2\n-a -u VIP:5060 -r S2:5060 -m",
    );
    let [first, second] = [0, 1].map(|i| udp(&site.servers[i], 5060));
    let client = udp(&site.client, 5060);
    client.set_read_timeout(Some(PATIENCE)).expect("a socket");
    client.send_to(b"register", (VIP, 5060)).expect("sent");
    first.recv_from(&mut [0; 16]).expect("a request");
    // The first answers in its connection; what the other one says is its own.
    for (server, from) in [(&first, VIP), (&second, SERVERS[1]), (&first, VIP)] {
        server.send_to(b"hello", (CLIENT, 5060)).expect("sent");
        let (_, heard) = client.recv_from(&mut [0; 16]).expect("a datagram");
        assert_eq!(heard, (from, 5060).into());
    }
    client.set_read_timeout(Some(SILENCE)).expect("a socket");
    assert!(client.recv_from(&mut [0; 16]).is_err(), "each came once");
}

#[test]
fn a_servers_error_about_somebody_elses_datagram() {
    let mut site = Site::routed();
    site.client.ip("route add 10.2.0.0/16 via 10.1.0.1");
    // Nothing listens at the real server.
    site.serve("-A -u VIP:53 -s rr\n-a -u VIP:53 -r S1:53 -m");
    for to in [VIP, SERVERS[0]] {
        let client = udp(&site.client, 0);
        client.connect((to, 53)).expect("a route");
        client.set_read_timeout(Some(PATIENCE)).expect("a socket");
        client.send(b"?").expect("sent");
        let told = client.recv(&mut [0; 16]).expect_err("nobody there").kind();
        assert_eq!(told, std::io::ErrorKind::ConnectionRefused, "{to}");
    }
}

#[test]
fn every_frame_once() {
    const DATAGRAMS: usize = 500;
    const PORTS: Range<u16> = 7000..7005;
    let site = gateway(Site::routed(), "d1", ALL_PORTS);
    let (open, _) = greet(&site.client, VIP, 80);
    let inboxes: Vec<UdpSocket> = PORTS.map(|port| udp(&site.client, port)).collect();
    let sender = udp(&site.servers[0], 7777);
    let counted = std::thread::scope(|s| {
        s.spawn(|| exchange(open));
        for (i, port) in (0..DATAGRAMS).zip(PORTS.cycle()) {
            sender
                .send_to(&i.to_be_bytes(), (CLIENT, port))
                .expect("sent");
            if i % 50 == 49 {
                std::thread::sleep(SILENCE / 50);
            }
        }
        let count = |inbox: &UdpSocket| {
            inbox.set_read_timeout(Some(SILENCE)).expect("a socket");
            let mut seen = Vec::new();
            let mut buffer = [0; 8];
            while inbox.recv(&mut buffer).is_ok() {
                seen.push(usize::from_be_bytes(buffer));
            }
            seen
        };
        let mut all: Vec<usize> = inboxes.iter().flat_map(count).collect();
        all.sort_unstable();
        all
    });
    assert_eq!(counted, (0..DATAGRAMS).collect::<Vec<_>>());
}

#[test]
fn a_guard_that_is_put_up_again_knows_the_clients() {
    let mut site = Site::routed();
    site.options = vec!["--hook", "off"];
    let site = gateway(site, "d1", PORT);
    let (mut client, _) = greet(&site.client, VIP, 80);
    site.ask("-A -t VIP:81 -s rr\n-a -t VIP:81 -r S1:81 -m");
    let listener = site.servers[0].enter(|| TcpListener::bind("0.0.0.0:81"));
    let listener = listener.expect("a free port");
    let idle = site.client.enter(|| TcpStream::connect((VIP, 81)));
    let mut idle = idle.expect("connected");
    let (mut accepted, _) = listener.accept().expect("a connection");
    site.nft("delete table netdev uvs");
    let sure = || {
        let shown = site.tell("guard show").stdout;
        let rules = String::from_utf8_lossy(&shown);
        rules.contains("set clients") && !unsure(&rules)
    };
    eventually("the guard is back and sure", sure);
    // The server speaks first: nothing of its client's has passed the new guard.
    accepted.write_all(b"late").expect("sent");
    idle.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut heard = [0; 4];
    idle.read_exact(&mut heard).expect("not reset");
    assert_eq!(&heard, b"late");
    client.write_all(b"still").expect("sent");
    let mut back = [0; 5];
    client.read_exact(&mut back).expect("not reset");
    echo_udp(&site.client, "outside", 9953);
    ask_udp(&udp(&site.servers[0], 0), CLIENT, 9953);
}

/// Whether the set of protocols in which the guard is not sure has elements.
fn unsure(rules: &str) -> bool {
    let set = rules.split("set unsure").nth(1);
    set.and_then(|s| s.split('}').next())
        .is_some_and(|s| s.contains("elements"))
}
