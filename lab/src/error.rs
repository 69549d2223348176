//! What can go wrong in the lab, each with what to do about it where there is something to do.

use std::io;

/// The lab's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the lab could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Programs the lab runs are not installed.
    #[error("not installed: {tools}; install with: apt-get install {packages}")]
    MissingTools {
        /// The programs, comma separated.
        tools: String,
        /// Debian's packages that have them, space separated.
        packages: String,
    },
    /// A program ended with something other than success.
    #[error("`{command}` failed ({status}){}", indented(.output))]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// What it said, standard error first.
        output: String,
    },
    /// A program took longer than it may.
    #[error("`{command}` was not done after {seconds} s{}", indented(.output))]
    Deadline {
        /// The command line.
        command: String,
        /// The limit.
        seconds: u64,
        /// What it said until then.
        output: String,
    },
    /// A file, directory or system call.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried: "open /dev/net/tun".
        doing: String,
        /// The cause.
        source: io::Error,
    },
    /// Neither root nor a user namespace can be had.
    #[error("{0}")]
    Privileges(String),
    /// What passed, or what a program printed, is not what it must be.
    #[error("{0}")]
    Wrong(String),
    /// Ctrl-C or SIGTERM.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// For `map_err`: an I/O error with what was tried.
    pub(crate) fn io<E: Into<io::Error>>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |source| Self::Io {
            doing,
            source: source.into(),
        }
    }
}

fn indented(output: &str) -> String {
    let lines: Vec<_> = output.lines().map(|l| format!("\n    {l}")).collect();
    if lines.is_empty() {
        String::new()
    } else {
        format!(":{}", lines.concat())
    }
}
