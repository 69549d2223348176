//! `ipvsadm -Lnc` of many connections, and the round trips of a ping-pong beside it.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use uvs_benches::pingpong;
use uvs_lab::{Daemon, Lab, Mode, Options};

/// Source addresses of the clients, and ports of each.
const CLIENTS: u8 = 16;
const PORTS: std::ops::Range<u16> = 2000..62_000;
/// Most connections that these make.
pub(crate) const MOST: i64 = CLIENTS as i64 * (PORTS.end - PORTS.start) as i64;
/// Where the ping-pong is answered, and where the datagrams go that make connections.
const ECHO: u16 = 7000;
const DISCARD: u16 = 9;
/// How long a ping-pong goes on with nothing beside it.
const ALONE: Duration = Duration::from_secs(5);

/// Makes connections, lists them time after time beside a ping-pong, and says what each took.
pub(crate) fn measure(uvs: &Path, hook: &str, connections: u32) -> Result<()> {
    let lab = Lab::build(Mode::Nat, Options::default())?;
    let daemon = lab.start_daemon_with(uvs, &format!("--hook {hook}"))?;
    let vip = *lab.plan.vip.ip();
    let server = lab.plan.servers[0].ip();
    for (protocol, port) in [('t', ECHO), ('u', DISCARD)] {
        daemon.ipvsadm(&format!("-A -{protocol} {vip}:{port} -s rr"))?;
        daemon.ipvsadm(&format!(
            "-a -{protocol} {vip}:{port} -r {server}:{port} -m"
        ))?;
    }
    pingpong::serve(&lab.servers[0].host, ECHO)?;
    connect(&lab, connections)?;
    let echo = SocketAddrV4::new(vip, ECHO);
    let alone = pingpong::run(&lab.client, echo, ALONE)?;
    let busy = beside_busy_programs(&lab, echo)?;
    let is_over = AtomicBool::new(false);
    let (listed, beside) = thread::scope(|scope| -> Result<_> {
        let lister = scope.spawn(|| lab.director.enter(|| list(&daemon, &is_over)));
        let beside = pingpong::run(&lab.client, echo, 2 * ALONE);
        is_over.store(true, Ordering::Relaxed);
        let listed = lister.join().expect("no panic")??;
        Ok((listed, beside?))
    })?;
    let us = |ns: u64| ns as f64 / 1e3;
    for (what, trips) in [
        ("nothing beside it", &alone),
        ("two busy programs beside it", &busy),
        ("`-Lnc` beside it", &beside),
    ] {
        println!(
            "ping-pong, {what}: {} round trips, p50 {:.0} µs, p99 {:.0} µs, the longest {:.0} µs",
            trips.len(),
            us(trips.value_at_quantile(0.5)),
            us(trips.value_at_quantile(0.99)),
            us(trips.max())
        );
    }
    for Listed { lines, first, all } in listed {
        println!("`-Lnc`: {lines} lines, the first after {first:.1?}, all after {all:.1?}");
    }
    Ok(())
}

/// Round trips while two programs compute, as a listing's two ends do, and have nothing to do with the daemon: what
/// a listing costs for want of a CPU alone.
fn beside_busy_programs(lab: &Lab, echo: SocketAddrV4) -> Result<Histogram<u64>> {
    let busy = || {
        Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
    };
    let mut programs = [busy()?, busy()?];
    let trips = pingpong::run(&lab.client, echo, ALONE);
    for program in &mut programs {
        program.kill()?;
        program.wait()?;
    }
    trips
}

/// One datagram from each of so many ports: each is a connection.
fn connect(lab: &Lab, connections: u32) -> Result<()> {
    let [a, b, c, _] = lab.plan.client.octets();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| Ipv4Addr::new(a, b, c, 101 + n))
        .collect();
    for client in &clients {
        lab.client
            .run(&format!("ip addr add {client}/24 dev eth0"))?;
    }
    let to = SocketAddr::from((*lab.plan.vip.ip(), DISCARD));
    let send = || -> std::io::Result<()> {
        let ends = clients
            .iter()
            .flat_map(|c| PORTS.map(move |port| (*c, port)));
        ends.take(connections as usize)
            .try_for_each(|end| UdpSocket::bind(end)?.send_to(&[0], to).map(drop))
    };
    lab.client.enter(send)?.context("making connections")
}

/// What one listing printed, and when.
struct Listed {
    lines: usize,
    first: Duration,
    all: Duration,
}

/// Lists until it is over.
fn list(daemon: &Daemon<'_>, is_over: &AtomicBool) -> Result<Vec<Listed>> {
    let mut listed = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let mut command = daemon.command("ipvsadm -L -n -c");
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("its output")?;
        let (mut lines, mut first) = (0, Duration::ZERO);
        for line in BufReader::new(output).split(b'\n') {
            line?;
            lines += 1;
            if lines == 1 {
                first = begun.elapsed();
            }
        }
        let all = begun.elapsed();
        ensure!(child.wait()?.success(), "-Lnc failed");
        listed.push(Listed { lines, first, all });
    }
    Ok(listed)
}
