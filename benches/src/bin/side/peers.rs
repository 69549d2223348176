//! What is measured beside what: each peer is started alone on the same director and stopped again, so
//! that none pays for another's hooks, taps or tables.

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use uvs_lab::process::{self, Process, SOON};
use uvs_lab::{Daemon, Lab, tools};

use crate::redirect::Redirect;
use uvs_benches::pingpong;

/// Ports of the services: HTTP, iperf3, the echo, and the sink for datagrams; and of a sink that is no service's.
pub(crate) const HTTP: u16 = 80;
pub(crate) const IPERF3: u16 = 5201;
pub(crate) const ECHO: u16 = 7000;
pub(crate) const SINK: u16 = 9000;
pub(crate) const FOREIGN: u16 = 9001;

const TCP_PORTS: [u16; 3] = [HTTP, IPERF3, ECHO];
/// The nftables table.
const TABLE: &str = "bench";
/// How long a peer may take until a connection through it works.
const PATIENCE: Duration = Duration::from_secs(20);

/// A way from the client to the real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Peer {
    /// UVS with the kernel forwarding what is established.
    Hook,
    /// UVS with every frame going through user space, one worker.
    Plain,
    /// As that, with more workers: `--workers` says how many.
    #[value(skip)]
    Workers(u32),
    /// haproxy in TCP mode, 2 threads.
    Haproxy,
    /// DNAT by nftables, with the kernel's connection tracking.
    Nft,
    /// No load balancer and no stack either: each frame is redirected as it is. What no forwarder on this way can beat.
    Bare,
    /// No load balancer: the director only routes, or is not on the way at all.
    Direct,
}

impl Peer {
    /// Whether it is UVS.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Hook | Self::Plain | Self::Workers(_))
    }

    /// Whether it passes datagrams.
    pub(crate) fn has_udp(self) -> bool {
        self != Self::Haproxy
    }

    /// Whether the director's kernel routes beside it what is not the service's.
    pub(crate) fn routes(self) -> bool {
        self != Self::Bare
    }

    /// The program it needs.
    pub(crate) fn tool(self) -> Option<&'static str> {
        match self {
            Self::Haproxy => Some("haproxy"),
            Self::Nft => Some("nft"),
            Self::Bare => Some("tc"),
            Self::Hook | Self::Plain | Self::Workers(_) | Self::Direct => None,
        }
    }

    /// Starts it and waits until a connection through it works.
    pub(crate) fn start<'lab>(self, lab: &'lab Lab, uvs: &Path) -> Result<Running<'lab>> {
        let way = match self {
            Self::Hook => Way::Hook(start_uvs(lab, uvs, "--hook tier")?),
            Self::Plain => Way::Plain(start_uvs(lab, uvs, "--hook off")?),
            Self::Workers(workers) => {
                let words = format!("--hook off --workers {workers}");
                Way::Plain(start_uvs(lab, uvs, &words)?)
            }
            Self::Haproxy => Way::Haproxy(start_haproxy(lab)?),
            Self::Nft => {
                start_nft(lab)?;
                Way::Nft(lab)
            }
            Self::Bare => Way::Bare(Redirect::start(lab)?),
            Self::Direct => Way::Direct,
        };
        let address = match self {
            Self::Bare | Self::Direct => *lab.plan.servers[0].ip(),
            Self::Hook | Self::Plain | Self::Workers(_) | Self::Haproxy | Self::Nft => {
                *lab.plan.vip.ip()
            }
        };
        let running = Running { address, way };
        running.wait_open(lab).with_context(|| format!("{self}"))?;
        Ok(running)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Workers(workers) => return write!(f, "UVS plain, {workers} workers"),
            Self::Hook => "UVS hook",
            Self::Plain => "UVS plain",
            Self::Haproxy => "haproxy",
            Self::Nft => "nft DNAT",
            Self::Bare => "bare redirect",
            Self::Direct => "direct",
        })
    }
}

