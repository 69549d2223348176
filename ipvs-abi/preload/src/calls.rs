//! The functions that programs call instead of the C library's. Each passes on what is not ours with the very
//! arguments it was called with.

use std::ffi::CStr;
use std::io::{Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _};

use libc::{
    FILE, c_char, c_int, c_void, mode_t, msghdr, size_t, sockaddr, sockaddr_nl, socklen_t, ssize_t,
};
use uvs_ipvs_carried::{FILES, OPTIONS, Question, TRIES, is_answered, is_for_ipvs, is_gone};

use crate::carry;
use crate::descriptors::{self, Kind};
use crate::next::next;

/// socket(2): notes generic netlink sockets.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    let fd = next!(socket(domain => c_int, kind => c_int, protocol => c_int) -> c_int);
    let generic = domain == libc::AF_NETLINK && protocol == libc::NETLINK_GENERIC;
    let noted = if generic { Kind::Generic } else { Kind::Other };
    descriptors::note(fd, noted);
    fd
}

/// close(2): forgets them.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn close(fd: c_int) -> c_int {
    descriptors::note(fd, Kind::Other);
    next!(close(fd => c_int) -> c_int)
}

/// bind(2): a netlink socket that leads to the daemon has its port already.
///
/// # Safety
/// As bind(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn bind(
    fd: c_int,
    address: *const sockaddr,
    length: socklen_t,
) -> c_int {
    if is_daemon(fd) {
        return 0;
    }
    next!(bind(fd => c_int, address => *const sockaddr, length => socklen_t) -> c_int)
}

/// connect(2): such a socket is connected.
///
/// # Safety
/// As connect(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn connect(
    fd: c_int,
    address: *const sockaddr,
    length: socklen_t,
) -> c_int {
    if is_daemon(fd) {
        return 0;
    }
    next!(connect(fd => c_int, address => *const sockaddr, length => socklen_t) -> c_int)
}

/// getsockname(2): the port it had as a netlink socket.
///
/// # Safety
/// As getsockname(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getsockname(
    fd: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
) -> c_int {
    if let Kind::Daemon(port) = descriptors::kind(fd) {
        // SAFETY: the caller's buffer and its length.
        unsafe { write_address(port, address.cast(), length) };
        return 0;
    }
    next!(getsockname(fd => c_int, address => *mut sockaddr, length => *mut socklen_t) -> c_int)
}

/// setsockopt(2): netlink's options mean nothing to the daemon; IPVS's are carried to it.
///
/// # Safety
/// As setsockopt(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    if level == libc::SOL_NETLINK && is_daemon(fd) {
        return 0;
    }
    if let Some(name) = option(level, name) {
        // SAFETY: the caller's value, of this length.
        let value = unsafe { slice(value, length as usize) };
        return match carry::ask(Question::Set { name, value }) {
            Ok(_) => 0,
            Err(errno) => fail(errno),
        };
    }
    next!(setsockopt(
        fd => c_int, level => c_int, name => c_int, value => *const c_void, length => socklen_t,
    ) -> c_int)
}

/// getsockopt(2): IPVS's are asked of the daemon.
///
/// # Safety
/// As getsockopt(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    let Some(name) = option(level, name).filter(|_| !value.is_null() && !length.is_null()) else {
        return next!(getsockopt(
            fd => c_int, level => c_int, name => c_int, value => *mut c_void, length => *mut socklen_t,
        ) -> c_int);
    };
    // SAFETY: it is not null, and the caller's.
    let room = unsafe { *length } as usize;
    // SAFETY: the caller's buffer, of that length.
    let buffer = unsafe { slice(value, room) };
    match carry::ask(Question::get(name, buffer)) {
        Ok(answer) if answer.len() > buffer.len() => fail(libc::EINVAL),
        Ok(answer) => {
            // SAFETY: it has room for as many bytes, as was asked above.
            unsafe { std::ptr::copy_nonoverlapping(answer.as_ptr(), value.cast(), answer.len()) };
            // SAFETY: it is the caller's; no more bytes than there was room for, which fitted this type.
            unsafe { *length = carry::length_of(answer.len()) };
            0
        }
        Err(errno) => fail(errno),
    }
}

/// sendmsg(2).
///
/// # Safety
/// As sendmsg(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn sendmsg(
    fd: c_int,
    message: *const msghdr,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's message, as for the C library's.
    let Some(given) = (unsafe { message.as_ref() }) else {
        return next!(sendmsg(fd => c_int, message => *const msghdr, flags => c_int) -> ssize_t);
    };
    // SAFETY: the caller's vector, of which the first part is looked at only.
    let first = unsafe { given.msg_iov.as_ref() }.filter(|_| given.msg_iovlen > 0);
    // SAFETY: that part's bytes.
    let bytes = first.map_or(&[][..], |part| unsafe {
        slice(part.iov_base, part.iov_len)
    });
    if !goes_to_daemon(fd, bytes) {
        return next!(sendmsg(fd => c_int, message => *const msghdr, flags => c_int) -> ssize_t);
    }
    // Neither netlink's address nor its credentials mean anything there.
    let mut bare = *given;
    (bare.msg_name, bare.msg_namelen) = (std::ptr::null_mut(), 0);
    (bare.msg_control, bare.msg_controllen) = (std::ptr::null_mut(), 0);
    send_again(fd, bytes, || {
        let flags = flags | libc::MSG_NOSIGNAL;
        next!(sendmsg(fd => c_int, &raw const bare => *const msghdr, flags => c_int) -> ssize_t)
    })
}

