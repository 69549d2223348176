//! UVS beside its peers on one topology: requests, bulk, small packets, latency, and what they cost.
//!
//! One director, one real server, real programs; the peers in turn, round after round, and the table of
//! medians goes into `benches/RESULTS.md`. Everything is bounded in time and gone at the end.

#![forbid(unsafe_code)]

mod cells;
mod cpu;
mod expected;
mod flood;
mod machine;
mod peers;
mod redirect;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use uvs_benches::program;
use uvs_lab::{Lab, Mode, Options, rootless, tools};

use cells::{Cell, Stage};
use peers::Peer;
use report::Figures;

/// After this no further round begins.
const LIMIT: Duration = Duration::from_secs(600);

/// Measures UVS, with and without its hook, beside haproxy, nftables, a bare redirect and a direct route.
#[derive(Debug, Parser)]
struct Args {
    /// The program to measure; the one beside this program if not given
    #[arg(long)]
    uvs: Option<PathBuf>,
    /// How often each load is run through each peer
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each load runs
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Only this topology: nat or dr
    #[arg(long)]
    mode: Option<Mode>,
    /// Only these loads; may be given several times
    #[arg(long = "load", value_enum)]
    loads: Vec<Cell>,
    /// Only these peers; may be given several times
    #[arg(long = "peer", value_enum)]
    peers: Vec<Peer>,
    /// With how many workers `UVS plain` runs; each is a peer of its own
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: Vec<u32>,
    /// The file whose table is renewed
    #[arg(long, default_value = "benches/RESULTS.md")]
    output: PathBuf,
    /// Only print the table
    #[arg(long)]
    print: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("side: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    rootless::enter()?;
    tools::require(tools::BASIC)?;
    tools::require(&["wrk", "iperf3"])?;
    let uvs = program::uvs(args.uvs.as_deref())?;
    let interrupted = program::interrupted()?;
    let before = machine::load();
    let start = Instant::now();
    let mut body = String::new();
    for mode in modes(args.mode)? {
        let bench = Bench {
            args,
            uvs: &uvs,
            mode,
            start,
            interrupted: &interrupted,
        };
        body += &bench.run()?;
    }
    let head = machine::describe(start.elapsed(), &before, args.rounds, args.seconds);
    let body = format!("{head}{body}");
    println!("{body}");
    if args.print {
        return Ok(());
    }
    let old = fs::read_to_string(&args.output).unwrap_or_default();
    let new = report::replace_section(&old, "side by side", &body);
    fs::write(&args.output, new).with_context(|| format!("write {}", args.output.display()))
}

fn modes(only: Option<Mode>) -> Result<Vec<Mode>> {
    match only {
        None => Ok(vec![Mode::Nat, Mode::Dr]),
        Some(mode @ (Mode::Nat | Mode::Dr)) => Ok(vec![mode]),
        Some(mode) => bail!("{mode} has no peer to stand beside; the modes are nat and dr"),
    }
}

/// The rounds of one topology.
struct Bench<'a> {
    args: &'a Args,
    uvs: &'a Path,
    mode: Mode,
    start: Instant,
    interrupted: &'a AtomicBool,
}

impl Bench<'_> {
    /// Measures and returns the topology's section.
    fn run(&self) -> Result<String> {
        let lab = Lab::build(self.mode, Options::default())?;
        prepare(&lab, self.uvs)?;
        let stage = Stage::set(&lab)?;
        let (peers, skipped) = self.peers();
        let mut figures = Figures::default();
        let mut rounds = 0;
        for round in 1..=self.args.rounds {
            if self.start.elapsed() > LIMIT {
                break;
            }
            for peer in &peers {
                eprintln!("{} round {round}: {peer}", self.mode);
                self.measure(round, *peer, &lab, &stage, &mut figures)?;
            }
            rounds = round;
        }
        let title = match self.mode {
            Mode::Dr => "DR: one broadcast domain, answers go straight to the client",
            _ => "NAT: client – director – real server, both ways through the director",
        };
        let tables = figures.tables(self.mode, &peers);
        Ok(format!(
            "\n### {title}\n\nMedians of {rounds} rounds.\n{skipped}\n{tables}"
        ))
    }

    /// Those that can be measured, and a line for each that cannot.
    fn peers(&self) -> (Vec<Peer>, String) {
        let mut wanted = match self.mode {
            // Without masquerading the answers would not come back to a director with one arm.
            Mode::Dr => vec![Peer::Hook, Peer::Plain, Peer::Haproxy, Peer::Direct],
            _ => vec![
                Peer::Hook,
                Peer::Plain,
                Peer::Haproxy,
                Peer::Nft,
                Peer::Bare,
                Peer::Direct,
            ],
        };
        if !self.args.peers.is_empty() {
            wanted.retain(|peer| self.args.peers.contains(peer));
        }
        if let Some(plain) = wanted.iter().position(|peer| *peer == Peer::Plain) {
            let plains = self.args.workers.iter().map(|workers| match workers {
                1 => Peer::Plain,
                more => Peer::Workers(*more),
            });
            wanted.splice(plain..=plain, plains);
        }
        let lacking = |peer: &Peer| peer.tool().filter(|tool| tools::find(tool).is_err());
        let skipped = wanted
            .iter()
            .filter_map(|peer| {
                lacking(peer).map(|tool| format!("skipped: {peer}, {tool} is not installed\n"))
            })
            .collect();
        let there = wanted.into_iter().filter(|peer| lacking(peer).is_none());
        (there.collect(), skipped)
    }

    fn measure(
        &self,
        round: u32,
        peer: Peer,
        lab: &Lab,
        stage: &Stage,
        figures: &mut Figures,
    ) -> Result<()> {
        let running = peer.start(lab, self.uvs)?;
        for cell in Cell::ALL {
            let asked = self.args.loads.is_empty() || self.args.loads.contains(&cell);
            if !asked || !cell.applies(self.mode, peer) {
                continue;
            }
            if self.interrupted.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            let measured = cells::run(cell, lab, stage, &running, self.args.seconds)
                .with_context(|| format!("{peer}, {}", cell.name()))?;
            figures.add(round, peer, cell, measured);
        }
        running.stop()
    }
}

/// What the topology lacks for being measured.
fn prepare(lab: &Lab, uvs: &Path) -> Result<()> {
    lab.prepare_servers(uvs)?;
    // The same client port reaches the server by way of several peers: the server takes a SYN on a
    // connection in TIME_WAIT only where its time stamp is later, and by default each destination has
    // its own origin.
    lab.client.sysctl("net.ipv4.tcp_timestamps", "2")?;
    lab.director
        .sysctl("net.ipv4.ip_local_port_range", "1024 65535")?;
    // The same on each machine, and allowed in each namespace. BBR, where it is the default, paces by
    // delays that are the CPU scheduler's here.
    for host in lab.hosts() {
        host.sysctl("net.ipv4.tcp_congestion_control", "reno")?;
    }
    // Where the machine has br_netfilter, a bridge hands each frame to netfilter by default; a switch does not.
    let bridge_netfilter = "net.bridge.bridge-nf-call-iptables";
    if lab.fabric.read_sysctl(bridge_netfilter).is_ok() {
        lab.fabric.sysctl(bridge_netfilter, "0")?;
    }
    if lab.plan.mode == Mode::Nat {
        let server = lab.plan.servers[0].ip();
        lab.client
            .ip(&format!("route add {server}/32 via {}", lab.plan.director))?;
    }
    Ok(())
}
