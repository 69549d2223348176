//! `uvs show` of everything, against a daemon that has carried traffic.

use serde_json::Value;
use uvs_lab::process::{Process, SOON};
use uvs_lab::{Daemon, Mode, Options};

use crate::stand::{ask, eventually, lab, serving};

fn shown(daemon: &Daemon<'_>, words: &str) -> String {
    let output = daemon.uvs(&format!("show {words}"));
    output.expect(words).stdout
}

fn json(daemon: &Daemon<'_>, words: &str) -> Value {
    serde_json::from_str(&shown(daemon, &format!("{words} -o json"))).expect("JSON")
}

fn count(daemon: &Daemon<'_>, words: &str) -> usize {
    json(daemon, words).as_array().expect("an array").len()
}

#[test]
fn connections_are_found_by_service_server_and_client() {
    let (lab, _shell) = lab(Mode::FullNat, Options::default());
    let daemon = serving(&lab);
    daemon
        .ipvsadm(&format!("-A -t {}:443 -s rr", lab.plan.vip.ip()))
        .expect("added");
    ask(&lab).expect("answers");
    let (vip, rs1) = (lab.plan.vip, lab.plan.servers[0]);
    let client = lab.plan.client;
    for (filter, expected) in [
        (String::new(), 40),
        (format!(" --server {rs1}"), 30),
        (format!(" --server {}", rs1.ip()), 30),
        (format!(" --service {vip}"), 40),
        (format!(" --service tcp:{}:443", vip.ip()), 0),
        (format!(" --client {client}"), 40),
        (format!(" --client {client}/8 --latest 7"), 7),
        (
            format!(" --client {client} --server {rs1} --service {vip}"),
            30,
        ),
        (" --client 192.0.2.1".to_owned(), 0),
    ] {
        assert_eq!(
            count(&daemon, &format!("conns{filter}")),
            expected,
            "{filter}"
        );
    }
    let first = &json(&daemon, "conns")[0];
    assert!(
        first["sequence"][0].as_u64().is_some_and(|n| n > 0),
        "{first}"
    );
    let wide = shown(&daemon, "conns -o wide --latest 1");
    assert!(wide.trim_end().ends_with(&format!("TCP {vip}")), "{wide}");
    assert_eq!(count(&daemon, &format!("services --service {vip}")), 1);
    assert_eq!(
        count(&daemon, &format!("servers --service {vip} --server {rs1}")),
        1
    );
    let error = daemon
        .uvs(&format!("show conns --service udp:{vip}"))
        .expect_err("none such");
    assert!(
        error.to_string().contains("no such service; there are TCP"),
        "{error}"
    );
    daemon.stop().expect("stopped");
}

#[test]
fn neighbours_settings_drops_and_plugins() {
    let (lab, _shell) = lab(Mode::Nat, Options::default());
    let daemon = serving(&lab);
    ask(&lab).expect("answers");
    let rs1 = lab.plan.servers[0].ip().to_string();
    let neighbours = json(&daemon, "neigh");
    let neighbours = neighbours.as_array().expect("an array");
    let first = neighbours
        .iter()
        .find(|n| n["addr"] == rs1.as_str())
        .expect("rs1");
    assert_eq!(
        (&first["state"], &first["servers"][0]),
        (&"known".into(), &rs1.as_str().into())
    );
    let mac = lab.servers[0].host.mac("eth0").expect("an address");
    assert_eq!(first["mac"], mac.as_str());
    lab.servers[0].host.ip("link set eth0 down").expect("down");
    lab.director
        .run(&format!("ip neigh flush to {rs1}"))
        .expect("flushed");
    eventually("a neighbour that failed", || {
        let text = shown(&daemon, "neigh");
        text.lines()
            .any(|l| l.starts_with(&rs1) && l.contains(" failed ") && l.ends_with(&rs1))
    });
    assert!(!shown(&daemon, "config").contains("sysctl."));
    daemon.uvs("sysctl net.ipv4.vs.sloppy_tcp=1").expect("set");
    let config = shown(&daemon, "config");
    let last = config.lines().last().expect("lines");
    assert_eq!(
        last.split_whitespace().collect::<Vec<_>>(),
        ["sysctl.sloppy_tcp", "1", "0"]
    );
    assert!(shown(&daemon, "config -o wide").contains("sysctl.pmtu_disc"));
    assert!(shown(&daemon, "drops -o wide").contains("A routing loop, or a traceroute."));
    assert!(json(&daemon, "plugins")["plugins"].is_array());
    assert!(shown(&daemon, "plugins").starts_with("NAME "));
    daemon.stop().expect("stopped");
}

#[test]
fn a_watch_goes_on_through_a_restart_of_the_daemon() {
    let (lab, _shell) = lab(Mode::Dr, Options::default());
    let daemon = serving(&lab);
    let command = daemon.command("show services --watch=0.2");
    let log = lab.dir().join("watch.log");
    let mut watch = lab.director.spawn(command, &log).expect("it runs");
    let tables = |watch: &Process| watch.log().matches("PROTO  VIP").count();
    watch
        .wait_ready(SOON, |w| tables(w) >= 3)
        .expect("three tables");
    daemon.stop().expect("stopped");
    watch
        .wait_ready(SOON, |w| w.log().contains("no daemon answers"))
        .expect("it says so");
    let before = tables(&watch);
    let daemon = serving(&lab);
    watch
        .wait_ready(SOON, |w| tables(w) > before)
        .expect("more tables");
    watch.stop().expect("stopped");
    daemon.stop().expect("stopped");
}
