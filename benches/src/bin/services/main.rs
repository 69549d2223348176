//! What a table of many services costs: to fill, to change by one edit, to list and to scrape, and what memory stays when
//! it is emptied. In growing tables, so that what grows with them shows. And what a listing of many connections costs
//! the packets that pass meanwhile.
//!
//! `cargo run --release -p uvs-benches --bin services -- --services 100,1000,10000`

#![forbid(unsafe_code)]

mod connections;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use uvs_benches::program;
use uvs_lab::{Daemon, Lab, Mode, Options, process, rootless, tools};

/// Servers of each service.
const SERVERS: u32 = 2;
/// Services that differ in their port alone begin here.
const FIRST_PORT: u32 = 1000;
/// Most services, as each has a port of its own.
const MOST: u32 = 60_000;
/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long after it is emptied a daemon has given memory back.
const SETTLED: Duration = Duration::from_secs(15);

/// Fills a daemon's table, changes, lists and empties it, and says what that takes.
#[derive(Debug, Parser)]
struct Args {
    /// The program to measure; the one beside this program if not given
    #[arg(long)]
    uvs: Option<PathBuf>,
    /// Sizes of the table, with two NAT servers a service
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000", value_parser = clap::value_parser!(u32).range(2..=i64::from(MOST)))]
    services: Vec<u32>,
    /// What `uvs run --hook` is told
    #[arg(long, default_value = "auto")]
    hook: String,
    /// A command that is ipvsadm, instead of `uvs ipvsadm`: it is run by `uvs ipvs-run`
    #[arg(long)]
    ipvsadm: Option<PathBuf>,
    /// Connections that are listed beside a ping-pong; 0 = none
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u32).range(0..=connections::MOST))]
    connections: u32,
    /// Of each measurement the median counts
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("services: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    rootless::enter()?;
    tools::require(tools::BASIC)?;
    let uvs = program::uvs(args.uvs.as_deref())?;
    println!("| services | | ms | ms of the daemon's CPU |\n|---|---|---|---|");
    for services in &args.services {
        let lab = Lab::build(Mode::Nat, Options::default())?;
        let line = format!("--hook {} --metrics 127.0.0.1:9650", args.hook);
        let daemon = lab.start_daemon_with(&uvs, &line)?;
        let mut bench = Bench {
            lab: &lab,
            daemon,
            args,
            services: *services,
        };
        bench.measure()?;
    }
    if args.connections > 0 {
        connections::measure(&uvs, &args.hook, args.connections)?;
    }
    Ok(())
}

/// A daemon and what is asked of it.
struct Bench<'lab> {
    lab: &'lab Lab,
    daemon: Daemon<'lab>,
    args: &'lab Args,
    services: u32,
}

