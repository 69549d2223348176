//! The director as a real server by NAT and FULLNAT: a program on it that listens on another port, as
//! ldirectord's `fallback` does.

use std::net::UdpSocket;

use crate::site::{DIRECTOR, Site, VIP, answer_udp, ask_udp, echo_tcp, exchange, greet, udp};

fn site(commands: &str) -> Site {
    let mut site = Site::routed();
    echo_tcp(&site.director, "sorry", 8080);
    // Its own address, which a datagram to another of the host's would not be answered from.
    let socket = site.director.enter(|| UdpSocket::bind((DIRECTOR, 5353)));
    answer_udp(socket.expect("a free port"), "sorry");
    site.filter_reverse_paths();
    site.serve(commands);
    site
}

/// A remote client's and a local one's connection; who connects to the server itself is not in the way.
fn is_served(site: &Site, as_client: &str, as_local: &str) {
    let (stream, greeting) = greet(&site.client, VIP, 80);
    assert_eq!(greeting, format!("sorry {as_client}"));
    let (direct, greeting) = greet(&site.client, DIRECTOR, 8080);
    assert_eq!(greeting, "sorry 10.1.0.2");
    exchange(stream);
    exchange(direct);
    let (local, greeting) = greet(&site.director, VIP, 80);
    assert_eq!(greeting, format!("sorry {as_local}"));
    exchange(local);
    for (from, client) in [(&site.client, as_client), (&site.director, as_local)] {
        let answer = ask_udp(&udp(from, 0), VIP, 53);
        assert!(answer.starts_with(&format!("sorry {client}:")), "{answer}");
    }
}

#[test]
fn by_nat() {
    let site = site(
        "-A -t VIP:80 -s rr
        -a -t VIP:80 -r 10.1.0.1:8080 -m
        -A -u VIP:53 -s rr
        -a -u VIP:53 -r 10.1.0.1:5353 -m",
    );
    is_served(&site, "10.1.0.2", "10.1.0.100");
    // A real server takes over, and the director is none any more.
    echo_tcp(&site.servers[0], "s1", 80);
    site.ask("-a -t VIP:80 -r S1:80 -m\n-d -t VIP:80 -r 10.1.0.1:8080");
    assert_eq!(greet(&site.client, VIP, 80).1, "s1 10.1.0.2");
}

#[test]
fn by_fullnat() {
    let site = site(
        "-A -t VIP:80 -s rr --laddr 10.2.1.1
        -a -t VIP:80 -r 10.1.0.1:8080 --fullnat
        -A -u VIP:53 -s rr --laddr 10.2.1.1
        -a -u VIP:53 -r 10.1.0.1:5353 --fullnat",
    );
    is_served(&site, "10.2.1.1", "10.2.1.1");
}
