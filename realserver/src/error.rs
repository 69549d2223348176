//! What can go wrong on a real server, each with what to do about it.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Why `uvs rs` could not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum RsError {
    /// No CAP_NET_ADMIN.
    #[error("not permitted: it needs CAP_NET_ADMIN; run it as root")]
    Privilege,
    /// iproute2 is missing.
    #[error("no `ip` command found; install iproute2 (apt install iproute2)")]
    NoIp,
    /// An `ip` command that failed.
    #[error("`ip {command}` failed: {message}")]
    Ip {
        /// Its arguments.
        command: String,
        /// What it said.
        message: String,
    },
    /// An `ip` command whose answer is not understood.
    #[error(
        "`ip {command}` answered something unexpected ({source}); is iproute2 older than 4.14?"
    )]
    IpAnswer {
        /// Its arguments.
        command: String,
        /// What is wrong with the answer.
        source: serde_json::Error,
    },
    /// `--interface` names none.
    #[error("no interface {name}; this host has {known}")]
    NoInterface {
        /// As given.
        name: String,
        /// Those there are.
        known: String,
    },
    /// A file or sysctl that cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// "read", "write", …
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A state file that is not ours or damaged.
    #[error(
        "the saved state {} cannot be understood ({source}); remove it, and restore by hand what it names",
        path.display()
    )]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Two VIPs want different default routes.
    #[error(
        "the default route via {held} is in use by {holders}; take that down first: uvs rs down --mode nat"
    )]
    RouteHeld {
        /// The gateway now.
        held: IpAddr,
        /// Who asked for it.
        holders: String,
    },
    /// The decapsulator did not start.
    #[error("the decapsulator did not start: {0}")]
    Decapsulator(String),
    /// The decapsulator did not end.
    #[error("the decapsulator (process {0}) does not end")]
    DecapsulatorStays(i32),
}

impl RsError {
    /// For `map_err` on file operations.
    pub(super) fn file(
        doing: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }
}
