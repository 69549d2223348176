//! The claim on a network namespace's guard: an abstract unix socket, which the kernel scopes to the
//! namespace and takes away with the process, however it ends.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, netdevice,
    socket_with, sockopt,
};

use super::GuardError;

const NAME: &[u8] = b"uvs-guard";

/// Held while this value lives.
pub(crate) struct Claim(OwnedFd);

impl Claim {
    /// Takes it.
    ///
    /// # Errors
    /// Another process has it.
    pub(crate) fn new() -> Result<Self, GuardError> {
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
