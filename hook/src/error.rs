//! What goes wrong, with the thing and the remedy.

use std::io;
use std::path::PathBuf;

/// Why the hook does not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The kernel does not allow it.
    #[error("the kernel refuses to {what}: {error}; {remedy}")]
    Refused {
        /// What was to be done.
        what: String,
        /// The kernel's answer.
        error: io::Error,
        /// What helps.
        remedy: &'static str,
    },
    /// The verifier did not accept a program.
    #[error("the kernel's verifier refuses the program `{program}`: {error}; it says: {log}")]
    Verifier {
        /// The program.
        program: &'static str,
        /// The kernel's answer.
        error: io::Error,
        /// The verifier's last words.
        log: String,
    },
    /// There is no BPF file system to pin in.
    #[error("{path} cannot be made: {error}; {remedy}")]
    Pins {
        /// Where maps were to be pinned.
        path: PathBuf,
        /// What the file system says.
        error: io::Error,
        /// What helps.
        remedy: &'static str,
    },
    /// What is pinned is not what this version makes.
    #[error("{path} is not as this version of uvs makes it ({what}); it is made anew")]
    Layout {
        /// What is pinned.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// What a running daemon hands over is not what this version makes.
    #[error("the running daemon's maps do not fit: {0}")]
    Handed(String),
    /// More rules than there is room for.
    #[error(
        "the hook has room for {room} {what}, and {wanted} are needed; allow it more, or use fewer services"
    )]
    Full {
        /// Of what.
        what: &'static str,
        /// How many there is room for.
        room: u32,
        /// How many are needed.
        wanted: usize,
    },
    /// An interface does not take the program.
    #[error("the program cannot be attached to interface {ifindex}: {error}; {remedy}")]
    Attach {
        /// The interface.
        ifindex: u32,
        /// The kernel's answer.
        error: io::Error,
        /// What helps.
        remedy: &'static str,
    },
    /// The hook already has its worker.
    #[error("the hook has a worker already")]
    Busy,
    /// The system does not answer.
    #[error("{what}: {error}")]
    Io {
        /// What was asked.
        what: String,
        /// Its answer.
        error: io::Error,
    },
}

impl HookError {
    /// The kernel did not do something of bpf(2)'s.
    pub(crate) fn refused(what: impl Into<String>, error: io::Error) -> Self {
        let remedy = remedy(&error);
        Self::Refused {
            what: what.into(),
            error,
            remedy,
        }
    }

    /// An `io::Result`'s error, with what was done.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io {
            what: what.into(),
            error,
        }
    }
}

/// What helps against an answer of bpf(2)'s.
pub(crate) fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "give uvs the capabilities CAP_BPF and CAP_NET_ADMIN, and see that neither seccomp nor lockdown forbids bpf(2)"
        }
        Some(libc::ENOMEM) => {
            "free memory, raise the cgroup's limit, or let the hook have fewer connections"
        }
        Some(libc::ENOSYS) => "the kernel was built without CONFIG_BPF_SYSCALL",
        Some(libc::EINVAL | libc::E2BIG | libc::ENOTSUP) => "the kernel is too old for this",
        _ => "see `uvs doctor`",
    }
}
