//! The claim on a network namespace's guard: an abstract unix socket, which the kernel scopes to the
//! namespace and takes away with the process, however it ends.

use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, UCred, bind, connect, listen,
    netdevice, socket_with, sockopt,
};
use rustix::process::geteuid;

use uvs_control::starting::after_what_ends;

use super::GuardError;

/// Its name. Anybody may take a name of that kind, and the kernel lets nobody have it back; who is neither root nor of
/// this daemon's user is no daemon beside this one, so that the next of its names is taken then.
const NAME: &str = "uvs-guard";
/// Names there are: `uvs-guard`, `uvs-guard-2` and so on.
const NAMES: usize = 16;
/// Between binding and listening.
const LISTENS_WITHIN: Duration = Duration::from_millis(50);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(1);

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
        let addresses = (1..=NAMES).map(address).collect::<Result<Vec<_>, _>>();
        let addresses = addresses.map_err(failed("name the claim"))?;
        // Under any name, since who kept this daemon's predecessor from the first may be gone by now.
        if let Some(busy) = addresses.iter().find_map(rival) {
            return Err(busy);
        }
        let socket = unix_socket().map_err(failed("open the claim's socket"))?;
        for address in &addresses {
            match bind(&socket, address) {
                Ok(()) => {
                    // Nobody is ever accepted: listening lets another process ask the kernel who we are.
                    listen(&socket, 1).map_err(failed("claim the guard"))?;
                    return Ok(Self(socket));
                }
                Err(Errno::ADDRINUSE) => {}
                Err(e) => return Err(failed("claim the guard")(e)),
            }
            // A daemon that starts together with this one listens at once.
            let end = Instant::now() + LISTENS_WITHIN;
            while holder(address).is_none() && Instant::now() < end {
                sleep(LOOK);
            }
            if let Some(busy) = rival(address) {
                return Err(busy);
            }
            let uid = holder(address).map(|holder| holder.uid.as_raw());
            tracing::warn!(
                uid,
                "a process of another user's has the name of the guard's claim; the next one is taken"
            );
        }
        Err(failed("claim the guard")(Errno::ADDRINUSE))
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

/// The claim's address under its `n`th name, counted from 1.
fn address(n: usize) -> rustix::io::Result<SocketAddrUnix> {
    let name = match n {
        1 => NAME.to_owned(),
        _ => format!("{NAME}-{n}"),
    };
    SocketAddrUnix::new_abstract_name(name.as_bytes())
}

/// The daemon that has a name.
fn rival(address: &SocketAddrUnix) -> Option<GuardError> {
    let holder = holder(address)?;
    let ours = holder.uid.is_root() || holder.uid == geteuid();
    let pid = Some(holder.pid.as_raw_nonzero().get());
    ours.then_some(GuardError::Busy { pid })
}

/// Who listens there; `None` where nobody does.
fn holder(address: &SocketAddrUnix) -> Option<UCred> {
    let socket = unix_socket().ok()?;
    connect(&socket, address).ok()?;
    sockopt::socket_peercred(&socket).ok()
}

fn unix_socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}
