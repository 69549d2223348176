//! Several engines, and several workers, at once: what one costs beside others that share the machine and nothing else.
//!
//! `cargo run --release -p uvs-benches --bin engines`; what it means for machines with many cores is in docs/many-cores.md.

#![forbid(unsafe_code)]

mod mix;
mod side_by_side;
mod tape;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Measures 1, 2 and 4 engines at once on connections of their own, and as many workers that play a mix of traffic.
#[derive(Debug, Parser)]
struct Args {
    /// How many at once; the first is what the others are compared with
    #[arg(long, value_delimiter = ',', default_value = "1,2,4", value_parser = clap::value_parser!(u32).range(1..=64))]
    at_once: Vec<u32>,
    /// How often all are measured, in turn
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Connections of each engine
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(64..=1 << 20))]
    connections: u32,
    /// How long each engine runs in a round, milliseconds
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    milliseconds: u64,
    /// How often a worker plays its tape in a round
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    passes: u32,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("engines: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    println!("{}", side_by_side::measure(args)?);
    println!("{}", mix::measure(args)?);
    Ok(())
}

/// The CPU that the `n`th of `of` threads runs on: one of its own where there are as many, else any.
fn cpu(n: u32, of: u32) -> Option<usize> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    (of as usize <= cpus).then_some(n as usize)
}

/// The middle one; of an even number the higher of the two in the middle.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
