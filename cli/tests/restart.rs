//! A FULLNAT director that starts again while its servers still have the old one's connections: new clients
//! get local ports that servers hold, and connect all the same. Needs root, or `make test`.

#[path = "support/stand.rs"]
mod stand;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use uvs_lab::share::workers;
use uvs_lab::{Daemon, Lab, Mode, Options};

use stand::{PATIENCE, eventually, lab, uvs};

/// Local ports, and how many of them the servers' old connections have.
const PORTS: u16 = 64;
const HELD: usize = 60;
/// New clients after the restart.
const CLIENTS: usize = 30;
/// A client that waits for its SYN's retransmission waits for longer (RFC 6298: a second).
const RETRANSMITTED: Duration = Duration::from_millis(900);

fn serving(lab: &Lab) -> Daemon<'_> {
    let plan = &lab.plan;
    let text = format!(
        "interfaces = {:?}\n[limits]\nlocal_ports = \"2000-{}\"\n[[service]]\ntcp = \"{}\"\nscheduler = \"rr\"\n\
         mode = \"fullnat\"\nlocal_addresses = [\"{}\"]\n[[service.server]]\naddress = \"{}\"\n",
        plan.interfaces,
        2000 + PORTS * u16::try_from(workers()).expect("a few") - 1,
        plan.vip,
        plan.local.expect("a local address"),
        plan.servers[0]
    );
    let file = lab.dir().join("uvs.toml");
    fs::write(&file, text).expect("written");
    Daemon::start_with(lab, uvs(), &format!("run --config {}", file.display())).expect("uvs runs")
}

fn connect(lab: &Lab) -> TcpStream {
    let vip = lab.plan.vip.into();
    let connect = || TcpStream::connect_timeout(&vip, PATIENCE).expect("a connection");
    let stream = lab.client.enter(connect).expect("the client's namespace");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream
}

fn must_be_answered(mut stream: TcpStream) {
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains("200 OK"), "{answer:?}");
}

/// The local ports by which the server has connections that are established, in the kernel's order.
fn held(lab: &Lab) -> BTreeSet<String> {
    let port = lab.plan.servers[0].port();
    let line = format!("ss -Hnt state established sport = :{port}");
    let shown = lab.servers[0].host.run(&line).expect("ss runs");
    let peers = shown.lines().filter_map(|l| l.split_whitespace().last());
    peers.map(str::to_owned).collect()
}

fn reopened(lab: &Lab) -> u64 {
    let line = "curl -s -S -f http://127.0.0.1:9650/metrics";
    let text = lab.director.run(line).expect("/metrics answers");
    let mut lines = text.lines();
    let value = lines.find_map(|l| l.strip_prefix("uvs_snat_reopened_total "));
    value.and_then(|n| n.parse().ok()).expect("a count")
}

/// Not refused for what the kernel is still taking down of the one before.
#[test]
fn a_daemon_that_is_killed_is_followed_at_once() {
    let (lab, _) = lab(Mode::FullNat, Options::default());
    let mut killed = serving(&lab);
    must_be_answered(connect(&lab));
    killed.process().signal(Signal::KILL).expect("killed");
    let since = Instant::now();
    let daemon = serving(&lab);
    must_be_answered(connect(&lab));
    let serves = since.elapsed();
    println!("it serves {serves:?} after the one before was killed");
    eventually("the first is gone", || !killed.process().is_running());
    let since = Instant::now();
    daemon.stop().expect("it ends well");
    println!("and ended by SIGTERM within {:?}", since.elapsed());
}

#[test]
fn clients_connect_by_ports_of_which_the_server_has_old_connections() {
    let (lab, _) = lab(Mode::FullNat, Options::default());
    let daemon = serving(&lab);
    let old: Vec<_> = (0..HELD).map(|_| connect(&lab)).collect();
    eventually("the server has them all", || held(&lab).len() == HELD);
    daemon.stop().expect("it ends well");
    let daemon = serving(&lab);
    assert_eq!(held(&lab).len(), HELD, "no one told the server");
    let mut slow = 0;
    for _ in 0..CLIENTS {
        let since = Instant::now();
        let stream = connect(&lab);
        slow += u32::from(since.elapsed() > RETRANSMITTED);
        must_be_answered(stream);
    }
    eventually("the daemon says so", || reopened(&lab) > 0);
    println!(
        "{CLIENTS} clients by {PORTS} ports, {HELD} of them held: {} opened again, {slow} waited for a second",
        reopened(&lab)
    );
    // So many ports at most were free: four of the only worker's.
    let ports = usize::from(PORTS) * workers() as usize;
    let sure = CLIENTS.saturating_sub(ports - HELD).max(1);
    assert!(reopened(&lab) >= sure as u64);
    drop(old);
    daemon.stop().expect("it ends well");
}
