//! Puts a filter in force for the calling thread and all that it starts.

use std::ffi::c_ulong;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use libc::{sock_filter, sock_fprog};

/// A filter that answers itself.
///
/// # Errors
/// The kernel's: EACCES where the thread may still gain rights by the programs that it starts (no_new_privs).
pub fn filter(program: &[sock_filter]) -> io::Result<()> {
    install(program, 0).map(drop)
}

/// A filter by which the kernel asks about some calls, and where it does. A thread can have one such filter.
///
/// # Errors
/// The kernel's: EACCES as for [`filter`], EBUSY where there is one, EINVAL for flags that it does not know.
pub fn ask(program: &[sock_filter], flags: c_ulong) -> io::Result<OwnedFd> {
    let fd = install(program, flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    // SAFETY: the kernel has opened it, and nothing else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Allocates nothing: it may be called between fork and exec.
fn install(program: &[sock_filter], flags: c_ulong) -> io::Result<i32> {
    let program = sock_fprog {
        len: u16::try_from(program.len()).unwrap_or(0),
        filter: program.as_ptr().cast_mut(),
    };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the kernel reads the program, which lives until the call is over.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    match i32::try_from(result) {
        Ok(result @ 0..) => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
