//! Debian's ipvsadm against UVS, command for command as it was recorded against the kernel: its words on our
//! answers are those on the kernel's, over netlink and over socket options.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use uvs_lab::{Daemon, Lab, Mode, Options, tools};

use crate::stand::{lab, uvs};

/// Recorded from Linux 6.1.176's IPVS and ipvsadm 1.31.
const KERNEL: &str = include_str!("../../../ipvsadm/tests/golden/ipvsadm.json");
/// As [`KERNEL`], IPv6 and mixed families.
const KERNEL6: &str = include_str!("../../../ipvsadm/tests/golden/ipvsadm6.json");
/// Recorded from ipvsadm 1.31 above a stand-in for the kernel.
const USAGE: &str = include_str!("../../../ipvsadm/tests/golden/usage.json");
/// The program itself; what the tests' PATH leads to may be a link to uvs.
const IPVSADM: &str = "/usr/sbin/ipvsadm";
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// What the recording's machine called addresses and ports.
const NAMES: [(&str, &str); 3] = [
    ("hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    (
        "services",
        "tcpmux 1/tcp\nftp 21/tcp\nssh 22/tcp\ntelnet 23/tcp\ndomain 53/tcp\ndomain 53/udp\ntftp 69/udp\nhttp 80/tcp www\n\
         acr-nema 104/tcp dicom\nhttps 443/tcp\nhttps 443/udp\nhttp-alt 8080/tcp webcache\ntproxy 8081/tcp\n",
    ),
    ("nsswitch.conf", "hosts: files\nservices: files\n"),
];
/// A program's generic netlink is not there, as in a kernel that has none: it falls back to socket options.
const WITHOUT_NETLINK: &str = "
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
int socket(int domain, int kind, int protocol) {
    int (*next)(int, int, int) = dlsym(RTLD_NEXT, \"socket\");
    if (domain == 16) {
        errno = EPROTONOSUPPORT;
        return -1;
    }
    return next(domain, kind, protocol);
}
";

#[derive(Deserialize)]
struct Book {
    sessions: Vec<Session>,
}

#[derive(Deserialize)]
struct Session {
    session: String,
    steps: Vec<Step>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Step {
    argv: Vec<String>,
    stdin: String,
    exit: i32,
    stdout: String,
    stderr: String,
    frame: String,
}

/// Exit code, standard output and standard error.
type Outcome = (i32, String, String);

/// This one asks the kernel for next to nothing: ipvsadm refuses most of its 1320 lines by itself.
const GRAMMAR: &str = "every option with every command";

/// A session with frames is played where they can be sent in virtual time: in the applet's own tests.
fn sessions(book: &str) -> Vec<Session> {
    let book: Book = serde_json::from_str(book).expect("the recording is valid JSON");
    let mut sessions = book.sessions;
    sessions.retain(|session| session.session != GRAMMAR);
    sessions.retain(|session| session.steps.iter().all(|step| step.frame.is_empty()));
    sessions
}

#[test]
fn every_session_over_netlink_is_the_kernels() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let world = World::new(&lab, None, crate::run_words());
    assert_eq!(world.replay_all(KERNEL), 220);
}

#[test]
fn every_session_of_ipv6_over_netlink_is_the_kernels() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let world = World::new(&lab, None, crate::run_words());
    // That machine had no name for ::1.
    fs::write(lab.dir().join("hosts"), "127.0.0.1 localhost\n").expect("written");
    assert_eq!(world.replay_all(KERNEL6), 243);
}

#[test]
fn ipv6_tunnels_orders_and_restores_end_as_recorded() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let world = World::new(&lab, None, crate::run_words());
    assert_eq!(world.replay_all(USAGE), 725);
}

#[test]
fn every_session_of_a_traced_ipvsadm_is_the_kernels() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let world = World::new(&lab, None, crate::TRACE_WORDS.to_owned());
    assert_eq!(world.replay_all(KERNEL), 220);
}

/// Without netlink too, where the library that hides it is all that is preloaded.
#[test]
fn every_session_of_a_traced_ipvsadm_over_socket_options_is_the_kernels() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let shim = without_netlink(&lab);
    let world = World::new(&lab, Some(shim), crate::TRACE_WORDS.to_owned());
    assert_eq!(world.replay_all(KERNEL), 172);
}

/// The recording is netlink's, so what socket options cannot say is left out.
#[test]
fn every_session_over_socket_options_is_the_kernels() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let shim = without_netlink(&lab);
    let world = World::new(&lab, Some(shim), crate::run_words());
    assert_eq!(world.replay_all(KERNEL), 172);
}

/// A library that hides netlink.
fn without_netlink(lab: &Lab) -> PathBuf {
    let source = lab.dir().join("without_netlink.c");
    fs::write(&source, WITHOUT_NETLINK).expect("written");
    let made = source.with_extension("so");
    let words = ["-shared", "-fPIC", "-o"].map(String::from);
    let files = [&made, &source].map(|path| path.display().to_string());
    let mut compiler = tools::command("cc", words.iter().chain(&files)).expect("a compiler");
    let output = compiler.output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    made
}

