//! Full tables: the connection that finds no place is dropped and counted by name, and those that have one
//! go on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use uvs_lab::probe::{Connect, connect};
use uvs_lab::{Daemon, Lab, Mode, Options};

use crate::counters::Counters;
use crate::stand::{PATIENCE, eventually, lab, run, uvs};

/// How long a connection that must not come about is waited for: its SYN and the next.
const SILENCE: Duration = Duration::from_millis(1500);
const ROOM: usize = 8;

#[test]
fn a_full_connection_table_drops_what_is_new_and_serves_what_is_there() {
    let limits = format!("connections = {ROOM}");
    full("nat", Mode::Nat, &limits, "table_full");
}

#[test]
fn exhausted_local_ports_drop_what_is_new_and_serve_what_is_there() {
    let limits = format!("local_ports = \"20000-{}\"", 20000 + ROOM - 1);
    full("fullnat", Mode::FullNat, &limits, "ports_exhausted");
}

/// Fills what the limits leave room for, tries one more, and asks over every connection that came about.
fn full(name: &str, mode: Mode, limits: &str, reason: &str) {
    let (lab, shell) = lab(mode, Options::default());
    let file = lab.dir().join("uvs.toml");
    std::fs::write(&file, configuration(&lab, name, limits)).expect("written");
    let line = format!("run --config {}", file.display());
    let daemon = Daemon::start_with(&lab, uvs(), &line).expect("uvs runs");
    let open = || TcpStream::connect_timeout(&lab.plan.vip.into(), PATIENCE);
    let held: Vec<_> = (0..ROOM)
        .map(|_| {
            let opened = lab.client.enter(open).expect("in the client's namespace");
            opened.unwrap_or_else(|e| panic!("{e}\n{}", daemon.log()))
        })
        .collect();
    assert_eq!(Counters::read(&lab, &shell).drops(reason), 0);
    let tried = connect(&lab.client, lab.plan.vip, SILENCE).expect("tried");
    assert_eq!(tried, Connect::Silence);
    let counters = Counters::read(&lab, &shell);
    assert!(counters.drops(reason) >= 1, "{counters:?}");
    let shown = run(&lab, &shell, "uvs show drops").stdout;
    assert!(shown.contains(reason), "{shown}");
    for stream in held {
        let answer = request(stream);
        assert!(answer.ends_with("\r\n\r\nrs1\n"), "{answer}");
    }
    daemon.stop().expect("it ends well");
}

#[test]
fn places_come_free_again() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let file = lab.dir().join("uvs.toml");
    let limits = "connections = 1\n\n[timeouts]\nudp = 1";
    let text = configuration(&lab, "nat", limits).replace("tcp =", "udp =");
    std::fs::write(&file, text).expect("written");
    let line = format!("run --config {}", file.display());
    let daemon = Daemon::start_with(&lab, uvs(), &line).expect("uvs runs");
    let server = uvs_lab::udp::UdpServer::start(&lab.servers[0].host, lab.plan.servers[0]);
    let _server = server.expect("it listens");
    for _ in 0..3 {
        eventually("the one place is free", || {
            uvs_lab::udp::ask(&lab.client, lab.plan.vip, b"?").is_ok()
        });
    }
    daemon.stop().expect("it ends well");
}

fn configuration(lab: &Lab, mode: &str, limits: &str) -> String {
    let local = lab.plan.local.map_or_else(String::new, |address| {
        format!("local_addresses = [\"{address}\"]\n")
    });
    format!(
        "interfaces = [\"eth0\", \"eth1\"]\n\n[limits]\n{limits}\n\n[[service]]\ntcp = \"{}\"\n\
         scheduler = \"rr\"\nmode = \"{mode}\"\n{local}\n[[service.server]]\naddress = \"{}\"\n",
        lab.plan.vip, lab.plan.servers[0]
    )
}

fn request(mut stream: TcpStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let request = b"GET / HTTP/1.0\r\n\r\n";
    stream
        .write_all(request)
        .expect("an established connection");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}
