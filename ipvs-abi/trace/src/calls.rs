//! What becomes of each call that the kernel asks about: as in the preload library, a generic netlink socket is the
//! kernel's until its first message for IPVS, and then a connection to the daemon takes its place.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::fs::{MemfdFlags, OFlags, fcntl_getfl, memfd_create};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, socket_timeout};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use uvs_ipvs_carried::{
    FILES, MAX_DATAGRAM, OPTIONS, PATIENCE, Question, TRIES, is_answered, is_for_ipvs, is_gone,
};

use crate::daemon::{Daemon, Kind, has_ended, port_of};
use crate::target::{MOST, Target};
use uvs_seccomp::{Answer, Call, Listener, wait};

/// How often a call that waits looks whether its caller still does.
const LOOK: Duration = Duration::from_millis(200);
/// How long the next datagram of an answer is waited for before this one is given out. Go's runtime waits by an
/// epoll that has the netlink socket, and would not see one that comes later; the daemon sends them at once.
const NEXT: Duration = Duration::from_millis(50);
/// Where a netlink message has its sender's port (nlmsg_pid).
const PORT: std::ops::Range<usize> = 12..16;
/// Bytes of a path that are looked at: more than the longest of [`FILES`], and its end.
const PATH: usize = 32;
/// Bytes of a getsockopt buffer that are read.
const HEAD: usize = 64;

/// The calls of a program and of all that it starts.
pub(crate) struct Calls {
    listener: Listener,
    daemon: Daemon,
}

impl Calls {
    pub(crate) fn new(listener: Listener, socket: &Path) -> Self {
        let daemon = Daemon::at(socket);
        Self { listener, daemon }
    }

