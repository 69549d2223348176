//! Who is at the other end of a unix socket (`SO_PEERCRED`).
//!
//! A system call of our own: rustix reads the process id as a number that is never 0, but the kernel
//! answers 0 for a process outside our pid namespace, such as a host's `uvs` that speaks to a daemon in
//! a container.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The user and the process that connected, or that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Process id; 0 outside our pid namespace.
    pub pid: i32,
    /// User id.
    pub uid: u32,
}

impl Peer {
    /// The peer of a connected socket.
    ///
    /// # Errors
    /// The host's.
    pub fn of(stream: &impl AsFd) -> io::Result<Self> {
        let mut peer = libc::ucred {
            pid: 0,
            uid: u32::MAX,
            gid: u32::MAX,
        };
        let mut length =
            libc::socklen_t::try_from(size_of::<libc::ucred>()).map_err(io::Error::other)?;
        // SAFETY: the descriptor is borrowed for the call, and the kernel writes at most `length` bytes
        // to `peer`, a struct of plain integers of that size.
        let result = unsafe {
            libc::getsockopt(
                stream.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                (&raw mut peer).cast(),
                &raw mut length,
            )
        };
        match result {
            0 => Ok(Self {
                pid: peer.pid,
                uid: peer.uid,
            }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