enum Way<'lab> {
    Hook(Daemon<'lab>),
    Plain(Daemon<'lab>),
    Haproxy(Process),
    Nft(&'lab Lab),
    Bare(Redirect<'lab>),
    Direct,
}

/// A peer at work.
pub(crate) struct Running<'lab> {
    /// What the client connects to.
    pub(crate) address: Ipv4Addr,
    way: Way<'lab>,
}

impl Running<'_> {
    /// The service on `port` as the client sees it.
    pub(crate) fn at(&self, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, port)
    }

    /// The load balancer's process, where it is one.
    pub(crate) fn process(&self) -> Option<u32> {
        match &self.way {
            Way::Hook(daemon) | Way::Plain(daemon) => Some(daemon.id()),
            Way::Haproxy(process) => Some(process.id()),
            Way::Nft(_) | Way::Bare(_) | Way::Direct => None,
        }
    }

    /// Stops it and removes what it needed.
    pub(crate) fn stop(self) -> Result<()> {
        match self.way {
            Way::Hook(daemon) => {
                require_forwarded(&daemon)?;
                daemon.stop()?;
            }
            Way::Plain(daemon) => daemon.stop()?,
            Way::Haproxy(mut process) => drop(process.stop()?),
            Way::Nft(lab) => drop(lab.director.run(&format!("nft delete table ip {TABLE}"))?),
            Way::Bare(redirect) => redirect.stop()?,
            Way::Direct => {}
        }
        Ok(())
    }

    fn wait_open(&self, lab: &Lab) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            match pingpong::once(&lab.client, self.at(ECHO)) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

fn start_uvs<'lab>(lab: &'lab Lab, uvs: &Path, words: &str) -> Result<Daemon<'lab>> {
    let daemon = lab.start_daemon_with(uvs, words)?;
    let (vip, server) = (lab.plan.vip.ip(), lab.plan.servers[0].ip());
    let flag = lab.plan.mode.flag();
    let tcp = TCP_PORTS.map(|port| ("-t", port));
    for (kind, port) in tcp.into_iter().chain([("-u", SINK)]) {
        daemon.ipvsadm(&format!("-A {kind} {vip}:{port} -s rr"))?;
        daemon.ipvsadm(&format!("-a {kind} {vip}:{port} -r {server}:{port} {flag}"))?;
    }
    Ok(daemon)
}

/// A figure of the hook's must not be one of a hook that forwarded nothing.
fn require_forwarded(daemon: &Daemon<'_>) -> Result<()> {
    let shown = daemon.uvs("show hook -o json")?.stdout;
    let hook: serde_json::Value = serde_json::from_str(&shown).context("`uvs show hook`")?;
    let ports = hook["ports"].as_array().into_iter().flatten();
    let forwarded = ports
        .filter_map(|port| port["forwarded"].as_u64())
        .sum::<u64>();
    if forwarded == 0 {
        bail!("the kernel forwarded nothing, so this was not the hook that was measured:\n{shown}");
    }
    Ok(())
}

fn start_haproxy(lab: &Lab) -> Result<Process> {
    let config = lab.dir().join("haproxy.cfg");
    fs::write(&config, haproxy_config(lab)).context("write haproxy's configuration")?;
    let mut command = tools::command("haproxy", ["-db", "-f"])?;
    command.arg(&config);
    let log = lab.dir().join("haproxy.log");
    let mut process = lab.director.spawn(command, &log)?;
    let echo = SocketAddrV4::new(*lab.plan.vip.ip(), ECHO);
    // So that its own words are shown where it does not start.
    process.wait_ready(SOON, |_| pingpong::once(&lab.client, echo).is_ok())?;
    Ok(process)
}

fn haproxy_config(lab: &Lab) -> String {
    let (vip, server) = (lab.plan.vip.ip(), lab.plan.servers[0].ip());
    let listen: String = TCP_PORTS
        .map(|port| {
            format!("listen p{port}\n    bind {vip}:{port}\n    server rs1 {server}:{port}\n")
        })
        .concat();
    format!(
        "global
    nbthread 2
    maxconn 4000
defaults
    mode tcp
    balance roundrobin
    timeout connect 5s
    timeout client 60s
    timeout server 60s
{listen}"
    )
}

/// As a user would write a balancing DNAT rule; both places of the map are the one server.
fn start_nft(lab: &Lab) -> Result<()> {
    let (vip, server) = (lab.plan.vip.ip(), lab.plan.servers[0].ip());
    let rules = format!(
        "table ip {TABLE} {{
    chain prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
        ip daddr {vip} dnat to numgen inc mod 2 map {{ 0 : {server}, 1 : {server} }}
    }}
}}
"
    );
    let command = tools::command("nft", ["-f", "-"])?;
    let load = || process::output(command, &rules, SOON);
    lab.director.enter(load)??;
    if !lab.director.run("nft list tables")?.contains(TABLE) {
        bail!("nft did not load the rules");
    }
    Ok(())
}
