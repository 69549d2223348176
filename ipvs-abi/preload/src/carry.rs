//! Connections to the daemon: in the place of a netlink socket, or for one question.

use std::io::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_int, c_void, sa_family_t, sockaddr_nl, sockaddr_un, socklen_t};
use uvs_ipvs_carried::{
    DEFAULT_SOCKET, MAX_DATAGRAM, PATIENCE, Question, SOCKET_VARIABLE, answer, ask_again,
    unreachable,
};

use crate::descriptors::{self, Kind};
use crate::next::next;

/// Puts a connection to the daemon in a netlink socket's place.
///
/// # Errors
/// The errno; the socket is as it was.
pub(crate) fn take_over(fd: c_int) -> Result<(), c_int> {
    let port = match descriptors::kind(fd) {
        Kind::Daemon(port) => port,
        Kind::Other | Kind::Generic => port_of(fd),
    };
    let connection = connect()?;
    // SAFETY: it asks for flags only.
    let descriptor = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    // SAFETY: so does it.
    let status = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    let closes = if descriptor & libc::FD_CLOEXEC == 0 {
        0
    } else {
        libc::O_CLOEXEC
    };
    // SAFETY: both are open descriptors; the second becomes another name of the first.
    if unsafe { libc::dup3(connection.as_raw_fd(), fd, closes) } < 0 {
        return Err(errno());
    }
    if status & libc::O_NONBLOCK != 0 {
        // SAFETY: sets a flag only.
        unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };
    }
    descriptors::note(fd, Kind::Daemon(port));
    Ok(())
}

/// Waits until an answer of the daemon's is there.
pub(crate) fn await_answer(fd: c_int) {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let limit = c_int::try_from(PATIENCE.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: one entry, which lives until the call is over.
    unsafe { libc::poll(&raw mut poll, 1, limit) };
}

/// Whether a connection has ended with no answer left in it.
pub(crate) fn has_ended(fd: c_int) -> bool {
    let mut byte = 0_u8;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the buffer is one byte.
    let mut look = || unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, flags) };
    match look() {
        0 => true,
        // It is told once, and before an answer that is there.
        -1 if errno() == libc::ECONNRESET => look() <= 0,
        _ => false,
    }
}

/// Asks a question over a connection of its own, and again where that ends without an answer.
///
/// # Errors
/// The errno that the daemon answers; ENOPROTOOPT where there is none, as in a kernel without IPVS.
pub(crate) fn ask(question: Question<'_>) -> Result<Vec<u8>, c_int> {
    let bytes = question.to_bytes();
    ask_again(|| ask_once(&bytes))
}

fn ask_once(bytes: &[u8]) -> Result<Vec<u8>, c_int> {
    let connection = connect().map_err(|_| libc::ENOPROTOOPT)?;
    let fd = connection.as_raw_fd();
    // SAFETY: the bytes live until the call is over.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    if sent < 0 {
        return Err(errno());
    }
    answer(|| receive(fd))
}

/// A datagram; ECONNRESET at the connection's end.
fn receive(fd: c_int) -> Result<Vec<u8>, c_int> {
    await_answer(fd);
    let mut buffer = vec![0; MAX_DATAGRAM];
    let flags = libc::MSG_DONTWAIT;
    // SAFETY: the buffer has the length that is given.
    let length = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), flags) };
    let length = usize::try_from(length).map_err(|_| errno())?;
    buffer.truncate(length);
    match length {
        0 => Err(libc::ECONNRESET),
        _ => Ok(buffer),
    }
}

fn connect() -> Result<OwnedFd, c_int> {
    let path = std::env::var(SOCKET_VARIABLE).ok();
    let path = path
        .as_deref()
        .filter(|p| !p.is_empty())
        .unwrap_or(DEFAULT_SOCKET);
    let mut address = sockaddr_un {
        sun_family: family_of(libc::AF_UNIX),
        sun_path: [0; 108],
    };
    if path.len() >= address.sun_path.len() {
        explain(path, libc::ENAMETOOLONG);
        return Err(libc::ENAMETOOLONG);
    }
    for (to, from) in address.sun_path.iter_mut().zip(path.bytes()) {
        *to = from.cast_signed();
    }
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    let fd = next!(socket(libc::AF_UNIX => c_int, kind => c_int, 0 => c_int) -> c_int);
    if fd < 0 {
        return Err(errno());
    }
    // SAFETY: it was opened above, and nothing else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let length = length_of(size_of::<sockaddr_un>());
    // SAFETY: the address lives until the call is over, and has this length.
    let result = unsafe { libc::connect(fd, (&raw const address).cast(), length) };
    if result != 0 {
        let reason = errno();
        explain(path, reason);
        return Err(reason);
    }
    Ok(socket)
}

/// Says once why what follows will fail: a program without IPVS in the kernel says that only.
fn explain(path: &str, reason: c_int) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        let reason = std::io::Error::from_raw_os_error(reason);
        let _ = writeln!(
            std::io::stderr(),
            "{}",
            unreachable(Path::new(path), &reason)
        );
    }
}

/// A length as socket calls take it.
pub(crate) fn length_of(bytes: usize) -> socklen_t {
    socklen_t::try_from(bytes).unwrap_or(socklen_t::MAX)
}

/// An address family as addresses have it.
pub(crate) fn family_of(number: c_int) -> sa_family_t {
    sa_family_t::try_from(number).unwrap_or(sa_family_t::MAX)
}

/// The netlink port that a socket is bound to; before that, the one it would get first.
fn port_of(fd: c_int) -> u32 {
    let mut address = MaybeUninit::<sockaddr_nl>::zeroed();
    let mut length = length_of(size_of::<sockaddr_nl>());
    let (to, room) = (address.as_mut_ptr().cast::<c_void>(), &raw mut length);
    let result =
        next!(getsockname(fd => c_int, to => *mut c_void, room => *mut socklen_t) -> c_int);
    // SAFETY: all its bytes were zeroed or written, and every pattern of bits is one.
    let port = unsafe { address.assume_init() }.nl_pid;
    if result == 0 && port != 0 {
        return port;
    }
    std::process::id()
}

/// The errno of the system call before.
pub(crate) fn errno() -> c_int {
    std::io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO)
}
