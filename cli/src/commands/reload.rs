//! `uvs reload`: the daemon reads its configuration file again and applies it as one step, or refuses it
//! whole and keeps running as it was.

use std::process::ExitCode;

use super::{daemon, output};
use uvs_control::protocol::{Command, Data};

/// Nothing to choose.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Asks for a reload and waits until it is applied.
pub(crate) fn main(_: &Args) -> ExitCode {
    match daemon::ask(Command::Reload) {
        Ok(Data::Done) => output::print("configuration reloaded\n"),
        Ok(_) => daemon::unexpected(),
        Err(code) => code,
    }
}
