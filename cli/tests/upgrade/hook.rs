//! With the hook in force: what the kernel forwards it forwards on, whoever serves and while nobody does. Needs root: a
//! program is loaded into the kernel, which no user namespace may.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use uvs_lab::{Daemon, Lab, Mode, Options};

use crate::director::{Bpffs, connect, line, reconfigure, serving, told};
use crate::heir::{Heir, pid};
use crate::stand::{ask_over, eventually, fill, lab, must_serve, uvs};
use crate::{refused, script};

/// Long enough for a daemon to have stopped for its successor, which then says nothing for five seconds.
const STOPPED: Duration = Duration::from_secs(1);

/// Totals move at the end of each two seconds.
const LONGER_THAN_A_PERIOD: Duration = Duration::from_millis(2500);

fn asked(lab: &Lab, daemon: &Daemon<'_>) -> Vec<TcpStream> {
    let mut open: Vec<TcpStream> = (0..10).map(|_| connect(lab)).collect();
    open.iter_mut().for_each(|stream| drop(ask_over(stream)));
    eventually("they are all in the kernel", || taken(daemon) == 10);
    open
}

/// Connections that the kernel forwards.
fn taken(daemon: &Daemon<'_>) -> u64 {
    told(daemon, "hook")["taken"].as_u64().expect("a number")
}

/// Packets and bytes of each server's, as of the end of the last period.
fn counted(daemon: &Daemon<'_>) -> Vec<Value> {
    let servers = told(daemon, "servers");
    let all = servers.as_array().expect("a list").iter();
    all.map(|server| server["stats"].clone()).collect()
}

/// The same, once a period has changed nothing more: it is all that the servers got.
fn settled(daemon: &Daemon<'_>) -> Vec<Value> {
    let mut last = counted(daemon);
    eventually("all is counted", || {
        thread::sleep(LONGER_THAN_A_PERIOD);
        let now = counted(daemon);
        std::mem::replace(&mut last, now.clone()) == now
    });
    last
}

/// The kernel's number of the program at the interfaces.
fn program(daemon: &Daemon<'_>) -> u64 {
    let hook = told(daemon, "hook");
    assert_eq!(hook["wrong"], Value::Null, "{hook}");
    hook["program"]["id"].as_u64().expect("a number")
}

#[test]
fn what_the_kernel_forwards_goes_on_while_nobody_serves_and_with_whoever_does() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let bpffs = Bpffs::new();
    let mut daemon = serving(&lab, &bpffs, "tier");
    let mut open = asked(&lab, &daemon);
    let (first, loaded) = (pid(&daemon), program(&daemon));
    let hangs = script(&lab, "printf 'ready 5' >&0; printf fits >&0; exec sleep 60");
    let said = thread::scope(|scope| {
        let refused = scope.spawn(|| refused(&lab, &daemon, &hangs));
        thread::sleep(STOPPED);
        open.iter_mut().for_each(|stream| drop(ask_over(stream)));
        assert!(!refused.is_finished(), "it stands by");
        refused.join().expect("no panic")
    });
    assert!(said.contains("took over; it was killed"), "{said}");
    assert_eq!((pid(&daemon), program(&daemon)), (first, loaded));
    open.iter_mut().for_each(|stream| drop(ask_over(stream)));
    must_serve(&lab, &daemon);

    let before = settled(&daemon);
    let there = taken(&daemon);
    let mut heir = None;
    for _ in 0..3 {
        let earlier = program(&daemon);
        daemon.uvs("upgrade").expect("upgraded");
        if let Some(before) = heir.replace(Heir::of(pid(&daemon))) {
            before.ended();
        }
        assert_ne!(program(&daemon), earlier, "each has its own program there");
        assert_eq!(counted(&daemon), before, "to the packet");
        assert_eq!(taken(&daemon), there);
    }
    assert!(!daemon.process().is_running(), "the first has ended");
    open.iter_mut().for_each(|stream| drop(ask_over(stream)));
    eventually("they are in the kernel again", || taken(&daemon) == there);
    let frames = told(&daemon, "hook")["ports"].clone();
    open.iter_mut().for_each(|stream| drop(ask_over(stream)));
    assert_ne!(told(&daemon, "hook")["ports"], frames);
    must_serve(&lab, &daemon);
    drop(open);
    heir.expect("upgraded").stop();
    assert!(bpffs.pinned().is_empty(), "{:?}", bpffs.pinned());
}

#[test]
fn another_hook_is_refused_before_anything_is_given_up() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let bpffs = Bpffs::new();
    let words = line(&lab, &bpffs, "tier");
    let daemon = Daemon::start_with(&lab, uvs(), &words).expect("uvs runs");
    fill(&lab, &daemon);
    let mut open = asked(&lab, &daemon);
    let (first, loaded) = (pid(&daemon), program(&daemon));
    let pins = format!("{:?}", bpffs.pins());
    for (from, to, why) in [
        ("[hook]", "[hook]\nconnections = 4096", "hook.connections"),
        ("mode = \"tier\"", "mode = \"off\"", "one in force"),
        ("mode = \"tier\"", "mode = \"guard\"", "`everything`"),
        (pins.as_str(), "\"/sys/fs/bpf/elsewhere\"", "hook.pins"),
    ] {
        reconfigure(&lab, from, to);
        let said = refused(&lab, &daemon, uvs());
        assert!(said.starts_with("the running daemon goes on: "), "{said}");
        assert!(said.contains(why), "{to}: {said}");
        println!("{said}");
        reconfigure(&lab, to, from);
        assert_eq!((pid(&daemon), program(&daemon)), (first, loaded));
        open.iter_mut().for_each(|stream| drop(ask_over(stream)));
    }
    must_serve(&lab, &daemon);
    daemon.stop().expect("it ends well");
}

#[test]
fn what_is_pinned_nowhere_goes_from_hand_to_hand() {
    for mode in ["guard", "tier"] {
        let (lab, _) = lab(Mode::Nat, Options::default());
        let bpffs = Bpffs::new();
        bpffs.make_read_only();
        let daemon = serving(&lab, &bpffs, mode);
        assert_eq!(told(&daemon, "hook")["program"]["pinned"], Value::Null);
        let mut open = connect(&lab);
        ask_over(&mut open);
        let loaded = program(&daemon);
        daemon.uvs("upgrade").expect("upgraded");
        let heir = Heir::of(pid(&daemon));
        assert_ne!(program(&daemon), loaded);
        ask_over(&mut open);
        must_serve(&lab, &daemon);
        heir.stop();
    }
}
