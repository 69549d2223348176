//! What clients notice of upgrades: new connections at a steady rate, requests on connections that stay open, and
//! downloads, while a daemon hands over to the next one, time after time.
//!
//! `cargo run --release -p uvs-benches --bin upgrade -- --hook tier`

#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use uvs_benches::program;
use uvs_lab::traffic::Download;
use uvs_lab::{Daemon, Families, Lab, Mode, Options, Service, rootless, tools};

/// Threads that open connections; each has its part of the rate.
const CLIENTS: u32 = 50;
/// Connections that stay open, and how often each asks.
const OPEN: u32 = 8;
const EVERY: Duration = Duration::from_millis(5);
/// Bytes of a download, and how many of them a second.
const BYTES: u64 = 5 << 20;
const PACE: &str = "250k";
/// Between two upgrades.
const APART: Duration = Duration::from_secs(1);
/// What a client is to notice nothing of.
const UNNOTICED: Duration = Duration::from_millis(100);
/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// Upgrades a daemon in a row under load, and says what its clients met.
#[derive(Debug, Parser)]
struct Args {
    /// The program that takes over from itself; the one beside this program if not given
    #[arg(long)]
    uvs: Option<PathBuf>,
    /// nat, fullnat, dr or ipip
    #[arg(long, default_value = "nat")]
    mode: Mode,
    /// What `uvs run --hook` is told
    #[arg(long, default_value = "auto")]
    hook: String,
    /// In a row
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    upgrades: u32,
    /// New connections a second
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Downloads throughout
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(0..=1000))]
    downloads: u32,
}

/// What clients of one kind met.
#[derive(Debug, Default)]
struct Met {
    requests: u64,
    failures: u64,
    resets: u64,
    noticed: u64,
    longest: Duration,
    example: Option<String>,
}

impl Met {
    /// Counts a request that was due at a time.
    fn count(&mut self, due: Instant, outcome: io::Result<()>) {
        self.requests += 1;
        let took = due.elapsed();
        self.longest = self.longest.max(took);
        self.noticed += u64::from(took > UNNOTICED);
        if let Err(error) = outcome {
            match error.kind() {
                ErrorKind::ConnectionReset => self.resets += 1,
                _ => self.failures += 1,
            }
            self.example.get_or_insert_with(|| error.to_string());
        }
    }

    fn add(mut self, other: Self) -> Self {
        self.requests += other.requests;
        self.failures += other.failures;
        self.resets += other.resets;
        self.noticed += other.noticed;
        self.longest = self.longest.max(other.longest);
        self.example = self.example.or(other.example);
        self
    }

    fn tell(&self, what: &str) {
        let Self {
            requests,
            failures,
            resets,
            noticed,
            longest,
            ..
        } = self;
        println!(
            "{what}: {requests} requests, {failures} failed, {resets} reset, the longest {:.0} ms, {noticed} over {} ms",
            longest.as_secs_f64() * 1e3,
            UNNOTICED.as_millis()
        );
        if let Some(example) = &self.example {
            println!("  such as: {example}");
        }
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("upgrade: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    rootless::enter()?;
    tools::require(tools::BASIC)?;
    let uvs = program::uvs(args.uvs.as_deref())?;
    let is_over = program::interrupted()?;
    let lab = Lab::build(args.mode, Options::default())?;
    lab.prepare_servers(&uvs)?;
    let daemon = serving(&lab, &uvs, &args.hook)?;
    let content = lab.content("big", BYTES)?;
    let url = lab.plan.url(&format!("/big?rate={PACE}"));
    let downloads: Vec<_> = (0..args.downloads)
        .map(|n| Download::start(&lab.client, &url, &lab.dir().join(format!("down{n}"))))
        .collect::<uvs_lab::Result<_>>()?;
    let vip = SocketAddr::from(lab.plan.vip);
    let (done, new, open) = thread::scope(|scope| {
        let over = &*is_over;
        let new = scope.spawn(|| lab.client.enter(|| connecting(vip, args.rate, over)));
        let open = scope.spawn(|| lab.client.enter(|| staying(vip, over)));
        let done = upgrades(&daemon, args.upgrades, over);
        over.store(true, Ordering::Relaxed);
        let met = |of: thread::ScopedJoinHandle<'_, _>| of.join().expect("no panic");
        (done, met(new), met(open))
    });
    new?.tell("new connections");
    open?.tell("connections that stay open");
    let whole = downloads.into_iter().map(|download| {
        let received = download.finish();
        received.and_then(|received| received.must_equal(&content))
    });
    let failed: Vec<_> = whole.filter_map(uvs_lab::Result::err).collect();
    println!(
        "downloads: {} of {BYTES} bytes, {} failed",
        args.downloads,
        failed.len()
    );
    failed
        .iter()
        .take(1)
        .for_each(|why| println!("  such as: {why}"));
    end(done?)
}

/// The daemon, with a service on its VIP.
fn serving<'lab>(lab: &'lab Lab, uvs: &Path, hook: &str) -> Result<Daemon<'lab>> {
    let daemon = lab.start_daemon_with(uvs, &format!("--hook {hook}"))?;
    let service = Service::of(&lab.plan, Families::V4);
    daemon.ipvsadm(&service.add_service("rr"))?;
    for server in 0..2 {
        daemon.ipvsadm(&service.add_server(server, 1))?;
    }
    Ok(daemon)
}