/// sendto(2).
///
/// # Safety
/// As sendto(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn sendto(
    fd: c_int,
    buffer: *const c_void,
    length: size_t,
    flags: c_int,
    address: *const sockaddr,
    address_length: socklen_t,
) -> ssize_t {
    // SAFETY: the caller's buffer, of this length.
    let bytes = unsafe { slice(buffer, length) };
    if goes_to_daemon(fd, bytes) {
        let flags = flags | libc::MSG_NOSIGNAL;
        return send_again(
            fd,
            bytes,
            || next!(send(fd => c_int, buffer => *const c_void, length => size_t, flags => c_int) -> ssize_t),
        );
    }
    next!(sendto(
        fd => c_int, buffer => *const c_void, length => size_t, flags => c_int,
        address => *const sockaddr, address_length => socklen_t,
    ) -> ssize_t)
}

/// send(2).
///
/// # Safety
/// As send(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn send(
    fd: c_int,
    buffer: *const c_void,
    length: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's buffer, of this length.
    let bytes = unsafe { slice(buffer, length) };
    if goes_to_daemon(fd, bytes) {
        let flags = flags | libc::MSG_NOSIGNAL;
        return send_again(
            fd,
            bytes,
            || next!(send(fd => c_int, buffer => *const c_void, length => size_t, flags => c_int) -> ssize_t),
        );
    }
    next!(send(fd => c_int, buffer => *const c_void, length => size_t, flags => c_int) -> ssize_t)
}

/// recvmsg(2): what comes from the daemon comes from the kernel, as far as the program knows.
///
/// # Safety
/// As recvmsg(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    let received = next!(recvmsg(fd => c_int, message => *mut msghdr, flags => c_int) -> ssize_t);
    if received < 0 || !is_daemon(fd) {
        return received;
    }
    // SAFETY: the call above has written to it.
    let message = unsafe { &mut *message };
    let (to, room) = (message.msg_name, &raw mut message.msg_namelen);
    if !to.is_null() {
        // The call above has set the length to 0; netlink's programs give a whole address.
        message.msg_namelen = carry::length_of(size_of::<sockaddr_nl>());
        // SAFETY: the caller's buffer for an address of netlink.
        unsafe { write_address(0, to, room) };
    }
    answered(received)
}

/// recvfrom(2).
///
/// # Safety
/// As recvfrom(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn recvfrom(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    flags: c_int,
    address: *mut sockaddr,
    address_length: *mut socklen_t,
) -> ssize_t {
    if !is_daemon(fd) {
        return next!(recvfrom(
            fd => c_int, buffer => *mut c_void, length => size_t, flags => c_int,
            address => *mut sockaddr, address_length => *mut socklen_t,
        ) -> ssize_t);
    }
    let received = next!(recv(fd => c_int, buffer => *mut c_void, length => size_t, flags => c_int) -> ssize_t);
    if received >= 0 && !address.is_null() && !address_length.is_null() {
        // SAFETY: the caller's buffer and its length.
        unsafe { write_address(0, address.cast(), address_length) };
    }
    answered(received)
}

/// open(2): IPVS's files are asked of the daemon.
///
/// # Safety
/// As open(2). The C library's takes `mode` where `flags` ask for it only; where nothing was given, what is read
/// here means nothing and is passed on as such.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    match file(path) {
        Some(fd) => fd,
        None => next!(open(path => *const c_char, flags => c_int, mode => mode_t) -> c_int),
    }
}

/// open64(3), as [`open`].
///
/// # Safety
/// As open(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    match file(path) {
        Some(fd) => fd,
        None => next!(open64(path => *const c_char, flags => c_int, mode => mode_t) -> c_int),
    }
}

/// openat(2), as [`open`].
///
/// # Safety
/// As openat(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn openat(
    at: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    match file(path) {
        Some(fd) => fd,
        None => {
            next!(openat(at => c_int, path => *const c_char, flags => c_int, mode => mode_t) -> c_int)
        }
    }
}

/// openat64(3), as [`open`].
///
/// # Safety
/// As openat(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn openat64(
    at: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    match file(path) {
        Some(fd) => fd,
        None => {
            next!(openat64(at => c_int, path => *const c_char, flags => c_int, mode => mode_t) -> c_int)
        }
    }
}

/// What [`open`] is in a program that was built with _FORTIFY_SOURCE.
///
/// # Safety
/// As open(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn __open_2(path: *const c_char, flags: c_int) -> c_int {
    match file(path) {
        Some(fd) => fd,
        None => next!(__open_2(path => *const c_char, flags => c_int) -> c_int),
    }
}

