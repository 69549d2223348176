//! What UVS schedules by beyond IPVS, with real traffic: the handshake's duration, where one of three real
//! servers is behind a long line, and slow start. Needs root, or `make test`.

#[path = "schedulers/delay.rs"]
mod delay;
#[path = "support/stand.rs"]
mod stand;

use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use uvs_lab::traffic::{Answers, requests};
use uvs_lab::{Daemon, Lab, Mode, Options};

use delay::LongLine;
use stand::{eventually, lab, uvs};

/// What `uvs show servers -o json` says of a real server.
fn server(daemon: &Daemon<'_>, address: &str) -> Value {
    let shown = daemon.uvs("show servers -o json").expect("shown").stdout;
    let servers: Vec<Value> = serde_json::from_str(&shown).expect("JSON");
    let mut of_address = servers
        .into_iter()
        .filter(|s| s["spec"]["endpoint"]["addr"] == address);
    of_address.next().unwrap_or_else(|| panic!("{shown}"))
}

fn ask(lab: &Lab, daemon: &Daemon<'_>, count: u32) -> Answers {
    requests(&lab.client, &lab.plan.url("/"), count)
        .unwrap_or_else(|e| panic!("{e}\n{}", daemon.log()))
}

fn of(answers: &Answers, server: &str) -> u32 {
    answers.get(server).copied().unwrap_or_default()
}

#[test]
fn a_server_behind_a_long_line_gets_less_of_lrt() {
    for mode in [Mode::Nat, Mode::FullNat] {
        let (lab, _shell) = lab(mode, Options::default());
        let daemon = lab.start_daemon(uvs()).expect("uvs runs");
        let delay = Duration::from_millis(300);
        let _line = LongLine::to(
            &lab.servers[2].host,
            lab.plan.servers[2].port(),
            delay,
            lab.dir(),
        );
        daemon.ipvsadm(&lab.plan.add_service("lrt")).expect("added");
        for n in 0..3 {
            daemon.ipvsadm(&lab.plan.add_server(n, 1)).expect("added");
        }
        let answers = ask(&lab, &daemon, 90);
        let [rs1, rs2, rs3] = ["rs1", "rs2", "rs3"].map(|name| of(&answers, name));
        assert!(rs3 > 0, "measured at least once: {answers:?}");
        // A third would be 30. One of the others may be held slow for a moment, on a busy machine.
        assert!(rs3 <= 9 && rs3 < rs1.max(rs2), "{mode}: {answers:?}");
        let handshake = |n: usize| {
            let address = lab.plan.servers[n].ip().to_string();
            server(&daemon, &address)["handshake"]
                .as_u64()
                .expect("a number")
        };
        // It comes down from 300 ms while the others answer, but not as fast as they do.
        let [first, second, third] = [0, 1, 2].map(handshake);
        assert!(first.min(second) < third, "{first} {second} {third}");
        daemon.stop().expect("it ends well");
    }
}

#[test]
fn a_server_that_joins_starts_slowly() {
    let (lab, _shell) = lab(Mode::Dr, Options::default());
    let file = lab.dir().join("uvs.toml");
    let write = |slow_start, servers: &[&str]| {
        let servers = servers.iter();
        let servers: String = servers
            .map(|address| format!("[[service.server]]\naddress = \"{address}\"\n"))
            .collect();
        let text = format!(
            "interfaces = [\"eth0\"]\n[[service]]\ntcp = \"192.168.0.38:80\"\nscheduler = \"rr\"\n\
             slow_start = {slow_start}\n{servers}"
        );
        fs::write(&file, text).expect("written");
    };
    let [rs1, rs2, rs3] = ["192.168.0.18", "192.168.0.28", "192.168.0.48"];
    write(1, &[rs1, rs2]);
    let line = format!("run --config {}", file.display());
    let daemon = Daemon::start_with(&lab, uvs(), &line).expect("uvs runs");
    // None has its whole weight yet, so they share at once.
    assert_eq!(ask(&lab, &daemon, 20), stand::shares(10, 10));
    let effective = |address: &str| {
        server(&daemon, address)["effective_weight"]
            .as_f64()
            .expect("a number")
    };
    // They are at their weight after a second: nothing tells but what a third one gets then.
    thread::sleep(Duration::from_secs(2));
    write(3600, &[rs1, rs2, rs3]);
    daemon.uvs("reload").expect("reloaded");
    eventually("rs3 is held back", || effective(rs3) < 1.0);
    let answers = ask(&lab, &daemon, 40);
    assert!(of(&answers, "rs3") < 4, "{answers:?}");
    assert_eq!(effective(rs1), 1.0);
    write(0, &[rs1, rs2, rs3]);
    daemon.uvs("reload").expect("reloaded");
    assert_eq!(effective(rs3), 1.0);
    assert_eq!(of(&ask(&lab, &daemon, 30), "rs3"), 10);
    daemon.stop().expect("it ends well");
}
