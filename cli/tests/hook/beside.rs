//! The hook beside the host's own rules, bridges and traffic: decided connection by connection.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddrV4, TcpListener, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::netns::run;
use crate::site::{CLIENT, SERVERS, Site, VIP, ask_udp, echo_tcp, echo_udp, exchange, greet, udp};

const MASQUERADE: &str = "table ip site {
    chain translate {
        type nat hook postrouting priority 100;
        ip saddr 10.2.0.0/16 oifname \"d0\" masquerade
    }
}";

const SERVICE: &str = "-A -t VIP:80 -s rr
-a -t VIP:80 -r S1:80 -m
-A -u VIP:53 -s rr
-a -u VIP:53 -r S1:53 -m";

fn hooked(site: &mut Site, commands: &str) {
    site.options = vec!["--hook", "tier"];
    site.serve(commands);
    echo_tcp(&site.servers[0], "s1", 80);
}

/// The service goes on, and the daemon's frames come out even when the site ends.
fn is_served(site: &Site) {
    let (open, greeting) = greet(&site.client, VIP, 80);
    assert_eq!(greeting, "s1 10.1.0.2");
    exchange(open);
}

#[test]
fn what_a_nat_server_sends_from_the_balanced_port_is_masqueraded_while_a_client_downloads_from_there()
 {
    let mut site = Site::routed();
    site.nft(MASQUERADE);
    site.filter_reverse_paths();
    site.options = vec!["--hook", "tier"];
    site.serve(SERVICE);
    let balanced = SocketAddrV4::new(SERVERS[0], 80);
    echo_shared(&site, balanced);
    echo_tcp(&site.client, "outside", 9999);
    let open = site
        .client
        .enter(|| TcpStream::connect((VIP, 80)).expect("connected"));
    let said = std::thread::scope(|s| {
        let download = s.spawn(|| exchange(open));
        let outside = SocketAddrV4::new(CLIENT, 9999);
        let said = site.servers[0].enter(|| connect_from(balanced, outside));
        download.join().expect("every byte");
        said
    });
    assert_eq!(said, "outside 10.1.0.1");
    echo_udp(&site.client, "peer", 53);
    let server = udp(&site.servers[0], 53);
    for _ in 0..10 {
        assert_eq!(ask_udp(&server, CLIENT, 53), "peer 10.1.0.1:53");
    }
}

/// A socket that shares its address and port with others of this kind.
fn shared(at: SocketAddrV4) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_port(true).expect("set");
    socket.bind(&at.into()).expect("bound");
    socket
}

/// Who answers whoever connects from an address and port that something listens on.
fn connect_from(from: SocketAddrV4, to: SocketAddrV4) -> String {
    let socket = shared(from);
    socket.connect(&to.into()).expect("connected");
    let mut said = String::new();
    let mut lines = BufReader::new(TcpStream::from(socket));
    lines.read_line(&mut said).expect("an answer");
    said.trim_end().to_owned()
}

/// A server that sends everything back, on a port that it shares.
fn echo_shared(site: &Site, at: SocketAddrV4) {
    let socket = site.servers[0].enter(|| shared(at));
    socket.listen(16).expect("it listens");
    let listener = TcpListener::from(socket);
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut back = stream.try_clone().expect("a socket");
            std::thread::spawn(move || std::io::copy(&mut stream, &mut back));
        }
    });
}

#[test]
fn nothing_of_the_hosts_rules_is_in_the_way_and_uvs_is_not_in_theirs() {
    let mut site = Site::routed();
    site.nft(MASQUERADE);
    hooked(&mut site, SERVICE);
    is_served(&site);
    let (open, _) = greet(&site.client, VIP, 80);
    site.director.enter(|| run("nft", &["flush", "ruleset"]));
    is_served(&site);
    exchange(open);
    site.nft(MASQUERADE);
    let rules = site.director.enter(|| run("nft", &["list", "ruleset"]));
    assert!(!rules.contains("uvs"), "{rules}");
    // As an administrator saves and restores them.
    site.nft(&format!("flush ruleset\n{rules}"));
    assert_eq!(
        site.director.enter(|| run("nft", &["list", "ruleset"])),
        rules
    );
    is_served(&site);
}

#[test]
fn a_server_behind_a_bridge_with_br_netfilter() {
    let mut site = Site::bridged();
    site.nft(MASQUERADE);
    let on = ["/proc/sys/net/bridge/bridge-nf-call-iptables"];
    let is_there = site.director.enter(|| std::fs::write(on[0], "1").is_ok());
    println!("br_netfilter: {is_there}");
    hooked(&mut site, SERVICE);
    is_served(&site);
    echo_tcp(&site.client, "outside", 9999);
    let outside = greet(&site.servers[0], CLIENT, 9999);
    assert_eq!(outside.1, "outside 10.1.0.1");
    exchange(outside.0);
    is_served(&site);
}

#[test]
fn an_interface_that_is_a_macvlan() {
    let mut site = Site::routed();
    // Of what is below it answers nobody's ARP for its addresses.
    site.director.sysctl("conf/d0/arp_ignore", "1");
    site.director.ip("address flush dev d0");
    site.director
        .ip("link add name m0 link d0 type macvlan mode bridge");
    site.director.ip("link set m0 up");
    site.director.ip("address add 10.1.0.1/24 dev m0");
    site.director.ip("address add 10.1.0.100/32 dev m0");
    site.interfaces = vec!["m0", "d1", "d2"];
    hooked(&mut site, SERVICE);
    is_served(&site);
}

#[test]
fn the_directors_own_services_and_clients_are_its_own() {
    let mut site = Site::routed();
    hooked(&mut site, SERVICE);
    echo_tcp(&site.director, "director", 81);
    let (open, greeting) = greet(&site.client, VIP, 81);
    assert_eq!(greeting, "director 10.1.0.2");
    exchange(open);
    // A program on the director is a client like any other.
    let (open, greeting) = greet(&site.director, VIP, 80);
    assert!(greeting.starts_with("s1 "), "{greeting}");
    exchange(open);
    let health = greet(&site.director, SERVERS[0], 80);
    assert_eq!(health.1, "s1 10.2.1.1");
    exchange(health.0);
}
