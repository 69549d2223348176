//! Where what outlives a killed daemon is pinned: a directory of this network namespace's in a bpffs.

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Timestamps, utimensat};
use rustix::mount::{MountFlags, mount};
use socket2::{Domain, Socket, Type};

use crate::sys;

/// Where every distribution, bpftool and iproute2 have theirs.
const USUAL: &str = "/sys/fs/bpf";
/// How long a directory is kept that no daemon uses, at the least.
const ABANDONED: Duration = Duration::from_secs(600);

/// Why nothing can be pinned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPins {
    /// It is no bpffs.
    #[error(
        "{0} is in no bpffs: mount one (`mount -t bpf bpf /sys/fs/bpf`), or name a directory in it as hook.pins"
    )]
    NoBpffs(PathBuf),
    /// Something about it failed.
    #[error("{0} cannot be used for pins: {1}")]
    Io(PathBuf, io::Error),
}

/// Where `pins` is in the usual place and no bpffs is mounted there, mounts one, as bpftool would; says whether it has. It
/// takes CAP_SYS_ADMIN, which a daemon gives up.
pub(crate) fn prepare(pins: &Path) -> bool {
    !is_in_bpffs(pins) && pins.starts_with(USUAL) && Path::new(USUAL).is_dir() && mount_usual()
}

/// The directory for this network namespace below `pins`; it is made by whoever pins.
///
/// # Errors
/// There is no bpffs.
pub(crate) fn directory(pins: &Path) -> Result<PathBuf, NoPins> {
    if !is_in_bpffs(pins) {
        return Err(NoPins::NoBpffs(pins.to_owned()));
    }
    of_namespace(pins).map_err(|e| NoPins::Io(pins.to_owned(), e))
}

/// Says that a directory is in use.
pub(super) fn touch(directory: &Path) {
    let now = rustix::fs::Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_NOW,
    };
    let times = Timestamps {
        last_access: now,
        last_modification: now,
    };
    // One that somebody has removed is the next start's affair.
    let _ = utimensat(CWD, directory, &times, AtFlags::empty());
}

/// Removes the directories below `pins` that nobody has used for long: of daemons that were killed, and whose network
/// namespace has gone with them or has none now. The kernel forwards nothing by them since their heartbeat's limit.
pub(super) fn sweep(pins: &Path) {
    let entries = std::fs::read_dir(pins).into_iter().flatten().flatten();
    for entry in entries {
        let age = entry.metadata().and_then(|m| m.modified());
        let age = age.ok().and_then(|at| at.elapsed().ok());
        if age.is_none_or(|age| age < ABANDONED) {
            continue;
        }
        match uvs_hook::remove_pinned(&entry.path()) {
            Ok(()) => tracing::info!(
                "{}, which a killed daemon left, is removed",
                entry.path().display()
            ),
            Err(why) => tracing::warn!("what a killed daemon left stays: {why}"),
        }
    }
}

/// That directory, whether or not it is there.
///
/// # Errors
/// The kernel does not tell which network namespace this is.
pub(super) fn of_namespace(pins: &Path) -> io::Result<PathBuf> {
    namespace().map(|name| pins.join(name))
}

/// Whether the directory, or the nearest one above it that exists, is in a bpffs.
fn is_in_bpffs(path: &Path) -> bool {
    let existing = path.ancestors().find(|p| p.is_dir());
    existing.is_some_and(|p| uvs_hook::is_bpffs(p).unwrap_or(false))
}

fn mount_usual() -> bool {
    mount("bpf", USUAL, "bpf", MountFlags::empty(), None).is_ok()
}

/// A name that no other network namespace has, or had while what it pinned may still be there.
fn namespace() -> io::Result<String> {
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    if let Ok(cookie) = sys::namespace_cookie(socket.as_fd()) {
        return Ok(format!("ns-{cookie}"));
    }
    // Before Linux 5.14; the number may be another namespace's once this one is gone.
    let namespace = rustix::fs::statat(CWD, "/proc/self/ns/net", AtFlags::empty())?;
    Ok(format!("inode-{}", namespace.st_ino))
}
