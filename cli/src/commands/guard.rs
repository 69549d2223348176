//! `uvs guard …`: look at what keeps the kernel silent, the guard or the hook, or take it down after a crash.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use uvs_control::config::Hook;
use uvs_forwarder::{guard, hook};

use super::output::{number, table, text};

/// What to do with the guard of this network namespace.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
    /// Where the hook is pinned, as in the configuration [default: /sys/fs/bpf/uvs]
    #[arg(long, value_name = "DIR", global = true)]
    pins: Option<PathBuf>,
}

#[derive(Clone, Copy, Subcommand)]
enum Action {
    /// Print the rules in force and how many frames each dropped, and what there is of a hook
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
    let default = Hook::default().pins;
    let pins = args.pins.as_deref().unwrap_or(&default);
    match run(args.action, pins) {
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

fn run(action: Action, pins: &Path) -> Result<Option<String>, Box<dyn std::error::Error>> {
    match action {
        Action::Show { terse } => {
            let found = hook::show(pins)?.map(|found| found + "\n");
            let parts = [guard::show(terse)?, found];
            Ok(parts.into_iter().flatten().reduce(|all, part| all + &part))
        }
        Action::Counters => {
            let rules = guard::counters()?;
            Ok((!rules.is_empty()).then(|| count(&rules)))
        }
        Action::Down { force } => {
            let removed = [
                (
                    guard::down(force)?,
                    "removed the guard (nft table netdev uvs)\n",
                ),
                (hook::down(pins, force)?, "removed the hook\n"),
            ];
            let said = removed.into_iter().filter(|(was_there, _)| *was_there);
            let said: String = said.map(|(_, said)| said).collect();
            Ok(Some(match said.is_empty() {
                true => "there was no guard\n".to_owned(),
                false => said,
            }))
        }
    }
}

fn count(rules: &[guard::Counter]) -> String {
    let columns = [text("RULE"), number("FRAMES"), number("BYTES")];
    let row = |c: &guard::Counter| vec![c.name.clone(), c.packets.to_string(), c.bytes.to_string()];
    table(&columns, &rules.iter().map(row).collect::<Vec<_>>())
}
