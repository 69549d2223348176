//! Where a page's commands are typed: a shell on the hosts of a lab, with `uvs` and `ipvsadm` on its path, the daemon that
//! the page starts, and what is asked after each command.
//!
//! Changed on the way: what the page has in the host's own directories (/etc/uvs, /run/uvs, /usr/local and the like) is in the
//! lab's, and words in capitals are what they stand for here.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use uvs_lab::process::Process;
use uvs_lab::shell::Ended;
use uvs_lab::traffic::{Answers, requests};
use uvs_lab::{Daemon, Host, Lab, Mode, Options, install, tools};

use crate::elsewhere;
use crate::heir::Heir;
use crate::pages::{Page, Typed};
use crate::shape;
use crate::stand::{self, eventually, uvs};

/// Directories of the host that pages name, and that here are the lab's.
const DIRECTORIES: [&str; 6] = [
    "/etc/uvs",
    "/etc/sysctl.d",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/sbin/ipvsadm",
    "/var/log/uvs",
];
/// Seconds after which a command is ended.
const LIMIT: &str = "60";

/// A page whose commands are taken from it in order; each is run, or is listed as run elsewhere.
pub(crate) struct Reader {
    pub(crate) page: Page,
    left: VecDeque<Typed>,
}

impl Reader {
    /// Opens it at its beginning.
    pub(crate) fn open(name: &str) -> Self {
        let page = Page::read(name);
        let typed = page.typed();
        Self::of(page, typed)
    }

    /// The commands of its prose, which name what they speak of in capitals.
    pub(crate) fn of_spans(name: &str, programs: &[&str]) -> Self {
        let page = Page::read(name);
        let typed = page.spans(programs);
        Self::of(page, typed)
    }

    fn of(page: Page, mut typed: Vec<Typed>) -> Self {
        typed.retain(|typed| !elsewhere::is_run(typed));
        let left = typed.into();
        Self { page, left }
    }

    /// The next commands, as many as this section has; it must have some.
    pub(crate) fn section(&mut self, heading: &str) -> VecDeque<Typed> {
        let mut section = VecDeque::new();
        while self.left.front().is_some_and(|t| t.section == heading) {
            section.extend(self.left.pop_front());
        }
        assert!(
            !section.is_empty(),
            "{}: no command left under {heading:?}; the next is {:?}",
            self.page.name,
            self.left.front()
        );
        section
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> VecDeque<Typed> {
        std::mem::take(&mut self.left)
    }

    /// Its end: every command was taken.
    pub(crate) fn close(self) {
        let left = self.left.front().map(Typed::at);
        assert_eq!(left, None, "no stage runs it");
    }
}

impl Typed {
    /// Page, line and command, as messages have it.
    pub(crate) fn at(&self) -> String {
        format!("{}:{}: `{}`", self.page, self.line, self.command)
    }

    /// Whether it changes no table.
    pub(crate) fn only_looks(&self) -> bool {
        let looks = ["show", "trace", "top", "latency", "doctor", "check", "diff"];
        let mut words = self.command.split(' ');
        let is_look =
            words.next() == Some("uvs") && words.next().is_some_and(|w| looks.contains(&w));
        is_look && !self.command.contains([';', '&', '|'])
    }

    /// Whether it begins with these words.
    pub(crate) fn begins(&self, words: &str) -> bool {
        self.command.starts_with(words)
    }
}

/// A mode's lab with its real servers prepared.
pub(crate) fn lab(mode: Mode, options: Options) -> Lab {
    let lab = Lab::build(mode, options).expect("the lab is built");
    lab.prepare_servers(uvs())
        .expect("the real servers are prepared");
    lab
}

/// A service's servers with ipvsadm's word for how each is forwarded to.
type Forwarding = BTreeMap<String, String>;

/// A shell on the hosts of a lab.
pub(crate) struct Desk<'lab> {
    pub(crate) lab: &'lab Lab,
    pub(crate) daemon: Option<Daemon<'lab>>,
    /// The daemon that an upgrade has started.
    heir: Option<Heir>,
    /// Where commands are typed that no prompt gives a host.
    pub(crate) at: &'lab Host,
    /// Which is `server`.
    pub(crate) server: &'lab Host,
    /// The directory they are typed in.
    pub(crate) directory: PathBuf,
    /// What words in capitals stand for.
    pub(crate) words: Vec<(&'static str, String)>,
    /// What runs until its stage ends it.
    running: Vec<Process>,
}

impl<'lab> Desk<'lab> {
    /// On the director, in a directory of its own, `uvs` and a link to it called `ipvsadm` on the path.
    pub(crate) fn at(lab: &'lab Lab) -> Self {
        let home = lab.dir().join("home");
        let desk = Self {
            lab,
            daemon: None,
            heir: None,
            at: &lab.director,
            server: &lab.servers[0].host,
            directory: home,
            words: Vec::new(),
            running: Vec::new(),
        };
        fs::create_dir_all(&desk.directory).expect("made");
        for directory in DIRECTORIES {
            let file = desk.host_file(directory);
            let directory = if directory.starts_with("/usr/sbin") {
                file.parent().expect("a directory")
            } else {
                &file
            };
            fs::create_dir_all(directory).expect("made");
        }
        fs::create_dir_all(desk.bin()).expect("made");
        for name in ["uvs", "ipvsadm"] {
            symlink(uvs(), desk.bin().join(name)).expect("a link");
        }
        desk
    }

