//! The listening socket: made where nobody listens yet, taken away when the daemon ends.
//!
//! A lock file beside the socket decides who owns it. The kernel drops the lock with the process, so
//! that a daemon that was killed leaves nothing that its successor could not take over. The socket gets its
//! name when somebody answers behind it: whoever waits for the name has no use for one that refuses.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mio::net::UnixListener;
use rustix::fs::{FlockOperation, flock};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::peer::Peer;
use crate::starting::{after_what_ends, beside, lock_path, locker};

/// The socket's directory, where it has to be made: anyone may look, the socket's own mode decides.
const DIRECTORY_MODE: u32 = 0o755;
/// The daemon's user and group may connect.
const SOCKET_MODE: u32 = 0o660;

/// Connections that wait to be taken.
const BACKLOG: i32 = 128;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there.
    #[error(
        "{}: {} serves this socket already; stop it, or choose another path by {choice}",
        .path.display(),
        .pid.map_or("another daemon".to_owned(), |pid| format!("the daemon with pid {pid}"))
    )]
    InUse {
        /// The socket.
        path: PathBuf,
        /// The daemon, where it can be asked.
        pid: Option<i32>,
        /// How its path is chosen.
        choice: &'static str,
    },
    /// The path is taken by something else.
    #[error("{}: is there and is not a socket; remove it, or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// The host refused.
    #[error("{}: {action}: {source}", .path.display())]
    Host {
        /// The path it is about.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The host's reason.
        source: io::Error,
    },
}

/// What is the same of all sockets of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// What is sent over it: a stream, or packets.
    pub kind: Type,
    /// How its path is chosen, for who has to choose another.
    pub choice: &'static str,
}

/// A bound socket with its lock; both files go when it is dropped.
#[derive(Debug)]
pub struct Listener {
    /// Takes in clients, once this listens; it does not block.
    pub socket: UnixListener,
    path: PathBuf,
    /// The name it has, until [`Listener::listen`] gives it its own.
    working: PathBuf,
    identity: (u64, u64),
    style: Style,
    lock: Lock,
    /// Whether another process has taken it over, and with it the files.
    is_left: bool,
}

/// A listener as another process takes it over.
#[derive(Debug)]
pub struct HandedDown {
    /// The socket, which listens.
    pub socket: OwnedFd,
    /// The locked file.
    pub lock: OwnedFd,
}

impl Listener {
    /// Makes the socket for `path`, removing one there that nobody serves any more. A daemon that ends is waited for.
    ///
    /// # Errors
    /// Somebody serves it, the path is taken, or the host refuses.
    pub fn bind(path: &Path, style: Style) -> Result<Self, BindError> {
        let holder = |error: &BindError| match error {
            BindError::InUse { pid, .. } => pid.or_else(|| locker(path)),
            _ => None,
        };
        after_what_ends(|| Self::try_bind(path, style), holder)
    }

