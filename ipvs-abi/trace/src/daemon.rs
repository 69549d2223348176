//! Connections to the daemon: in the place of a netlink socket, or for one question.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{
    Timeout, set_socket_timeout, socket_domain, socket_protocol, socket_timeout,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
    getsockname, netlink, recv, send, socket_with,
};
use uvs_ipvs_carried::{MAX_DATAGRAM, PATIENCE, Question, answer, ask_again, unreachable};

use uvs_seccomp::wait;

/// Whether a connection has ended with no answer left in it.
pub(crate) fn has_ended(socket: &OwnedFd) -> bool {
    let look = || {
        let mut byte = [0_u8];
        recv(socket, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT)
    };
    match look() {
        Ok((got, _)) => got == 0,
        // It is told once, and before an answer that is there.
        Err(Errno::CONNRESET) => !look().is_ok_and(|(got, _)| got > 0),
        Err(_) => false,
    }
}

/// The beginning of the abstract name that a connection in a netlink socket's place is bound to; its port ends it.
const NAME: &str = "uvs-ipvs-trace";

/// What a descriptor is.
pub(crate) enum Kind {
    /// Nothing of ours.
    Other,
    /// A generic netlink socket of the kernel's.
    Generic,
    /// A connection to the daemon in the place of one with this port.
    Daemon(u32),
}

impl Kind {
    /// Looks at a descriptor.
    pub(crate) fn of(file: impl AsFd) -> Self {
        match socket_domain(&file) {
            Ok(AddressFamily::NETLINK) => match socket_protocol(&file) {
                Ok(Some(netlink::GENERIC)) => Self::Generic,
                _ => Self::Other,
            },
            Ok(AddressFamily::UNIX) => port_in_name(&file).map_or(Self::Other, Self::Daemon),
            _ => Self::Other,
        }
    }
}

/// Where the daemon listens.
pub(crate) struct Daemon {
    path: PathBuf,
    said: Once,
}

impl Daemon {
    pub(crate) fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            said: Once::new(),
        }
    }

    /// A connection for the place of a socket, whose mode and time limits it has.
    ///
    /// # Errors
    /// The errno.
    pub(crate) fn in_place_of(&self, old: &OwnedFd, port: u32) -> Result<OwnedFd, i32> {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
        let made = || {
            let socket = socket()?;
            let own = rustix::process::getpid().as_raw_pid();
            let count = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
            let name = format!("{NAME}/{own}/{count}/{port}");
            bind(
                &socket,
                &SocketAddrUnix::new_abstract_name(name.as_bytes())?,
            )?;
            for limit in [Timeout::Recv, Timeout::Send] {
                set_socket_timeout(&socket, limit, socket_timeout(old, limit)?)?;
            }
            Ok(socket)
        };
        let socket = made().map_err(Errno::raw_os_error)?;
        self.connect(&socket)?;
        let mode = fcntl_getfl(old).map_err(Errno::raw_os_error)? & OFlags::NONBLOCK;
        fcntl_setfl(&socket, mode).map_err(Errno::raw_os_error)?;
        Ok(socket)
    }

    /// Asks a question over a connection of its own, and again where that ends without an answer.
    ///
    /// # Errors
    /// The errno that the daemon answers; ENOPROTOOPT where there is none, as in a kernel without IPVS.
    pub(crate) fn ask(&self, question: Question<'_>) -> Result<Vec<u8>, i32> {
        let bytes = question.to_bytes();
        ask_again(|| self.ask_once(&bytes))
    }

    fn ask_once(&self, bytes: &[u8]) -> Result<Vec<u8>, i32> {
        let socket = socket().map_err(Errno::raw_os_error)?;
        self.connect(&socket).map_err(|_| libc::ENOPROTOOPT)?;
        let sent = send(&socket, bytes, SendFlags::NOSIGNAL);
        sent.map_err(Errno::raw_os_error)?;
        answer(|| {
            // What is not there after that is EAGAIN.
            let _ = wait(&socket, Some(PATIENCE));
            let mut buffer = vec![0; MAX_DATAGRAM];
            let got = recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT);
            buffer.truncate(got.map_err(Errno::raw_os_error)?.0);
            match buffer.len() {
                0 => Err(libc::ECONNRESET),
                _ => Ok(buffer),
            }
        })
    }

    fn connect(&self, socket: &OwnedFd) -> Result<(), i32> {
        let address = SocketAddrUnix::new(self.path.as_path());
        let connected = address.and_then(|address| connect(socket, &address));
        connected.map_err(|error| {
            let said = || eprintln!("{}", unreachable(&self.path, &io::Error::from(error)));
            self.said.call_once(said);
            error.raw_os_error()
        })
    }
}

/// The netlink port that a socket is bound to; before that, the one it would get first.
pub(crate) fn port_of(socket: &OwnedFd, process: u32) -> u32 {
    let address = getsockname(socket).ok();
    let address = address.and_then(|address| SocketAddrNetlink::try_from(address).ok());
    let port = address.map_or(0, |address| address.pid());
    if port == 0 { process } else { port }
}

fn port_in_name(socket: impl AsFd) -> Option<u32> {
    let address = SocketAddrUnix::try_from(getsockname(socket).ok()?).ok()?;
    let name = std::str::from_utf8(address.abstract_name()?).ok()?;
    let rest = name.strip_prefix(NAME)?.strip_prefix('/')?;
    rest.rsplit('/').next()?.parse().ok()
}

fn socket() -> Result<OwnedFd, Errno> {
    let kind = SocketType::SEQPACKET;
    socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
}
