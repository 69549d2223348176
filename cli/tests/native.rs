//! The native commands as they are run, against a daemon that follows a script: what they print, on
//! which stream, and how they exit.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::{self, JoinHandle};

fn uvs(socket: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uvs"));
    command
        .args(arguments)
        .env("UVS_SOCKET", socket)
        .output()
        .expect("uvs runs")
}

/// Exit code, standard output, standard error.
fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Answers one request after the other, each on a connection of its own, with `results`; gives back the
/// commands that were asked.
struct Daemon {
    socket: PathBuf,
    asked: JoinHandle<Vec<String>>,
    _dir: tempfile::TempDir,
}

impl Daemon {
    fn start(results: &'static [&'static str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("control.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let asked = thread::spawn(move || results.iter().map(|r| serve(&listener, r)).collect());
        Self {
            socket,
            asked,
            _dir: dir,
        }
    }

    fn asked(self) -> Vec<String> {
        self.asked.join().expect("every request came")
    }
}

fn serve(listener: &UnixListener, result: &str) -> String {
    let (stream, _) = listener.accept().expect("a client");
    let mut line = String::new();
    BufReader::new(&stream)
        .read_line(&mut line)
        .expect("a request");
    let request: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    writeln!(&stream, "{{\"id\":{},\"result\":{result}}}", request["id"]).expect("sent");
    request["command"].to_string()
}

#[test]
fn without_a_daemon_every_command_says_so_and_exits_3() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("control.sock");
    for arguments in [
        &["reload"][..],
        &["show", "services"],
        &["show", "conns", "-o", "json"],
        &["show", "neigh", "--watch"],
        &["latency"],
        &["latency", "--seconds", "1"],
        &["top", "--once"],
        &["sysctl", "net.ipv4.vs.drop_entry"],
        &["drain", "10.0.0.2"],
        &["weight", "10.0.0.2", "1"],
        &["undrain", "10.0.0.2"],
        &["kill", "--all"],
        &["reload", "--confirmed"],
    ] {
        let (code, out, error) = told(&uvs(&socket, arguments));
        assert_eq!((code, out.as_str()), (Some(3), ""), "{arguments:?}");
        assert!(error.starts_with(&socket.display().to_string()), "{error}");
        assert!(error.contains("uvs run"), "{error}");
    }
}

#[test]
fn wrong_usage_exits_2_without_asking_a_daemon() {
    let nowhere = Path::new("/nonexistent/uvs.sock");
    for (arguments, said) in [
        (
            &["sysctl", "net.ipv4.vs.drop_entr=1"][..],
            "no such sysctl; there are",
        ),
        (
            &["sysctl", "net.ipv4.vs.drop_entry=9"],
            "9 is out of range; use a whole number from 0 to 3",
        ),
        (&["sysctl"], "NAME[=VALUE]"),
        (
            &["show", "packets"],
            "possible values: services, servers, conns, drops, neigh, plugins, config, hook, sync, changes, info",
        ),
        (
            &["show", "drops", "--client", "10.0.0.1"],
            "--client goes with `uvs show` of conns only",
        ),
        (
            &["show", "conns", "--client", "10.0.0.0/33"],
            "use IP, IP:PORT or SUBNET/BITS",
        ),
        (&["show", "services", "--service", "web"], "VIP:PORT"),
        (&["show", "services", "--watch=0"], "from 0.2 to 60"),
        (&["latency", "--since", "2m"], "from 1s to 60s"),
        (
            &["latency", "--since", "9s", "--seconds", "9"],
            "cannot be used with",
        ),
        (&["top", "--interval", "0"], "from 0.2 to 60"),
        (&["check"], "<FILE>"),
    ] {
        let (code, _, error) = told(&uvs(nowhere, arguments));
        assert_eq!(code, Some(2), "{arguments:?}: {error}");
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

#[test]
fn sysctls_are_printed_as_sysctl_prints_them() {
    let daemon = Daemon::start(&[r#"{"Ok":{"sysctl":1}}"#, r#"{"Ok":{"sysctl":0}}"#]);
    let arguments = [
        "sysctl",
        "net.ipv4.vs.expire_nodest_conn=1",
        "net/ipv4/vs/drop_entry",
    ];
    let (code, out, error) = told(&uvs(&daemon.socket, &arguments));
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert_eq!(
        out,
        "net.ipv4.vs.expire_nodest_conn = 1\nnet.ipv4.vs.drop_entry = 0\n"
    );
    let asked = daemon.asked();
    assert_eq!(
        asked[0],
        r#"{"sysctl":{"name":"expire_nodest_conn","value":1}}"#
    );
    assert_eq!(asked[1], r#"{"sysctl":{"name":"drop_entry","value":null}}"#);
}

#[test]
fn a_refused_reload_exits_1_with_the_daemons_words() {
    let daemon = Daemon::start(&[
        r#"{"Err":{"errno":"invalid","message":"uvs.toml:7:10: service.server.weight: -1 is out of range"}}"#,
        r#"{"Ok":{"applied":{"changes":[],"undone":[],"kept":[]}}}"#,
    ]);
    let (code, out, error) = told(&uvs(&daemon.socket, &["reload"]));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(
        error,
        "uvs.toml:7:10: service.server.weight: -1 is out of range\n"
    );
    let (code, out, _) = told(&uvs(&daemon.socket, &["reload"]));
    assert_eq!((code, out.as_str()), (Some(0), "configuration reloaded\n"));
    const ASKED: &str = r#"{"apply":{"confirm":null,"dry_run":false,"exact":false}}"#;
    assert_eq!(daemon.asked(), [ASKED, ASKED]);
}

#[test]
fn drops_are_shown_as_a_table_and_as_json() {
    const DROPS: &str = r#"{"Ok":{"drops":{"totals":{"received":9,"sent":5,"answered":1,"held":0,"passed":1,"local":0,"dropped":2,"lost":1},"reasons":[["ttl_exceeded",2],["send_failed",1],["no_route",0]],"ended":{"ended":8,"evicted":3,"dropped_entries":2,"replaced_over":4,"replaced_live":1,"told_clients":1,"told_servers":0}}}}"#;
    let daemon = Daemon::start(&[DROPS, DROPS]);
    let (code, out, _) = told(&uvs(&daemon.socket, &["show", "drops"]));
    assert_eq!(
        (code, out.as_str()),
        (
            Some(0),
            "REASON        COUNT\nttl_exceeded      2\nsend_failed       1\n\
             received 9 = sent 5 + answered 1 + held 0 + passed 1 + local 0 + in the kernel 0 + dropped 2; lost on the way out 1\n\
             connections ended 8, of these evicted 3, dropped by drop_entry 2, replaced: over 4, live 1; told: clients 1, servers 0\n"
        )
    );
    let (code, out, _) = told(&uvs(&daemon.socket, &["show", "drops", "-o", "json"]));
    let value: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (code, &value["drops"][2]["reason"]),
        (Some(0), &"no_route".into())
    );
    assert_eq!(value["totals"]["received"], 9);
    assert_eq!(value["ended"]["evicted"], 3);
    daemon.asked();
}
