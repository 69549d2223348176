//! `uvs upgrade`: a new process takes over under traffic and nobody notices, time after time; one that refuses, ends or
//! hangs leaves the running daemon as it was. Needs root, or `make test`.

#[path = "hook/director.rs"]
#[allow(dead_code, reason = "shared with the tests of the hook")]
mod director;
#[path = "support/stand.rs"]
mod stand;

#[path = "upgrade/fails.rs"]
mod fails;
#[path = "upgrade/hook.rs"]
mod hook;
#[path = "upgrade/load.rs"]
mod load;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use uvs_lab::{Daemon, Lab};

use stand::{eventually, fill, uvs};

/// The daemon that serves after upgrades: nobody waits for it as for one that was started here.
pub(crate) struct Heir(Option<Pid>);

impl Heir {
    pub(crate) fn of(pid: u64) -> Self {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        Self(Some(pid.expect("a process")))
    }

    /// It has handed over, and ends.
    pub(crate) fn ended(mut self) {
        let pid = self.0.take().expect("it ran");
        eventually("it ends", || has_ended(pid));
    }

    /// Ends it by SIGTERM, and waits for its end.
    pub(crate) fn stop(mut self) -> Duration {
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

/// A daemon with these words, and the service of all these tests.
fn serving<'lab>(lab: &'lab Lab, words: &str) -> Daemon<'lab> {
    let daemon = lab.start_daemon_with(uvs(), words).expect("uvs runs");
    fill(lab, &daemon);
    daemon
}

/// The daemon's process id now.
fn pid(daemon: &Daemon<'_>) -> u64 {
    let told = daemon.uvs("show info -o json").expect("info").stdout;
    let info: Value = serde_json::from_str(&told).expect("JSON");
    info["pid"].as_u64().expect("a process id")
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