impl Bench<'_> {
    fn measure(&mut self) -> Result<()> {
        let empty = self.memory()?;
        let rules = self.rules();
        self.time("`ipvsadm -R`", 1, "-R", &rules)?;
        let full = self.memory()?;
        let vip = self.lab.plan.vip.ip();
        let (port, new) = (FIRST_PORT + self.services / 2, FIRST_PORT - 1);
        let [server, other, _] = self.lab.plan.servers.map(|server| *server.ip());
        let (service, server) = (format!("-t {vip}:{port}"), format!("-r {server}:{port}"));
        let rounds = self.args.rounds;
        self.time("a question: `-L --timeout`", rounds, "-L --timeout", "")?;
        let edit = format!("-e {service} {server} -m -w 7");
        self.time("a weight: `-e`", rounds, &edit, "")?;
        self.time(
            "a scheduler: `-E`",
            rounds,
            &format!("-E {service} -s wlc"),
            "",
        )?;
        for (what, add, take) in [
            (
                "a server",
                format!("-a {service} -r {other}:9 -m"),
                format!("-d {service} -r {other}:9"),
            ),
            (
                "a service",
                format!("-A -t {vip}:{new} -s rr"),
                format!("-D -t {vip}:{new}"),
            ),
        ] {
            let mut took = [Vec::new(), Vec::new()];
            for _ in 0..rounds {
                for (took, words) in took.iter_mut().zip([&add, &take]) {
                    took.push(self.once(words, "")?);
                }
            }
            let [add, take] = took;
            self.tell(&format!("{what} more"), add);
            self.tell(&format!("{what} less"), take);
        }
        self.time("`-Ln`", rounds, "-L -n", "")?;
        self.scrape()?;
        self.time("`-C`", 1, "-C", "")?;
        // The text of the last one goes with the next.
        self.scrape()?;
        thread::sleep(SETTLED);
        let memory = |bytes: u64| bytes / 1_000_000;
        println!(
            "| {} | memory, MB: empty {}, filled {}, emptied {} | | |",
            self.services,
            memory(empty),
            memory(full),
            memory(self.memory()?)
        );
        Ok(())
    }

    /// The table as `ipvsadm -R` reads it.
    fn rules(&self) -> String {
        let plan = &self.lab.plan;
        let mut rules = String::new();
        for port in FIRST_PORT..FIRST_PORT + self.services {
            let service = format!("-t {}:{port}", plan.vip.ip());
            let _ = writeln!(rules, "-A {service} -s rr");
            for server in &plan.servers[..SERVERS as usize] {
                let _ = writeln!(rules, "-a {service} -r {}:{port} -m -w 1", server.ip());
            }
        }
        rules
    }

    fn ipvsadm(&self, words: &str) -> Command {
        match &self.args.ipvsadm {
            None => self.daemon.command(&format!("ipvsadm {words}")),
            Some(other) => self
                .daemon
                .command(&format!("ipvs-run -- {} {words}", other.display())),
        }
    }

    fn time(&self, what: &str, rounds: u32, words: &str, input: &str) -> Result<()> {
        let took = (0..rounds).map(|_| self.once(words, input));
        self.tell(what, took.collect::<Result<_>>()?);
        Ok(())
    }

    /// How long one command takes, and how much of the daemon's CPU.
    fn once(&self, words: &str, input: &str) -> Result<(Duration, Duration)> {
        let command = self.ipvsadm(words);
        self.costs(|| {
            let output = process::output(command, input, PATIENCE)?;
            ensure!(
                output.stderr.is_empty(),
                "ipvsadm {words}: {}",
                output.stderr
            );
            Ok(())
        })
    }

    fn costs(&self, work: impl FnOnce() -> Result<()> + Send) -> Result<(Duration, Duration)> {
        let (cpu, begun) = (self.cpu()?, Instant::now());
        self.lab.director.enter(work)??;
        Ok((begun.elapsed(), self.cpu()? - cpu))
    }

    fn scrape(&self) -> Result<()> {
        let mut took = Vec::new();
        for _ in 0..self.args.rounds {
            // One younger than a second is served again.
            thread::sleep(Duration::from_millis(1100));
            let url = "http://127.0.0.1:9650/metrics";
            let command = tools::command("curl", ["-sSf", "-o", "/dev/null", url])?;
            took.push(self.costs(|| Ok(process::output(command, "", PATIENCE).map(drop)?))?);
        }
        self.tell("a scrape", took);
        Ok(())
    }

    /// The median.
    fn tell(&self, what: &str, mut took: Vec<(Duration, Duration)>) {
        took.sort_unstable();
        let (wall, _) = took[took.len() / 2];
        took.sort_unstable_by_key(|(_, cpu)| *cpu);
        let (_, cpu) = took[took.len() / 2];
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "| {} | {what} | {:.1} | {:.1} |",
            self.services,
            ms(wall),
            ms(cpu)
        );
    }

    /// CPU time of all the daemon's threads (proc(5): `schedstat`, in nanoseconds).
    fn cpu(&self) -> Result<Duration> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.daemon.id()))?;
        let mut sum = 0;
        for thread in threads.flatten() {
            let path = thread.path().join("schedstat");
            let text = fs::read_to_string(&path).unwrap_or_default();
            let first = text.split_whitespace().next();
            sum += first.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(sum))
    }

    fn memory(&self) -> Result<u64> {
        program::resident(self.daemon.id())
    }
}
