//! A SYN flood from forged addresses, several times the connection table, beside a download that is running
//! and new clients: the download arrives whole, the clients are answered, half-open connections make room,
//! and memory stays what the table costs. Needs root, or `make test`.
//!
//! A million SYNs against a table of the default size, as by hand:
//! `UVS_FLOOD_SYNS=1500000 UVS_FLOOD_TABLE=1000000 cargo test --release -p uvs --test flood -- --nocapture`

#[path = "support/stand.rs"]
mod stand;

use std::fs;
use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use uvs_lab::traffic::{Download, requests};
use uvs_lab::{Daemon, Lab, Mode, Options};

use stand::{lab, uvs};

/// SYNs, and places in the table, where `UVS_FLOOD_SYNS` and `UVS_FLOOD_TABLE` do not say.
const SYNS: u32 = 300_000;
const TABLE: u32 = 50_000;
/// SYNs a second: what a debug build takes on a busy machine beside the rest.
const PER_SECOND: u32 = 25_000;
/// SYNs a call.
const BATCH: u32 = 64;
/// The network of the forged addresses (RFC 6598), which is routed back to the client's host.
const FORGED: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);
/// What a connection costs, 128 bytes, with what the index costs a place, at most 23.
const BYTES_PER_CONNECTION: u64 = 151;
/// What the daemon may grow by besides: pages of the ring, answers to these questions.
const SLACK: u64 = 16 << 20;

/// An IPv4 packet with a SYN, without the IP checksum, which the kernel fills in.
fn syn(number: u32, from: Ipv4Addr, to: std::net::SocketAddrV4) -> [u8; 40] {
    let mut packet = [0; 40];
    packet[..12].copy_from_slice(&[0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0]);
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.ip().octets());
    packet[20..22].copy_from_slice(&(1024 + (number % 60_000) as u16).to_be_bytes());
    packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    packet[24..28].copy_from_slice(&number.to_be_bytes());
    packet[32..36].copy_from_slice(&[0x50, 2, 0xff, 0xff]);
    let words = packet[12..].chunks(2);
    let sum = words
        .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]))
        .sum::<u32>()
        + 6
        + 20;
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[36..38].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Sends them at a steady pace from the client's host, and says how long that took.
fn flood(lab: &Lab, syns: u32, per_second: u32) -> Duration {
    let to = lab.plan.vip;
    let open = || {
        // With IPPROTO_RAW the packet brings its own IP header, and so any source.
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?;
        socket.connect(&to.into())?;
        Ok::<_, std::io::Error>(socket)
    };
    let socket = lab
        .client
        .enter(open)
        .expect("entered")
        .expect("a raw socket");
    let start = Instant::now();
    let mut sent = 0;
    while sent < syns {
        let batch = BATCH.min(syns - sent);
        let packets: Vec<_> = (sent..sent + batch)
            .map(|n| syn(n, Ipv4Addr::from(u32::from(FORGED) + n), to))
            .collect();
        let slices: Vec<_> = packets.iter().map(|p| [IoSlice::new(p)]).collect();
        let mut controls: Vec<_> = slices
            .iter()
            .map(|_| SendAncillaryBuffer::default())
            .collect();
        let pairs = slices.iter().zip(&mut controls);
        let mut messages: Vec<_> = pairs.map(|(s, c)| MMsgHdr::new(s, c)).collect();
        sent += sendmmsg(&socket, &mut messages, SendFlags::empty()).expect("it is sent") as u32;
        let due = Duration::from_secs(1) * sent / per_second;
        thread::sleep(due.saturating_sub(start.elapsed()));
    }
    start.elapsed()
}

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// What `uvs show` says as JSON.
fn shown(daemon: &Daemon<'_>, what: &str) -> Value {
    let text = daemon.uvs(&format!("show {what} -o json")).expect("shown");
    serde_json::from_str(&text.stdout).expect("JSON")
}

/// Bytes of memory that a process has in use (proc(5): VmRSS).
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.expect("VmRSS") * 1024
}

