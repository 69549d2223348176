//! `uvs reload`: the daemon reads its configuration file again and applies it as one step, or refuses it
//! whole and keeps running as it was. On trial, or only to see what would become of it.

use std::process::ExitCode;

use uvs_control::difference::Edit;
use uvs_control::protocol::{Applied, ReloadRequest, ask};

use super::output::{Format, Shown};
use super::{daemon, output, units};

/// Edits that are printed of each kind; past them the rest is only counted.
const MOST: usize = 100;

/// How.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only print what a reload would change, and which changes made since the file was read it would take back
    #[arg(long, conflicts_with_all = ["confirm", "confirmed", "undo"])]
    dry_run: bool,
    /// Make the table exactly what the file says: live weights and drains are taken back too
    #[arg(long, conflicts_with_all = ["confirmed", "undo"])]
    exact: bool,
    /// Go back after TIME (60s, 5m), also without this command, unless `uvs reload --confirmed` comes before
    #[arg(long, value_name = "TIME", value_parser = units::seconds)]
    confirm: Option<u32>,
    /// Keep what was reloaded with --confirm
    #[arg(long, conflicts_with_all = ["confirm", "undo"])]
    confirmed: bool,
    /// Go back from what was reloaded with --confirm now
    #[arg(long, conflicts_with = "confirm")]
    undo: bool,
    #[command(flatten)]
    shown: Shown,
}

/// Asks for it and waits until it is done.
pub(crate) fn main(args: &Args) -> ExitCode {
    match carry_out(args) {
        Ok(code) | Err(code) => code,
    }
}

fn carry_out(args: &Args) -> Result<ExitCode, ExitCode> {
    let (applied, done) = if args.confirmed {
        daemon::ask(ask::ConfirmReload)?;
        (Applied::default(), "the reload is confirmed".to_owned())
    } else if args.undo {
        let done = "gone back to what was in force before the reload; the file still says what was reloaded";
        (daemon::ask(ask::UndoReload)?, done.to_owned())
    } else {
        let request = ReloadRequest {
            dry_run: args.dry_run,
            exact: args.exact,
            confirm: args.confirm,
        };
        (daemon::ask(ask::Apply(request))?, what_was_done(args))
    };
    Ok(output::print(&match args.shown.format() {
        Format::Json => output::json(&applied),
        Format::Table => told(&applied, args.dry_run) + &done + "\n",
    }))
}

fn what_was_done(args: &Args) -> String {
    match args.confirm {
        _ if args.dry_run => "nothing was changed".to_owned(),
        Some(seconds) => format!(
            "configuration reloaded; it goes back in {seconds} s, unless `uvs reload --confirmed` comes before"
        ),
        None => "configuration reloaded".to_owned(),
    }
}

/// What is taken back or kept is said; what a file changes that was read before only where nothing is done.
fn told(applied: &Applied, dry_run: bool) -> String {
    let mut text = String::new();
    let mut section = |title: &str, edits: &[&Edit], words: &dyn Fn(&Edit) -> String| {
        if edits.is_empty() {
            return;
        }
        text += &format!("{title}\n");
        for edit in edits.iter().take(MOST) {
            text += &format!("  {}\n", words(edit));
        }
        if edits.len() > MOST {
            text += &format!("  and {} more\n", edits.len() - MOST);
        }
    };
    let by_file: Vec<&Edit> = applied
        .changes
        .iter()
        .filter(|edit| !applied.undone.contains(edit))
        .collect();
    if dry_run {
        section("a reload would change:", &by_file, &Edit::to_string);
    }
    let undone: Vec<&Edit> = applied.undone.iter().collect();
    let title = if dry_run {
        "and take back what was changed since the file was read:"
    } else {
        "taken back, as it was changed since the file was read:"
    };
    section(title, &undone, &Edit::to_string);
    let kept: Vec<&Edit> = applied.kept.iter().collect();
    section(
        "kept as it was changed since the file was read (--exact takes it back):",
        &kept,
        &Edit::as_difference,
    );
    if dry_run && applied.changes.is_empty() {
        text += "a reload would change nothing\n";
    }
    text
}
