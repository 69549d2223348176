//! A SYN flood from forged addresses, several times the connection table, beside downloads that run and new
//! clients: every download arrives whole, every client is answered, half-open connections make room, and
//! memory stays what the table costs. At a persistent service it denies neither that one nor another
//! anything. Needs root, or `make test`.
//!
//! A million and a half SYNs against a table of the default size, as by hand:
//! `UVS_FLOOD_SYNS=1500000 UVS_FLOOD_TABLE=1000000 cargo test --release -p uvs --test flood -- --nocapture`

#[path = "support/stand.rs"]
mod stand;

use std::fs;
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use uvs_lab::share::workers;
use uvs_lab::traffic::{download, requests};
use uvs_lab::{Daemon, Host, Lab, Mode, Options};

use stand::{lab, uvs};

/// SYNs, and places in the table, where `UVS_FLOOD_SYNS` and `UVS_FLOOD_TABLE` do not say.
const SYNS: u32 = 300_000;
const TABLE: u32 = 50_000;
/// SYNs a call.
const BATCH: u32 = 64;
/// SYNs on their way: as many as a ring holds half of. More would only be dropped there, with the clients' own
/// packets, and never reach the table.
const WINDOW: u32 = 4096;
/// How long an answer is waited for that would make room in the window; then it is taken for lost.
const PATIENCE: Duration = Duration::from_millis(200);
/// The network of the forged addresses (RFC 6598), which is routed back to the client's host.
const FORGED: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);
/// What a connection costs, 128 bytes, with what the index costs a place, at most 23.
const BYTES_PER_CONNECTION: u64 = 151;
/// What the daemon may grow by besides: pages of the ring, answers to these questions.
const SLACK: u64 = 16 << 20;

