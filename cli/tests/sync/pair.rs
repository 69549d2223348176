//! A client, two directors and a real server on two links:
//!
//! client 10.9.0.2 — eth0 10.9.0.3 first  10.8.0.3 eth1 — eth1 10.8.0.11 server
//!                   eth0 10.9.0.4 second 10.8.0.4 eth1
//!
//! and the server has a leg on the client's link too. The VIP 10.9.0.100, the server's gateway 10.8.0.1 and FULLNAT's
//! local address 10.8.0.9 are those of the director that serves.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use uvs_core::narrow;

use crate::netns::Netns;

/// How long what must come may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 11);
pub(crate) const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 9);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);

/// Bytes of the download: as many parts, a moment after each.
pub(crate) const LENGTH: usize = PART * PARTS;
const PART: usize = 32 << 10;
const PARTS: usize = 160;
const MOMENT: Duration = Duration::from_millis(25);

pub(crate) struct Pair {
    pub(crate) client: Netns,
    pub(crate) directors: [Director; 2],
    server: Netns,
    /// `uvs rs` has prepared it.
    decapsulates: bool,
    /// The links' switches.
    _switches: [Netns; 2],
}

pub(crate) struct Director {
    host: Netns,
    daemon: Mutex<Child>,
    /// Programs that run beside it.
    others: Mutex<Vec<Child>>,
    dir: TempDir,
}

impl Pair {
    /// With the server's replies to the client `directly`, by `the gateway`, or to `the local address`.
    pub(crate) fn new(replies: &str) -> Self {
        let switches = [Netns::new(), Netns::new()];
        for switch in &switches {
            switch.ip("link add name sw0 type bridge");
            switch.ip("link set sw0 up");
        }
        let plug = |host: &Netns, link: usize, name: &str, port: &str| {
            let switch = &switches[link];
            switch.veth(port, host, name);
            switch.ip(&format!("link set {port} master sw0"));
        };
        let client = Netns::new();
        plug(&client, 0, "eth0", "client");
        client.ip("address add 10.9.0.2/24 dev eth0");
        let hosts = [3, 4].map(|last| {
            let host = Netns::new();
            plug(&host, 0, "eth0", &format!("d{last}"));
            plug(&host, 1, "eth1", &format!("d{last}"));
            host.ip(&format!("address add 10.9.0.{last}/24 dev eth0"));
            host.ip(&format!("address add 10.8.0.{last}/24 dev eth1"));
            host.sysctl("ip_forward", "1");
            host
        });
        let server = Netns::new();
        plug(&server, 0, "eth0", "server");
        plug(&server, 1, "eth1", "server");
        server.ip("address add 10.9.0.11/24 dev eth0");
        server.ip("address add 10.8.0.11/24 dev eth1");
        prepare(&server, replies);
        Self {
            client,
            directors: hosts.map(Director::start),
            server,
            decapsulates: replies == "directly",
            _switches: switches,
        }
    }

    /// The director that serves from now on: it gets the addresses, and all know where they are, as by VRRP.
    pub(crate) fn serve_by(&self, place: usize) {
        let other = &self.directors[1 - place].host;
        let serving = &self.directors[place].host;
        for (addr, interface) in [(VIP, "eth0"), (GATEWAY, "eth1"), (LOCAL, "eth1")] {
            let there = other.ip(&format!("address show dev {interface}"));
            if there.contains(&format!("{addr}/32")) {
                other.ip(&format!("address del {addr}/32 dev {interface}"));
            }
            serving.ip(&format!("address add {addr}/32 dev {interface}"));
        }
        let mac = |interface: &str| {
            let shown = serving.ip(&format!("link show dev {interface}"));
            let words: Vec<&str> = shown.split_whitespace().collect();
            let at = words.iter().position(|w| *w == "link/ether");
            words[at.expect("a MAC address") + 1].to_owned()
        };
        let knows = |host: &Netns, addr: Ipv4Addr, mac: &str, dev: &str| {
            host.ip(&format!("neigh replace {addr} lladdr {mac} dev {dev}"));
        };
        knows(&self.client, VIP, &mac("eth0"), "eth0");
        knows(&self.server, GATEWAY, &mac("eth1"), "eth1");
        knows(&self.server, LOCAL, &mac("eth1"), "eth1");
    }
}

