//! A real terminal on the director, by tmux: keys go in, the screen is read, the size changes.

#![allow(
    dead_code,
    reason = "shared by several tests, each of which uses a part"
)]

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use uvs_lab::{Daemon, Host, Lab, tools};

use crate::stand::{PATIENCE, uvs};

/// A shell in a terminal of 110 by 30.
pub(crate) struct Terminal<'lab> {
    host: &'lab Host,
    socket: PathBuf,
    daemon_socket: PathBuf,
    pid: PathBuf,
}

impl<'lab> Terminal<'lab> {
    /// Opens it; commands in it reach this daemon.
    pub(crate) fn open(lab: &'lab Lab, daemon: &Daemon<'_>) -> Self {
        let terminal = Self {
            host: &lab.director,
            socket: lab.dir().join("tmux.sock"),
            daemon_socket: daemon.socket().to_owned(),
            pid: lab.dir().join("top.pid"),
        };
        terminal.tmux(&[
            "new-session",
            "-d",
            "-x",
            "110",
            "-y",
            "30",
            "PS1='shell> ' sh",
        ]);
        terminal.until("a shell", |screen| screen.contains("shell>"));
        terminal
    }

    /// Types a line.
    pub(crate) fn line(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
        self.keys(&["Enter"]);
    }

    /// Starts `uvs top`; how it ends is printed as `ended CODE`.
    pub(crate) fn top(&self) {
        let (pid, uvs) = (self.pid.display(), uvs().display());
        self.line(&format!(
            "clear; sh -c 'echo $$ >{pid}; exec {uvs} top'; echo ended $?"
        ));
    }

    /// The process that was started last.
    pub(crate) fn pid(&self) -> String {
        let pid = std::fs::read_to_string(&self.pid).expect("it was started");
        pid.trim().to_owned()
    }

    /// Presses keys, by tmux's names.
    pub(crate) fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Makes it another size.
    pub(crate) fn resize(&self, width: &str, height: &str) {
        self.tmux(&["resize-window", "-x", width, "-y", height]);
    }

    /// Waits until the screen is as it should be, and returns it. It may be read while it is drawn: all that
    /// must be there belongs into the condition.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let screen = self.tmux(&["capture-pane", "-p"]);
            if is_so(&screen) {
                return screen;
            }
            assert!(Instant::now() < end, "{what} is not to be seen:\n{screen}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The terminal is the shell's again: `top` ended so, the screen is the one before, keys are echoed.
    pub(crate) fn must_be_restored(&self, code: u8) {
        let ended = format!("ended {code}");
        let screen = self.until(&ended, |screen| screen.contains(&ended));
        assert!(!screen.contains("q quit"), "{screen}");
        self.line("stty -a | grep -cE '(^| )icanon' ; stty -a | grep -cE '(^| )echo '; echo asked");
        self.until("line mode with echo", |screen| {
            screen.contains("\n1\n1\nasked\n")
        });
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = tools::command("tmux", ["-u", "-f", "/dev/null", "-S"]).expect("tmux");
        command
            .arg(&self.socket)
            .args(arguments)
            .env("UVS_SOCKET", &self.daemon_socket);
        let output = self.host.output(command, PATIENCE).expect("tmux runs");
        output.stdout
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.tmux(&["kill-server"]);
        }
    }
}