/// An IPv4 packet with a SYN, without the IP checksum, which the kernel fills in.
fn syn(number: u32, from: Ipv4Addr, to: SocketAddrV4) -> [u8; 40] {
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
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("folded");
    packet[36..38].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Sends them from the client's host as fast as they are answered there, and says how long that took.
fn flood(lab: &Lab, syns: u32) -> Duration {
    let to = lab.plan.vip;
    let open = || {
        // With IPPROTO_RAW the packet brings its own IP header, and so any source.
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?;
        socket.connect(&to.into())?;
        Ok::<_, std::io::Error>(socket)
    };
    let socket = lab.client.enter(open).expect("entered");
    let socket = socket.expect("a raw socket");
    let (start, answers) = (Instant::now(), received(&lab.client));
    let (mut sent, mut lost) = (0, 0);
    while sent < syns {
        sent += send(&socket, sent..syns.min(sent + BATCH), to);
        let on_their_way = |lost| {
            let back = received(&lab.client) - answers + u64::from(lost);
            u64::from(sent).saturating_sub(back)
        };
        let since = Instant::now();
        while on_their_way(lost) > u64::from(WINDOW) {
            if since.elapsed() > PATIENCE {
                lost += WINDOW / 2;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
    start.elapsed()
}

fn send(socket: &Socket, numbers: Range<u32>, to: SocketAddrV4) -> u32 {
    let from = |n| Ipv4Addr::from(u32::from(FORGED) + n);
    let packets: Vec<_> = numbers.map(|n| syn(n, from(n), to)).collect();
    let slices: Vec<_> = packets.iter().map(|p| [IoSlice::new(p)]).collect();
    let mut controls: Vec<_> = slices
        .iter()
        .map(|_| SendAncillaryBuffer::default())
        .collect();
    let pairs = slices.iter().zip(&mut controls);
    let mut messages: Vec<_> = pairs.map(|(s, c)| MMsgHdr::new(s, c)).collect();
    let sent = sendmmsg(socket, &mut messages, SendFlags::empty()).expect("they are sent");
    u32::try_from(sent).expect("a batch")
}

/// Frames that came in by a host's interface, downloads' and answers to SYNs.
fn received(host: &Host) -> u64 {
    // Not /proc/net, which is the namespace of the process's first thread.
    let read = || fs::read_to_string("/proc/thread-self/net/dev");
    let text = host.enter(read).expect("entered").expect("net/dev");
    let line = text.lines().find_map(|l| l.trim().strip_prefix("eth0:"));
    let packets = line.and_then(|rest| rest.split_whitespace().nth(1));
    packets.and_then(|n| n.parse().ok()).expect("a count")
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

/// Downloads, at 1 MiB a second, until the flood is over; how many, all of them whole.
fn downloads(lab: &Lab, over: &AtomicBool) -> u32 {
    let content = lab.content("file", 4 << 20).expect("a file");
    let url = lab.plan.url("/file?rate=1m");
    let mut whole = 0;
    while !over.load(Ordering::Relaxed) {
        let received = download(&lab.client, &url, &lab.dir().join("d")).expect("a download");
        received.must_equal(&content).expect("every byte");
        whole += 1;
    }
    whole
}

#[test]
fn a_syn_flood_stops_neither_downloads_nor_new_clients() {
    let (syns, table) = (
        number("UVS_FLOOD_SYNS", SYNS),
        number("UVS_FLOOD_TABLE", TABLE),
    );
    let (lab, _) = lab(Mode::Nat, Options::default());
    let mut daemon = serve(&lab, table, None);
    let before = resident(daemon.id());
    let over = AtomicBool::new(false);
    let (lasted, whole, answered, peak) = thread::scope(|scope| {
        let whole = scope.spawn(|| downloads(&lab, &over));
        let flooding = scope.spawn(|| flood(&lab, syns));
        let (mut answered, mut peak) = (0, 0);
        while !flooding.is_finished() {
            let answers = requests(&lab.client, &lab.plan.url("/"), 5);
            let connections = shown(&daemon, "info")["connections"].as_u64();
            peak = peak.max(connections.expect("a count"));
            match answers {
                Ok(answers) => answered += answers.values().sum::<u32>(),
                Err(error) => {
                    over.store(true, Ordering::Relaxed);
                    panic!(
                        "{error}\n{}\n{}",
                        shown(&daemon, "drops")["totals"],
                        daemon.log()
                    );
                }
            }
        }
        over.store(true, Ordering::Relaxed);
        let lasted = flooding.join().expect("it is sent");
        (lasted, whole.join().expect("they arrive"), answered, peak)
    });
    let grown = resident(daemon.id()).saturating_sub(before);
    let drops = shown(&daemon, "drops");
    let evicted = drops["ended"]["evicted"].as_u64().expect("a count");
    let status = daemon.process().stop().expect("it ends");
    assert!(status.success(), "{}", daemon.log());
    println!(
        "{syns} SYNs in {lasted:.1?}, {} dropped by full rings; table {table}, at most {peak} in it; \
         evicted {evicted}; downloads of 4 MiB whole {whole}; new connections answered {answered}; \
         memory grew by {grown} bytes",
        ring_full(&daemon.log())
    );
    assert!(peak <= u64::from(table), "{peak} of {table}");
    assert!(whole > 0 && answered > 0);
    assert!(evicted > 0, "{drops}");
    assert_eq!(table_full(&drops), 0);
    let bound = u64::from(table) * BYTES_PER_CONNECTION + SLACK;
    assert!(grown <= bound, "{grown} bytes of {bound}");
}

/// Connections that were refused because the table was full.
fn table_full(drops: &Value) -> u64 {
    let mut reasons = drops["drops"].as_array().expect("drops").iter();
    let full = reasons.find(|d| d["reason"] == "table_full");
    full.and_then(|d| d["count"].as_u64()).expect("a count")
}

#[test]
fn a_syn_flood_at_a_persistent_service_denies_neither_it_nor_another() {
    const TABLE: u32 = 2000;
    const NEIGHBOUR: u16 = 81;
    let (lab, _) = lab(Mode::Nat, Options::default());
    let neighbour = SocketAddrV4::new(*lab.plan.vip.ip(), NEIGHBOUR);
    let daemon = serve(&lab, TABLE, Some(neighbour));
    // A client of before, whose server must stay its own.
    let url = lab.plan.url("/");
    let before = requests(&lab.client, &url, 1).expect("an answer");
    flood(&lab, TABLE * 10);
    let connections = shown(&daemon, "info")["connections"].as_u64();
    // A connection and its template go together, so one place may be free; and what several workers have in hand.
    let free = if workers() > 1 { TABLE / 16 } else { 1 };
    assert!(
        connections >= Some(u64::from(TABLE - free)),
        "full of the flood"
    );
    let answers = requests(&lab.client, &url, 20).expect("answers");
    assert_eq!(
        answers.keys().collect::<Vec<_>>(),
        before.keys().collect::<Vec<_>>()
    );
    let other = requests(&lab.client, &format!("http://{neighbour}/"), 20).expect("answers");
    assert_eq!(other.values().sum::<u32>(), 20);
    let drops = shown(&daemon, "drops");
    assert_eq!(table_full(&drops), 0, "{drops}");
    daemon.stop().expect("it ends well");
}

/// `uvs run` with a table of this size, the plan's service on two servers, and a way back for answers to
/// the forged addresses. With a `neighbour`, the service is persistent and that one is not.
fn serve(lab: &Lab, table: u32, neighbour: Option<SocketAddrV4>) -> Daemon<'_> {
    let plan = &lab.plan;
    let route = format!("route add {FORGED}/10 via {}", plan.client);
    lab.director.ip(&route).expect("a route");
    // Always: a full SYN queue of their own would reset clients.
    for server in &lab.servers {
        let host = &server.host;
        host.sysctl("net.ipv4.tcp_syncookies", "2").expect("set");
    }
    let file = lab.dir().join("uvs.toml");
    let mut text = format!(
        "interfaces = {:?}\n[limits]\nconnections = {table}\n",
        plan.interfaces
    );
    let persistent = neighbour.map_or("", |_| "persistent = 300\n");
    for (vip, persistent) in [(Some(plan.vip), persistent), (neighbour, "")] {
        let Some(vip) = vip else { continue };
        text += &format!(
            "[[service]]\ntcp = \"{vip}\"\nscheduler = \"rr\"\nmode = \"nat\"\n{persistent}\
             [[service.server]]\naddress = \"{}\"\n[[service.server]]\naddress = \"{}\"\n",
            plan.servers[0], plan.servers[1]
        );
    }
    fs::write(&file, text).expect("written");
    Daemon::start_with(lab, uvs(), &format!("run --config {}", file.display())).expect("uvs runs")
}
