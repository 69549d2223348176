//! How a client tells a daemon that is starting from none at all: by the lock beside the socket, which a daemon
//! has from its first moment, while the socket is there only once it answers.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The lock of a control socket.
pub(super) fn lock_path(socket: &Path) -> PathBuf {
    beside(socket, ".lock")
}

/// A file's name with something behind it.
pub(super) fn beside(socket: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = socket.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whether a process has the lock. The kernel's list is read, since whoever tried to lock it, or only to open
/// it, would be in the daemon's way, or refused.
pub(super) fn is_locked(socket: &Path) -> bool {
    let Ok(file) = lock_path(socket).metadata() else {
        return false;
    };
    std::fs::read_to_string("/proc/locks").is_ok_and(|locks| lists(&locks, file.dev(), file.ino()))
}

/// `1: FLOCK  ADVISORY  WRITE 732 00:17:2034 0 EOF` (proc_locks(5)).
fn lists(locks: &str, device: u64, inode: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    locks.lines().any(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.get(1) == Some(&"FLOCK") && words.get(5) == Some(&file.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_lock_is_seen_while_it_is_held() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("control.sock");
        assert!(!is_locked(&socket), "no file");
        let file = File::create(lock_path(&socket)).expect("a file");
        assert!(!is_locked(&socket), "no lock");
        file.try_lock().expect("locked");
        assert!(is_locked(&socket));
        drop(file);
        assert!(!is_locked(&socket), "left by a process that was killed");
    }

    #[test]
    fn only_this_file_and_this_kind_of_lock_count() {
        let locks = "1: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 732 00:17:2034 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 733 00:17:2034 0 EOF\n";
        let device = rustix::fs::makedev(0, 0x17);
        assert!(lists(locks, device, 2034));
        assert!(!lists(locks, device, 203));
        assert!(!lists(locks, rustix::fs::makedev(0xfd, 0), 2_531_452));
    }
}
