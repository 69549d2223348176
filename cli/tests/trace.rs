//! `uvs trace` against a running daemon, and against what really happens: a packet goes where the trace
//! said, a capture is told as it was, and real packets are told while they pass.

#[path = "support/stand.rs"]
mod stand;

use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use stand::{ask, fill_in, lab, must_serve, run, serving, shares, uvs};
use uvs_lab::capture::Capture;
use uvs_lab::shell::Shell;
use uvs_lab::{Daemon, Families, Lab, Mode, Options, SERVERS};

/// A traced client's first port.
const PORT: u16 = 20_000;

/// What a trace says, as JSON.
fn trace(lab: &Lab, shell: &Shell, words: &str) -> Value {
    let ended = run(lab, shell, &format!("uvs trace {words} -o json"));
    assert_eq!(ended.code, Some(0), "{words}: {}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("JSON")
}

fn frames(report: &Value) -> &Vec<Value> {
    report["frames"].as_array().expect("frames")
}

/// The events of one kind of a frame.
fn events<'a>(frame: &'a Value, step: &str) -> Vec<&'a Value> {
    let all = frame["trace"]["steps"].as_array().expect("steps");
    all.iter().filter(|event| event["step"] == step).collect()
}

/// The real server's name that an endpoint in JSON is.
fn name_of(lab: &Lab, endpoint: &Value) -> String {
    let place = (0..SERVERS).find(|i| lab.plan.servers[*i].ip().to_string() == endpoint["addr"]);
    let place = place.unwrap_or_else(|| panic!("{endpoint} is no real server"));
    format!("rs{}", place + 1)
}

/// One request from this port; the name of who answers.
fn request(lab: &Lab, shell: &Shell, port: u16) -> String {
    let line = format!("curl -sSf -m 10 --local-port {port} {}", lab.plan.url("/"));
    let answer = shell.succeed(&lab.client, &line).expect("an answer");
    answer.trim().to_owned()
}

/// The words of a trace of the client's packet from this port.
fn from(lab: &Lab, port: u16) -> String {
    format!("{}:{port} {}", lab.plan.client, lab.plan.vip)
}

#[test]
fn a_connection_goes_where_the_trace_said_in_every_mode() {
    for mode in Mode::ALL {
        let (lab, shell) = lab(mode, Options::default());
        let daemon = serving(&lab);
        for port in PORT..PORT + 8 {
            let said = trace(&lab, &shell, &from(&lab, port));
            let frame = &frames(&said)[0];
            assert_eq!(frame["trace"]["verdict"], "send", "{mode}: {frame:#}");
            assert_eq!(frame["guard"]["by"], "service", "{mode}");
            let opened = &events(frame, "opened")[0]["server"];
            let answered = request(&lab, &shell, port);
            assert_eq!(answered, name_of(&lab, opened), "{mode}: {frame:#}");
        }
        daemon.stop().expect("it stops");
    }
}

#[test]
fn a_trace_changes_nothing() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let daemon = serving(&lab);
    must_serve(&lab, &daemon);
    let state = || {
        let script = "uvs ipvsadm -Lnc | wc -l; uvs show drops -o wide";
        run(&lab, &shell, script).stdout
    };
    // The last packets of the requests may still be under way.
    let mut before = String::new();
    stand::eventually("the director is idle", || {
        thread::sleep(Duration::from_millis(200));
        {
            let last = std::mem::replace(&mut before, state());
            last == before
        }
    });
    for port in PORT..PORT + 30 {
        trace(&lab, &shell, &from(&lab, port));
    }
    assert_eq!(state(), before);
    must_serve(&lab, &daemon);
}

