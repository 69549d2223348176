//! The daemon ends, is killed, stopped, started again: what goes on, what comes back, what is left.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::Value;
use uvs_lab::traffic::Download;
use uvs_lab::{Daemon, Lab, Mode, Options};

use crate::director::{Bpffs, connect, kill, line, reconfigure, serving, started, told};
use crate::stand::{ask_over, eventually, fill, lab, must_serve, run, uvs};

/// A short heartbeat.
const STALE: Duration = Duration::from_secs(3);

fn established(conns: &Value) -> usize {
    let all = conns.as_array().expect("a list").iter();
    all.filter(|c| c["state"] == "ESTABLISHED").count()
}

/// What all servers got from clients, as of the end of the last period of two seconds.
fn packets(daemon: &Daemon<'_>) -> u64 {
    let servers = told(daemon, "servers");
    let all = servers.as_array().expect("a list").iter();
    all.map(|s| s["stats"]["in_packets"].as_u64().expect("a number"))
        .sum()
}

/// What a new client of the VIP gets within a second.
fn knock(lab: &Lab) -> Result<(), ErrorKind> {
    let vip = lab.plan.vip.into();
    let knock = || TcpStream::connect_timeout(&vip, Duration::from_secs(1));
    let stream = lab.client.enter(knock).expect("the client's namespace");
    stream.map(drop).map_err(|e| e.kind())
}

fn survives_kill(mode: Mode) {
    let (lab, _) = lab(mode, Options::default());
    let bpffs = Bpffs::new();
    let daemon = serving(&lab, &bpffs, "tier");
    let content = lab.content("30M", 30 << 20).expect("content");
    let mut open: Vec<TcpStream> = (0..10).map(|_| connect(&lab)).collect();
    open.iter_mut().for_each(|stream| drop(ask_over(stream)));
    let mut before = 0;
    eventually("they are counted", || {
        before = packets(&daemon);
        before > 0
    });
    let url = lab.plan.url("/30M?rate=4m");
    let download = Download::start(&lab.client, &url, &lab.dir().join("down")).expect("curl runs");
    eventually("the download is under way", || {
        established(&told(&daemon, "conns")) == 11
    });
    kill(daemon);
    // Nobody is told, and what the kernel forwards goes on.
    open.iter_mut().for_each(|stream| drop(ask_over(stream)));
    assert_eq!(knock(&lab), Err(ErrorKind::TimedOut));

    let mut daemon = started(&lab, &bpffs, "tier");
    fill(&lab, &daemon);
    eventually("it has them all", || {
        established(&told(&daemon, "conns")) == 11
    });
    eventually("none of them is lost", || packets(&daemon) >= before);
    open.iter_mut().for_each(|stream| drop(ask_over(stream)));
    download
        .finish()
        .expect("it ends")
        .must_equal(&content)
        .expect("every byte");
    must_serve(&lab, &daemon);
    drop(open);
    eventually("their ends are seen", || {
        established(&told(&daemon, "conns")) == 0
    });
    assert!(daemon.process().is_running());
    daemon.stop().expect("it ends well");
    assert!(bpffs.pinned().is_empty(), "{:?}", bpffs.pinned());
}

#[test]
fn a_killed_daemons_connections_go_on_and_the_next_one_has_them() {
    survives_kill(Mode::Nat);
}

#[test]
fn with_direct_routing_too() {
    survives_kill(Mode::Dr);
}

#[test]
fn after_the_heartbeat_the_host_has_everything_back_and_answers() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let bpffs = Bpffs::new();
    let words = line(&lab, &bpffs, "tier");
    reconfigure(&lab, "[hook]", "[hook]\nheartbeat = 3");
    let daemon = Daemon::start_with(&lab, uvs(), &words).expect("uvs runs");
    fill(&lab, &daemon);
    let mut open = connect(&lab);
    ask_over(&mut open);
    kill(daemon);
    ask_over(&mut open);
    sleep(STALE + Duration::from_secs(1));
    assert_eq!(knock(&lab), Err(ErrorKind::ConnectionRefused));
    open.write_all(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n")
        .expect("sent");
    let read = open.read(&mut [0]).map_err(|e| e.kind());
    assert_eq!(read, Err(ErrorKind::ConnectionReset));
    let down = format!("uvs guard down --pins {}", bpffs.pins().display());
    let ended = run(&lab, &shell, &down);
    assert!(ended.stdout.contains("removed the hook"), "{ended:?}");
    assert!(bpffs.pinned().is_empty(), "{:?}", bpffs.pinned());
}

#[test]
fn a_daemon_that_is_stopped_for_ten_seconds_is_missed_by_new_clients_only() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let bpffs = Bpffs::new();
    let mut daemon = serving(&lab, &bpffs, "tier");
    let mut open: Vec<TcpStream> = (0..10).map(|_| connect(&lab)).collect();
    open.iter_mut().for_each(|stream| drop(ask_over(stream)));
    daemon.process().signal(Signal::STOP).expect("stopped");
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(10) {
        open.iter_mut().for_each(|stream| drop(ask_over(stream)));
        sleep(Duration::from_millis(100));
    }
    daemon.process().signal(Signal::CONT).expect("continued");
    eventually("it answers", || knock(&lab).is_ok());
    open.iter_mut().for_each(|stream| drop(ask_over(stream)));
    must_serve(&lab, &daemon);
    daemon.stop().expect("it ends well");
}

#[test]
fn with_nothing_left_the_host_is_as_it_was() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let bpffs = Bpffs::new();
    let daemon = serving(&lab, &bpffs, "tier");
    must_serve(&lab, &daemon);
    daemon.stop().expect("it ends well");
    assert!(bpffs.pinned().is_empty(), "{:?}", bpffs.pinned());
    assert_eq!(
        knock(&lab),
        Err(ErrorKind::ConnectionRefused),
        "the kernel has its packets back"
    );
}

#[test]
fn what_was_left_in_a_namespace_that_is_gone_goes_with_the_next_start() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let bpffs = Bpffs::new();
    let [long_ago, just_now] = ["ns-1", "ns-2"].map(|name| bpffs.pins().join(name));
    for dir in [&long_ago, &just_now] {
        fs::create_dir_all(dir).expect("a directory");
    }
    let hour = SystemTime::now() - Duration::from_secs(3600);
    let directory = fs::File::open(&long_ago).expect("it is there");
    directory.set_modified(hour).expect("a time");
    let daemon = serving(&lab, &bpffs, "tier");
    assert!(!long_ago.exists(), "nobody has used it for an hour");
    assert!(just_now.exists(), "it may be a neighbour's");
    daemon.stop().expect("it ends well");
}
