//! `uvs guard …`: look at the guard that keeps the kernel silent, or take it down after a crash.

use std::process::ExitCode;

use clap::Subcommand;
use uvs_forwarder::guard;

use super::output::{number, table, text};

/// What to do with the guard of this network namespace.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print the rules in force and how many frames each dropped
    Show {
        /// Leave out the elements of the sets
        #[arg(long)]
        terse: bool,
    },
    /// Print how many frames each rule kept from the kernel, since the table's last change
    Counters,
    /// Remove what a killed daemon left behind
    Down {
        /// Remove it even though a daemon is running
        #[arg(long)]
        force: bool,
    },
}

/// Runs the command.
pub(crate) fn main(args: &Args) -> ExitCode {
    let outcome = match args.action {
        Action::Show { terse } => guard::show(terse),
        Action::Counters => {
            guard::counters().map(|rules| (!rules.is_empty()).then(|| count(&rules)))
        }
        Action::Down { force } => guard::down(force).map(|removed| {
            let said = if removed {
                "removed the guard (nft table netdev uvs)\n"
            } else {
                "there was no guard\n"
            };
            Some(said.to_owned())
        }),
    };
    match outcome {
        Ok(Some(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok(None) => {
            eprintln!("uvs: there is no guard in this network namespace; `uvs run` puts it up");
            ExitCode::from(super::FAILED)
        }
        Err(error) => {
            eprintln!("uvs: {error}");
            ExitCode::from(super::FAILED)
        }
    }
}

fn count(rules: &[guard::Counter]) -> String {
    let columns = [text("RULE"), number("FRAMES"), number("BYTES")];
    let row = |c: &guard::Counter| vec![c.name.clone(), c.packets.to_string(), c.bytes.to_string()];
    table(&columns, &rules.iter().map(row).collect::<Vec<_>>())
}