/// A director on which sessions are played, one after the other.
struct World<'a> {
    lab: &'a Lab,
    /// What hides netlink.
    shim: Option<PathBuf>,
    /// The words before ipvsadm.
    run: String,
}

impl<'a> World<'a> {
    fn new(lab: &'a Lab, shim: Option<PathBuf>, run: String) -> Self {
        let program = Path::new(IPVSADM).canonicalize().unwrap_or_default();
        assert!(
            program.ends_with("ipvsadm"),
            "{IPVSADM} is not there, or not Debian's: apt-get install ipvsadm"
        );
        for (name, text) in NAMES {
            fs::write(lab.dir().join(name), text).expect("written");
        }
        // The recording's loopback interface was down: no address of its network was its own.
        let down = "route del local 127.0.0.1 dev lo table local\nroute del local 127.0.0.0/8 dev lo table local";
        lab.director.ip(down).expect("deleted");
        let down = "route del local ::1 dev lo table local";
        lab.director.ip(down).expect("deleted");
        // The recording's sync daemons are on these two.
        let links = "link add c0 type veth peer name s0\nlink set c0 up\nlink set s0 up";
        lab.director.ip(links).expect("added");
        Self { lab, shim, run }
    }

    /// Plays all sessions of a book.
    fn replay_all(&self, book: &str) -> usize {
        let sessions = sessions(book);
        sessions.iter().map(|session| self.replay(session)).sum()
    }

    /// Plays a session on a table that starts empty; how many commands were compared.
    fn replay(&self, session: &Session) -> usize {
        let line = format!(
            "run --metrics off --interface {}",
            self.lab.plan.interfaces[0]
        );
        let daemon = Daemon::start_with(self.lab, uvs(), &line).expect("uvs runs");
        let mut compared = 0;
        let mut otherwise = Vec::new();
        for (n, step) in session.steps.iter().enumerate() {
            if names_no_interface(step) {
                continue;
            }
            let got = comparable(&step.argv, self.ipvsadm(&daemon, step));
            if self.shim.is_some() && differs_over_options(&session.session, &step.argv) {
                continue;
            }
            let want = (step.exit, step.stdout.clone(), step.stderr.clone());
            let want = comparable(&step.argv, want);
            if got != want {
                otherwise.push(format!(
                    "{n} {:?}\n  got {got:?}\n want {want:?}\n",
                    step.argv
                ));
            }
            compared += 1;
        }
        assert!(
            otherwise.is_empty(),
            "{:?}: {} of {compared}\n{}{}",
            session.session,
            otherwise.len(),
            otherwise.concat(),
            daemon.log()
        );
        daemon.stop().expect("it ends well");
        compared
    }

    /// Runs a command as it was recorded, where the names are the recording's.
    fn ipvsadm(&self, daemon: &Daemon<'_>, step: &Step) -> Outcome {
        let binds = NAMES.map(|(name, _)| {
            let file = self.lab.dir().join(name);
            format!("mount --bind {} /etc/{name}", file.display())
        });
        let script = format!("{}; exec \"$@\"", binds.join(" && "));
        let run = daemon.command(&self.run);
        let mut command =
            tools::command("unshare", ["--mount", "sh", "-ec", &script, "sh"]).expect("unshare");
        command
            .arg(run.get_program())
            .args(run.get_args())
            .args(&step.argv);
        for (name, value) in run.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.env("PATH", PATH);
        if let Some(shim) = &self.shim {
            command.env("LD_PRELOAD", shim);
        }
        let stdin = self.lab.dir().join("stdin");
        fs::write(&stdin, &step.stdin).expect("written");
        command.stdin(Stdio::from(fs::File::open(&stdin).expect("opened")));
        self.outcome(command)
    }

    fn outcome(&self, mut command: Command) -> Outcome {
        let ran = self.lab.director.enter(|| command.output());
        let output = ran.expect("entered").expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (
            output.status.code().unwrap_or(-1),
            text(output.stdout),
            text(output.stderr),
        )
    }
}

/// What does not differ between two machines: unsorted services come in the order of a hash table.
fn comparable(argv: &[String], (exit, mut stdout, stderr): Outcome) -> Outcome {
    if argv.iter().any(|word| word == "--nosort") {
        let mut lines: Vec<&str> = stdout.lines().collect();
        lines.sort_unstable();
        stdout = lines.join("\n");
    }
    (exit, stdout, stderr)
}

/// Whether a sync daemon is to be on the default interface, eth0: the recording's machine had none.
fn names_no_interface(step: &Step) -> bool {
    let has = |word| step.argv.iter().any(|w| w == word);
    has("--start-daemon") && !has("--mcast-interface")
}

/// What ipvsadm says otherwise where there are socket options alone: IPv6, tunnels, persistence engines, a sync
/// daemon's details, and lists of what was added with these.
fn differs_over_options(session: &str, argv: &[String]) -> bool {
    let has = |words: &[&str]| {
        argv.iter()
            .any(|word| words.iter().any(|w| word.contains(w)))
    };
    let mixed = ["services and servers", "wrong usage"].contains(&session);
    let lists = mixed && has(&["-L", "-l", "-S"]);
    lists || has(&["[", "-6", "--tun", "--pe", "daemon"])
}
