//! What a connection costs in memory: fills the table and looks at what the process grew by.
//!
//! `cargo run --release -p uvs-benches --bin table [CONNECTIONS]`

#![forbid(unsafe_code)]

use std::process::{self, ExitCode};
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Parser;
use uvs_benches::{World, program};
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
        let before = program::resident(process::id())?;
        let mut world = World::new(forwarding, "rr", connections);
        let empty = program::resident(process::id())?;
        let start = Instant::now();
        for n in 0..connections {
            let verdict = world.half_open(n);
            ensure!(
                matches!(verdict, Verdict::Send(_)),
                "client {n}: {verdict:?}"
            );
        }
        let took = start.elapsed();
        let full = program::resident(process::id())?;
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
