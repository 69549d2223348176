//! Which descriptors are generic netlink sockets, and which of them lead to the daemon. Without a lock: a program
//! may fork, or call from a signal handler, at any moment.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use libc::c_int;

/// Descriptors that are looked at; those above are left to the kernel.
const HIGHEST: usize = 4096;

/// A descriptor's state.
struct Entry {
    kind: AtomicU8,
    /// Its netlink port.
    port: AtomicU32,
    /// What was opened, so that a descriptor that was closed unseen is not mistaken.
    inode: AtomicU64,
}

const OTHER: u8 = 0;
const GENERIC: u8 = 1;
const DAEMON: u8 = 2;

static ENTRIES: [Entry; HIGHEST] = [const {
    Entry {
        kind: AtomicU8::new(OTHER),
        port: AtomicU32::new(0),
        inode: AtomicU64::new(0),
    }
}; HIGHEST];

/// What a descriptor is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing of ours.
    Other,
    /// A generic netlink socket of the kernel's.
    Generic,
    /// A connection to the daemon in the place of one with this port.
    Daemon(u32),
}

/// What a descriptor is.
pub(crate) fn kind(fd: c_int) -> Kind {
    let Some(entry) = entry(fd) else {
        return Kind::Other;
    };
    let kind = entry.kind.load(Ordering::Acquire);
    if kind == OTHER || inode(fd) != Some(entry.inode.load(Ordering::Relaxed)) {
        return Kind::Other;
    }
    match kind {
        GENERIC => Kind::Generic,
        _ => Kind::Daemon(entry.port.load(Ordering::Relaxed)),
    }
}

/// Notes what a descriptor is from now on.
pub(crate) fn note(fd: c_int, kind: Kind) {
    let Some(entry) = entry(fd) else { return };
    let (number, port) = match kind {
        Kind::Other => (OTHER, 0),
        Kind::Generic => (GENERIC, 0),
        Kind::Daemon(port) => (DAEMON, port),
    };
    if number != OTHER {
        entry.port.store(port, Ordering::Relaxed);
        entry.inode.store(inode(fd).unwrap_or(0), Ordering::Relaxed);
    }
    entry.kind.store(number, Ordering::Release);
}

fn entry(fd: c_int) -> Option<&'static Entry> {
    ENTRIES.get(usize::try_from(fd).ok()?)
}

fn inode(fd: c_int) -> Option<u64> {
    let mut status = MaybeUninit::uninit();
    // SAFETY: the kernel writes a whole `struct stat`, or refuses.
    let result = unsafe { libc::fstat(fd, status.as_mut_ptr()) };
    // SAFETY: it was written, as the call did not fail.
    (result == 0).then(|| unsafe { status.assume_init() }.st_ino)
}