    /// The same, with the plan's daemon running.
    pub(crate) fn serving(lab: &'lab Lab) -> Self {
        let mut desk = Self::at(lab);
        desk.daemon = Some(lab.start_daemon(uvs()).expect("uvs runs"));
        desk
    }

    /// Adds the plan's service with the lab's weights, 3, 1 and 2.
    pub(crate) fn fill(&self) {
        let plan = &self.lab.plan;
        self.must(&format!("ipvsadm {}", plan.add_service("wrr")));
        for (server, weight) in uvs_lab::demo::WEIGHTS.into_iter().enumerate() {
            self.must(&format!("ipvsadm {}", plan.add_server(server, weight)));
        }
    }

    fn bin(&self) -> PathBuf {
        self.lab.dir().join("bin")
    }

    /// A program that stands here for one that the site has.
    pub(crate) fn stands_for(&self, name: &str, script: &str) {
        let file = self.bin().join(name);
        install::script(&file, &format!("#!/bin/sh\n{script}\n")).expect("a program");
    }

    /// No link called `ipvsadm`: that is Debian's here.
    pub(crate) fn without_link(&self) {
        fs::remove_file(self.bin().join("ipvsadm")).expect("it was there");
    }

    /// Where a file of the host's is here.
    pub(crate) fn host_file(&self, path: &str) -> PathBuf {
        self.lab
            .dir()
            .join("host")
            .join(path.trim_start_matches('/'))
    }

    /// Writes a file that is the host's on the page.
    pub(crate) fn write(&self, path: &str, text: &str) {
        fs::write(self.host_file(path), self.placed(text)).expect("written");
    }

    /// A command with what the page speaks of being what is here.
    pub(crate) fn placed(&self, text: &str) -> String {
        let sockets = format!("{}/", self.lab.dir().display());
        let mut text = text.replace("/run/uvs/", &sockets);
        for directory in DIRECTORIES {
            text = text.replace(directory, &self.host_file(directory).display().to_string());
        }
        for (word, value) in &self.words {
            text = with_word(&text, word, value);
        }
        text
    }

    /// What was printed, in the page's words.
    fn replaced(&self, text: &str) -> String {
        let host = self.lab.dir().join("host").display().to_string();
        let sockets = self.lab.dir().display().to_string();
        text.replace(&host, "").replace(&sockets, "/run/uvs")
    }

    /// A shell's command on a host.
    fn shell(&self, script: &str) -> std::process::Command {
        let paths = ["/usr/local/sbin", "/usr/local/bin"].map(|path| self.host_file(path));
        let paths = paths.into_iter().chain([self.bin()]);
        let mut path = std::env::join_paths(paths).expect("a path");
        path.push(":");
        path.push(tools::path_variable());
        let script = format!("exec 2>&1\n{script}");
        let mut command = tools::command("timeout", [LIMIT, "bash", "-c", &script]).expect("bash");
        command
            .current_dir(&self.directory)
            .env("PATH", path)
            .env("UVS_SOCKET", self.lab.dir().join("control.sock"))
            .env("UVS_STATE_DIR", self.lab.dir().join("state"))
            .env("UVS_IPVS_LIBRARY", stand::library());
        command
    }

    /// What a command prints on a host and how it ends.
    pub(crate) fn run(&self, host: &Host, script: &str) -> Ended {
        let mut command = self.shell(script);
        let output = host.enter(|| command.output().expect("bash runs"));
        let output = output.expect("the host is there");
        Ended {
            code: output.status.code(),
            stdout: self.replaced(&String::from_utf8_lossy(&output.stdout)),
            stderr: String::new(),
        }
    }

    /// The stage's own commands, which must succeed on the director.
    pub(crate) fn must(&self, script: &str) -> String {
        self.must_on(&self.lab.director, script)
    }