impl Pair {
    /// A director that was switched off starts again, with what it had configured.
    pub(crate) fn switch_on(&mut self, place: usize) {
        let host = &self.directors[place].host;
        for interface in ["eth0", "eth1"] {
            host.ip(&format!("link set {interface} up"));
        }
        for addr in [VIP, GATEWAY] {
            let there = host.ip("address show");
            let of = if addr == VIP { "eth0" } else { "eth1" };
            if there.contains(&format!("inet {addr}/")) {
                host.ip(&format!("address del {addr}/32 dev {of}"));
            }
        }
        let daemon = Mutex::new(spawn(host, self.directors[place].dir.path()));
        self.directors[place].daemon = daemon;
        let director = &self.directors[place];
        eventually("uvs is ready", || {
            director.tell("show info").status.success()
        });
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if self.decapsulates {
            rs(&self.server, "down --mode ipip");
        }
    }
}

impl Director {
    fn start(host: Netns) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let daemon = spawn(&host, dir.path());
        let director = Self {
            host,
            daemon: Mutex::new(daemon),
            others: Mutex::default(),
            dir,
        };
        eventually("uvs is ready", || {
            director.tell("show info").status.success()
        });
        director
    }

    /// What `uvs` says to these words.
    pub(crate) fn uvs(&self, words: &str) -> String {
        let output = self.tell(words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}: {stderr}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What ipvsadm says to these words.
    pub(crate) fn ask(&self, words: &str) -> String {
        self.uvs(&format!("ipvsadm {words}"))
    }

    /// How ipvsadm refuses these words.
    pub(crate) fn refused(&self, words: &str) -> (i32, String) {
        let output = self.tell(&format!("ipvsadm {words}"));
        let code = output.status.code().expect("it ends by itself");
        (code, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn tell(&self, words: &str) -> Output {
        let mut uvs = Command::new(env!("CARGO_BIN_EXE_uvs"));
        uvs.env("UVS_SOCKET", self.dir.path().join("control.sock"));
        uvs.args(words.split_whitespace());
        self.host.enter(|| uvs.output().expect("uvs runs"))
    }

    /// `kill -9`.
    pub(crate) fn kill(&self) {
        end(
            &mut self.daemon.lock().expect("no test has failed"),
            Signal::KILL,
        );
    }

    /// Where its files are.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts a program by `uvs` that runs for as long as the director.
    pub(crate) fn beside(&self, words: &str) {
        let mut program = Command::new(env!("CARGO_BIN_EXE_uvs"));
        program.env("UVS_SOCKET", self.dir.path().join("control.sock"));
        program.env("UVS_IPVS_SOCKET", self.dir.path().join("ipvs.sock"));
        program.args(words.split_whitespace());
        let log = std::fs::File::create(self.dir.path().join("beside.log")).expect("a file");
        let errors = log.try_clone().expect("a descriptor");
        program.stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = self.host.enter(|| program.spawn().expect("uvs runs"));
        self.others.lock().expect("no test has failed").push(child);
    }

    /// Whether it has an address.
    pub(crate) fn has(&self, addr: Ipv4Addr) -> bool {
        self.host
            .ip("address show")
            .contains(&format!("inet {addr}/"))
    }

    /// As if its plug were pulled: nothing is told anybody, and nothing cleared.
    pub(crate) fn switch_off(&self) {
        for interface in ["eth0", "eth1"] {
            self.host.ip(&format!("link set {interface} down"));
        }
        self.kill();
        for other in self.others.lock().expect("no test has failed").iter_mut() {
            end(other, Signal::TERM);
        }
    }
}

/// Ends a process of ours.
fn end(child: &mut Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().cast_signed()).expect("a process");
    if child.try_wait().is_ok_and(|ended| ended.is_none()) {
        let _ = kill_process(pid, signal);
        let _ = child.wait();
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        for other in self.others.get_mut().into_iter().flatten() {
            end(other, Signal::TERM);
        }
        if let Ok(daemon) = self.daemon.get_mut() {
            end(daemon, Signal::TERM);
        }
        if std::thread::panicking() {
            for log in ["log", "beside.log"] {
                let log = std::fs::read_to_string(self.dir.path().join(log));
                eprintln!("{}", log.unwrap_or_default());
            }
        }
    }
}

/// Starts UVS.
fn spawn(host: &Netns, dir: &Path) -> Child {
    let mut uvs = Command::new(env!("CARGO_BIN_EXE_uvs"));
    uvs.env("UVS_SOCKET", dir.join("control.sock"));
    uvs.args(["run", "--interface", "eth0", "--interface", "eth1"]);
    uvs.args(["--metrics", "off"]);
    let log = std::fs::File::create(dir.join("log")).expect("a file");
    uvs.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    host.enter(|| uvs.spawn().expect("uvs runs"))
}

/// Has `uvs rs` make the host a real server of the VIP, or no more.
fn rs(server: &Netns, words: &str) {
    let mut rs = Command::new(env!("CARGO_BIN_EXE_uvs"));
    rs.arg("rs").args(words.split_whitespace());
    rs.args(["--vip", &VIP.to_string()]);
    let output = server.enter(|| rs.output().expect("uvs runs"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "uvs rs {words}: {stderr}");
}

/// The server's addresses and routes, a decapsulator, and its program.
fn prepare(server: &Netns, replies: &str) {
    match replies {
        "directly" => {
            server.sysctl("conf/all/arp_ignore", "1");
            server.sysctl("conf/all/arp_announce", "2");
            server.sysctl("conf/all/rp_filter", "0");
            rs(server, "up --mode ipip");
        }
        "the gateway" => {
            server.ip("address del 10.9.0.11/24 dev eth0");
            server.ip(&format!("route add 10.9.0.0/24 via {GATEWAY} dev eth1"));
        }
        _ => {}
    }
    let listener = server.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)));
    let listener = listener.expect("a port");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || send_all(stream));
        }
    });
}