#[test]
fn the_text_says_each_decision() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let _daemon = serving(&lab);
    let said = run(&lab, &shell, &format!("uvs trace {}", from(&lab, PORT)));
    for text in [
        "connection   none in the table",
        "scheduler    wrr chooses",
        "not picked",
        "NONE → SYN_RECV",
        "NAT (ipvsadm -m)",
        "by eth1, MTU 1500",
        "destination      172.16.254.200 → 192.168.0.",
        "the kernel's copy is dropped (rule service)",
        "verdict      sent, by eth1",
    ] {
        assert!(
            said.stdout.contains(text),
            "{text:?} is not in\n{}",
            said.stdout
        );
    }
    let elsewhere = run(
        &lab,
        &shell,
        &format!("uvs trace {}:1 172.16.254.200:443", lab.plan.client),
    );
    let why = "none for this port and protocol; this VIP has TCP 172.16.254.200:80";
    assert!(elsewhere.stdout.contains(why), "{}", elsewhere.stdout);
    assert!(
        elsewhere.stdout.contains("passed: the kernel's"),
        "{}",
        elsewhere.stdout
    );
}

#[test]
fn a_capture_is_told_as_it_was() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let daemon = serving(&lab);
    let capture = Capture::start_whole(&lab.director, "eth0", "tcp port 80", lab.dir());
    let capture = capture.expect("tcpdump runs");
    let answered = request(&lab, &shell, PORT);
    let captured = capture.finish(&lab.director).expect("tcpdump ends");
    let words = format!("--pcap {}", lab.dir().join("director-eth0.pcap").display());
    // Against the daemon as it is now: the connection is known, but over, so that its SYN opens another.
    let told = trace(&lab, &shell, &words);
    assert_eq!(frames(&told).len(), captured.frames.len());
    assert!(captured.frames.len() >= 4, "{:?}", captured.frames);
    let found = &events(&frames(&told)[0], "lookup")[0]["found"];
    assert_eq!(name_of(&lab, &found["server"]), answered);
    assert_eq!(events(&frames(&told)[0], "set_aside")[0]["why"], "over");
    for frame in frames(&told) {
        assert_eq!(frame["interface"], "eth0");
        assert_eq!(frame["trace"]["verdict"], "send", "{frame:#}");
    }
    // Without it: an engine with the same services makes the same choice, from the first packet on.
    let config = lab.dir().join("same.toml");
    let list: String = [(0, 3), (1, 1)]
        .map(|(i, weight)| {
            let address = lab.plan.servers[i];
            format!("[[service.server]]\naddress = \"{address}\"\nweight = {weight}\n")
        })
        .concat();
    let vip = lab.plan.vip;
    let text = format!(
        "interfaces = [\"eth0\"]\n[[service]]\ntcp = \"{vip}\"\nscheduler = \"wrr\"\nmode = \"nat\"\n{list}"
    );
    fs::write(&config, text).expect("a file");
    drop(daemon);
    let alone = trace(
        &lab,
        &shell,
        &format!("{words} --config {}", config.display()),
    );
    let opened = frames(&alone).iter().flat_map(|f| events(f, "opened"));
    let opened: Vec<&Value> = opened.collect();
    assert_eq!(opened.len(), 1, "one connection");
    assert_eq!(name_of(&lab, &opened[0]["server"]), answered);
}

#[test]
fn real_packets_are_told_as_they_pass_and_it_ends_by_itself() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let _daemon = serving(&lab);
    let filter = format!("tcp {} {}", lab.plan.client, lab.plan.vip);
    let live = format!("--live '{filter}' -n 12 --for 60");
    let told = thread::scope(|scope| {
        let looking = scope.spawn(|| trace(&lab, &shell, &live));
        while !looking.is_finished() {
            ask(&lab).expect("requests are answered meanwhile");
        }
        looking.join().expect("it ends")
    });
    let frames = frames(&told);
    assert_eq!(frames.len(), 12);
    for frame in frames {
        assert_eq!(
            frame["trace"]["verdict"], frame["decided"]["verdict"],
            "{frame:#}"
        );
        let (known, opened) = (events(frame, "lookup"), events(frame, "opened"));
        let server = opened
            .first()
            .map_or_else(|| &known[0]["found"]["server"], |o| &o["server"]);
        assert_eq!(*server, frame["decided"]["server"], "{frame:#}");
    }
    let nothing = trace(&lab, &shell, "--live 'udp from 203.0.113.1' --for 1");
    assert!(nothing["frames"].as_array().is_some_and(Vec::is_empty));
}

