//! The ways a command ends other than well, with ipvsadm's exit codes.

use std::io;

use super::options::{Kind, Verb};

/// Why a command line ends early.
#[derive(Debug)]
pub(super) struct Stop {
    /// The exit code.
    pub(super) code: u8,
    /// Whether `-R` ends with it too, rather than going on with the next line.
    pub(super) all: bool,
    /// For stderr, without the last newline; none after `-h` and `-v`.
    pub(super) message: Option<String>,
}

/// Wrong usage: exit code 2.
pub(super) fn usage(message: impl Into<String>) -> Stop {
    Stop {
        code: 2,
        all: true,
        message: Some(message.into()),
    }
}

/// A required option is not there.
pub(super) fn missing(kind: Kind, verb: Verb) -> Stop {
    let (option, command) = (kind.name(), verb.name());
    usage(format!(
        "You need to supply the '{option}' option for the '{command}' command"
    ))
}

impl Stop {
    /// Not a command at all.
    pub(super) fn hint() -> Self {
        let message = "Try `ipvsadm -h' or 'ipvsadm --help' for more information.";
        Self {
            code: 255,
            all: true,
            message: Some(message.to_owned()),
        }
    }

    /// The daemon refused it, or an option is unknown.
    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self {
            code: 255,
            all: false,
            message: Some(message.into()),
        }
    }

    /// It cannot be listed.
    pub(super) fn unlisted(message: impl Into<String>) -> Self {
        Self {
            code: 1,
            all: true,
            message: Some(message.into()),
        }
    }

    /// `-h` or `-v` has been answered.
    pub(super) fn done() -> Self {
        Self {
            code: 0,
            all: true,
            message: None,
        }
    }
}

impl From<io::Error> for Stop {
    /// Standard output is gone or standard input unreadable.
    fn from(error: io::Error) -> Self {
        Self {
            code: 1,
            all: true,
            message: Some(error.to_string()),
        }
    }
}
