//! `uvs completions SHELL`: what a shell sources to complete `uvs`, made of the command line itself.

use std::process::ExitCode;

use clap::{CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};

use super::{Cli, output};

/// For which shell.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Sourcing,
}

/// The shells that Debian's packages have completions for.
#[derive(Clone, Copy, ValueEnum)]
enum Sourcing {
    Bash,
    Zsh,
    Fish,
}

/// Prints them.
pub(crate) fn main(args: &Args) -> ExitCode {
    let shell = match args.shell {
        Sourcing::Bash => Shell::Bash,
        Sourcing::Zsh => Shell::Zsh,
        Sourcing::Fish => Shell::Fish,
    };
    let mut text = Vec::new();
    generate(shell, &mut Cli::command(), "uvs", &mut text);
    output::print(&String::from_utf8_lossy(&text))
}