#[test]
fn packets_of_ipv6_are_foretold_and_told_as_they_pass() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let service = fill_in(&lab, &daemon, Families::V6);
    let request = |port: u16| {
        let line = format!(
            "curl -6 -sSf -m 10 --local-port {port} '{}'",
            service.url("/")
        );
        let answer = shell.succeed(&lab.client, &line).expect("an answer");
        answer.trim().to_owned()
    };
    let name_of = |endpoint: &Value| {
        let is = |i: &usize| service.servers[*i].ip().to_string() == endpoint["addr"];
        let place = (0..SERVERS).find(is);
        let place = place.unwrap_or_else(|| panic!("{endpoint} is no real server"));
        format!("rs{}", place + 1)
    };
    for port in PORT..PORT + 8 {
        let words = format!("[{}]:{port} {}", service.client, service.vip);
        let said = trace(&lab, &shell, &words);
        let frame = &frames(&said)[0];
        assert_eq!(frame["trace"]["verdict"], "send", "{frame:#}");
        let opened = &events(frame, "opened")[0]["server"];
        assert_eq!(request(port), name_of(opened), "{frame:#}");
    }
    let filter = format!("tcp {} {}", service.client, service.vip);
    let live = format!("--live '{filter}' -n 12 --for 60");
    let told = thread::scope(|scope| {
        let looking = scope.spawn(|| trace(&lab, &shell, &live));
        let mut port = PORT + 100;
        while !looking.is_finished() {
            request(port);
            port += 1;
        }
        looking.join().expect("it ends")
    });
    assert_eq!(frames(&told).len(), 12);
    for frame in frames(&told) {
        let (foretold, decided) = (&frame["trace"]["verdict"], &frame["decided"]["verdict"]);
        assert_eq!(foretold, decided, "{frame:#}");
    }
    daemon.stop().expect("it ends well");
}

#[test]
fn only_one_looks_at_real_packets_at_a_time() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    let daemon = serving(&lab);
    must_serve(&lab, &daemon);
    let both = "uvs trace --live any -n 1000 --for 3 >/dev/null & first=$!
        until uvs trace --live any --for 1 >/dev/null 2>second; do [ -s second ] && break; done
        cat second >&2; wait $first";
    let ended = run(
        &lab,
        &shell,
        &format!("cd {} || exit\n{both}", lab.dir().display()),
    );
    assert!(
        ended
            .stderr
            .contains("another `uvs trace --live` is running"),
        "{}",
        ended.stderr
    );
    assert_eq!(ask(&lab).expect("requests are answered"), shares(30, 10));
}

#[test]
fn what_cannot_be_traced_says_why() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    let failed = |words: &str| {
        let ended = run(&lab, &shell, &format!("uvs trace {words}"));
        (ended.code, ended.stderr)
    };
    let (code, said) = failed(&from(&lab, PORT));
    assert_eq!(code, Some(3));
    assert!(
        said.contains("no daemon answers here; start one with `uvs run`"),
        "{said}"
    );
    let _daemon: Daemon<'_> = lab.start_daemon(uvs()).expect("uvs runs");
    let (code, said) = failed("--live 'tcp port 80'");
    assert_eq!(code, Some(2));
    assert!(said.contains("`port` is neither tcp"), "{said}");
    let (code, said) = failed("--pcap /etc/hostname");
    assert_eq!(code, Some(2));
    assert!(said.contains("not a capture file"), "{said}");
    let (code, said) = failed("--pcap /nowhere");
    assert!(
        code == Some(2) && said.contains("/nowhere: No such file"),
        "{said}"
    );
    let (code, said) = failed("1.2.3.4 5.6.7.8:80");
    assert!(
        code == Some(2) && said.contains("is not ADDRESS:PORT"),
        "{said}"
    );
}