/// Sends the parts, a moment after each.
fn send_all(mut stream: TcpStream) {
    for n in 0..PARTS {
        if stream.write_all(&part(n)).is_err() {
            return;
        }
        std::thread::sleep(MOMENT);
    }
}

fn part(n: usize) -> Vec<u8> {
    (0..PART)
        .map(|i| narrow::to_u8((n * 31 + i * 7) % 251))
        .collect()
}

/// A download that is under way.
pub(crate) struct Download(JoinHandle<(Result<usize, String>, Duration)>);

/// Begins to download.
pub(crate) fn download(client: &Netns) -> Download {
    let stream = client.enter(|| TcpStream::connect_timeout(&(VIP, 80).into(), PATIENCE));
    let stream = stream.expect("a connection");
    Download(std::thread::spawn(move || read_all(stream)))
}

impl Download {
    pub(crate) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// How many bytes came as they were sent, and the longest time between two parts.
    pub(crate) fn finish(self) -> (Result<usize, String>, Duration) {
        self.0.join().expect("the client ends")
    }
}

fn read_all(mut stream: TcpStream) -> (Result<usize, String>, Duration) {
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let (mut last, mut gap) = (Instant::now(), Duration::ZERO);
    for n in 0..PARTS {
        let mut got = vec![0; PART];
        if let Err(e) = stream.read_exact(&mut got) {
            return (Err(format!("part {n}: {e}")), gap);
        }
        if got != part(n) {
            return (Err(format!("part {n} is not what was sent")), gap);
        }
        gap = gap.max(last.elapsed());
        last = Instant::now();
    }
    (Ok(LENGTH), gap)
}

/// Whether a request gets the beginning of an answer.
pub(crate) fn begins_to_answer(client: &Netns) -> bool {
    let stream = client.enter(|| TcpStream::connect_timeout(&(VIP, 80).into(), PATIENCE));
    let Ok(mut stream) = stream else { return false };
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut begin = [0; 1024];
    stream.read_exact(&mut begin).is_ok() && begin[..] == part(0)[..1024]
}

/// Waits for something that must become true.
pub(crate) fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
