//! All of this crate's unsafe code: bpf(2), and memory that the kernel's program writes too.
//!
//! What is here takes values and slices whose lengths it checks, never pointers, and turns the kernel's answer
//! into an `io::Result`.

mod attr;
pub(crate) mod cpus;
pub(crate) mod map;
pub(crate) mod memory;
pub(crate) mod program;

use std::io;
use std::mem;
use std::os::fd::{FromRawFd as _, OwnedFd};

/// Does one bpf(2) command. What it answers is a file descriptor or 0.
///
/// # Safety
/// `attr` must be the command's part of `union bpf_attr`, and each pointer in it lead to memory that the command may
/// read, or write, as far as its other fields say.
unsafe fn bpf<T>(command: u32, attr: &mut T) -> io::Result<i32> {
    // SAFETY: the caller's promise; the length is that of `attr`.
    let ret = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, mem::size_of::<T>()) };
    if ret < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(ret).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// A command that answers a new file descriptor.
///
/// # Safety
/// As [`bpf`]'s.
unsafe fn bpf_fd<T>(command: u32, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attr)? };
    // SAFETY: the kernel has just opened it for us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A pointer as bpf(2) wants it.
fn address<T: ?Sized>(of: *const T) -> u64 {
    of.cast::<u8>().addr() as u64
}