    /// The same on another host.
    pub(crate) fn must_on(&self, host: &Host, script: &str) -> String {
        let ended = self.run(host, &format!("set -e\n{script}"));
        assert_eq!(ended.code, Some(0), "{script}: {}", ended.stdout);
        ended.stdout
    }

    /// Types a command, which must succeed; what it printed.
    pub(crate) fn types(&self, typed: &Typed) -> String {
        self.ends(typed, 0)
    }

    /// Types all of these.
    pub(crate) fn types_all<'t>(&self, typed: impl IntoIterator<Item = &'t Typed>) {
        for typed in typed {
            self.types(typed);
        }
    }

    /// Types a command, which must end so, have done what its words say, and have printed what the page shows.
    pub(crate) fn ends(&self, typed: &Typed, code: i32) -> String {
        let host = match typed.host {
            Some("director") => &self.lab.director,
            Some("server") => self.server,
            Some("client") => &self.lab.client,
            _ => self.at,
        };
        let has_table = self.daemon.is_some() && !typed.only_looks();
        let before = has_table.then(|| self.forwarding());
        let command = self.placed(&typed.command);
        let ended = self.run(host, &command);
        let at = typed.at();
        assert_eq!(ended.code, Some(code), "{at}:\n{}", ended.stdout);
        self.must_be_shown(typed, &ended.stdout);
        if let Some(before) = before {
            let after = self.forwarding();
            for (server, word) in &before {
                let now = after.get(server);
                assert!(
                    now.is_none_or(|now| now == word),
                    "{at}: {server} was {word}, and is {now:?}"
                );
            }
            if code == 0 {
                must_have_done(typed, &command, &before, &after);
            }
        }
        ended.stdout
    }

    /// What a page shows below a command, where it does, is what it printed, but for numbers.
    pub(crate) fn must_be_shown(&self, typed: &Typed, printed: &str) {
        if typed.shown.is_empty() {
            return;
        }
        let shown = typed.shown.iter().map(String::as_str);
        if let Some(wrong) = shape::difference(shown, printed) {
            panic!("{}: {wrong}\n\n{printed}", typed.at());
        }
    }

    /// How each server is forwarded to.
    fn forwarding(&self) -> Forwarding {
        let saved = self.run(&self.lab.director, "uvs ipvsadm -Sn");
        let rules = saved.stdout.lines().filter(|_| saved.code == Some(0));
        rules.map(rule).collect()
    }

    /// Starts a daemon, as a page's `uvs run` has it; one that runs already is ended first.
    pub(crate) fn starts(&mut self, typed: &Typed) {
        let words = typed.command.split(" #").next().unwrap_or_default();
        let words = words.trim().strip_prefix("uvs ");
        self.starts_with(words.unwrap_or_else(|| panic!("{}: not `uvs run`", typed.at())));
    }

    /// Starts a daemon by these words.
    pub(crate) fn starts_with(&mut self, words: &str) {
        self.stops();
        let daemon = Daemon::start_with(self.lab, uvs(), &self.placed(words));
        self.daemon = Some(daemon.expect("uvs runs"));
    }

    /// Ends the daemon.
    pub(crate) fn stops(&mut self) {
        if let Some(heir) = self.heir.take() {
            heir.stop();
            self.daemon = None;
        }
        if let Some(daemon) = self.daemon.take() {
            daemon.stop().expect("it ends well");
        }
    }

