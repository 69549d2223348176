//! Where and how a table came about.

use std::env;
use std::fs;
use std::process::Command;
use std::time::Duration;

use uvs_lab::tools;

/// The machine's load averages.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The lines above the tables.
pub(crate) fn describe(took: Duration, load_before: &str, rounds: u32, seconds: u32) -> String {
    let words: Vec<String> = env::args().skip(1).collect();
    let command = format!(
        "cargo run --release -p uvs-benches --bin side -- {}",
        words.join(" ")
    );
    format!(
        "- machine: {}, {} CPUs, {} MB\n- kernel: {}\n- commit: {}\n- date: {}\n- command: `{}`\n\
         - versions: {}\n- took {} s: {rounds} rounds, each load {seconds} s; load average before {load_before}, after {}\n",
        cpu_model(),
        cpus(),
        memory_mb(),
        said("uname", &["-r"]),
        commit(),
        said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        command.trim_end_matches([' ', '-']),
        versions(),
        took.as_secs(),
        load(),
    )
}

fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .and_then(|rest| rest.split_once(':'));
    model.map_or_else(
        || "unknown CPU".to_owned(),
        |(_, name)| name.trim().to_owned(),
    )
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

fn memory_mb() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}

fn commit() -> String {
    let changed = said("git", &["status", "--porcelain", "--untracked-files=no"]);
    let mark = if changed.is_empty() {
        ""
    } else {
        ", with uncommitted changes"
    };
    format!(
        "{}{mark}",
        said("git", &["rev-parse", "--short=12", "HEAD"])
    )
}

fn versions() -> String {
    let asked = [
        ("haproxy", "-v"),
        ("nft", "-v"),
        ("nginx", "-v"),
        ("wrk", "-v"),
        ("iperf3", "-v"),
    ];
    let version = |(tool, flag): (&str, &str)| {
        let line = said(tool, &[flag]);
        let number = line
            .split([' ', '/'])
            .find(|word| {
                word.trim_start_matches('v')
                    .starts_with(|c: char| c.is_ascii_digit())
            })
            .unwrap_or("not installed");
        format!("{tool} {number}")
    };
    asked.map(version).join(", ")
}

/// The first line that a command prints, to whichever output.
fn said(tool: &str, args: &[&str]) -> String {
    let Ok(mut command) = tools::command(tool, args) else {
        return String::new();
    };
    first_line(&mut command)
}

fn first_line(command: &mut Command) -> String {
    let Ok(output) = command.output() else {
        return String::new();
    };
    let printed = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&printed);
    text.lines().next().unwrap_or_default().trim().to_owned()
}