    fn try_bind(path: &Path, style: Style) -> Result<Self, BindError> {
        let host = |action| {
            move |source| BindError::Host {
                path: path.into(),
                action,
                source,
            }
        };
        if let Some(directory) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            let mut builder = DirBuilder::new();
            let made = builder
                .recursive(true)
                .mode(DIRECTORY_MODE)
                .create(directory);
            made.map_err(host("make its directory"))?;
        }
        let Some(lock) = Lock::acquire(&lock_path(path)).map_err(host("lock"))? else {
            return Err(BindError::InUse {
                path: path.into(),
                pid: pid_at(path, style),
                choice: style.choice,
            });
        };
        clear(path, style)?;
        let working = beside(path, ".new");
        clear(&working, style)?;
        let socket = bound(&working, style).map_err(host("bind"))?;
        let set = std::fs::set_permissions(&working, Permissions::from_mode(SOCKET_MODE));
        set.map_err(host("set its mode"))?;
        let identity = identity(&working).map_err(host("look at it"))?;
        Ok(Self {
            socket,
            path: path.into(),
            working,
            identity,
            style,
            lock,
            is_left: false,
        })
    }

    /// Takes the socket at `path` over from another process that serves it; its files are that one's until this
    /// [listens](Self::listen).
    ///
    /// # Errors
    /// It is not there any more.
    pub fn succeed(path: &Path, style: Style, from: HandedDown) -> Result<Self, BindError> {
        let identity = identity(path).map_err(|source| BindError::Host {
            path: path.into(),
            action: "look at it",
            source,
        })?;
        let socket = UnixListener::from_std(from.socket.into());
        let lock = Lock {
            path: lock_path(path),
            file: from.lock.into(),
        };
        Ok(Self {
            socket,
            path: path.into(),
            working: path.into(),
            identity,
            style,
            lock,
            is_left: true,
        })
    }

    /// For another process to take it over; clients wait in it meanwhile.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub fn hand_down(&self) -> io::Result<HandedDown> {
        Ok(HandedDown {
            socket: self.socket.as_fd().try_clone_to_owned()?,
            lock: self.lock.file.as_fd().try_clone_to_owned()?,
        })
    }

    /// Another process has taken it over: its files are not this one's any more.
    pub fn leave(&mut self) {
        self.is_left = true;
    }

    /// Lets clients in, under the socket's own name.
    ///
    /// # Errors
    /// The host's, or somebody has taken the path meanwhile.
    pub fn listen(&mut self) -> Result<(), BindError> {
        let taken_over = std::mem::take(&mut self.is_left);
        let path = &self.path;
        let host = |action| {
            move |source| BindError::Host {
                path: path.clone(),
                action,
                source,
            }
        };
        if !taken_over {
            clear(&self.path, self.style)?;
        }
        // One that listens already tells from now on that it is this process which serves it.
        let listening = rustix::net::listen(&self.socket, BACKLOG);
        listening.map_err(|e| host("listen")(e.into()))?;
        std::fs::rename(&self.working, &self.path).map_err(host("give it its name"))
    }
}

/// A socket that nobody can connect to yet.
fn bound(path: &Path, style: Style) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, style.kind, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    Ok(UnixListener::from_std(OwnedFd::from(socket).into()))
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        for name in [&self.path, &self.working] {
            if identity(name).is_ok_and(|there| there == self.identity) {
                let _ = std::fs::remove_file(name);
            }
        }
        // While the lock is still held: see `Lock::acquire`.
        let _ = std::fs::remove_file(&self.lock.path);
    }
}

/// Removes a socket that was left behind; what is served, or is no socket, stays.
fn clear(path: &Path, style: Style) -> Result<(), BindError> {
    let host = |action, source| BindError::Host {
        path: path.into(),
        action,
        source,
    };
    let there = match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(host("look at it", error)),
        Ok(there) => there,
    };
    if !there.file_type().is_socket() {
        return Err(BindError::NotASocket(path.into()));
    }
    match connected(path, style) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| host("remove what was left", error))
        }
        // A full backlog shows that somebody listens, too.
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(host("connect", error)),
        _ => Err(BindError::InUse {
            path: path.into(),
            pid: pid_at(path, style),
            choice: style.choice,
        }),
    }
}

fn pid_at(path: &Path, style: Style) -> Option<i32> {
    let stream = connected(path, style).ok()?;
    Peer::of(&stream).ok().map(|peer| peer.pid)
}

/// A client's connection, which waits for nobody.
fn connected(path: &Path, style: Style) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, style.kind, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    path.symlink_metadata()
        .map(|there| (there.dev(), there.ino()))
}

/// A file that one process at a time has locked.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// `None` where another process has it.
    fn acquire(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let mut options = OpenOptions::new();
            let file = options
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
                Ok(()) => {}
            }
            // The last owner may have removed the file between our open and our lock.
            let locked = file.metadata()?;
            if identity(path).is_ok_and(|there| there == (locked.dev(), locked.ino())) {
                return Ok(Some(Self {
                    path: path.into(),
                    file,
                }));
            }
        }
    }
}
