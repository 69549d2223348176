//! `uvs lab`: topologies of network namespaces to look at, to play in, and to be convinced by.
//!
//! All of it is in the crate `uvs-lab`; here are its arguments, its signals and its exit codes.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use clap::Subcommand;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use uvs_lab::screen::Screen;
use uvs_lab::{Families, Mode, demo, rootless, session};

use super::FAILED;

/// The lab's commands.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show each mode on real traffic, check every answer, and remove everything again
    Demo {
        /// dr, nat, fullnat or ipip; all four if not given, and one of them in IPv6
        #[arg(long)]
        mode: Option<Mode>,
        /// Of clients and servers: ipv4, ipv6, ipv6-to-ipv4 or ipv4-to-ipv6 (these two with ipip and fullnat)
        #[arg(long, default_value = "ipv4", requires = "mode")]
        families: Families,
    },
    /// Build a lab with a running director and leave it to play in
    Up {
        /// dr, nat, fullnat or ipip
        #[arg(long, default_value = "dr")]
        mode: Mode,
    },
    /// Open a shell on a host of the lab, or run a command there
    Shell {
        /// client, director, rs1, rs2 or rs3
        #[arg(default_value = "director")]
        host: String,
        /// A command with its arguments, after `--`
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// Remove the lab
    Down,
    /// Run a command with the lab's privileges: as root, or as root of a user namespace
    Exec {
        /// The command with its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

/// Runs a lab command.
pub(crate) fn main(args: Args) -> ExitCode {
    let done = match args.command {
        Command::Demo { mode, families } => demo(mode, families),
        Command::Up { mode } => up(mode),
        Command::Shell { host, command } => Err(session::shell(&host, &command).into()),
        Command::Down => down(),
        Command::Exec { command } => exec(&command),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            eprintln!("uvs lab: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn demo(mode: Option<Mode>, families: Families) -> anyhow::Result<bool> {
    rootless::enter()?;
    let interrupted = watch_signals()?;
    let shows = mode.map_or_else(demo::all, |mode| vec![(mode, families)]);
    let uvs = env::current_exe().context("cannot find this program's path")?;
    Ok(demo::run(
        &mut Screen::stdout(),
        &uvs,
        &shows,
        &interrupted,
    )?)
}

fn up(mode: Mode) -> anyhow::Result<bool> {
    let interrupted = watch_signals()?;
    let uvs = env::current_exe().context("cannot find this program's path")?;
    session::up(&mut Screen::stdout(), &uvs, mode, &interrupted)?;
    Ok(true)
}

/// From here on a signal only raises the flag, so that what is made is also removed.
fn watch_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .context("cannot watch for signals")?;
    }
    Ok(interrupted)
}

fn down() -> anyhow::Result<bool> {
    let was_up = session::down()?;
    println!(
        "{}",
        if was_up {
            "The lab is removed."
        } else {
            "No lab was up."
        }
    );
    Ok(true)
}

fn exec(command: &[OsString]) -> anyhow::Result<bool> {
    rootless::enter()?;
    let (program, args) = command.split_first().context("no command")?;
    Err(rootless::replace_by(program, args, &[]).into())
}
