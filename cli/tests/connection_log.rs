//! The connection log on real traffic, with whatever forwards it: each connection is a line once, its numbers are
//! those of all packets, a successor goes on with it, and SIGUSR1 opens its file again. Needs root, or `make test`.

#[path = "support/heir.rs"]
mod heir;
#[path = "support/stand.rs"]
mod stand;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::process::Signal;
use serde_json::Value;
use uvs_lab::traffic::requests;
use uvs_lab::{Daemon, Lab, Mode, Options};

use heir::{Heir, pid};
use stand::{PATIENCE, ask_over, eventually, lab, run, uvs};

/// Bytes of the answer that is more than a few packets.
const LARGE: u64 = 3 << 20;
/// Small requests beside it.
const SMALL: u32 = 6;

/// A configuration that logs its one service.
fn configured(lab: &Lab, log: &Path) -> PathBuf {
    let plan = &lab.plan;
    let local = plan.local.map_or_else(String::new, |addr| {
        format!("local_addresses = [\"{addr}\"]\n")
    });
    let mut text = format!(
        "interfaces = {:?}\n[connection_log]\nto = {log:?}\n[[service]]\ntcp = \"{}\"\nscheduler = \"rr\"\nmode = \"{}\"\n\
         connection_log = true\n{local}",
        plan.interfaces, plan.vip, plan.mode
    );
    for server in &plan.servers[..2] {
        text += &format!("[[service.server]]\naddress = \"{server}\"\n");
    }
    let file = lab.dir().join("uvs.toml");
    fs::write(&file, text).expect("written");
    file
}

fn lines(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("lines of JSON")
}

/// What the service has counted in all, by the keys that a line has.
fn counted(lab: &Lab) -> [u64; 4] {
    let line = "curl -sS -f http://127.0.0.1:9650/metrics";
    let metrics = lab.director.run(line).expect("/metrics answers");
    let of = |name: &str, direction: &str| {
        let is_it = |line: &&str| {
            line.starts_with(name) && line.contains(&format!("direction=\"{direction}\""))
        };
        let line = metrics.lines().find(is_it);
        let value = line.and_then(|line| line.rsplit_once(' '));
        let (_, value) = value.unwrap_or_else(|| panic!("{name} {direction}: {metrics}"));
        value.parse().expect("a number")
    };
    let (packets, bytes) = ("uvs_service_packets_total{", "uvs_service_bytes_total{");
    [
        of(packets, "in"),
        of(bytes, "in"),
        of(packets, "out"),
        of(bytes, "out"),
    ]
}

fn sum(lines: &[Value]) -> [u64; 4] {
    [
        "client_packets",
        "client_bytes",
        "server_packets",
        "server_bytes",
    ]
    .map(|key| {
        lines
            .iter()
            .map(|line| line[key].as_u64().expect("a number"))
            .sum()
    })
}

fn word(line: &Value, key: &str) -> String {
    line[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key}: {line}"))
        .to_owned()
}

/// By `date`, so that no code of this project says what a date is.
fn date(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).expect("later");
    let line = format!("-u -d @{} +%FT%T.%3NZ", since.as_secs_f64());
    let words = line.split(' ');
    let said = std::process::Command::new("date").args(words).output();
    String::from_utf8(said.expect("date runs").stdout)
        .expect("text")
        .trim()
        .to_owned()
}

/// The one line of a client's port.
fn of_port(lines: &[Value], port: u64) -> &Value {
    let mut found = lines.iter().filter(|line| line["client_port"] == port);
    let line = found.next();
    let line = line.unwrap_or_else(|| panic!("{port}: {lines:#?}"));
    assert!(found.next().is_none(), "once: {lines:#?}");
    line
}

/// Each line's ends and times are those of connections that the lab's client has had between two dates, and closed.
fn are_what_was_done(lab: &Lab, lines: &[Value], [begun, ended]: [&String; 2]) {
    let mut servers = BTreeSet::new();
    for line in lines {
        assert_eq!(word(line, "client"), lab.plan.client.to_string());
        assert_eq!(word(line, "vip"), lab.plan.vip.ip().to_string());
        assert_eq!(word(line, "mode"), lab.plan.mode.to_string());
        let local = lab.plan.local.map(|addr| addr.to_string());
        assert_eq!(line["local"].as_str(), local.as_deref());
        servers.insert(word(line, "server"));
        let how = (word(line, "event"), word(line, "why"));
        assert_eq!(how, ("end".to_owned(), "closed".to_owned()), "{line}");
        let [started, last, logged] = ["started", "ended", "logged"].map(|key| word(line, key));
        let times = [begun, &started, &last, &logged, ended];
        assert!(times.is_sorted(), "{times:?}");
    }
    assert_eq!(servers.len(), 2, "{servers:?}");
}

