//! Who cannot take over leaves the running daemon as it was, and it is said why.

use std::fs;
use std::net::TcpStream;

use uvs_lab::{Daemon, Mode, Options};

use crate::heir::{Heir, pid};
use crate::stand::{PATIENCE, ask_over, fill, lab, must_serve, uvs};
use crate::{refused, script, serving};

#[test]
fn a_successor_that_fails_leaves_the_daemon_as_it_was() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let mut daemon = serving(&lab, "--hook off");
    let vip = lab.plan.vip.into();
    let connect = || TcpStream::connect_timeout(&vip, PATIENCE).expect("a connection");
    let mut open = lab.client.enter(connect).expect("the client's namespace");
    ask_over(&mut open);
    let first = pid(&daemon);
    for (text, why) in [
        ("exit 3", "exit status: 3"),
        ("kill -SEGV $$", "before it was ready"),
        (
            "printf 'ready 999999' >&0; sleep 60",
            "state of version 999999",
        ),
        (
            "printf 'refused no such thing' >&0",
            "it refuses: no such thing",
        ),
        (
            "printf 'ready 5' >&0; printf fits >&0; exit 4",
            "before it took over",
        ),
        ("printf 'ready 5' >&0; exit 5", "exit status: 5"),
        (
            "printf 'ready 5' >&0; printf fits >&0; exec sleep 60",
            "took over; it was killed",
        ),
    ] {
        let said = refused(&lab, &daemon, &script(&lab, text));
        assert!(said.starts_with("the running daemon goes on: "), "{said}");
        assert!(said.contains(why), "{text}: {said}");
        println!("{said}");
        assert_eq!(pid(&daemon), first);
        ask_over(&mut open);
        must_serve(&lab, &daemon);
    }
    let absent = lab.dir().join("absent");
    assert!(refused(&lab, &daemon, &absent).contains("cannot be started"));
    assert!(daemon.process().is_running());
    drop(open);
    daemon.stop().expect("it ends well");
}

#[test]
fn a_configuration_that_is_wrong_is_told_and_changes_nothing() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let plan = &lab.plan;
    let file = lab.dir().join("uvs.toml");
    let text = format!(
        "interfaces = {:?}\n[[service]]\ntcp = \"{}\"\nscheduler = \"wrr\"\nmode = \"nat\"\n\
         [[service.server]]\naddress = \"{}\"\nweight = 3\n[[service.server]]\naddress = \"{}\"\n",
        plan.interfaces, plan.vip, plan.servers[0], plan.servers[1]
    );
    fs::write(&file, &text).expect("written");
    let line = format!("run --config {} --hook off", file.display());
    let daemon = Daemon::start_with(&lab, uvs(), &line).expect("uvs runs");
    must_serve(&lab, &daemon);
    fs::write(&file, text.replace("\"wrr\"", "\"best\"")).expect("written");
    let said = refused(&lab, &daemon, uvs());
    assert!(said.contains("best"), "{said}");
    println!("{said}");
    fs::write(
        &file,
        text.replace("interfaces = [", "interfaces = [\"lo\", "),
    )
    .expect("written");
    refused(&lab, &daemon, uvs());
    must_serve(&lab, &daemon);
    daemon.stop().expect("it ends well");
}

/// As without CAP_BPF.
#[test]
fn where_the_hook_was_wished_for_and_could_not_be_had_it_goes_on_without() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let without = "setpriv --bounding-set -bpf,-sys_admin --inh-caps -bpf,-sys_admin";
    let text = format!("exec {without} {} \"$@\"", uvs().display());
    let file = lab.dir().join("uvs.toml");
    let text_of = |mode: &str| {
        let interfaces = &lab.plan.interfaces;
        format!("interfaces = {interfaces:?}\n[hook]\nmode = \"{mode}\"\n")
    };
    fs::write(&file, text_of("auto")).expect("written");
    let line = format!("run --config {}", file.display());
    let wrapped = script(&lab, &text);
    let daemon = Daemon::start_with(&lab, &wrapped, &line).expect("uvs runs");
    fill(&lab, &daemon);
    let hook = || daemon.uvs("show hook").expect("told").stdout;
    let before = hook();
    assert!(before.contains("CAP_BPF"), "{before}");
    let first = pid(&daemon);
    let mut heir = None;
    for _ in 0..2 {
        daemon.uvs("upgrade").expect("upgraded");
        if let Some(before) = heir.replace(Heir::of(pid(&daemon))) {
            before.ended();
        }
    }
    let after = hook();
    assert!(
        after.contains("taken over") && after.contains("CAP_BPF"),
        "{after}"
    );
    assert_eq!(after.matches("taken over").count(), 1, "{after}");
    must_serve(&lab, &daemon);
    let second = pid(&daemon);
    assert_ne!(first, second);
    fs::write(&file, text_of("tier")).expect("written");
    let said = refused(&lab, &daemon, uvs());
    assert!(
        said.contains("--hook tier") && said.contains("none"),
        "{said}"
    );
    println!("{said}");
    assert_eq!(pid(&daemon), second);
    must_serve(&lab, &daemon);
    heir.expect("upgraded").stop();
}
