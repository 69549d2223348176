//! `uvs trace --live`: asks for what was seen until there is no more to come.

use std::process::ExitCode;
use std::time::Duration;

use uvs_control::protocol::ask;
use uvs_control::trace::LiveRequest;
use uvs_control::trace::filter::Filter;

use super::{Format, Report, render};
use crate::commands::{USAGE, daemon, output};

/// Packets, unless said otherwise.
const COUNT: u32 = 10;
/// How often the daemon is asked.
const PERIOD: Duration = Duration::from_millis(100);

/// Prints packets as they are seen.
pub(super) fn main(filter: &str, count: Option<u32>, seconds: u32, format: Format) -> ExitCode {
    let filter: Filter = match filter.parse() {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("--live: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let count = count.unwrap_or(COUNT);
    let request = LiveRequest {
        filter,
        count,
        seconds,
    };
    if let Err(code) = daemon::ask(ask::TraceLive(request)) {
        return code;
    }
    follow(format).unwrap_or_else(|code| code)
}

fn follow(format: Format) -> Result<ExitCode, ExitCode> {
    let mut all: Option<Report> = None;
    loop {
        let seen = daemon::ask(ask::TraceLiveSeen)?;
        let state = seen.live.clone();
        let mut report = Report::from(seen);
        let began = all.as_ref().and_then(|all| all.frames.first());
        let began = began
            .or_else(|| report.frames.first())
            .map_or(0, |f| f.after_ns);
        // The first one keeps the clock that the others count from.
        let fresh = all.is_none() || all.as_ref().is_some_and(|a| a.frames.is_empty());
        if format == Format::Text {
            print_new(&report, began)?;
        }
        match &mut all {
            Some(all) if !fresh => all.frames.append(&mut report.frames),
            _ => all = Some(report),
        }
        if state.over {
            return Ok(finish(all, state.matched, format));
        }
        std::thread::sleep(PERIOD);
    }
}

/// Prints what came, counting time from the first.
fn print_new(report: &Report, began: u64) -> Result<(), ExitCode> {
    let shown = Report {
        interfaces: report.interfaces.clone(),
        frames: since(&report.frames, began),
    };
    match output::print(&render(&shown, Format::Text)) {
        ExitCode::SUCCESS => Ok(()),
        code => Err(code),
    }
}

fn since(frames: &[uvs_control::trace::Traced], began: u64) -> Vec<uvs_control::trace::Traced> {
    let mut frames = frames.to_vec();
    for frame in &mut frames {
        frame.after_ns = frame.after_ns.saturating_sub(began);
    }
    frames
}

fn finish(all: Option<Report>, matched: u64, format: Format) -> ExitCode {
    let Some(mut all) = all else {
        return ExitCode::SUCCESS;
    };
    let shown = all.frames.len();
    if format == Format::Json {
        let began = all.frames.first().map_or(0, |f| f.after_ns);
        all.frames = since(&all.frames, began);
        return output::print(&render(&all, format));
    }
    output::print(&format!("{shown} of {matched} packets that matched\n"))
}
