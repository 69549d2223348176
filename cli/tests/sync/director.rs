//! A director: a host of a test on which UVS runs, and may be switched off.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::netns::Netns;
use crate::stand;

/// How long what must come may take before the test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Its configuration, empty at first.
const CONFIGURATION: &str = "uvs.toml";

/// A director of a test.
pub(crate) struct Director {
    pub(crate) host: Netns,
    /// What UVS takes over there.
    interfaces: &'static [&'static str],
    daemon: Mutex<Child>,
    /// The process that has taken over from it.
    heir: Mutex<Option<Pid>>,
    /// Programs that run beside it.
    others: Mutex<Vec<Child>>,
    dir: TempDir,
}

impl Director {
    /// Starts UVS on a host.
    pub(crate) fn start(host: Netns, interfaces: &'static [&'static str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join(CONFIGURATION), "").expect("a file");
        let daemon = Mutex::new(spawn(&host, interfaces, dir.path()));
        let director = Self {
            host,
            interfaces,
            daemon,
            heir: Mutex::default(),
            others: Mutex::default(),
            dir,
        };
        director.wait_until_ready();
        director
    }

    fn wait_until_ready(&self) {
        eventually("uvs is ready", || self.tell("show info").status.success());
    }

    /// What `uvs` says to these words.
    pub(crate) fn uvs(&self, words: &str) -> String {
        let output = self.tell(words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}: {stderr}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Has it another configuration: services that commands have added go.
    pub(crate) fn configure(&self, text: &str) {
        std::fs::write(self.dir.path().join(CONFIGURATION), text).expect("a file");
        self.uvs("reload");
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// What ipvsadm says to these words.
    pub(crate) fn ask(&self, words: &str) -> String {
        self.uvs(&format!("ipvsadm {words}"))
    }

    /// How ipvsadm refuses these words.
    pub(crate) fn refused(&self, words: &str) -> (i32, String) {
        let output = self.tell(&format!("ipvsadm {words}"));
        let code = output.status.code().expect("it ends by itself");
        (code, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn tell(&self, words: &str) -> Output {
        let mut uvs = Command::new(stand::uvs());
        uvs.env("UVS_SOCKET", self.dir.path().join("control.sock"));
        uvs.args(words.split_whitespace());
        self.host.enter(|| uvs.output().expect("uvs runs"))
    }

    /// Has another process take over.
    pub(crate) fn upgrade(&self) {
        self.uvs("upgrade");
        let info = self.uvs("show info -o json");
        let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
        let pid = info["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        let heir = Pid::from_raw(pid.expect("a process id"));
        *self.heir.lock().expect("no test has failed") = heir;
    }

    /// `kill -9`.
    pub(crate) fn kill(&self) {
        if let Some(heir) = self.heir.lock().expect("no test has failed").take() {
            let _ = kill_process(heir, Signal::KILL);
        }
        end(
            &mut self.daemon.lock().expect("no test has failed"),
            Signal::KILL,
        );
    }

    /// Where its files are.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts a program by `uvs` that runs for as long as the director.
    pub(crate) fn beside(&self, words: &str) {
        let mut program = Command::new(stand::uvs());
        program.env("UVS_SOCKET", self.dir.path().join("control.sock"));
        program.env("UVS_IPVS_SOCKET", self.dir.path().join("ipvs.sock"));
        program.args(words.split_whitespace());
        let log = std::fs::File::create(self.dir.path().join("beside.log")).expect("a file");
        let errors = log.try_clone().expect("a descriptor");
        program.stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = self.host.enter(|| program.spawn().expect("uvs runs"));
        self.others.lock().expect("no test has failed").push(child);
    }

    /// Whether it has an address.
    pub(crate) fn has(&self, addr: Ipv4Addr) -> bool {
        self.host
            .ip("address show")
            .contains(&format!("inet {addr}/"))
    }

    /// As if its plug were pulled: nothing is told anybody, and nothing cleared.
    pub(crate) fn switch_off(&self) {
        for interface in self.interfaces {
            self.host.ip(&format!("link set {interface} down"));
        }
        self.kill();
        for other in self.others.lock().expect("no test has failed").iter_mut() {
            end(other, Signal::TERM);
        }
    }

    /// Starts again after that, with nothing but what its host had configured.
    pub(crate) fn switch_on(&mut self) {
        for interface in self.interfaces {
            self.host.ip(&format!("link set {interface} up"));
        }
        self.daemon = Mutex::new(spawn(&self.host, self.interfaces, self.dir.path()));
        self.wait_until_ready();
    }
}

/// Ends a process of ours.
fn end(child: &mut Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().cast_signed()).expect("a process");
    if child.try_wait().is_ok_and(|ended| ended.is_none()) {
        let _ = kill_process(pid, signal);
        let _ = child.wait();
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        for other in self.others.get_mut().into_iter().flatten() {
            end(other, Signal::TERM);
        }
        if let Ok(heir) = self.heir.get_mut()
            && let Some(heir) = heir.take()
        {
            let _ = kill_process(heir, Signal::TERM);
        }
        if let Ok(daemon) = self.daemon.get_mut() {
            end(daemon, Signal::TERM);
        }
        if std::thread::panicking() {
            for log in ["log", "beside.log"] {
                let log = std::fs::read_to_string(self.dir.path().join(log));
                eprintln!("{}", log.unwrap_or_default());
            }
        }
    }
}

/// Starts UVS.
fn spawn(host: &Netns, interfaces: &[&str], dir: &Path) -> Child {
    let mut uvs = Command::new(stand::uvs());
    uvs.env("UVS_SOCKET", dir.join("control.sock"));
    uvs.args(["run", "--metrics", "off", "--config"]);
    uvs.arg(dir.join(CONFIGURATION));
    for interface in interfaces {
        uvs.args(["--interface", interface]);
    }
    let log = std::fs::File::create(dir.join("log")).expect("a file");
    uvs.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    host.enter(|| uvs.spawn().expect("uvs runs"))
}

/// Waits for something that must become true.
pub(crate) fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
