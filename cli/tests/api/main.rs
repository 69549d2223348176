//! The JSON API as docs/api.md has it: its session against a real daemon, real answers against the schema, and the example of
//! a controller on real traffic. Needs root, or `make test`.

#[path = "../support/stand.rs"]
mod stand;

mod schema;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use uvs_lab::{Daemon, Mode, Options};

use schema::Schema;
use stand::{PATIENCE, ask, ask_over, eventually, lab, run, serving, shares, uvs};

/// A client without any code of ours.
struct Talker(BufReader<UnixStream>);

impl Talker {
    fn new(daemon: &Daemon<'_>) -> Self {
        let stream = UnixStream::connect(daemon.socket()).expect("it answers");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        Self(BufReader::new(stream))
    }

    /// Sends a line and returns the replies to it.
    fn say(&mut self, line: &str) -> Vec<Value> {
        self.send(line);
        self.replies()
    }

    fn send(&mut self, line: &str) {
        writeln!(self.0.get_mut(), "{line}").expect("sent");
    }

    /// What it is answered, all parts.
    fn replies(&mut self) -> Vec<Value> {
        let mut replies = Vec::new();
        loop {
            let mut reply = String::new();
            self.0.read_line(&mut reply).expect("a reply");
            let reply: Value = serde_json::from_str(&reply).expect("JSON");
            let more = reply["more"] == true;
            replies.push(reply);
            if !more {
                return replies;
            }
        }
    }

    fn ask(&mut self, schema: &Schema, command: Value) -> Value {
        let request = json!({"version": 1, "id": 3, "command": command});
        let fits = schema.check("request", &request);
        fits.unwrap_or_else(|why| panic!("{request}: {why}"));
        let replies = self.say(&request.to_string());
        for reply in &replies {
            let fits = schema.check("reply", reply);
            fits.unwrap_or_else(|why| panic!("{command}: {why}\n{reply:#}"));
        }
        replies.last().expect("one").to_owned()
    }
}

fn manual() -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api.md");
    fs::read_to_string(page).expect("the page")
}

#[test]
fn the_manuals_session_is_what_a_daemon_answers() {
    let (lab, _shell) = lab(Mode::Dr, Options::default());
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let (schema, mut talker) = (Schema::read(), Talker::new(&daemon));
    let text = manual();
    let mut lines = text.lines().filter(|line| line.starts_with('{'));
    let mut seen = 0;
    while let (Some(request), Some(told)) = (lines.next(), lines.next()) {
        let told: Value = serde_json::from_str(told).expect("a reply");
        let asked: Value = serde_json::from_str(request).expect("a request");
        let mistaken = told["result"]["Err"]["errno"] == "invalid";
        assert_eq!(
            schema.check("request", &asked).is_err(),
            mistaken,
            "{request}"
        );
        let replies = talker.say(request);
        for reply in replies.iter().chain([&told]) {
            let fits = schema.check("reply", reply);
            fits.unwrap_or_else(|why| panic!("{why}: {reply}"));
        }
        // Of changes the time and the process are other ones.
        if asked["command"].get("list_changes").is_none() {
            assert_eq!(replies, [told], "{request}");
        }
        seen += 1;
    }
    assert!(seen >= 9, "{seen} requests");
    daemon.stop().expect("it ends well");
}

/// What a daemon with this service and this server carries out, one after the other.
fn answered(key: &Value, at: &Value) -> Vec<Value> {
    let deny = json!({"action": "deny", "service": key, "prefixes": ["192.0.2.0/24"]});
    vec![
        json!("info"),
        json!({"list_services": null}),
        json!({"list_services": key}),
        json!("list_connections"),
        json!({"find_connections": {"filter": {"service": key}}}),
        json!({"find_connections": {}}),
        json!("running"),
        json!("list_marks"),
        json!("get_timeouts"),
        json!({"sysctl": {"name": "drop_entry"}}),
        json!({"sysctl": {"name": "sync_threshold", "value": "4 50"}}),
        json!({"zero": null}),
        json!({"set_timeouts": {"tcp": 300, "tcp_fin": 0, "udp": 0}}),
        json!({"add_access": deny}),
        json!({"mark": [7, ["tcp 192.168.0.38:443"]]}),
        json!("list_marks"),
        json!({"unmark": [7, []]}),
        json!({"add_service": {"key": {"mark": {"mark": 7, "ipv6": false}}, "scheduler": "mh", "flags": 16, "persistence": {"timeout": 60, "mask": 4_294_967_295_u32}}}),
        json!({"edit_service": {"key": key, "scheduler": "wlc", "care": {"on_removal": "tell"}}}),
        json!({"edit_server": [key, {"endpoint": at, "forwarding": "tunnel", "weight": 2, "tunnel": {"kind": "gre"}}]}),
        json!({"edit_server": [key, {"endpoint": at, "forwarding": "dr"}]}),
        json!({"set_weight": [key, at, 5]}),
        json!({"batch": [{"set_weight": [key, at, 0]}]}),
        json!({"undrain": [key, at]}),
        json!({"kill": {"filter": {"state": "ESTABLISHED", "ends": {"server": at}}, "notice": "silent"}}),
        json!({"kill": {"all": true}}),
        json!({"list_changes": 0}),
        json!({"delete_server": [key, at]}),
        json!("clear"),
    ]
}

