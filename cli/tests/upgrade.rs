//! `uvs upgrade`: a new process takes over under traffic and nobody notices, time after time; one that refuses, ends or
//! hangs leaves the running daemon as it was. Needs root, or `make test`.

#[path = "support/stand.rs"]
mod stand;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use uvs_lab::traffic::Download;
use uvs_lab::{Daemon, Lab, Mode, Options};

use stand::{PATIENCE, ask_over, eventually, fill, lab, must_serve, uvs};

/// In a row.
const UPGRADES: usize = 10;
/// Bytes of each download, and how many there are.
const BYTES: u64 = 3 << 20;
const DOWNLOADS: usize = 40;
/// Threads that connect, one connection after the other, and their pause between two.
const CLIENTS: usize = 8;
const PAUSE: Duration = Duration::from_millis(5);

/// The daemon that serves after upgrades: nobody waits for it as for one that was started here.
struct Heir(Option<Pid>);

impl Heir {
    fn of(pid: u64) -> Self {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        Self(Some(pid.expect("a process")))
    }

    /// It has handed over, and ends.
    fn ended(mut self) {
        let pid = self.0.take().expect("it ran");
        eventually("it ends", || has_ended(pid));
    }

    /// Ends it by SIGTERM, and waits for its end.
    fn stop(mut self) -> Duration {
        let pid = self.0.take().expect("it runs");
        let begun = Instant::now();
        kill_process(pid, Signal::TERM).expect("signalled");
        eventually("it ends", || has_ended(pid));
        begun.elapsed()
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// A process that is somebody else's child may wait for its parent.
fn has_ended(pid: Pid) -> bool {
    let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
    let is_zombie = fs::read_to_string(stat).is_ok_and(|stat| stat.contains(") Z "));
    is_zombie || test_kill_process(pid).is_err()
}

fn serving(lab: &Lab) -> Daemon<'_> {
    let daemon = lab
        .start_daemon_with(uvs(), "--hook off")
        .expect("uvs runs");
    fill(lab, &daemon);
    daemon
}

/// The daemon's process id now.
fn pid(daemon: &Daemon<'_>) -> u64 {
    let told = daemon.uvs("show info -o json").expect("info").stdout;
    let info: Value = serde_json::from_str(&told).expect("JSON");
    info["pid"].as_u64().expect("a process id")
}

/// Every counter of `/metrics` with its labels, but for those of the process.
fn counters(lab: &Lab) -> BTreeMap<String, f64> {
    let line = "curl -s -S -f http://127.0.0.1:9650/metrics";
    let text = lab.director.run(line).expect("/metrics answers");
    let is_counter = |name: &str| {
        name.split('{')
            .next()
            .is_some_and(|n| n.ends_with("_total") && !n.starts_with("process_"))
    };
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let all = samples.filter_map(|line| line.rsplit_once(' '));
    all.filter(|(name, _)| is_counter(name))
        .map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
        .collect()
}

fn must_not_fall(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) {
    assert!(before.len() > 50, "{before:?}");
    for (name, value) in before {
        let now = after.get(name);
        assert!(
            now.is_some_and(|now| now >= value),
            "{name}: {value}, {now:?}"
        );
    }
}

/// Ends the load, also where an assertion fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What clients met.
#[derive(Debug, Default)]
struct Met {
    requests: u32,
    failures: Vec<String>,
    longest: Duration,
}

/// One request on a connection of its own.
fn request(lab: &Lab) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&lab.plan.vip.into(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.contains("200 OK") {
        true => Ok(()),
        false => Err(std::io::Error::other(format!("answered {answer:?}"))),
    }
}

/// Requests, one after the other, until it is over.
fn load(lab: &Lab, is_over: &AtomicBool) -> Met {
    let requests = || {
        let mut met = Met::default();
        while !is_over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            if let Err(e) = request(lab) {
                met.failures.push(e.to_string());
            }
            met.requests += 1;
            met.longest = met.longest.max(begun.elapsed());
            thread::sleep(PAUSE);
        }
        met
    };
    lab.client.enter(requests).expect("the client's namespace")
}

fn nobody_notices(mode: Mode) {
    let (lab, _) = lab(mode, Options::default());
    let mut daemon = serving(&lab);
    let content = lab.content("big", BYTES).expect("content");
    let url = lab.plan.url("/big?rate=200k");
    let download = |n: usize| {
        let scratch = lab.dir().join(format!("down{n}"));
        Download::start(&lab.client, &url, &scratch).expect("curl runs")
    };
    let downloads: Vec<_> = (0..DOWNLOADS).map(download).collect();
    let is_over = AtomicBool::new(false);
    let mut before = counters(&lab);
    let mut said = Vec::new();
    let mut heir = None;
    let met = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| load(&lab, &is_over)))
            .collect();
        let over = Over(&is_over);
        for _ in 0..UPGRADES {
            thread::sleep(Duration::from_millis(300));
            let upgraded = daemon.uvs("upgrade");
            let upgraded = upgraded.unwrap_or_else(|e| panic!("{e}\n{}", daemon.log()));
            said.push(upgraded.stdout.trim().to_owned());
            if let Some(before) = heir.replace(Heir::of(pid(&daemon))) {
                before.ended();
            }
            let after = counters(&lab);
            must_not_fall(&before, &after);
            before = after;
        }
        drop(over);
        let met = clients.into_iter().map(|c| c.join().expect("no panic"));
        met.collect::<Vec<_>>()
    });
    for download in downloads {
        let received = download.finish().expect("it ends");
        received.must_equal(&content).expect("every byte");
    }
    assert!(!daemon.process().is_running(), "the first has ended");
    let failures: Vec<_> = met.iter().flat_map(|met| &met.failures).collect();
    let requests: u32 = met.iter().map(|met| met.requests).sum();
    let longest = met.iter().map(|met| met.longest).max();
    println!("{requests} requests over {UPGRADES} upgrades, the longest took {longest:?}");
    said.iter().for_each(|line| println!("{line}"));
    assert!(failures.is_empty(), "{failures:?}");
    assert!(requests > 100, "{requests}");
    must_serve(&lab, &daemon);
    println!("it ended within {:?}", heir.expect("upgraded").stop());
}

#[test]
fn nobody_notices_ten_upgrades_in_a_row_with_nat() {
    nobody_notices(Mode::Nat);
}

#[test]
fn nobody_notices_with_full_nat() {
    nobody_notices(Mode::FullNat);
}

/// A program that takes no part, as a script.
fn script(lab: &Lab, text: &str) -> PathBuf {
    let path = lab.dir().join("other-uvs");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
    fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("executable");
    path
}

/// What `uvs upgrade` says of a program that must not succeed.
fn refused(lab: &Lab, daemon: &Daemon<'_>, binary: &Path) -> String {
    let mut command = daemon.command(&format!("upgrade --binary {}", binary.display()));
    let output = lab.director.enter(move || command.output());
    let output = output.expect("the director's namespace").expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn a_successor_that_fails_leaves_the_daemon_as_it_was() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let mut daemon = serving(&lab);
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
        ("printf 'ready 2' >&0; exit 4", "before it took over"),
        (
            "printf 'ready 2' >&0; exec sleep 60",
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
