//! Two directors that serve one VIP at the same time, behind a router that spreads connections over them by their
//! addresses and ports, and one of them lost while all connections talk:
//!
//! client 10.7.0.2 — router 10.7.0.1 | 10.8.0.1 — 10.8.0.3 first, 10.8.0.4 second, 10.8.0.11 … 10.8.0.14 servers
//!
//! The router is the kernel's own multipath, and the loss reaches it as BGP's withdrawal would: the next hop goes.
//! The mode is DR: replies pass no director, so that it does not matter to them which one is left.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::director::{Director, PATIENCE, eventually};
use crate::netns::Netns;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 2);
const DIRECTORS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 8, 0, 3), Ipv4Addr::new(10, 8, 0, 4)];
const SERVERS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(10, 8, 0, 11),
    Ipv4Addr::new(10, 8, 0, 12),
    Ipv4Addr::new(10, 8, 0, 13),
    Ipv4Addr::new(10, 8, 0, 14),
];
/// Servers at the beginning: the last one comes while connections last.
const AT_FIRST: usize = 3;

const CONNECTIONS: usize = 160;
/// Between two requests of a connection.
const PAUSE: Duration = Duration::from_millis(150);
/// Requests that each connection gets answered before the loss: more packets than `sync_threshold` asks for.
const BEFORE: usize = 5;
/// From a director's end to the router's knowing it: as BFD would take.
const DETECTION: Duration = Duration::from_millis(300);

struct Site {
    client: Netns,
    router: Netns,
    directors: [Director; 2],
    _servers: [Netns; 4],
    _switch: Netns,
}

impl Site {
    fn new() -> Self {
        let switch = Netns::new();
        switch.ip("link add name sw0 type bridge");
        switch.ip("link set sw0 up");
        let plug = |host: &Netns, name: &str, port: &str, addr: &str| {
            switch.veth(port, host, name);
            switch.ip(&format!("link set {port} master sw0"));
            host.ip(&format!("address add {addr}/24 dev {name}"));
        };
        let (client, router) = (Netns::new(), Netns::new());
        router.veth("eth0", &client, "eth0");
        client.ip(&format!("address add {CLIENT}/24 dev eth0"));
        client.ip("route add default via 10.7.0.1");
        router.ip("address add 10.7.0.1/24 dev eth0");
        plug(&router, "eth1", "router", "10.8.0.1");
        router.sysctl("ip_forward", "1");
        router.sysctl("fib_multipath_hash_policy", "1");
        let hops = DIRECTORS.map(|addr| format!("nexthop via {addr}"));
        router.ip(&format!("route add {VIP}/32 {}", hops.join(" ")));
        // The VIP is on `lo` of whoever gets packets for it, and of no interest to ARP.
        let host = |addr: Ipv4Addr, port: &str| {
            let host = Netns::new();
            plug(&host, "eth0", port, &addr.to_string());
            host.sysctl("conf/all/arp_ignore", "1");
            host.sysctl("conf/all/arp_announce", "2");
            host.ip(&format!("address add {VIP}/32 dev lo"));
            host.ip("route add default via 10.8.0.1");
            host
        };
        let directors = DIRECTORS.map(|addr| host(addr, &format!("d{}", addr.octets()[3])));
        let servers = SERVERS.map(|addr| host(addr, &format!("rs{}", addr.octets()[3])));
        for server in &servers {
            answer(server);
        }
        Self {
            client,
            router,
            directors: directors.map(|host| Director::start(host, &["eth0"])),
            _servers: servers,
            _switch: switch,
        }
    }

    /// What both directors are told.
    fn tell(&self, words: &str) {
        for director in &self.directors {
            director.ask(words);
        }
    }

    fn add_server(&self, server: Ipv4Addr) {
        self.tell(&format!("-a -t {VIP}:80 -r {server}:80 -g"));
    }
}

/// A server's program: each line is answered by one.
fn answer(server: &Netns) {
    let listener = server.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)));
    let listener = listener.expect("a port");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut answers = stream.try_clone().expect("a descriptor");
                let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
                lines.all(|line| answers.write_all(format!("{line}\n").as_bytes()).is_ok())
            });
        }
    });
}

/// A connection that asks and asks.
struct Talk {
    /// The client's port.
    port: u16,
    went_on: JoinHandle<bool>,
}

