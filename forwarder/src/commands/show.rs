//! `uvs show services|servers|conns|drops|info`: the daemon's state, for reading or as JSON.

mod rows;
mod view;

use std::process::ExitCode;

use clap::ValueEnum;

pub(crate) use self::rows::mode;
use super::{daemon, output};
use crate::control::protocol::Command;

/// What, and how.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to show
    what: What,
    /// How to show it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// What can be shown.
#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Virtual services with their load
    Services,
    /// Real servers with their load
    Servers,
    /// Connections and persistence templates
    Conns,
    /// Packets that were dropped, by reason
    Drops,
    /// The daemon itself
    Info,
}

/// The ways of showing.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The columns that matter
    Table,
    /// All columns
    Wide,
    /// Everything, for programs
    Json,
}

/// Asks and prints.
pub(crate) fn main(args: &Args) -> ExitCode {
    let command = match args.what {
        What::Services | What::Servers => Command::ListServices(None),
        What::Conns => Command::ListConnections,
        What::Drops => Command::Drops,
        What::Info => Command::Info,
    };
    let data = match daemon::ask(command) {
        Ok(data) => data,
        Err(code) => return code,
    };
    match view::of(args.what, data).map(|view| view.render(args.output)) {
        Some(text) => output::print(&text),
        None => daemon::unexpected(),
    }
}
