//! `uvs top`: services, their servers and their connections on the whole screen, with rates.
//!
//! [`model`] makes rates of samples, [`app`] is the state that keys and answers change, [`grid`] the lines of
//! a level, [`draw`] the screen; [`poll`] asks the daemon, [`screen`] has the terminal.

mod app;
mod draw;
mod grid;
mod model;
mod plain;
mod poll;
mod screen;
#[cfg(test)]
mod testing;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use uvs_control::client::{CallError, Client};

use self::app::App;
use self::model::Meter;
use self::screen::Ended;
use super::{FAILED, daemon, output, units};

/// How often, and how.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds between two samples, 0.2 to 60
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = units::interval)]
    interval: Duration,
    /// Print one table of rates over one interval, and end
    #[arg(long)]
    once: bool,
    /// Connections listed at most, those with the latest packets; 1 to 2000
    #[arg(long, value_name = "COUNT", default_value = "200", value_parser = clap::value_parser!(u32).range(1..=2000))]
    connections: u32,
}

/// Takes the terminal, or prints one table.
pub(crate) fn main(args: &Args) -> ExitCode {
    let reason = match (args.once, no_screen()) {
        (false, None) => return full_screen(args),
        (true, _) => None,
        (false, reason) => reason,
    };
    if let Some(reason) = reason {
        eprintln!(
            "uvs top: {reason}: one table instead (--once asks for it; `uvs show services --watch` repeats)"
        );
    }
    match once(args.interval) {
        Ok(table) => output::print(&table),
        Err(error) => daemon::failed(&error),
    }
}

/// Why there cannot be a full screen.
fn no_screen() -> Option<&'static str> {
    if !std::io::stdout().is_terminal() {
        return Some("standard output is not a terminal");
    }
    let kind = std::env::var_os("TERM").unwrap_or_default();
    (kind.is_empty() || kind == "dumb").then_some("this terminal ($TERM) cannot place its cursor")
}

fn once(interval: Duration) -> Result<String, CallError> {
    let (mut client, mut meter) = (Client::from_env(), Meter::default());
    meter.read(poll::sample(&mut client)?);
    std::thread::sleep(interval);
    let reading = meter.read(poll::sample(&mut client)?);
    Ok(plain::render(&reading))
}

fn full_screen(args: &Args) -> ExitCode {
    let mut client = Client::from_env();
    // Before the screen is taken, so that a daemon that is not there is said where it stays to be read.
    let first = match poll::sample(&mut client) {
        Ok(first) => first,
        Err(error) => return daemon::failed(&error),
    };
    let interval = format!("{} s", args.interval.as_secs_f64());
    let ended = poll::start(client, args.interval, args.connections)
        .and_then(|source| screen::run(App::new(first), &source, &interval));
    match ended {
        Ok(Ended::Quit) => ExitCode::SUCCESS,
        // As a shell reports it.
        Ok(Ended::Signal(signal)) => ExitCode::from(128 + signal),
        Err(error) => {
            eprintln!("uvs top: {error}");
            ExitCode::from(FAILED)
        }
    }
}
