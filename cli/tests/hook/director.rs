//! A daemon with a hook on a lab's director, its pins in a bpffs of the test's own, and what it tells of itself.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use uvs_lab::{Daemon, Lab};

use crate::stand::{PATIENCE, eventually, fill, uvs};

/// A bpffs that lasts as long as this value.
pub(crate) struct Bpffs(TempDir);

impl Bpffs {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        mount("bpf", dir.path(), "bpf", MountFlags::empty(), None).expect("a bpffs needs root");
        Self(dir)
    }

    /// Where a daemon is to pin.
    pub(crate) fn pins(&self) -> PathBuf {
        self.0.path().join("uvs")
    }

    /// What is pinned.
    pub(crate) fn pinned(&self) -> Vec<PathBuf> {
        fn below(dir: &Path) -> Vec<PathBuf> {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries
                .flat_map(|entry| match entry.path() {
                    dir if dir.is_dir() => below(&dir),
                    file => vec![file],
                })
                .collect()
        }
        below(&self.pins())
    }

    pub(crate) fn make_read_only(&self) {
        mount_remount(self.0.path(), MountFlags::RDONLY, "").expect("remounted");
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

/// The words that start a daemon with this hook, by a file `hook.toml` in the lab's directory.
pub(crate) fn line(lab: &Lab, bpffs: &Bpffs, hook: &str) -> String {
    let text = format!(
        "interfaces = {:?}\n[hook]\nmode = \"{hook}\"\npins = {:?}\n",
        lab.plan.interfaces,
        bpffs.pins()
    );
    let file = lab.dir().join("hook.toml");
    fs::write(&file, text).expect("written");
    format!("run --config {}", file.display())
}

/// The daemon, with a service of the weights 3 and 1 on its VIP.
pub(crate) fn serving<'lab>(lab: &'lab Lab, bpffs: &Bpffs, hook: &str) -> Daemon<'lab> {
    let daemon = started(lab, bpffs, hook);
    fill(lab, &daemon);
    daemon
}

/// The daemon without a service.
pub(crate) fn started<'lab>(lab: &'lab Lab, bpffs: &Bpffs, hook: &str) -> Daemon<'lab> {
    let line = line(lab, bpffs, hook);
    Daemon::start_with(lab, uvs(), &line).expect("uvs runs")
}

/// An answer of `uvs show … -o json`.
pub(crate) fn told(daemon: &Daemon<'_>, what: &str) -> Value {
    let told = daemon.uvs(&format!("show {what} -o json")).expect("told");
    serde_json::from_str(&told.stdout).expect("JSON")
}

/// A number of the hook's on all interfaces.
pub(crate) fn on_all_ports(daemon: &Daemon<'_>, key: &str) -> u64 {
    let hook = told(daemon, "hook");
    let ports = hook["ports"].as_array().expect("a list").iter();
    ports
        .map(|port| port[key].as_u64().expect("a number"))
        .sum()
}

/// A client's connection to the VIP.
pub(crate) fn connect(lab: &Lab) -> TcpStream {
    let vip = lab.plan.vip.into();
    let connect = || TcpStream::connect_timeout(&vip, PATIENCE).expect("a connection");
    let stream = lab.client.enter(connect).expect("the client's namespace");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream
}

/// Ends a daemon so that it can do nothing about it.
pub(crate) fn kill(mut daemon: Daemon<'_>) {
    daemon.process().signal(Signal::KILL).expect("killed");
    eventually("it is gone", || !daemon.process().is_running());
}

/// Changes the file that [`line`] wrote.
pub(crate) fn reconfigure(lab: &Lab, from: &str, to: &str) {
    let file = lab.dir().join("hook.toml");
    let text = fs::read_to_string(&file).expect("just written");
    assert!(text.contains(from), "{from} in {text}");
    fs::write(&file, text.replace(from, to)).expect("written");
}
