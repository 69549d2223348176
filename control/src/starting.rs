//! Beginnings: how the next daemon waits for what a killed one had, and how a client tells a daemon that is starting from none at all: by the lock beside the socket, which a daemon
//! has from its first moment, while the socket is there only once it answers.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long what a daemon had that was killed is waited for: the kernel closes packet sockets one after the other, and
/// each costs it a grace period or two.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
/// Pause between two tries.
const LOOK: Duration = Duration::from_millis(5);
/// In a process's flags, of /proc/PID/stat: it ends (PF_EXITING of the kernel's linux/sched.h).
const EXITING: u64 = 4;

/// Tries again where what is needed is still a process's that `holder` names, and that process ends already: a daemon
/// that was killed is followed by the next at once.
///
/// # Errors
/// Those of the last attempt.
pub fn after_what_ends<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    holder: impl Fn(&E) -> Option<i32>,
) -> Result<T, E> {
    let end = Instant::now() + ENDS_WITHIN;
    loop {
        match attempt() {
            Err(error) if Instant::now() < end && holder(&error).is_some_and(is_ending) => {
                sleep(LOOK);
            }
            done => return done,
        }
    }
}

/// Whether a process is gone, or is being taken down by the kernel.
fn is_ending(pid: i32) -> bool {
    // One outside our pid namespace is 0.
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return pid != 0;
    };
    // Behind the name, which may have any characters.
    let mut words = stat.rsplit(')').next().unwrap_or("").split_whitespace();
    let is_dead = matches!(words.next(), Some("Z" | "X"));
    let flags = words.nth(5).and_then(|flags| flags.parse::<u64>().ok());
    is_dead || flags.is_some_and(|flags| flags & EXITING != 0)
}

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

/// The process that has the lock, where one has.
pub(super) fn locker(socket: &Path) -> Option<i32> {
    let file = lock_path(socket).metadata().ok()?;
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let line = locks.lines().find(|l| lists(l, file.dev(), file.ino()))?;
    line.split_whitespace().nth(4)?.parse().ok()
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
    use std::cell::{Cell, RefCell};
    use std::fs::File;

    #[test]
    fn what_a_process_has_that_ends_is_waited_for() {
        let child = std::process::Command::new("true").spawn().expect("it runs");
        let pid = i32::try_from(child.id()).expect("a process id");
        let tries = Cell::new(0);
        let child = RefCell::new(child);
        let done = after_what_ends(
            || {
                tries.set(tries.get() + 1);
                if tries.get() < 3 { Err(()) } else { Ok(()) }
            },
            |()| {
                // A zombie, and later nobody.
                while !is_ending(pid) {
                    sleep(LOOK);
                }
                if tries.get() == 2 {
                    child.borrow_mut().wait().expect("it has ended");
                }
                Some(pid)
            },
        );
        assert_eq!((done, tries.get()), (Ok(()), 3));
        let me = i32::try_from(std::process::id()).ok();
        let refused = after_what_ends(|| Err::<(), _>("busy"), |_| me);
        assert_eq!(refused, Err("busy"), "at once");
    }

    #[test]
    fn a_lock_is_seen_while_it_is_held() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("control.sock");
        assert!(!is_locked(&socket), "no file");
        let file = File::create(lock_path(&socket)).expect("a file");
        assert!(!is_locked(&socket), "no lock");
        file.try_lock().expect("locked");
        assert!(is_locked(&socket));
        // Closing it is not enough here: a child that another test starts at this moment has it too, until it executes.
        file.unlock().expect("unlocked");
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
