//! The kernel's questions about calls, and the answers to them (seccomp_unotify(2)).

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::time::Duration;

use libc::{seccomp_notif, seccomp_notif_addfd, seccomp_notif_resp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A call that waits for its answer.
#[derive(Clone, Copy)]
pub struct Call {
    /// The kernel's number of the question.
    pub id: u64,
    /// The thread that calls.
    pub thread: u32,
    /// The call's number.
    pub number: i64,
    /// What it is handed.
    pub arguments: [u64; 6],
}

/// What becomes of it.
pub enum Answer {
    /// The kernel carries it out.
    Kernel,
    /// It gives this.
    Value(i64),
    /// It fails with this errno.
    Errno(i32),
    /// It gives a new descriptor of this file.
    Descriptor(OwnedFd),
}

/// Where questions come from: all of the program and of what it starts.
pub struct Listener(pub OwnedFd);

impl Listener {
    /// The next call; `None` when no process is left.
    ///
    /// # Errors
    /// The kernel's.
    pub fn next(&self) -> io::Result<Option<Call>> {
        loop {
            let events = wait(&self.0, None)?;
            if !events.contains(PollFlags::IN) {
                return Ok(None);
            }
            // SAFETY: an all-zero value is one, and is what the kernel wants.
            let mut question: seccomp_notif = unsafe { std::mem::zeroed() };
            let fd = self.0.as_raw_fd();
            // SAFETY: the kernel writes one such structure.
            let result =
                unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut question) };
            if result == 0 {
                return Ok(Some(Call {
                    id: question.id,
                    thread: question.pid,
                    number: question.data.nr.into(),
                    arguments: question.data.args,
                }));
            }
            let error = io::Error::last_os_error();
            // The caller was killed meanwhile, or this process had a signal.
            if ![Some(libc::ENOENT), Some(libc::EINTR)].contains(&error.raw_os_error()) {
                return Err(error);
            }
        }
    }

    /// Whether the caller still waits. What is known of it by its number holds only where it does.
    pub fn waits(&self, call: &Call) -> bool {
        let fd = self.0.as_raw_fd();
        // SAFETY: the kernel reads the number.
        let result =
            unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const call.id) };
        result == 0
    }

    /// Answers a call. One whose caller was killed needs no answer.
    pub fn answer(&self, call: &Call, answer: Answer) {
        let (value, errno, flags) = match answer {
            Answer::Kernel => (0, 0, 1),
            Answer::Value(value) => (value, 0, 0),
            Answer::Errno(errno) => (0, errno, 0),
            Answer::Descriptor(file) => match self.give(call, &file, None, true) {
                Ok(()) => return,
                Err(errno) => (0, errno, 0),
            },
        };
        let mut response = seccomp_notif_resp {
            id: call.id,
            val: value,
            error: -errno,
            flags,
        };
        let fd = self.0.as_raw_fd();
        // SAFETY: the kernel reads one such structure.
        unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) };
    }

    /// Puts a file in the place of the caller's descriptor, or answers the call by a new one.
    ///
    /// # Errors
    /// The errno.
    pub fn give(
        &self,
        call: &Call,
        file: impl AsFd,
        place: Option<u32>,
        closes_on_exec: bool,
    ) -> Result<(), i32> {
        const SET: u32 = 1;
        const SEND: u32 = 2;
        let closes = if closes_on_exec { libc::O_CLOEXEC } else { 0 };
        let given = seccomp_notif_addfd {
            id: call.id,
            flags: if place.is_some() { SET } else { SEND },
            srcfd: file.as_fd().as_raw_fd().cast_unsigned(),
            newfd: place.unwrap_or(0),
            newfd_flags: closes.cast_unsigned(),
        };
        let fd = self.0.as_raw_fd();
        // SAFETY: the kernel reads one such structure.
        let result = unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const given) };
        match result {
            0.. => Ok(()),
            _ => Err(errno(&io::Error::last_os_error())),
        }
    }
}

/// Waits for something to be read, or for the end; nothing by the time limit.
///
/// # Errors
/// The kernel's.
pub fn wait(fd: impl AsFd, limit: Option<Duration>) -> io::Result<PollFlags> {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    loop {
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) => return Ok(fds[0].revents()),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// An error's number.
pub fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