/// What it refuses once they are gone, with why.
fn refused(key: &Value, at: &Value) -> Vec<(Value, &'static str, &'static str)> {
    vec![
        (json!({"kill": {}}), "invalid", "all: true"),
        (
            json!({"set_weight": [key, at, 1]}),
            "not_found",
            "TCP 192.168.0.38:80: no such service",
        ),
        (json!("reload"), "invalid", "uvs run --config FILE"),
        (
            json!({"apply": {"dry_run": true}}),
            "invalid",
            "uvs run --config FILE",
        ),
        (
            json!("confirm_reload"),
            "not_found",
            "no reload is on trial",
        ),
        (
            json!({"transaction": [{"add_service": {"key": key, "scheduler": "rr"}}, {"undrain": [key, at]}]}),
            "no_server",
            "change 2 of 2: ",
        ),
        (
            json!({"add_service": {"key": key, "scheduler": "round"}}),
            "no_scheduler",
            "there are rr, wrr",
        ),
    ]
}

#[test]
fn real_answers_are_as_the_schema_says() {
    let (lab, _shell) = lab(Mode::Dr, Options::default());
    let daemon = serving(&lab);
    let (schema, mut talker) = (Schema::read(), Talker::new(&daemon));
    let connect = || TcpStream::connect(lab.plan.vip).expect("a connection");
    let mut open = lab.client.enter(connect).expect("entered");
    open.set_read_timeout(Some(PATIENCE)).expect("set");
    ask_over(&mut open);
    let key = json!({"address": {"protocol": "tcp", "addr": "192.168.0.38", "port": 80}});
    let at = json!({"addr": "192.168.0.18", "port": 80});
    for command in answered(&key, &at) {
        let reply = talker.ask(&schema, command.clone());
        assert!(reply["result"].get("Ok").is_some(), "{command}: {reply}");
    }
    for (command, errno, said) in refused(&key, &at) {
        let reply = talker.ask(&schema, command.clone());
        let refusal = &reply["result"]["Err"];
        assert_eq!(refusal["errno"], errno, "{command}: {reply}");
        let message = refusal["message"].as_str().expect("a sentence");
        assert!(message.contains(said), "{command}: {message}");
    }
    let left = talker.ask(&schema, json!({"list_services": null}));
    assert_eq!(
        left["result"]["Ok"]["services"]["services"],
        json!([]),
        "nothing half made"
    );
    daemon.stop().expect("it ends well");
}

