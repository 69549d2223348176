//! One command to the daemon, for the native commands: what goes wrong is printed here, and becomes the
//! exit code that scripts tell apart.

use std::process::ExitCode;

use uvs_control::client::{Asking, CallError, Client};
use uvs_control::protocol::{Change, MAX_BATCH, Question, ask};

/// Asks the daemon at `$UVS_SOCKET` or at the usual place.
///
/// # Errors
/// The exit code; the reason is printed already.
pub(crate) fn ask<Q: Question>(question: Q) -> Result<Q::Answer, ExitCode> {
    Client::from_env().ask(question).map_err(|e| failed(&e))
}

/// Has the daemon at `$UVS_SOCKET` or at the usual place make a change.
///
/// # Errors
/// The exit code; the reason is printed already.
pub(crate) fn change(change: Change) -> Result<(), ExitCode> {
    ask(change)
}

/// Has the daemon make changes as one step, or where there are more than one step holds, as few steps as can be.
///
/// # Errors
/// The exit code; the reason is printed already.
pub(crate) fn together(changes: Vec<Change>) -> Result<(), ExitCode> {
    let mut client = Client::from_env();
    let mut steps = changes.chunks(MAX_BATCH);
    steps.try_for_each(|step| {
        let made = client.ask(ask::Transaction(step.to_vec()));
        made.map_err(|e| failed(&e))
    })
}

/// Says what went wrong, and gives the exit code for it.
pub(crate) fn failed(error: &CallError) -> ExitCode {
    eprintln!("{error}");
    match error {
        CallError::Absent(_) => ExitCode::from(super::NO_DAEMON),
        _ => ExitCode::from(super::FAILED),
    }
}
