//! What a connection costs in memory: fills the table and looks at what the process grew by.
//!
//! `cargo run --release -p uvs-benches --bin table [CONNECTIONS]`

#![forbid(unsafe_code)]

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use uvs_benches::World;
use uvs_core::conn::Conn;
use uvs_core::service::Forwarding;
use uvs_core::verdict::Verdict;

/// Fills the connection table with half-open connections, as a SYN flood does.
#[derive(Debug, Parser)]
struct Args {
    /// How many; also the table's limit
    #[arg(default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    connections: u32,
}

fn main() -> ExitCode {
    match run(Args::parse().connections) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("table: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(connections: u32) -> Result<()> {
    for (name, forwarding) in [
        ("dr, one key", Forwarding::Dr),
        ("nat, two keys", Forwarding::Nat),
    ] {
        let before = resident()?;
        let mut world = World::new(forwarding, "rr", connections);
        let empty = resident()?;
        let start = Instant::now();
        for n in 0..connections {
            let verdict = world.half_open(n);
            ensure!(
                matches!(verdict, Verdict::Send(_)),
                "client {n}: {verdict:?}"
            );
        }
        let took = start.elapsed();
        let full = resident()?;
        ensure!(
            world.engine.connections().len() == connections,
            "some are missing"
        );
        let each = |bytes: u64| bytes as f64 / f64::from(connections);
        println!(
            "{name}: {connections} connections, {:.1} bytes each: {} the connection, {:.1} index and the rest; \
             {:.1} MB in all, {:.1} MB of it before the first; {:.0} ns to make one",
            each(full - before),
            size_of::<Conn>(),
            each(full - before) - size_of::<Conn>() as f64,
            (full - before) as f64 / 1e6,
            (empty - before) as f64 / 1e6,
            took.as_nanos() as f64 / f64::from(connections),
        );
    }
    Ok(())
}

/// Bytes of memory that this process has in use (proc(5): VmRSS).
fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes
        .map(|kilobytes| kilobytes * 1024)
        .context("no VmRSS in /proc/self/status")
}
