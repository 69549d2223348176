//! The daemon that serves after an upgrade, as a process.

#![allow(
    dead_code,
    reason = "shared by several tests, each of which uses a part"
)]

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use uvs_lab::Daemon;

use crate::stand::eventually;

/// The daemon that serves after upgrades: nobody waits for it as for one that was started here.
pub(crate) struct Heir(Option<Pid>);

impl Heir {
    pub(crate) fn of(pid: u64) -> Self {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        Self(Some(pid.expect("a process")))
    }

    /// Signals it.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.0.expect("it runs"), signal).expect("signalled");
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

/// The daemon's process id now.
pub(crate) fn pid(daemon: &Daemon<'_>) -> u64 {
    let told = daemon.uvs("show info -o json").expect("info").stdout;
    let info: Value = serde_json::from_str(&told).expect("JSON");
    info["pid"].as_u64().expect("a process id")
}
