//! `uvs latency`: how long frames took on their way through the director, in the last seconds or the next.

mod window;

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use uvs_control::protocol::ask;

use self::window::{MEASURED, Window};
use super::output::Format;
use super::units::{nanoseconds, short};
use super::{FAILED, daemon, output};

/// The longest time that the daemon can look back.
const PAST: u32 = 60;
/// The longest bar of the histogram.
const BAR: usize = 40;

/// Which window, and how to show it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The last seconds (`10s`, `1m`; at most a minute), or `start` for all since the daemon's start
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = since)]
    since: Since,
    /// Measure the next SECONDS seconds instead
    #[arg(long, value_name = "SECONDS", conflicts_with = "since", value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: Option<u32>,
    /// How to show it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Since {
    Start,
    Seconds(u32),
}

/// Asks and prints.
pub(crate) fn main(args: &Args) -> ExitCode {
    let window = match window(args) {
        Ok(window) => window,
        Err(code) => return code,
    };
    if args.output == Format::Json {
        return output::print(&output::json(&window));
    }
    output::print(&render(&window))
}

fn window(args: &Args) -> Result<Window, ExitCode> {
    let (before, now) = match (args.seconds, args.since) {
        (Some(seconds), _) => {
            let first = daemon::ask(ask::Latency(None))?.now;
            sleep(Duration::from_secs(seconds.into()));
            (Some(first), daemon::ask(ask::Latency(None))?.now)
        }
        (None, Since::Start) => (None, daemon::ask(ask::Latency(None))?.now),
        (None, Since::Seconds(seconds)) => {
            let latency = daemon::ask(ask::Latency(Some(seconds)))?;
            (latency.before, latency.now)
        }
    };
    Window::between(before.as_ref(), &now).map_err(|error| {
        eprintln!("{error}");
        ExitCode::from(FAILED)
    })
}

fn since(text: &str) -> Result<Since, String> {
    if text == "start" {
        return Ok(Since::Start);
    }
    let (digits, seconds_each) = match (text.strip_suffix('s'), text.strip_suffix('m')) {
        (_, Some(minutes)) => (minutes, 60),
        (Some(seconds), None) => (seconds, 1),
        (None, None) => (text, 1),
    };
    let seconds = digits
        .parse::<u32>()
        .ok()
        .and_then(|n| n.checked_mul(seconds_each));
    let fits = seconds.filter(|s| (1..=PAST).contains(s));
    fits.map(Since::Seconds).ok_or_else(|| {
        format!("must be `start`, or from 1s to {PAST}s; for longer, measure with --seconds")
    })
}

fn render(window: &Window) -> String {
    let mut text = format!(
        "{} frames forwarded in {:.1} s ({}/s), {} missed while a ring was full; worker {:.0} % busy\n\n",
        window.frames,
        window.seconds,
        short(window.frames as f64 / window.seconds.max(f64::MIN_POSITIVE)),
        window.missed,
        100.0 * window.busy,
    );
    for percentile in &window.percentiles {
        text += &format!("{:<6} {:>8}\n", percentile.name, nanoseconds(percentile.ns));
    }
    if window.frames > 0 {
        text += &histogram(window);
    }
    text + &notes()
}

fn histogram(window: &Window) -> String {
    let most = window.histogram.iter().map(|s| s.frames).max().unwrap_or(1);
    let mut text = format!("\n{:>8}  {:>10}\n", "UP TO", "FRAMES");
    for step in &window.histogram {
        // Whoever is there is seen.
        let bar = (BAR as u64 * step.frames).div_ceil(most);
        let bar = usize::try_from(bar).unwrap_or(BAR);
        let share = 100.0 * step.frames as f64 / window.frames as f64;
        let line = format!(
            "{:>8}  {:>10}  {share:>5.1} %  {}",
            nanoseconds(step.up_to_ns),
            step.frames,
            "█".repeat(bar)
        );
        text += line.trim_end();
        text.push('\n');
    }
    text + "\n"
}

fn notes() -> String {
    let line = |note: &&str| format!("- {note}\n");
    "measured\n".to_owned() + &MEASURED.iter().map(line).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_control::protocol::LatencySample;

    #[test]
    fn times_are_seconds_minutes_or_the_start() {
        for (text, expected) in [
            ("10s", Since::Seconds(10)),
            ("60", Since::Seconds(60)),
            ("1m", Since::Seconds(60)),
            ("start", Since::Start),
        ] {
            assert_eq!(since(text), Ok(expected), "{text}");
        }
        for text in ["", "0s", "61s", "2m", "-1", "10h", "99999999999m", "ten"] {
            let error = since(text).expect_err(text);
            assert!(error.contains("from 1s to 60s"), "{error}");
        }
    }

    #[test]
    fn a_window_is_shown_with_what_is_measured() {
        let now = LatencySample {
            taken_ns: 2_000_000_000,
            forwarded: 1000,
            ring_drops: 3,
            busy_ns: 500_000_000,
            counts: vec![(1_900, 800), (18_000, 199), (450_000, 1)],
            ..LatencySample::default()
        };
        let window = Window::between(None, &now).expect("one daemon");
        let shown = render(&window);
        let (table, notes) = shown.split_once("measured\n").expect("notes");
        let full = "█".repeat(40);
        assert_eq!(
            table,
            format!(
                "1000 frames forwarded in 2.0 s (500/s), 3 missed while a ring was full; worker 25 % busy\n\n\
                 p50      1.9 µs\np90       18 µs\np99       18 µs\np99.9     18 µs\nmax      450 µs\n\n\
                 \x20  UP TO      FRAMES\n\
                 \x20 2.0 µs         800   80.0 %  {full}\n\
                 \x20 5.0 µs           0    0.0 %\n\
                 \x20  10 µs           0    0.0 %\n\
                 \x20  20 µs         199   19.9 %  ██████████\n\
                 \x20  50 µs           0    0.0 %\n\
                 \x20 100 µs           0    0.0 %\n\
                 \x20 200 µs           0    0.0 %\n\
                 \x20 500 µs           1    0.1 %  █\n\n"
            )
        );
        assert!(notes.contains("CLOCK_REALTIME") && notes.lines().count() == MEASURED.len());
    }
}
