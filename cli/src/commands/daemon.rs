//! One command to the daemon, for the native commands: what goes wrong is printed here, and becomes the
//! exit code that scripts tell apart.

use std::process::ExitCode;

use uvs_control::client::{CallError, Client, Daemon};
use uvs_control::protocol::{Command, Data};

/// What is said of an answer that does not fit the question.
pub(crate) const ANOTHER_QUESTION: &str =
    "the daemon answered another question; is it of the same release as this command?";

/// Asks the daemon at `$UVS_SOCKET` or at the usual place.
///
/// # Errors
/// The exit code; the reason is printed already.
pub(crate) fn ask(command: Command) -> Result<Data, ExitCode> {
    Client::from_env().call(command).map_err(|e| failed(&e))
}

/// Says what went wrong, and gives the exit code for it.
pub(crate) fn failed(error: &CallError) -> ExitCode {
    eprintln!("{error}");
    match error {
        CallError::Absent(_) => ExitCode::from(super::NO_DAEMON),
        _ => ExitCode::from(super::FAILED),
    }
}

/// Says that the daemon answered something that was not asked for.
pub(crate) fn unexpected() -> ExitCode {
    eprintln!("{ANOTHER_QUESTION}");
    ExitCode::from(super::FAILED)
}