/// Also where services go and come while it is told.
#[test]
fn a_long_list_of_services_comes_in_parts() {
    const SERVICES: u64 = 1200;
    let (lab, _shell) = lab(Mode::Dr, Options::default());
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let (schema, mut talker) = (Schema::read(), Talker::new(&daemon));
    let key =
        |port: u64| json!({"address": {"protocol": "tcp", "addr": "192.168.0.38", "port": port}});
    let add = |ports: Range<u64>| {
        let add = |port| json!({"add_service": {"key": key(port), "scheduler": "rr"}});
        json!({"transaction": ports.map(add).collect::<Vec<_>>()})
    };
    for from in (0..SERVICES).step_by(100) {
        talker.ask(&schema, add(from + 1..from + 101));
    }
    let list = json!({"version": 1, "id": 9, "command": {"list_services": null}}).to_string();
    let listed = |replies: &[Value]| -> Vec<u64> {
        let part = |reply: &Value| {
            let fits = schema.check("reply", reply);
            fits.unwrap_or_else(|why| panic!("{why}: {reply}"));
            let services = reply["result"]["Ok"]["services"]["services"].clone();
            let port = |s: &Value| s["spec"]["key"]["address"]["port"].as_u64();
            let services = services.as_array().expect("services").iter();
            services
                .map(|s| port(s).expect("a port"))
                .collect::<Vec<_>>()
        };
        replies.iter().flat_map(part).collect()
    };
    let replies = talker.say(&list);
    assert_eq!(replies.len(), 3);
    assert!(
        listed(&replies).into_iter().eq(1..=SERVICES),
        "each once, oldest first"
    );
    // What the daemon has told of stays told, and what stays is told of, whatever comes and goes in between.
    let mut other = Talker::new(&daemon);
    for round in 0..20 {
        talker.send(&list);
        let gone = SERVICES / 2 + round;
        other.ask(&schema, json!({"delete_service": key(gone)}));
        other.ask(&schema, add(SERVICES + round + 1..SERVICES + round + 2));
        let ports = listed(&talker.replies());
        assert!(
            ports.is_sorted_by(|one, next| one < next),
            "each once, oldest first"
        );
        let stays = |port: &u64| !(SERVICES / 2..=gone).contains(port);
        let missing: Vec<_> = (1..=SERVICES)
            .filter(stays)
            .filter(|port| !ports.contains(port))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
    daemon.stop().expect("it ends well");
}

#[test]
fn the_schema_refuses_what_is_wrong() {
    let schema = Schema::read();
    let request = |command: Value| json!({"version": 1, "id": 1, "command": command});
    let key = json!({"address": {"protocol": "tcp", "addr": "10.0.0.1", "port": 80}});
    for wrong in [
        json!({"version": 2, "id": 1, "command": "info"}),
        json!({"version": 1, "command": "info"}),
        request(json!("fly")),
        request(json!({"set_weight": [key, {"addr": "10.0.0.2", "port": 80}]})),
        request(json!({"set_weight": [key, {"addr": "10.0.0.2", "port": 80}, -1]})),
        request(
            json!({"add_server": [key, {"endpoint": {"addr": "10.0.0.2", "port": 70000}, "forwarding": "nat"}]}),
        ),
        request(
            json!({"add_server": [key, {"endpoint": {"addr": "10.0.0.2", "port": 80}, "forwarding": "nat", "wieght": 1}]}),
        ),
    ] {
        assert!(schema.check("request", &wrong).is_err(), "{wrong}");
    }
    assert!(
        schema
            .check("reply", &json!({"id": 1, "result": {"Ok": "dome"}}))
            .is_err()
    );
}

#[test]
fn the_examples_controller_keeps_a_services_servers() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let daemon = serving(&lab);
    let file = lab.dir().join("servers.json");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/controller.py");
    let control = |servers: Value| {
        let said = json!({"forwarding": "nat", "servers": servers});
        fs::write(&file, said.to_string()).expect("written");
        let line = format!(
            "python3 {script} --once tcp:{} {}",
            lab.plan.vip,
            file.display()
        );
        run(&lab, &shell, &line)
    };
    let [rs1, rs2] = [0, 1].map(|n| lab.plan.servers[n].to_string());
    let done = control(json!({&rs1: 1, &rs2: 1}));
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.stdout.lines().count(), 1, "one weight: {done:?}");
    assert_eq!(ask(&lab).expect("answers"), shares(20, 20));
    let again = control(json!({&rs1: 1, &rs2: 1}));
    assert_eq!(
        (again.code, again.stdout.as_str()),
        (Some(0), ""),
        "{again:?}"
    );
    // With a connection open a server is drained, and goes when that has ended.
    let connect = || TcpStream::connect(lab.plan.vip).expect("a connection");
    let mut open = lab.client.enter(connect).expect("entered");
    open.set_read_timeout(Some(PATIENCE)).expect("set");
    let (stays, goes) = match ask_over(&mut open).as_str() {
        "rs1\n" => (&rs2, &rs1),
        _ => (&rs1, &rs2),
    };
    let drained = control(json!({stays: 1}));
    assert!(drained.stdout.contains("set_weight"), "{drained:?}");
    let listed = daemon.ipvsadm("-ln").expect("listed");
    assert!(listed.contains(goes.as_str()), "{listed}");
    ask_over(&mut open);
    drop(open);
    eventually("it is removed", || {
        control(json!({stays: 1}));
        !daemon
            .ipvsadm("-ln")
            .expect("listed")
            .contains(goes.as_str())
    });
    assert!(
        daemon
            .log()
            .contains(&format!("server {goes} in TCP {} removed", lab.plan.vip))
    );
    assert!(
        daemon.log().contains("controller.py --once tcp:"),
        "{}",
        daemon.log()
    );
    let wrong = control(json!({&rs1: -1}));
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(
        wrong.stderr.starts_with("controller: ") && wrong.stderr.contains("-1"),
        "{wrong:?}"
    );
    daemon.stop().expect("it ends well");
}
