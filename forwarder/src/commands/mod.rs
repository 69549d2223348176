//! The command line: one file a command, each with its `Args` and its `main`.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 wrong usage or invalid configuration, 3 no daemon answers.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub(crate) mod ipvsadm;
pub(crate) mod lab;

/// Refused, or failed.
pub(crate) const FAILED: u8 = 1;
/// Wrong usage, or an invalid configuration.
pub(crate) const USAGE: u8 = 2;
/// No daemon answers on the control socket.
pub(crate) const NO_DAEMON: u8 = 3;

/// Userspace Virtual Server: an L4 load balancer on AF_PACKET, with ipvsadm's commands.
#[derive(Parser)]
#[command(name = "uvs", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Speak ipvsadm's grammar (also when the program is called `ipvsadm`)
    Ipvsadm(ipvsadm::Args),
    /// Try it: a lab of network namespaces with a client, a director and three real servers
    Lab(lab::Args),
}

/// Parses the command line and runs the command.
pub(crate) fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Ipvsadm(args) => ipvsadm::main(args.argv),
        Command::Lab(args) => lab::main(args),
    }
}
