//! `uvs reload`: the daemon reads its configuration file again and applies it as one step, or refuses it
//! whole and keeps running as it was.

use std::process::ExitCode;

use uvs_control::protocol::ask;

use super::{daemon, output};

/// Nothing to choose.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Asks for a reload and waits until it is applied.
pub(crate) fn main(_: &Args) -> ExitCode {
    match daemon::ask(ask::Reload) {
        Ok(()) => output::print("configuration reloaded\n"),
        Err(code) => code,
    }
}