/// What [`open64`] is there.
///
/// # Safety
/// As open(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn __open64_2(path: *const c_char, flags: c_int) -> c_int {
    match file(path) {
        Some(fd) => fd,
        None => next!(__open64_2(path => *const c_char, flags => c_int) -> c_int),
    }
}

/// fopen(3), as [`open`].
///
/// # Safety
/// As fopen(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fopen(path: *const c_char, mode: *const c_char) -> *mut FILE {
    match file(path) {
        Some(fd) => stream(fd),
        None => next!(fopen(path => *const c_char, mode => *const c_char) -> *mut FILE),
    }
}

/// fopen64(3), as [`open`].
///
/// # Safety
/// As fopen(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fopen64(path: *const c_char, mode: *const c_char) -> *mut FILE {
    match file(path) {
        Some(fd) => stream(fd),
        None => next!(fopen64(path => *const c_char, mode => *const c_char) -> *mut FILE),
    }
}

/// One of IPVS's files with what the daemon says; `None` where it is another, or where no daemon answers.
fn file(path: *const c_char) -> Option<c_int> {
    if path.is_null() {
        return None;
    }
    // SAFETY: the caller's path, which ends with a NUL.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes();
    let place = FILES.iter().position(|file| file.as_bytes() == path)?;
    let text = carry::ask(Question::File {
        place: u32::try_from(place).ok()?,
    });
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"uvs".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return None;
    }
    // SAFETY: it was made above, and nothing else has it.
    let mut file = unsafe { std::fs::File::from_raw_fd(fd) };
    file.write_all(&text.ok()?).ok()?;
    file.rewind().ok()?;
    descriptors::note(file.as_raw_fd(), Kind::Other);
    Some(file.into_raw_fd())
}

fn stream(fd: c_int) -> *mut FILE {
    // SAFETY: a descriptor that nothing else has, and a C string.
    unsafe { libc::fdopen(fd, c"r".as_ptr()) }
}

/// Whether bytes go to the daemon; the first that are for IPVS bring a generic netlink socket there.
fn goes_to_daemon(fd: c_int, bytes: &[u8]) -> bool {
    match descriptors::kind(fd) {
        Kind::Daemon(_) => true,
        Kind::Generic if is_for_ipvs(bytes) => carry::take_over(fd).is_ok(),
        Kind::Generic | Kind::Other => false,
    }
}

/// Sends, and waits for the answer to what has one: the kernel's is there when sending returns. Over a new connection
/// where the daemon was started anew meanwhile, or where it ends before it answers as another has taken over.
fn send_again(fd: c_int, bytes: &[u8], send: impl Fn() -> ssize_t) -> ssize_t {
    let mut tries = TRIES;
    loop {
        tries -= 1;
        let sent = send();
        let again = match sent {
            ..0 => is_gone(carry::errno()),
            _ if is_answered(bytes) => {
                carry::await_answer(fd);
                carry::has_ended(fd)
            }
            _ => false,
        };
        if !again || tries == 0 {
            return sent;
        }
        if let Err(errno) = carry::take_over(fd) {
            fail(errno);
            return -1;
        }
    }
}

/// A netlink socket has no end: a daemon that has gone is an error.
fn answered(received: ssize_t) -> ssize_t {
    if received == 0 {
        fail(libc::ECONNRESET);
        return -1;
    }
    received
}

fn is_daemon(fd: c_int) -> bool {
    matches!(descriptors::kind(fd), Kind::Daemon(_))
}

/// The number of a socket option of IPVS.
fn option(level: c_int, name: c_int) -> Option<u32> {
    let ours = level == libc::SOL_IP && OPTIONS.contains(&name);
    u32::try_from(name).ok().filter(|_| ours)
}

/// Writes an address of netlink as the kernel does: as much as there is room for, and its whole length.
///
/// # Safety
/// `to` has as many bytes as `length` says.
unsafe fn write_address(port: u32, to: *mut c_void, length: *mut socklen_t) {
    // SAFETY: an address of zeroes is one.
    let mut address: sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = carry::family_of(libc::AF_NETLINK);
    address.nl_pid = port;
    let whole = size_of::<sockaddr_nl>();
    // SAFETY: the caller's.
    let room = unsafe { *length } as usize;
    // SAFETY: no more bytes than there is room for.
    unsafe {
        std::ptr::copy_nonoverlapping(
            (&raw const address).cast::<u8>(),
            to.cast(),
            whole.min(room),
        )
    };
    // SAFETY: the caller's.
    unsafe { *length = carry::length_of(whole) };
}

/// Bytes of the caller's; none where it has none.
///
/// # Safety
/// Where it is not null, `start` has as many bytes.
unsafe fn slice<'a>(start: *const c_void, length: usize) -> &'a [u8] {
    if start.is_null() {
        return &[];
    }
    // SAFETY: as the caller says.
    unsafe { std::slice::from_raw_parts(start.cast(), length) }
}

fn fail(errno: c_int) -> c_int {
    // SAFETY: it has no conditions.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the C library's own, of this thread.
    unsafe { *place = errno };
    -1
}