/// The manual's commands find in the log what they say: each is asked about `line`'s ends.
fn the_manuals_questions_are_answered(lab: &Lab, line: &Value) {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/connection-log.md");
    let manual = fs::read_to_string(manual).expect("the manual");
    let blocks = manual.split("```sh\n").skip(1);
    let commands: Vec<&str> = blocks
        .map(|block| block.split("\n```").next().expect("an end"))
        .collect();
    assert_eq!(commands.len(), 4, "{commands:?}");
    for command in commands {
        let command = command
            .replace("10.0.0.2", &word(line, "local"))
            .replace("10001", &line["local_port"].to_string())
            .replace("198.51.100.7", &word(line, "client"));
        let mut shell = std::process::Command::new("sh");
        shell.current_dir(lab.dir()).args(["-ec", &command]);
        let output = shell.output().expect("sh runs");
        assert!(output.status.success(), "{command}: {output:?}");
        let said = String::from_utf8(output.stdout).expect("text");
        // All of this log's connections have ended well.
        assert_eq!(
            said.is_empty(),
            command.contains("closed"),
            "{command}: {said}"
        );
        if command.contains("client_port, started") {
            let answer: Value = serde_json::from_str(&said).expect("one line of JSON");
            assert_eq!(answer["client_port"], line["client_port"]);
        }
    }
}

#[test]
fn every_connection_is_a_line_once_and_its_numbers_are_those_of_all_packets() {
    for mode in [Mode::FullNat, Mode::Nat] {
        let (lab, _) = lab(mode, Options::default());
        let log = lab.dir().join("connections.log");
        let file = configured(&lab, &log);
        let begun = date(SystemTime::now());
        let words = format!("run --config {}", file.display());
        let mut daemon = Daemon::start_with(&lab, uvs(), &words).expect("uvs runs");
        lab.content("large", LARGE).expect("a file");
        requests(&lab.client, &lab.plan.url("/"), SMALL).expect("answers");
        let large = format!(
            "curl -sS -f -o /dev/null -w %{{local_port}} {}",
            lab.plan.url("/large")
        );
        let port: u64 = lab
            .client
            .run(&large)
            .expect("curl")
            .parse()
            .expect("a port");
        // One that lives through an upgrade.
        let connect = || TcpStream::connect(lab.plan.vip).expect("a connection");
        let mut long = lab.client.enter(connect).expect("the client's namespace");
        long.set_read_timeout(Some(PATIENCE)).expect("set");
        let who = ask_over(&mut long);
        let long_port = u64::from(long.local_addr().expect("bound").port());
        daemon.uvs("upgrade").expect("upgraded");
        let heir = Heir::of(pid(&daemon));
        assert_eq!(ask_over(&mut long), who);
        drop(long);

        let rotated = lab.dir().join("connections.log.1");
        fs::rename(&log, &rotated).expect("rotated");
        heir.signal(Signal::USR1);
        eventually("the file is opened again", || log.exists());
        let mut before = counted(&lab);
        eventually("all has passed", || {
            let now = counted(&lab);
            std::mem::replace(&mut before, now) == now
        });
        heir.stop();
        assert!(!daemon.process().is_running(), "the first has ended");

        let (before_rotation, lines) = (lines(&rotated), lines(&log));
        assert_eq!(before_rotation, Vec::<Value>::new(), "nothing had ended");
        assert_eq!(
            lines.len() as u64,
            u64::from(SMALL) + 2,
            "{mode}: {lines:#?}"
        );
        assert_eq!(sum(&lines), before, "{mode}: to the packet");
        are_what_was_done(&lab, &lines, [&begun, &date(SystemTime::now())]);
        let large = of_port(&lines, port)["server_bytes"].as_u64();
        assert!(large.expect("a number") > LARGE);
        let packets = of_port(&lines, long_port)["client_packets"].as_u64();
        assert!(packets.expect("a number") >= 4);
        if lab.plan.local.is_some() {
            the_manuals_questions_are_answered(&lab, &lines[0]);
        }
    }
}

#[test]
fn what_is_no_file_is_refused_at_the_start_and_a_vanished_collector_holds_up_nobody() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let fifo = lab.dir().join("fifo");
    let file = configured(&lab, &fifo);
    let script = format!(
        "mkfifo {}; uvs run --config {}",
        fifo.display(),
        file.display()
    );
    let refused = run(&lab, &shell, &script);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("connection_log.to: "),
        "{refused:?}"
    );

    let collector = lab.dir().join("collector");
    let file = configured(&lab, Path::new(&format!("unix:{}", collector.display())));
    let text = fs::read_to_string(&file).expect("read");
    fs::write(&file, text.replace("to = \"", "starts = true\nto = \"")).expect("written");
    let words = format!("run --config {}", file.display());
    let daemon = Daemon::start_with(&lab, uvs(), &words).expect("uvs runs");
    requests(&lab.client, &lab.plan.url("/"), SMALL).expect("answers");
    eventually("they are counted as lost", || {
        let told = daemon.uvs("show info -o json").expect("info").stdout;
        let info: Value = serde_json::from_str(&told).expect("JSON");
        info["connection_log"]["write_failed"] == u64::from(SMALL)
    });
    let listening = std::os::unix::net::UnixDatagram::bind(&collector).expect("a socket");
    listening.set_read_timeout(Some(PATIENCE)).expect("set");
    requests(&lab.client, &lab.plan.url("/"), 1).expect("an answer");
    let mut line = [0; 2048];
    let length = listening.recv(&mut line).expect("a line");
    let line: Value = serde_json::from_slice(&line[..length]).expect("JSON");
    assert_eq!(line["event"], "start");
    assert_eq!(line["client_bytes"], Value::Null, "not known yet");
    daemon.stop().expect("it ends well");
}