    /// `kill -9`, where a daemon runs.
    pub(crate) fn kills(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.process().signal(Signal::KILL).expect("signalled");
            eventually("it is dead", || !daemon.process().is_running());
        }
    }

    /// Types `uvs upgrade`, and knows the daemon that has taken over. On a busy machine the one before may be gone before it
    /// is asked how long that took, and the command says so: then there is another upgrade.
    pub(crate) fn upgrades(&mut self, typed: &Typed) {
        let unjudged = Typed {
            shown: Vec::new(),
            ..typed.clone()
        };
        loop {
            let printed = self.types(&unjudged);
            let daemon = self.daemon.as_ref().expect("it ran");
            let heir = Heir::of(crate::heir::pid(daemon));
            if let Some(old) = self.heir.replace(heir) {
                old.ended();
            }
            if !printed.contains("ended before it could say") {
                return self.must_be_shown(typed, &printed);
            }
        }
    }

    /// Starts a command that runs for ever; what it prints goes to a file of this name.
    pub(crate) fn begins(&mut self, typed: &Typed, log: &str) {
        let command = self.placed(&typed.command);
        self.begins_by(&command, log);
    }

    /// The same by the stage's own words.
    pub(crate) fn begins_by(&mut self, command: &str, log: &str) {
        let shell = self.shell(&format!("exec {command}"));
        let spawned = self.at.spawn(shell, &self.lab.dir().join(log));
        self.running.push(spawned.expect("it starts"));
    }

    /// What the last of them has printed.
    pub(crate) fn said(&self) -> String {
        let last = self.running.last().expect("it was started");
        self.replaced(&last.log())
    }

    /// Waits until the last of them has printed this.
    pub(crate) fn says(&self, words: &str) {
        let mut said = String::new();
        let end = std::time::Instant::now() + stand::PATIENCE;
        while !said.contains(words) {
            assert!(std::time::Instant::now() < end, "no {words:?} in\n{said}");
            std::thread::sleep(Duration::from_millis(20));
            said = self.said();
        }
    }

    /// Whether the last of them has not ended.
    pub(crate) fn has_running(&mut self) -> bool {
        self.running.last_mut().is_some_and(Process::is_running)
    }

    /// Waits until the last of them ends by itself; what it printed.
    pub(crate) fn finishes(&mut self) -> String {
        let mut last = self.running.pop().expect("it was started");
        last.wait(stand::PATIENCE).expect("it succeeds");
        self.replaced(&last.log())
    }

    /// Ends the last of them, as Ctrl-C does.
    pub(crate) fn interrupts(&mut self) {
        let mut last = self.running.pop().expect("it was started");
        last.signal(Signal::INT).expect("signalled");
        eventually("it ends", || !last.is_running());
    }

    /// Who answers the client's requests to the plan's VIP.
    pub(crate) fn answers(&self, count: u32) -> Answers {
        let answers = requests(&self.lab.client, &self.lab.plan.url("/"), count);
        answers.unwrap_or_else(|e| panic!("{e}\n{}", self.daemon.as_ref().expect("a daemon").log()))
    }
}

impl Drop for Desk<'_> {
    fn drop(&mut self) {
        self.running.clear();
    }
}

/// A rule of `ipvsadm -Sn`: of a server how it is forwarded to, of a service nothing.
fn rule(line: &str) -> (String, String) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let place = words.iter().position(|word| *word == "-r");
    place.map_or_else(
        || (words[1..3].join(" "), String::new()),
        |r| (words[1..=r + 1].join(" "), words[r + 2].to_owned()),
    )
}

/// What `ipvsadm` was told is so afterwards.
fn must_have_done(typed: &Typed, command: &str, before: &Forwarding, after: &Forwarding) {
    let words: Vec<&str> = command.split_whitespace().collect();
    let words = words.strip_prefix(&["uvs"]).unwrap_or(&words);
    if words.first() != Some(&"ipvsadm") {
        return;
    }
    let behind = |option: &str| {
        let place = words.iter().position(|word| *word == option);
        place.and_then(|n| words.get(n + 1).copied())
    };
    let service = ["-t", "-u", "-f"]
        .into_iter()
        .find_map(|o| Some((o, behind(o)?)));
    let service = service.map(|(option, value)| format!("{option} {value}"));
    let has = |table: &Forwarding, server: Option<&str>| {
        let service = service.as_deref().unwrap_or_default();
        let prefix = server.map(|server| format!("{service} -r {server}"));
        table.keys().any(|rule| match &prefix {
            // A tunnel's server is listed with the service's port.
            Some(prefix) => rule.starts_with(prefix.as_str()),
            None => rule == service,
        })
    };
    let at = typed.at();
    match words.get(1).copied() {
        Some("-A") => assert!(!has(before, None) && has(after, None), "{at}: {after:?}"),
        Some("-a") => {
            let server = behind("-r");
            assert!(
                !has(before, server) && has(after, server),
                "{at}: {after:?}"
            );
        }
        Some("-e") => assert!(has(after, behind("-r")), "{at}: {after:?}"),
        Some("-D") => assert!(has(before, None) && !has(after, None), "{at}: {after:?}"),
        Some("-d") => assert!(!has(after, behind("-r")), "{at}: {after:?}"),
        Some("-C") => assert!(after.is_empty(), "{at}: {after:?}"),
        _ => {}
    }
}

/// A text with a word replaced where it stands for itself.
pub(crate) fn with_word(text: &str, word: &str, value: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut made = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, behind) = rest.split_at(at);
        let behind = &behind[word.len()..];
        let stands = !before.ends_with(is_part) && !behind.starts_with(is_part);
        made.push_str(before);
        made.push_str(if stands { value } else { word });
        rest = behind;
    }
    made + rest
}
