//! What the tests of the daemon stand on: a mode's lab, the daemon on its director, and what is asked of
//! both.

#![allow(
    dead_code,
    reason = "shared by several tests, each of which uses a part"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use uvs_lab::share::workers;
use uvs_lab::shell::{Ended, Shell};
use uvs_lab::traffic::{Answers, requests};
use uvs_lab::{Daemon, Families, Lab, Mode, Options, Result, Service};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// The program under test.
pub(crate) fn uvs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_uvs"))
}

/// The library that programs for the kernel's IPVS get, which is built beside the program.
pub(crate) fn library() -> PathBuf {
    let library = uvs().with_file_name("libuvs_ipvs.so");
    assert!(
        library.is_file(),
        "{} is not there: `cargo build -p uvs-ipvs-preload` first, as `make test` does",
        library.display()
    );
    library
}

/// A mode's lab with its real servers prepared, and a shell that reaches a daemon there.
pub(crate) fn lab(mode: Mode, options: Options) -> (Lab, Shell) {
    let lab = Lab::build(mode, options).expect("the lab is built");
    lab.prepare_servers(uvs())
        .expect("the real servers are prepared");
    let shell = Shell::new(&lab, uvs()).expect("the symlinks are made");
    (lab, shell)
}

/// The daemon, with a service of the weights 3 and 1 on its VIP.
pub(crate) fn serving(lab: &Lab) -> Daemon<'_> {
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    fill(lab, &daemon);
    daemon
}

/// The same with the nft guard whatever the suite runs with: for what is about the guard.
pub(crate) fn serving_by_guard(lab: &Lab) -> Daemon<'_> {
    let daemon = lab
        .start_daemon_with(uvs(), "--hook off")
        .expect("uvs runs");
    fill(lab, &daemon);
    daemon
}

/// Gives a daemon the service of [`serving`].
pub(crate) fn fill(lab: &Lab, daemon: &Daemon<'_>) {
    fill_in(lab, daemon, Families::V4);
}

/// Gives a daemon the same service in other families.
pub(crate) fn fill_in(lab: &Lab, daemon: &Daemon<'_>, families: Families) -> Service {
    let service = Service::of(&lab.plan, families);
    let commands = [
        service.add_service("wrr"),
        service.add_server(0, 3),
        service.add_server(1, 1),
    ];
    for command in commands {
        daemon
            .ipvsadm(&command)
            .expect("the command is carried out");
    }
    service
}

/// Who answers 40 requests: ten rounds of the weights 3 and 1.
pub(crate) fn ask(lab: &Lab) -> Result<Answers> {
    requests(&lab.client, &lab.plan.url("/"), 40)
}

/// What servers owe a client: exactly, or of several workers as nearly as they can say together.
#[derive(Debug)]
pub(crate) struct Shares(Answers);

impl PartialEq<Shares> for Answers {
    fn eq(&self, Shares(expected): &Shares) -> bool {
        let off = if workers() > 1 { workers() } else { 0 };
        let is_near = |(name, owed): (&String, &u32)| {
            self.get(name).is_some_and(|n| n.abs_diff(*owed) <= off)
        };
        self.len() == expected.len()
            && self.values().sum::<u32>() == expected.values().sum::<u32>()
            && expected.iter().all(is_near)
    }
}

impl Shares {
    /// Answers by these real servers.
    pub(crate) fn of(servers: [(&str, u32); 2]) -> Self {
        let owed = servers.into_iter().filter(|(_, count)| *count > 0);
        Self(owed.map(|(name, count)| (name.to_owned(), count)).collect())
    }
}

/// Answers by rs1 and rs2.
pub(crate) fn shares(rs1: u32, rs2: u32) -> Shares {
    Shares::of([("rs1", rs1), ("rs2", rs2)])
}

/// Fails with what the daemon logged, unless 30 and 10 requests are answered.
pub(crate) fn must_serve(lab: &Lab, daemon: &Daemon<'_>) {
    match ask(lab) {
        Ok(answers) => assert_eq!(answers, shares(30, 10)),
        Err(error) => panic!("{error}\n{}", daemon.log()),
    }
}

/// A command of `uvs` on the director, however it ends.
pub(crate) fn run(lab: &Lab, shell: &Shell, script: &str) -> Ended {
    shell.run(&lab.director, script).expect("the shell runs")
}

/// Tries again until it is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not so after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Asks over a connection that stays open, and returns who answered.
pub(crate) fn ask_over(stream: &mut TcpStream) -> String {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    while !answer.ends_with("rs1\n") && !answer.ends_with("rs2\n") {
        let mut part = [0; 512];
        let length = stream.read(&mut part).expect("an answer");
        assert!(length > 0, "closed after {answer:?}");
        answer += std::str::from_utf8(&part[..length]).expect("text");
    }
    answer.split_off(answer.len() - 4)
}