/// Begins to talk, and goes on until after `lost` is true. Returns when the first answers are there.
fn talk(client: &Netns, lost: &Arc<AtomicBool>) -> Talk {
    let stream = client.enter(|| TcpStream::connect_timeout(&(VIP, 80).into(), PATIENCE));
    let mut stream = BufReader::new(stream.expect("a connection"));
    let timeout = stream.get_ref().set_read_timeout(Some(PATIENCE));
    timeout.expect("a socket");
    let port = stream.get_ref().local_addr().expect("a socket").port();
    for n in 0..BEFORE {
        assert!(ask(&mut stream, n), "before the loss all is well");
    }
    let lost = Arc::clone(lost);
    let went_on = thread::spawn(move || {
        let mut n = BEFORE;
        let mut goes_on = true;
        while goes_on && !lost.load(Ordering::Relaxed) {
            thread::sleep(PAUSE);
            goes_on = ask(&mut stream, n);
            n += 1;
        }
        goes_on && (0..BEFORE).all(|n| ask(&mut stream, n))
    });
    Talk { port, went_on }
}

/// Whether a request is answered.
fn ask(stream: &mut BufReader<TcpStream>, n: usize) -> bool {
    let request = format!("request {n}\n");
    let mut answer = String::new();
    let sent = stream.get_mut().write_all(request.as_bytes());
    sent.is_ok() && stream.read_line(&mut answer).is_ok() && answer == request
}

/// Whether a director lists a connection from this port as established.
fn knows(list: &str, port: u16) -> bool {
    let client = format!(" {CLIENT}:{port} ");
    let mut lines = list.lines();
    lines.any(|line| line.contains("ESTABLISHED") && line.contains(&client))
}

/// What the directors know of each other's connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Nothing: either takes what comes in the middle of a connection by `sloppy_tcp`.
    Nothing,
    /// All, by the sync daemons.
    All,
}

/// What became of the connections that the loss concerned.
#[derive(Debug)]
struct Outcome {
    /// Those of the lost director; all of them where both know all.
    concerned: usize,
    went_on: usize,
}

/// Has all connections talk, adds a server where `grows`, and takes the first director away.
fn lose_one(site: &Site, told: Told, grows: bool) -> Outcome {
    site.tell(&format!("-A -t {VIP}:80 -s mh -b mh-port"));
    for server in SERVERS.iter().take(AT_FIRST) {
        site.add_server(*server);
    }
    for director in &site.directors {
        if told == Told::Nothing {
            director.uvs("sysctl net.ipv4.vs.sloppy_tcp=1");
            continue;
        }
        for role in ["master", "backup"] {
            director.ask(&format!(
                "--start-daemon {role} --mcast-interface eth0 --syncid 7"
            ));
        }
    }
    let lost = Arc::new(AtomicBool::new(false));
    let begin = |_| talk(&site.client, &lost);
    let talks: Vec<Talk> = (0..CONNECTIONS).map(begin).collect();
    if told == Told::All {
        eventually("both directors know all connections", || {
            let lists = [0, 1].map(|place| site.directors[place].ask("-Lnc"));
            let known = |list: &String| talks.iter().all(|talk| knows(list, talk.port));
            lists.iter().all(known)
        });
    }
    let list = site.directors[0].ask("-Lnc");
    let (concerned, others): (Vec<_>, Vec<_>) =
        talks.into_iter().partition(|talk| knows(&list, talk.port));
    if grows {
        site.add_server(SERVERS[AT_FIRST]);
    }
    site.directors[0].switch_off();
    thread::sleep(DETECTION);
    let left = format!("route replace {VIP}/32 via {}", DIRECTORS[1]);
    site.router.ip(&left);
    lost.store(true, Ordering::Relaxed);
    let outcome = Outcome {
        concerned: concerned.len(),
        went_on: count(concerned),
    };
    let kept = others.len();
    assert_eq!(count(others), kept, "what the other one had is untouched");
    println!("{outcome:?}");
    outcome
}

/// How many went on.
fn count(talks: Vec<Talk>) -> usize {
    let ended = talks.into_iter().map(|talk| talk.went_on.join());
    ended.filter(|went_on| matches!(went_on, Ok(true))).count()
}

/// Fails where the router has not spread the connections: each director has a fair part.
fn must_be_a_part(connections: usize) {
    let least = CONNECTIONS / 5;
    let fair = least..=CONNECTIONS - least;
    assert!(
        fair.contains(&connections),
        "{connections} of {CONNECTIONS}"
    );
}

#[test]
fn mh_finds_the_same_server_by_the_other_director() {
    let site = Site::new();
    let outcome = lose_one(&site, Told::Nothing, false);
    must_be_a_part(outcome.concerned);
    assert_eq!(outcome.went_on, outcome.concerned);
}

#[test]
fn without_sync_most_connections_go_on_when_the_servers_have_changed() {
    let site = Site::new();
    let outcome = lose_one(&site, Told::Nothing, true);
    must_be_a_part(outcome.concerned);
    assert!(outcome.went_on * 2 > outcome.concerned, "{outcome:?}");
    assert!(outcome.went_on < outcome.concerned, "{outcome:?}");
}

#[test]
fn with_sync_all_connections_go_on() {
    let site = Site::new();
    let outcome = lose_one(&site, Told::All, true);
    assert_eq!(outcome.went_on, CONNECTIONS);
}
