//! Ready means ready: whoever finds the control socket finds a daemon that answers, whoever comes sooner waits
//! for it, and systemd is told what it is told. Needs root, or `make test`.

#[path = "support/stand.rs"]
mod stand;

use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use uvs_lab::shell::Shell;
use uvs_lab::{Lab, Mode, Options};

use stand::{PATIENCE, eventually, lab, run};

const STARTS: usize = 10;

/// Killed when it is dropped.
struct Own<'a> {
    child: Child,
    lab: &'a Lab,
}

impl<'a> Own<'a> {
    fn start(lab: &'a Lab, words: &[&str], notify: Option<&str>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_uvs"));
        command
            .arg("run")
            .args(
                lab.plan
                    .interfaces
                    .iter()
                    .map(|i| format!("--interface={i}")),
            )
            .args(words)
            .env("UVS_SOCKET", lab.dir().join("control.sock"))
            .env("UVS_STATE_DIR", lab.dir().join("state"))
            .stdout(Stdio::null())
            .stderr(File::create(lab.dir().join("uvs.log")).expect("a log"));
        if let Some(notify) = notify {
            command
                .env("NOTIFY_SOCKET", notify)
                .env("WATCHDOG_USEC", "500000");
        }
        let child = lab.director.enter(|| command.spawn());
        let child = child.expect("inside").expect("uvs");
        Self { child, lab }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process"), signal).expect("signalled");
    }

    fn end(mut self) {
        self.signal(Signal::TERM);
        assert!(self.child.wait().expect("a child").success());
        assert!(!socket(self.lab).exists(), "the socket is gone");
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn socket(lab: &Lab) -> PathBuf {
    lab.dir().join("control.sock")
}

/// Ten rules from standard input, in force afterwards.
fn restore(lab: &Lab, shell: &Shell) {
    let vip = lab.plan.vip.ip();
    let rules: String = (1..=10)
        .map(|n| format!("-A -t {vip}:{n} -s rr\n"))
        .collect();
    let restored = run(lab, shell, &format!("ipvsadm -R <<END\n{rules}END"));
    assert_eq!((restored.code, restored.stderr.as_str()), (Some(0), ""));
    assert_eq!(run(lab, shell, "ipvsadm -Sn").stdout.lines().count(), 10);
}

#[test]
fn whoever_waits_for_the_socket_is_served_at_once() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    for _ in 0..STARTS {
        let own = Own::start(&lab, &[], None);
        let end = Instant::now() + PATIENCE;
        while !socket(&lab).exists() {
            assert!(Instant::now() < end, "no socket");
        }
        // No client of ours, which would wait: the name alone must be enough.
        let connected = std::os::unix::net::UnixStream::connect(socket(&lab));
        assert!(connected.is_ok(), "{connected:?}");
        restore(&lab, &shell);
        own.end();
    }
}

#[test]
fn whoever_comes_while_it_starts_waits_for_it() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    for killed in [false, true] {
        for _ in 0..STARTS / 2 {
            let own = Own::start(&lab, &[], None);
            let lock = lab.dir().join("control.sock.lock");
            eventually("it starts", || lock.exists());
            restore(&lab, &shell);
            if killed {
                // Its socket and its lock stay, and mislead nobody.
                drop(own);
                let absent = run(&lab, &shell, "ipvsadm -ln");
                assert_eq!(absent.code, Some(2), "{absent:?}");
                assert!(absent.stderr.contains("no daemon answers here"));
            } else {
                own.end();
            }
        }
    }
    run(&lab, &shell, "uvs guard down");
}

/// What the daemon tells, until one is as wanted.
fn heard(systemd: &UnixDatagram, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let mut datagram = [0; 4096];
        let length = systemd.recv(&mut datagram);
        let length = length.unwrap_or_else(|e| panic!("{e}; heard {all:?}"));
        all.push(String::from_utf8_lossy(&datagram[..length]).into_owned());
        if all.last().is_some_and(|last| wanted(last)) {
            return all;
        }
    }
}

#[test]
fn systemd_is_told() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    let (path, config) = (lab.dir().join("notify"), lab.dir().join("uvs.toml"));
    let systemd = UnixDatagram::bind(&path).expect("a socket");
    systemd.set_read_timeout(Some(PATIENCE)).expect("set");
    let service = format!(
        "[[service]]\ntcp = \"{}\"\nscheduler = \"rr\"\n",
        lab.plan.vip
    );
    std::fs::write(&config, &service).expect("written");
    let config = config.display().to_string();
    let own = Own::start(&lab, &["--config", &config], path.to_str());
    let told = heard(&systemd, |m| m == "READY=1");
    assert_eq!(told, ["READY=1"], "nothing before it is ready");
    assert_eq!(run(&lab, &shell, "ipvsadm -Sn").stdout.lines().count(), 1);
    heard(&systemd, |m| {
        m == "STATUS=1 services, 0 servers, 0 connections"
    });
    heard(&systemd, |m| m == "WATCHDOG=1");

    own.signal(Signal::HUP);
    let told = heard(&systemd, |m| m == "READY=1");
    let reloading = |m: &String| m.starts_with("RELOADING=1\nMONOTONIC_USEC=");
    assert_eq!(told.iter().filter(|m| reloading(m)).count(), 1, "{told:?}");

    std::fs::write(&config, service + "weight = 1\n").expect("written");
    own.signal(Signal::HUP);
    heard(&systemd, |m| m == "READY=1");
    heard(&systemd, |m| {
        m.contains("connections; the last reload failed: ")
    });

    own.end();
    heard(&systemd, |m| m == "STOPPING=1");
}

#[test]
fn systemd_that_does_not_read_holds_up_nobody_and_hears_it_later() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    let path = lab.dir().join("notify");
    let systemd = UnixDatagram::bind(&path).expect("a socket");
    systemd.set_read_timeout(Some(PATIENCE)).expect("set");
    let busy = UnixDatagram::unbound().expect("a socket");
    busy.set_nonblocking(true).expect("set");
    while busy.send_to(b"busy", &path).is_ok() {}
    let own = Own::start(&lab, &[], path.to_str());
    restore(&lab, &shell);
    heard(&systemd, |m| m == "READY=1");
    while busy.send_to(b"busy", &path).is_ok() {}
    own.end();
}
