//! The claim on a network namespace's guard: an abstract unix socket, which the kernel scopes to the
//! namespace and takes away with the process, however it ends.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, netdevice,
    socket_with, sockopt,
};

use uvs_control::starting::after_what_ends;

use super::GuardError;

const NAME: &[u8] = b"uvs-guard";

/// Held while this value lives.
pub(crate) struct Claim(OwnedFd);

impl Claim {
    /// Takes it; from a process that ends, as soon as that has.
    ///
    /// # Errors
    /// Another process has it.
    pub(crate) fn new() -> Result<Self, GuardError> {
        let holder = |error: &GuardError| match error {
            GuardError::Busy { pid } => *pid,
            _ => None,
        };
        after_what_ends(Self::try_new, holder)
    }

    fn try_new() -> Result<Self, GuardError> {
        let failed = |doing| {
            move |e: Errno| GuardError::Io {
                doing,
                source: e.into(),
            }
        };
        let address = SocketAddrUnix::new_abstract_name(NAME).map_err(failed("name the claim"))?;
        let socket = unix_socket().map_err(failed("open the claim's socket"))?;
        match bind(&socket, &address) {
            Ok(()) => {}
            Err(Errno::ADDRINUSE) => {
                return Err(GuardError::Busy {
                    pid: holder(&address),
                });
            }
            Err(e) => return Err(failed("claim the guard")(e)),
        }
        // Nobody is ever accepted: listening lets another process ask the kernel who we are.
        listen(&socket, 1).map_err(failed("claim the guard"))?;
        Ok(Self(socket))
    }

    /// Takes it from the process that has it and hands down its socket; from now on it is this process that is
    /// named as the one that has it.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn succeed(socket: OwnedFd) -> Result<Self, GuardError> {
        // Whoever listens last is who the kernel tells of.
        listen(&socket, 1).map_err(|e| GuardError::Io {
            doing: "take the claim over",
            source: e.into(),
        })?;
        Ok(Self(socket))
    }

    /// For another process to take it over.
    pub(crate) fn hand_down(&self) -> std::io::Result<OwnedFd> {
        self.0.try_clone()
    }

    /// Whether this network namespace has such an interface now.
    pub(super) fn has_interface(&self, name: &str) -> bool {
        netdevice::name_to_index(&self.0, name).is_ok()
    }
}

/// The process that listens there; `None` where it cannot be determined.
fn holder(address: &SocketAddrUnix) -> Option<i32> {
    let socket = unix_socket().ok()?;
    connect(&socket, address).ok()?;
    Some(
        sockopt::socket_peercred(&socket)
            .ok()?
            .pid
            .as_raw_nonzero()
            .get(),
    )
}

fn unix_socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}
