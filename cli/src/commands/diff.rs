//! `uvs diff [FILE]`: what runs against what a configuration file says. It ends as diff(1) does: 0 the same, 1 different,
//! 2 trouble.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use uvs_control::access::ListFiles;
use uvs_control::client::{Asking, Client};
use uvs_control::config::{self, Config};
use uvs_control::difference::{Edit, TableState, of_states};
use uvs_control::plugins::Schedulers;
use uvs_control::protocol::{Running, ask};
use uvs_control::table::Table;

use super::check;
use super::output::{self, Format, Shown};

/// It differs.
const DIFFERENT: u8 = 1;
/// It is not known whether it does.
const TROUBLE: u8 = 2;

/// What to compare with.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The configuration file [default: the daemon's own]
    file: Option<PathBuf>,
    #[command(flatten)]
    shown: Shown,
}

/// What programs are told.
#[derive(Serialize)]
struct Comparison<'a> {
    file: String,
    same: bool,
    /// `before` is the file's, `after` what runs.
    differences: &'a [Edit],
}

/// Compares and prints.
pub(crate) fn main(args: &Args) -> ExitCode {
    match compare(args) {
        Ok((file, edits)) => show(args, &file, &edits),
        Err(why) => {
            if !why.is_empty() {
                eprintln!("{why}");
            }
            ExitCode::from(TROUBLE)
        }
    }
}

/// The file, and in what the running table differs from it; or why that is not known, unless it is printed already.
fn compare(args: &Args) -> Result<(PathBuf, Vec<Edit>), String> {
    let running = Client::from_env().ask(ask::Running);
    let Running {
        file,
        own_vips_by_command_line,
        table,
    } = running.map_err(|e| e.to_string())?;
    let file = args.file.clone().or_else(|| file.map(PathBuf::from));
    let Some(file) = file else {
        return Err(
            "the daemon runs without a configuration file; say which to compare with: uvs diff FILE"
                .to_owned(),
        );
    };
    let mut wanted = state_of(&file)?;
    if own_vips_by_command_line {
        wanted.own_vips.clone_from(&table.own_vips);
    }
    Ok((file, of_states(&wanted, &table)))
}

/// The table that a file makes.
fn state_of(file: &Path) -> Result<TableState, String> {
    let known = |settings: &_| Schedulers::configured(settings, None);
    let config = config::load(file, &known).map_err(|error| {
        check::complain(&error);
        String::new()
    })?;
    let lists = ListFiles::load(&config.access).map_err(|e| e.to_string())?;
    let table = table_of(&config, &lists, known(&config.plugins));
    table.map(|table| TableState::from(&table))
}

fn table_of(
    config: &Config,
    lists: &ListFiles,
    schedulers: std::sync::Arc<Schedulers>,
) -> Result<Table, String> {
    let mut table = Table::new(schedulers);
    let loaded = table.load(config, lists);
    loaded.map_err(|refusal| refusal.message)?;
    Ok(table)
}

fn show(args: &Args, file: &Path, edits: &[Edit]) -> ExitCode {
    let text = match args.shown.format() {
        Format::Json => output::json(&Comparison {
            file: file.display().to_string(),
            same: edits.is_empty(),
            differences: edits,
        }),
        Format::Table => {
            let lines = edits.iter().map(|edit| edit.as_difference() + "\n");
            lines.collect()
        }
    };
    match output::try_print(&text) {
        Ok(_) if edits.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(DIFFERENT),
        Err(_) => ExitCode::from(TROUBLE),
    }
}