/// Upgrades it time after time; the last one's process.
fn upgrades(daemon: &Daemon<'_>, times: u32, is_over: &AtomicBool) -> Result<Pid> {
    let mut heir = None;
    let mut pauses = Vec::new();
    for _ in 0..times {
        thread::sleep(APART);
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let said = daemon.uvs("upgrade")?.stdout;
        let number = |after: &str| -> Option<i32> {
            let (_, rest) = said.split_once(after)?;
            rest.split_whitespace().next()?.parse().ok()
        };
        heir = number("with pid ").and_then(Pid::from_raw);
        pauses.push(number("waited for ").map_or_else(|| "?".to_owned(), |ms| ms.to_string()));
    }
    thread::sleep(APART);
    println!(
        "{} upgrades, frames waited for: {} ms",
        pauses.len(),
        pauses.join(", ")
    );
    let Some(heir) = heir else {
        bail!("there was no upgrade");
    };
    let handed = daemon.uvs("show info")?.stdout;
    handed
        .lines()
        .filter(|l| l.contains("hook"))
        .for_each(|line| println!("{line}"));
    Ok(heir)
}

/// Ends the last daemon.
fn end(heir: Pid) -> Result<()> {
    kill_process(heir, Signal::TERM).context("the last daemon")?;
    let end = Instant::now() + PATIENCE;
    while test_kill_process(heir).is_ok() {
        ensure!(Instant::now() < end, "the last daemon does not end");
        thread::sleep(EVERY);
    }
    Ok(())
}

/// Opens connections at a rate, one request each. What is late because one before it was counts from when it was due.
fn connecting(vip: SocketAddr, rate: u32, is_over: &AtomicBool) -> Met {
    let apart = Duration::from_secs(1) * CLIENTS / rate;
    let begun = Instant::now();
    let client = |n: u32| {
        let mut met = Met::default();
        let mut due = begun + apart * n / CLIENTS;
        while !is_over.load(Ordering::Relaxed) {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            met.count(due, request(vip));
            due += apart;
        }
        met
    };
    together(CLIENTS, client)
}

/// Asks again and again on connections that stay open.
fn staying(vip: SocketAddr, is_over: &AtomicBool) -> Met {
    let client = |_| {
        let mut met = Met::default();
        let mut connection = connect(vip).ok();
        while !is_over.load(Ordering::Relaxed) {
            let due = Instant::now();
            let asked = match &mut connection {
                Some(stream) => ask(stream),
                None => Err(ErrorKind::NotConnected.into()),
            };
            if asked.is_err() {
                connection = connect(vip).ok();
            }
            met.count(due, asked);
            thread::sleep(EVERY);
        }
        met
    };
    together(OPEN, client)
}

fn together(clients: u32, client: impl Fn(u32) -> Met + Sync) -> Met {
    thread::scope(|scope| {
        let client = &client;
        let all: Vec<_> = (0..clients)
            .map(|n| scope.spawn(move || client(n)))
            .collect();
        let met = all.into_iter().map(|c| c.join().expect("no panic"));
        met.fold(Met::default(), Met::add)
    })
}

fn connect(vip: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&vip, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn request(vip: SocketAddr) -> io::Result<()> {
    let mut stream = connect(vip)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    is_well(&answer)
}

fn ask(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n")?;
    let (mut answer, mut part) = (String::new(), [0; 512]);
    while !answer.contains("\r\n\r\n") || !answer.ends_with('\n') || answer.ends_with("\r\n") {
        match stream.read(&mut part)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            length => answer += &String::from_utf8_lossy(&part[..length]),
        }
    }
    is_well(&answer)
}

fn is_well(answer: &str) -> io::Result<()> {
    match answer.starts_with("HTTP/1.1 200 OK") {
        true => Ok(()),
        false => Err(io::Error::other(format!("answered {answer:?}"))),
    }
}
