//! What is not as it should be: no bpffs, one that is read-only, pins that others have damaged, no memory, interfaces
//! that go or are a bridge's; each is told, and what can go on does.

use std::fs;

use uvs_lab::{Daemon, Lab, Mode, Options};

use crate::director::{Bpffs, kill, line, reconfigure, serving, started, told};
use crate::stand::{eventually, fill, lab, must_serve, uvs};

/// What a daemon says that does not start.
fn refusal(lab: &Lab, words: &str) -> String {
    match Daemon::start_with(lab, uvs(), words) {
        Ok(_) => panic!("`uvs {words}` runs"),
        Err(error) => error.to_string(),
    }
}

fn nat() -> Lab {
    lab(Mode::Nat, Options::default()).0
}

#[test]
fn without_a_bpffs_nothing_is_pinned_and_that_is_told() {
    let lab = nat();
    let bpffs = Bpffs::new();
    let words = line(&lab, &bpffs, "tier");
    let nowhere = format!("{:?}", lab.dir().join("none"));
    reconfigure(&lab, &format!("{:?}", bpffs.pins()), &nowhere);
    let daemon = Daemon::start_with(&lab, uvs(), &words).expect("uvs runs");
    fill(&lab, &daemon);
    assert!(daemon.log().contains("is in no bpffs"), "{}", daemon.log());
    assert!(told(&daemon, "hook")["program"]["pinned"].is_null());
    must_serve(&lab, &daemon);
    daemon.stop().expect("it ends well");
}

#[test]
fn in_a_bpffs_that_is_read_only_nothing_is_pinned_either() {
    let lab = nat();
    let bpffs = Bpffs::new();
    bpffs.make_read_only();
    let daemon = serving(&lab, &bpffs, "tier");
    assert!(
        daemon.log().contains("is mounted read-only"),
        "{}",
        daemon.log()
    );
    assert!(told(&daemon, "hook")["program"]["pinned"].is_null());
    must_serve(&lab, &daemon);
    daemon.stop().expect("it ends well");
}

#[test]
fn pins_that_were_removed_or_are_of_others_do_not_stop_a_start() {
    let lab = nat();
    let bpffs = Bpffs::new();
    let daemon = serving(&lab, &bpffs, "tier");
    let pinned = bpffs.pinned();
    kill(daemon);
    // Every other one is gone.
    for pin in pinned.iter().step_by(2) {
        fs::remove_file(pin).expect("removed");
    }
    let daemon = started(&lab, &bpffs, "tier");
    fill(&lab, &daemon);
    must_serve(&lab, &daemon);
    daemon.stop().expect("it ends well");
    assert!(bpffs.pinned().is_empty(), "{:?}", bpffs.pinned());
}

#[test]
fn a_bridges_port_is_refused_by_name() {
    let lab = nat();
    let bpffs = Bpffs::new();
    let setup = "link add name br9 type bridge\nlink add name v9 type veth peer name w9\nlink set v9 master br9";
    lab.director.ip(setup).expect("a bridge");
    let words = line(&lab, &bpffs, "tier").replace("run ", "run --interface v9 ");
    let said = refusal(&lab, &words);
    let expected = "v9 is a port of a bridge, which takes its frames before the host's stack does";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn an_interface_that_goes_and_comes_back_has_the_program_again() {
    let lab = nat();
    let bpffs = Bpffs::new();
    let daemon = started(&lab, &bpffs, "tier");
    lab.director
        .ip("link add name x0 type veth peer name x1\nlink set x0 up\nlink set x1 up")
        .expect("a pair");
    daemon.stop().expect("it ends well");
    let words = line(&lab, &bpffs, "tier").replace(
        "run ",
        "run --interface x0 --interface eth0 --interface eth1 ",
    );
    let daemon = Daemon::start_with(&lab, uvs(), &words).expect("uvs runs");
    fill(&lab, &daemon);
    let at_x0 = |daemon: &Daemon<'_>| {
        let hook = told(daemon, "hook");
        let ports = hook["ports"].as_array().expect("a list").clone();
        let port = ports.into_iter().find(|p| p["interface"] == "x0");
        port.is_some_and(|p| p["attach"] != "")
    };
    assert!(at_x0(&daemon));
    lab.director.ip("link delete x0").expect("deleted");
    eventually("it is gone", || !at_x0(&daemon));
    lab.director
        .ip("link add name x0 type veth peer name x1\nlink set x0 up\nlink set x1 up")
        .expect("a pair");
    eventually("it is back", || at_x0(&daemon));
    must_serve(&lab, &daemon);
    daemon.stop().expect("it ends well");
}

#[test]
fn a_table_that_is_full_leaves_the_rest_in_user_space() {
    let lab = nat();
    let bpffs = Bpffs::new();
    let words = line(&lab, &bpffs, "tier");
    reconfigure(&lab, "[hook]", "[hook]\nconnections = 4");
    let daemon = Daemon::start_with(&lab, uvs(), &words).expect("uvs runs");
    fill(&lab, &daemon);
    must_serve(&lab, &daemon);
    let hook = told(&daemon, "hook");
    let untaken = hook["untaken"].as_array().expect("a list");
    let full = untaken.iter().find(|why| why[0] == "full").expect("named");
    assert!(full[1].as_u64() > Some(0), "{hook}");
    daemon.stop().expect("it ends well");
}
