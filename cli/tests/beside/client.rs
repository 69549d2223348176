//! A program on the director that connects to the director's own VIP is balanced, as the kernel's
//! LOCAL_OUT hook does.

use crate::site::{PATIENCE, Site, VIP, ask_udp, echo_tcp, echo_udp, exchange, greet, udp};

fn site(commands: &str) -> Site {
    let mut site = Site::routed();
    for (server, name) in site.servers.iter().zip(["s1", "s2"]) {
        echo_tcp(server, name, 80);
        echo_udp(server, name, 53);
    }
    site.serve(commands);
    site
}

const NAT: &str = "-A -t VIP:80 -s rr
-a -t VIP:80 -r S1:80 -m
-a -t VIP:80 -r S2:80 -m
-A -u VIP:53 -s rr
-a -u VIP:53 -r S1:53 -m
-a -u VIP:53 -r S2:53 -m";

const FULLNAT: &str = "-A -t VIP:80 -s rr --laddr 10.2.1.1
-a -t VIP:80 -r S1:80 --fullnat
-a -t VIP:80 -r S2:80 --fullnat
-A -u VIP:53 -s rr --laddr 10.2.1.1
-a -u VIP:53 -r S1:53 --fullnat
-a -u VIP:53 -r S2:53 --fullnat";

/// Each server answers in turn, and as many bytes as there are come back; `as_client` is what it sees.
fn is_balanced(site: &Site, as_client: &str) {
    let mut names = Vec::new();
    for _ in 0..4 {
        let (stream, greeting) = greet(&site.director, VIP, 80);
        exchange(stream);
        let (name, address) = greeting.split_once(' ').expect("a greeting");
        assert_eq!(address, as_client);
        names.push(name.to_owned());
        let answer = ask_udp(&udp(&site.director, 0), VIP, 53);
        assert!(answer.contains(as_client), "{answer}");
    }
    names.sort();
    assert_eq!(names, ["s1", "s1", "s2", "s2"]);
}

#[test]
fn by_nat() {
    let site = site(NAT);
    site.filter_reverse_paths();
    is_balanced(&site, "10.1.0.100");
    // From outside as well, and what is no service is the host's.
    assert!(greet(&site.client, VIP, 80).1.ends_with("10.1.0.2"));
    echo_tcp(&site.director, "director", 81);
    assert_eq!(greet(&site.director, VIP, 81).1, "director 10.1.0.100");
}

#[test]
fn by_fullnat() {
    let site = site(FULLNAT);
    is_balanced(&site, "10.2.1.1");
}

#[test]
fn is_told_at_once_that_there_is_no_server() {
    let site = site("-A -t VIP:80 -s rr");
    let to = (VIP, 80).into();
    let refused = || std::net::TcpStream::connect_timeout(&to, PATIENCE);
    let error = site.director.enter(refused).expect_err("no server");
    let told = [
        std::io::ErrorKind::ConnectionRefused,
        std::io::ErrorKind::HostUnreachable,
    ];
    assert!(told.contains(&error.kind()), "{error}");
}