    /// Answers until no process is left, or the kernel does not ask any more.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn serve(self) -> std::io::Result<()> {
        let all = Arc::new(self);
        while let Some(call) = all.listener.next()? {
            let Some(work) = all.ours(&call) else {
                all.listener.answer(&call, Answer::Kernel);
                continue;
            };
            // The daemon is waited for, and others are not to wait with this one.
            let for_thread = Arc::clone(&all);
            let named = std::thread::Builder::new().name("uvs-trace".to_owned());
            let started = named.spawn(move || {
                let answer = for_thread.carry(&call, work);
                let answer = answer.unwrap_or_else(Answer::Errno);
                for_thread.listener.answer(&call, answer);
            });
            if started.is_err() {
                all.listener.answer(&call, Answer::Errno(libc::ENOBUFS));
            }
        }
        Ok(())
    }

    /// What a call asks of the daemon, where it does.
    fn ours(&self, call: &Call) -> Option<Work> {
        let [fd, second, third, ..] = call.arguments;
        let option = i32::try_from(third).ok().filter(|n| OPTIONS.contains(n));
        let about = match call.number {
            #[cfg(target_arch = "x86_64")]
            libc::SYS_open => About::File(fd),
            libc::SYS_openat => About::File(second),
            libc::SYS_setsockopt | libc::SYS_getsockopt if second == 0 => {
                About::Option(option?.cast_unsigned())
            }
            _ => About::Socket,
        };
        let target = Target::open(&self.listener, call).ok()?;
        if !target.is_our_user() {
            return None;
        }
        let what = match about {
            About::File(path) => {
                let path = target.read(path, PATH);
                let path = path.split(|byte| *byte == 0).next()?;
                let place = FILES.iter().position(|file| file.as_bytes() == path)?;
                What::File(u32::try_from(place).ok()?)
            }
            About::Option(name) => What::Option(name),
            About::Socket => {
                let socket = target.descriptor(u32::try_from(fd).ok()?).ok()?;
                match Kind::of(&socket) {
                    Kind::Other => return None,
                    Kind::Daemon(port) => What::Socket(socket, port),
                    Kind::Generic => {
                        if !is_for_ipvs(&sent(call, &target)?.ok()?) {
                            return None;
                        }
                        let port = port_of(&socket, target.process());
                        What::Socket(self.take_over(call, &target, &socket, port).ok()?, port)
                    }
                }
            }
        };
        Some(Work { target, what })
    }

    /// Puts a connection to the daemon in a socket's place.
    fn take_over(
        &self,
        call: &Call,
        target: &Target,
        old: &OwnedFd,
        port: u32,
    ) -> Result<OwnedFd, i32> {
        let new = self.daemon.in_place_of(old, port)?;
        let fd = u32::try_from(call.arguments[0]).map_err(|_| libc::EBADF)?;
        let closes = target.closes_on_exec(fd);
        self.listener.give(call, &new, Some(fd), closes)?;
        Ok(new)
    }

    fn carry(&self, call: &Call, work: Work) -> Result<Answer, i32> {
        let Work { target, what } = work;
        match what {
            What::File(place) => {
                let text = self.daemon.ask(Question::File { place });
                // As in a kernel without IPVS.
                let text = text.map_err(|_| libc::ENOENT)?;
                in_memory(&text).map_err(|e| uvs_seccomp::errno(&e))
            }
            What::Option(name) if call.number == libc::SYS_setsockopt => {
                let length = usize::try_from(call.arguments[4]).unwrap_or(usize::MAX);
                if length > MAX_DATAGRAM {
                    return Err(libc::EINVAL);
                }
                let value = &target.read_all(call.arguments[3], length)?;
                self.daemon.ask(Question::Set { name, value })?;
                Ok(Answer::Value(0))
            }
            What::Option(name) => {
                let [_, _, _, value, length, _] = call.arguments;
                let room = target.word(length)?;
                let head = target.read(value, HEAD.min(room as usize));
                let question = Question::Get {
                    name,
                    room,
                    head: &head,
                };
                let answer = self.daemon.ask(question)?;
                let got = u32::try_from(answer.len()).unwrap_or(u32::MAX);
                if got > room {
                    return Err(libc::EINVAL);
                }
                target.write(value, &answer)?;
                target.write(length, &got.to_ne_bytes())?;
                Ok(Answer::Value(0))
            }
            What::Socket(socket, port) => self.on_socket(call, &target, socket, port),
        }
    }

    /// A call on a connection that has a netlink socket's place.
    fn on_socket(
        &self,
        call: &Call,
        target: &Target,
        socket: OwnedFd,
        port: u32,
    ) -> Result<Answer, i32> {
        let [_, second, third, ..] = call.arguments;
        if let Some(bytes) = sent(call, target) {
            let mut bytes = bytes?;
            // The kernel answers to the socket's port, whatever the message says; Go's libraries say 0.
            if let Some(said) = bytes.get_mut(PORT) {
                said.copy_from_slice(&port.to_ne_bytes());
            }
            return self.send(call, target, socket, port, &bytes);
        }
        match call.number {
            libc::SYS_getsockname => {
                target.write_address(port, second, third)?;
                Ok(Answer::Value(0))
            }
            libc::SYS_recvfrom | libc::SYS_recvmsg => self.receive(call, target, &socket),
            libc::SYS_bind | libc::SYS_connect | libc::SYS_setsockopt => Ok(Answer::Value(0)),
            _ => Ok(Answer::Kernel),
        }
    }

    /// Sends, and waits for the answer to what has one: the kernel's is there when sending returns. Over a new connection
    /// where the daemon was started anew meanwhile, or where it ends before it answers as another has taken over.
    fn send(
        &self,
        call: &Call,
        target: &Target,
        mut socket: OwnedFd,
        port: u32,
        bytes: &[u8],
    ) -> Result<Answer, i32> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let sent = send(&socket, bytes, SendFlags::NOSIGNAL);
            let again = match sent {
                Err(error) => is_gone(error.raw_os_error()),
                Ok(_) if is_answered(bytes) => {
                    let _ = wait(&socket, Some(PATIENCE));
                    has_ended(&socket)
                }
                Ok(_) => false,
            };
            if !again || tries == 0 {
                let sent = sent.map_err(Errno::raw_os_error)?;
                return Ok(Answer::Value(i64::try_from(sent).unwrap_or(i64::MAX)));
            }
            socket = self.take_over(call, target, &socket, port)?;
        }
    }

    /// Receives a datagram into the program's buffers.
    fn receive(&self, call: &Call, target: &Target, socket: &OwnedFd) -> Result<Answer, i32> {
        let [_, second, third, fourth, address, address_length] = call.arguments;
        let (message, parts, flags) = if call.number == libc::SYS_recvmsg {
            let message = target.message(second)?;
            let parts = message.parts.clone();
            (Some(message), parts, third)
        } else {
            let length = usize::try_from(third).unwrap_or(usize::MAX);
            (None, vec![(second, length)], fourth)
        };
        // The low half is the argument.
        let flags = u32::try_from(flags & u64::from(u32::MAX)).unwrap_or(0);
        let flags = RecvFlags::from_bits_truncate(flags);
        self.wait_to_receive(call, socket, flags)?;
        let room = parts
            .iter()
            .fold(0, |sum: usize, (_, n)| sum.saturating_add(*n));
        let mut buffer = vec![0; room.min(MOST)];
        let asked = flags & RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT;
        let (got, whole) = recv(socket, &mut buffer[..], asked).map_err(Errno::raw_os_error)?;
        if whole == 0 {
            // A netlink socket has no end: a daemon that has gone is an error.
            return Err(libc::ECONNRESET);
        }
        let mut rest = &buffer[..got];
        for (start, length) in parts {
            let (now, later) = rest.split_at(length.min(rest.len()));
            target.write(start, now)?;
            rest = later;
        }
        match message {
            Some(message) => {
                let cut = if whole > got { libc::MSG_TRUNC } else { 0 };
                message.write_result(target, cut)?;
            }
            None if address_length != 0 => target.write_address(0, address, address_length)?,
            None => {}
        }
        if !flags.contains(RecvFlags::PEEK) && !is_last(&buffer[..got]) {
            let _ = wait(socket, Some(NEXT));
        }
        let told = if flags.contains(RecvFlags::TRUNC) {
            whole
        } else {
            got
        };
        Ok(Answer::Value(i64::try_from(told).unwrap_or(i64::MAX)))
    }

    /// Waits as long as the socket would. The caller's end ends it; a signal does not.
    fn wait_to_receive(&self, call: &Call, socket: &OwnedFd, flags: RecvFlags) -> Result<(), i32> {
        let mode = fcntl_getfl(socket).map_err(Errno::raw_os_error)?;
        if flags.contains(RecvFlags::DONTWAIT) || mode.contains(OFlags::NONBLOCK) {
            return Ok(());
        }
        let limit = socket_timeout(socket, Timeout::Recv).map_err(Errno::raw_os_error)?;
        let begun = Instant::now();
        while limit.is_none_or(|limit| begun.elapsed() < limit) {
            let events = wait(socket, Some(LOOK)).map_err(|e| uvs_seccomp::errno(&e))?;
            if events != PollFlags::empty() || !self.listener.waits(call) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// What a call may be about, by its number.
enum About {
    /// The file whose path is at this address.
    File(u64),
    /// A socket option of IPVS's.
    Option(u32),
    /// The socket that is its first argument.
    Socket,
}

/// A call for the daemon.
struct Work {
    target: Target,
    what: What,
}

enum What {
    /// A file by its place in [`FILES`].
    File(u32),
    /// A socket option of IPVS's.
    Option(u32),
    /// A connection in the place of a netlink socket with this port.
    Socket(OwnedFd, u32),
}

/// The bytes of a call that sends.
fn sent(call: &Call, target: &Target) -> Option<Result<Vec<u8>, i32>> {
    let [_, second, third, ..] = call.arguments;
    let parts = match call.number {
        libc::SYS_sendto => vec![(second, usize::try_from(third).unwrap_or(usize::MAX))],
        libc::SYS_sendmsg => match target.message(second) {
            Ok(message) => message.parts,
            Err(errno) => return Some(Err(errno)),
        },
        _ => return None,
    };
    let mut bytes = Vec::new();
    for (start, length) in parts {
        if length > MAX_DATAGRAM - bytes.len() {
            return Some(Err(libc::EMSGSIZE));
        }
        match target.read_all(start, length) {
            Ok(part) => bytes.extend(part),
            Err(errno) => return Some(Err(errno)),
        }
    }
    Some(Ok(bytes))
}

/// Whether an answer ends with this datagram: its last message is NLMSG_ERROR or NLMSG_DONE.
fn is_last(datagram: &[u8]) -> bool {
    const ERROR: u16 = 2;
    const DONE: u16 = 3;
    let mut rest = datagram;
    let mut last = None;
    while let Some((length, kind)) = rest.first_chunk::<6>().map(|head| {
        let [a, b, c, d, kind @ ..] = *head;
        (
            u32::from_ne_bytes([a, b, c, d]) as usize,
            u16::from_ne_bytes(kind),
        )
    }) {
        last = Some(kind);
        rest = rest
            .get(length.max(16).next_multiple_of(4)..)
            .unwrap_or(&[]);
    }
    matches!(last, Some(ERROR | DONE))
}

fn in_memory(text: &[u8]) -> std::io::Result<Answer> {
    let mut file = File::from(memfd_create("uvs", MemfdFlags::CLOEXEC)?);
    file.write_all(text)?;
    file.rewind()?;
    Ok(Answer::Descriptor(file.into()))
}
