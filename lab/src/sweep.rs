//! Names of namespaces and directories, and the removal of what bears them.
//!
//! A name has its maker's process id, so that what a `kill -9` left can be told from what runs beside us.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::process::{SOON, output};
use crate::{Result, tools};

/// Where `ip netns` keeps its names.
pub(crate) const NETNS_DIR: &str = "/run/netns";

static LABS: AtomicU32 = AtomicU32::new(0);
static LEFTOVERS: Once = Once::new();

/// The common start of a lab's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(String);

impl Names {
    /// Names that nothing else on this machine has: `uvs-PID-COUNT-`. The first call removes what dead
    /// processes left.
    pub fn unique() -> Self {
        LEFTOVERS.call_once(remove_leftovers);
        let count = LABS.fetch_add(1, Ordering::Relaxed);
        Self(format!("uvs-{}-{count}-", std::process::id()))
    }

    /// The names of the one lab that outlives its maker: `uvs-lab-`.
    pub fn standing() -> Self {
        LEFTOVERS.call_once(remove_leftovers);
        Self("uvs-lab-".to_owned())
    }

    /// The full name of a host.
    pub fn of(&self, role: &str) -> String {
        format!("{}{role}", self.0)
    }

    /// What names of files begin with.
    pub fn prefix(&self) -> &str {
        &self.0
    }

    /// Our temporary directories that bear these names; another user may have a standing lab too.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        let temporary = std::env::temp_dir();
        let named = entries(&temporary)
            .into_iter()
            .filter(|name| name.starts_with(&self.0));
        named
            .map(|name| temporary.join(name))
            .filter(|dir| is_ours(dir))
            .collect()
    }

    /// The namespaces that bear these names.
    pub fn namespaces(&self) -> Vec<String> {
        entries(NETNS_DIR)
            .into_iter()
            .filter(|name| name.starts_with(&self.0))
            .collect()
    }
}

/// Ends the processes of a namespace and removes its name; with its last process the rest of it goes.
pub(crate) fn remove_namespace(name: &str) -> Result<()> {
    let listed = output(tools::command("ip", ["netns", "pids", name])?, "", SOON)?;
    for pid in listed.stdout.lines().filter_map(parse_pid) {
        // A process that ended meanwhile is what we want.
        let _ = kill_process(pid, Signal::KILL);
    }
    output(tools::command("ip", ["netns", "delete", name])?, "", SOON).map(drop)
}

/// Removes namespaces and directories whose makers are dead. Nobody waits for this and another process may
/// be doing the same, so failures are not reported: what stays is found again next time.
fn remove_leftovers() {
    for name in entries(NETNS_DIR).iter().filter(|name| is_orphan(name)) {
        let _ = remove_namespace(name);
    }
    let temporary = std::env::temp_dir();
    for name in entries(&temporary).iter().filter(|name| is_orphan(name)) {
        let _ = fs::remove_dir_all(temporary.join(name));
    }
}

fn entries(dir: impl AsRef<Path>) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Whether a name is `uvs-PID-…` of a process that is not there.
fn is_orphan(name: &str) -> bool {
    let maker = name
        .strip_prefix("uvs-")
        .and_then(|rest| rest.split_once('-'))
        .and_then(|(pid, _)| parse_pid(pid));
    maker.is_some_and(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

fn is_ours(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.uid() == rustix::process::geteuid().as_raw())
}

fn parse_pid(text: &str) -> Option<Pid> {
    text.trim().parse().ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_dead_makers_are_orphans() {
        let mut child = std::process::Command::new("true").spawn().expect("true");
        let dead = child.id();
        child.wait().expect("it ends");
        assert!(is_orphan(&format!("uvs-{dead}-0-client")));
        assert!(!is_orphan(&format!("uvs-{}-0-client", std::process::id())));
        for foreign in ["uvs-lab-client", "uvs-", "uvs-12", "client", "uvs-x1-0-rs1"] {
            assert!(!is_orphan(foreign), "{foreign}");
        }
    }

    #[test]
    fn unique_names_are_unique() {
        assert_ne!(Names::unique(), Names::unique());
        assert!(Names::unique().of("rs1").ends_with("-rs1"));
    }
}