/// What the log's last lines say of frames that the rings had no room for.
fn ring_full(log: &str) -> u64 {
    let counts = log.split("ring_full=").skip(1);
    let digits = counts.map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    digits.flatten().filter_map(|n| n.parse::<u64>().ok()).sum()
}

#[test]
fn a_syn_flood_stops_neither_a_download_nor_new_clients() {
    let (syns, table) = (
        number("UVS_FLOOD_SYNS", SYNS),
        number("UVS_FLOOD_TABLE", TABLE),
    );
    let per_second = number("UVS_FLOOD_RATE", PER_SECOND);
    let (lab, _) = lab(Mode::Nat, Options::default());
    let plan = &lab.plan;
    let route = format!("route add {FORGED}/10 via {}", plan.client);
    lab.director.ip(&route).expect("a route");
    let file = lab.dir().join("uvs.toml");
    let text = format!(
        "interfaces = {:?}\n[limits]\nconnections = {table}\n[[service]]\ntcp = \"{}\"\nscheduler = \"rr\"\n\
         mode = \"nat\"\n[[service.server]]\naddress = \"{}\"\n[[service.server]]\naddress = \"{}\"\n",
        plan.interfaces, plan.vip, plan.servers[0], plan.servers[1]
    );
    fs::write(&file, text).expect("written");
    let line = format!("run --config {}", file.display());
    let mut daemon = Daemon::start_with(&lab, uvs(), &line).expect("uvs runs");

    // As long as the flood, and half as long again.
    let seconds = u64::from(syns / per_second) * 3 / 2 + 2;
    let length = seconds * (1 << 20);
    let content = lab.content("file", length).expect("a file");
    let url = plan.url("/file?rate=1m");
    let download = Download::start(&lab.client, &url, &lab.dir().join("d")).expect("curl");
    download.server().expect("it runs");
    let before = resident(daemon.id());

    let (lasted, answered, peak) = thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(&lab, syns, per_second));
        let (mut answered, mut peak) = (0, 0);
        while !flooding.is_finished() {
            let answers = requests(&lab.client, &plan.url("/"), 5);
            let answers = answers.unwrap_or_else(|e| panic!("{e}\n{}", daemon.log()));
            answered += answers.values().sum::<u32>();
            let connections = shown(&daemon, "info")["connections"].as_u64();
            peak = peak.max(connections.expect("a count"));
        }
        (flooding.join().expect("it is sent"), answered, peak)
    });
    let running = !download.is_finished();
    let grown = resident(daemon.id()).saturating_sub(before);
    let received = download
        .finish()
        .unwrap_or_else(|e| panic!("{e}\n{}", daemon.log()));
    received.must_equal(&content).expect("every byte");
    let drops = shown(&daemon, "drops");
    let evicted = drops["ended"]["evicted"].as_u64().expect("a count");
    println!(
        "{syns} SYNs in {lasted:.1?}; table {table}, at most {peak} in it; evicted {evicted}; \
         download {} bytes, whole; new connections answered {answered}; memory grew by {grown} bytes",
        received.length
    );
    assert!(running, "the download ended before the flood did");
    assert!(peak <= u64::from(table), "{peak} of {table}");
    assert!(answered > 0);
    // What the ring could not take never reached the table.
    let reached = drops["totals"]["received"].as_u64().expect("a count");
    assert!(
        reached > u64::from(table),
        "the flood did not fill the table"
    );
    assert!(evicted > 0, "{drops}");
    let full = drops["drops"].as_array().expect("drops").iter();
    let full = full
        .filter(|d| d["reason"] == "table_full")
        .map(|d| d["count"].as_u64());
    assert_eq!(full.collect::<Vec<_>>(), [Some(0)]);
    assert!(
        grown <= u64::from(table) * BYTES_PER_CONNECTION + SLACK,
        "{grown} bytes"
    );
    let status = daemon.process().stop().expect("it ends");
    assert!(status.success(), "{}", daemon.log());
    println!("dropped by full rings: {}", ring_full(&daemon.log()));
}
