//! `uvs ipvsadm …`: ipvsadm's grammar, output and exit codes, spoken to the daemon.

use std::ffi::OsString;
use std::process::ExitCode;

/// Everything after the word goes to ipvsadm's own grammar.
#[derive(clap::Args)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub(crate) struct Args {
    /// ipvsadm's arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) argv: Vec<OsString>,
}

/// Runs one ipvsadm command line (without the program's name).
pub(crate) fn main(argv: Vec<OsString>) -> ExitCode {
    let _ = argv;
    ExitCode::from(super::FAILED)
}
