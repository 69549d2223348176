//! One command to the daemon, for the native commands: what goes wrong is printed here, and becomes the
//! exit code that scripts tell apart.

use std::process::ExitCode;

use crate::control::client::{CallError, Client, Daemon};
use crate::control::protocol::{Command, Data};

/// Asks the daemon at `$UVS_SOCKET` or at the usual place.
///
/// # Errors
/// The exit code; the reason is printed already.
pub(crate) fn ask(command: Command) -> Result<Data, ExitCode> {
    Client::from_env().call(command).map_err(|error| {
        eprintln!("{error}");
        match error {
            CallError::Absent(_) => ExitCode::from(super::NO_DAEMON),
            _ => ExitCode::from(super::FAILED),
        }
    })
}

/// Says that the daemon answered something that was not asked for.
pub(crate) fn unexpected() -> ExitCode {
    eprintln!("the daemon answered another question; is it of the same release as this command?");
    ExitCode::from(super::FAILED)
}
