//! `uvs ipvsadm …`: ipvsadm's grammar, output and exit codes, spoken to the daemon.

use std::ffi::OsString;
use std::io::{BufWriter, IsTerminal, stderr, stdin, stdout};
use std::process::ExitCode;

use uvs_control::client::Client;
use uvs_ipvsadm::names::{self, SystemNames};
use uvs_ipvsadm::{Io, run};

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
    let words: Vec<String> = argv
        .iter()
        .map(|w| w.to_string_lossy().into_owned())
        .collect();
    let mut io = Io {
        stdin: &mut stdin().lock(),
        stdout: &mut BufWriter::new(stdout().lock()),
        stderr: &mut stderr().lock(),
        interactive: stderr().is_terminal(),
        names: &SystemNames::default(),
        has_interface: &names::has_interface,
    };
    ExitCode::from(run(&words, &mut Client::from_env(), &mut io))
}
