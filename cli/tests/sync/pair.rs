//! A client, two directors and a real server on two links:
//!
//! client 10.9.0.2 — eth0 10.9.0.3 first  10.8.0.3 eth1 — eth1 10.8.0.11 server
//!                   eth0 10.9.0.4 second 10.8.0.4 eth1
//!
//! and the server has a leg on the client's link too. The VIP 10.9.0.100, the server's gateway 10.8.0.1 and FULLNAT's
//! local address 10.8.0.9 are those of the director that serves. All but the gateway is there in IPv6 too, as fd09:: and
//! fd08:: with the same last digits.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use uvs_core::narrow;

use crate::director::{Director, PATIENCE};
use crate::netns::Netns;
use crate::stand;

pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 11);
pub(crate) const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 9);
/// The directors' own.
pub(crate) const ADDRESSES: [Ipv4Addr; 2] =
    [Ipv4Addr::new(10, 9, 0, 3), Ipv4Addr::new(10, 9, 0, 4)];
pub(crate) const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 0x100);
pub(crate) const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfd08, 0, 0, 0, 0, 0, 0, 0x11);
pub(crate) const LOCAL6: Ipv6Addr = Ipv6Addr::new(0xfd08, 0, 0, 0, 0, 0, 0, 9);
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
        address(&client, 9, "2", "eth0");
        let hosts = [3, 4].map(|last| {
            let host = Netns::new();
            plug(&host, 0, "eth0", &format!("d{last}"));
            plug(&host, 1, "eth1", &format!("d{last}"));
            address(&host, 9, &last.to_string(), "eth0");
            address(&host, 8, &last.to_string(), "eth1");
            host.sysctl("ip_forward", "1");
            host
        });
        let server = Netns::new();
        plug(&server, 0, "eth0", "server");
        plug(&server, 1, "eth1", "server");
        address(&server, 9, "11", "eth0");
        address(&server, 8, "11", "eth1");
        prepare(&server, replies);
        Self {
            client,
            directors: hosts.map(|host| Director::start(host, &["eth0", "eth1"])),
            server,
            decapsulates: replies == "directly",
            _switches: switches,
        }
    }

    /// The first director is killed, and the second serves: downloads that began with the first arrive whole. The last
    /// of them is running still.
    pub(crate) fn fail_over<const N: usize>(&self, downloading: [Download; N]) {
        let last = downloading.last().expect("a download");
        assert!(!last.is_finished(), "the download is not over yet");
        self.directors[0].kill();
        self.serve_by(1);
        for download in downloading {
            let (bytes, longest_gap) = download.finish();
            assert_eq!(bytes, Ok(LENGTH), "every byte as it was sent");
            assert!(longest_gap < Duration::from_secs(8), "{longest_gap:?}");
        }
    }

    /// The director that serves from now on: it gets the addresses, and all know where they are, as by VRRP.
    pub(crate) fn serve_by(&self, place: usize) {
        let other = &self.directors[1 - place].host;
        let serving = &self.directors[place].host;
        for (addr, interface) in [
            (format!("{VIP}/32"), "eth0"),
            (format!("{GATEWAY}/32"), "eth1"),
            (format!("{LOCAL}/32"), "eth1"),
            (format!("{VIP6}/128"), "eth0"),
            (format!("{LOCAL6}/128"), "eth1"),
        ] {
            let there = other.ip(&format!("address show dev {interface}"));
            if there.contains(&addr) {
                other.ip(&format!("address del {addr} dev {interface}"));
            }
            serving.ip(&format!("address add {addr} dev {interface} nodad"));
        }
        let mac = |interface: &str| {
            let shown = serving.ip(&format!("link show dev {interface}"));
            let words: Vec<&str> = shown.split_whitespace().collect();
            let at = words.iter().position(|w| *w == "link/ether");
            words[at.expect("a MAC address") + 1].to_owned()
        };
        let knows = |host: &Netns, addr: IpAddr, mac: &str, dev: &str| {
            host.ip(&format!("neigh replace {addr} lladdr {mac} dev {dev}"));
        };
        for vip in [IpAddr::from(VIP), VIP6.into()] {
            knows(&self.client, vip, &mac("eth0"), "eth0");
        }
        for director in [IpAddr::from(GATEWAY), LOCAL.into(), LOCAL6.into()] {
            knows(&self.server, director, &mac("eth1"), "eth1");
        }
    }
}

impl Pair {
    /// A director that was switched off starts again, without what VRRP had given it.
    pub(crate) fn switch_on(&mut self, place: usize) {
        let director = &mut self.directors[place];
        for (addr, interface) in [(VIP, "eth0"), (GATEWAY, "eth1")] {
            if director.has(addr) {
                let words = format!("address del {addr}/32 dev {interface}");
                director.host.ip(&words);
            }
        }
        director.switch_on();
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if self.decapsulates {
            rs(&self.server, "down --mode ipip");
        }
    }
}

/// A host's addresses on a link, which is known by its second number.
fn address(host: &Netns, link: u8, last: &str, interface: &str) {
    host.ip(&format!(
        "address add 10.{link}.0.{last}/24 dev {interface}"
    ));
    host.ip(&format!(
        "address add fd0{link}::{last}/64 dev {interface} nodad"
    ));
}

/// Has `uvs rs` make the host a real server of the VIP, or no more.
fn rs(server: &Netns, words: &str) {
    let mut rs = Command::new(stand::uvs());
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
    let listener = server.enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, 80)));
    let listener = listener.expect("a port for both families");
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
    download_from(client, VIP.into())
}

/// The same, from a VIP of either family.
pub(crate) fn download_from(client: &Netns, vip: IpAddr) -> Download {
    let stream = client.enter(|| TcpStream::connect_timeout(&(vip, 80).into(), PATIENCE));
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
