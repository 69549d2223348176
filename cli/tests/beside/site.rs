//! A site: a client, a director with UVS, and two real servers behind it.
//!
//! client c0 10.1.0.2 — d0 10.1.0.1 director 10.2.1.1 d1 — s0 10.2.1.11 first
//!                                           10.2.2.1 d2 — s0 10.2.2.12 second
//!
//! The VIP 10.1.0.100 is the director's. The client has no route to the servers' networks: what reaches
//! it from there was translated.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::netns::{Netns, run};

/// How long an answer that must come may take before the test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How long one that must not come is waited for.
pub(crate) const SILENCE: Duration = Duration::from_millis(500);

pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 100);
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
pub(crate) const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
pub(crate) const SERVERS: [Ipv4Addr; 2] =
    [Ipv4Addr::new(10, 2, 1, 11), Ipv4Addr::new(10, 2, 2, 12)];

pub(crate) struct Site {
    pub(crate) client: Netns,
    pub(crate) director: Netns,
    pub(crate) servers: [Netns; 2],
    pub(crate) interfaces: Vec<&'static str>,
    /// Further words of `uvs run`.
    pub(crate) options: Vec<&'static str>,
    daemon: Option<Child>,
    dir: TempDir,
}

impl Site {
    /// The servers' links end at the director's own interfaces.
    pub(crate) fn routed() -> Self {
        let site = Self::new(vec!["d0", "d1", "d2"]);
        site.director.ip("address add 10.2.1.1/24 dev d1");
        site.director.ip("address add 10.2.2.1/24 dev d2");
        site
    }

    /// The first server's link ends at a bridge of the director's, as a container's does.
    pub(crate) fn bridged() -> Self {
        let site = Self::new(vec!["d0", "docker0"]);
        site.director.ip("link add name docker0 type bridge");
        site.director.ip("link set docker0 up");
        site.director.ip("link set d1 master docker0");
        site.director.ip("address add 10.2.1.1/24 dev docker0");
        site
    }

    fn new(interfaces: Vec<&'static str>) -> Self {
        let site = Self {
            client: Netns::new(),
            director: Netns::new(),
            servers: [Netns::new(), Netns::new()],
            interfaces,
            options: Vec::new(),
            daemon: None,
            dir: tempfile::tempdir().expect("a directory"),
        };
        site.director.veth("d0", &site.client, "c0");
        site.director.ip("address add 10.1.0.1/24 dev d0");
        site.director.ip("address add 10.1.0.100/32 dev d0");
        site.client.ip("address add 10.1.0.2/24 dev c0");
        for (i, server) in site.servers.iter().enumerate() {
            site.director.veth(&format!("d{}", i + 1), server, "s0");
            server.ip(&format!("address add {}/24 dev s0", SERVERS[i]));
            server.ip(&format!("route add default via 10.2.{}.1", i + 1));
        }
        site.director.sysctl("ip_forward", "1");
        site
    }

    /// Starts UVS on the director, with these commands of `ipvsadm`, one a line; S1 and S2 are the servers.
    pub(crate) fn serve(&mut self, commands: &str) {
        let mut uvs = self.uvs();
        uvs.arg("run").args(&self.options);
        for interface in &self.interfaces {
            uvs.args(["--interface", interface]);
        }
        let log = std::fs::File::create(self.dir.path().join("log")).expect("a file");
        uvs.stdout(Stdio::null()).stderr(log);
        self.daemon = Some(self.director.enter(|| uvs.spawn().expect("uvs runs")));
        let ready = || self.tell("show info").status.success();
        eventually("uvs is ready", ready);
        self.ask(commands);
    }

    /// Carries out commands, `ipvsadm`'s or those that begin with `uvs`.
    pub(crate) fn ask(&self, commands: &str) -> String {
        let one = |line: &str| {
            let line = line
                .replace("S1", &SERVERS[0].to_string())
                .replace("S2", &SERVERS[1].to_string())
                .replace("VIP", &VIP.to_string());
            let words = match line.strip_prefix("uvs ") {
                Some(words) => words.to_owned(),
                None => format!("ipvsadm {line}"),
            };
            let output = self.tell(&words);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{line}: {stderr}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        commands.lines().map(|l| one(l.trim())).collect()
    }

    /// A command of `uvs`, however it ends.
    pub(crate) fn tell(&self, words: &str) -> Output {
        let mut uvs = self.uvs();
        uvs.args(words.split_whitespace());
        self.director.enter(|| uvs.output().expect("uvs runs"))
    }

    fn uvs(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_uvs"));
        command.env("UVS_SOCKET", self.dir.path().join("control.sock"));
        command
    }

    /// Rules of the host's own netfilter.
    pub(crate) fn nft(&self, rules: &str) {
        let file = self.dir.path().join("rules");
        std::fs::write(&file, rules).expect("a file");
        let path = file.to_str().expect("a plain path");
        self.director.enter(|| run("nft", &["-f", path]));
    }

    /// Strict reverse path filtering on all of the director's interfaces.
    pub(crate) fn filter_reverse_paths(&self) {
        self.director.sysctl("conf/all/rp_filter", "1");
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else {
            return;
        };
        let frames = self.tell("show drops -o json").stdout;
        let _ = daemon.kill();
        let _ = daemon.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
            return;
        }
        let frames: serde_json::Value = serde_json::from_slice(&frames).expect("JSON");
        let interfaces = frames["interfaces"].as_array().expect("a list");
        for of in interfaces {
            assert_eq!(
                (&of["unaccounted"], &of["unsent"]),
                (&0.into(), &0.into()),
                "{of}"
            );
        }
    }
}

/// A TCP server that says its name and its client's address, and then sends everything back.
pub(crate) fn echo_tcp(at: &Netns, name: &'static str, port: u16) {
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
    let listener = at.enter(|| TcpListener::bind(any).expect("a free port"));
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            std::thread::spawn(move || {
                let greeting = format!("{name} {}\n", peer.ip());
                let _ = stream.write_all(greeting.as_bytes());
                let _ = io::copy(&mut stream.try_clone().expect("a socket"), &mut stream);
            });
        }
    });
}

/// A UDP server that answers with its name and its client's address and port.
pub(crate) fn echo_udp(at: &Netns, name: &'static str, port: u16) {
    answer_udp(udp(at, port), name);
}

/// As [`echo_udp`], in a socket that may be bound to an address.
pub(crate) fn answer_udp(socket: UdpSocket, name: &'static str) {
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{name} {from}").as_bytes(), from);
        }
    });
}

/// A socket that waits long; UDP servers above wait forever.
pub(crate) fn udp(at: &Netns, port: u16) -> UdpSocket {
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
    at.enter(|| UdpSocket::bind(any).expect("a free port"))
}

/// Connects and reads the greeting.
pub(crate) fn greet(from: &Netns, to: Ipv4Addr, port: u16) -> (TcpStream, String) {
    let to = SocketAddrV4::new(to, port).into();
    let stream = from.enter(|| TcpStream::connect_timeout(&to, PATIENCE));
    let mut stream = stream.unwrap_or_else(|e| panic!("{to}: {e}"));
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut greeting = String::new();
    let mut byte = [0];
    while !greeting.ends_with('\n') {
        stream.read_exact(&mut byte).expect("a greeting");
        greeting.push(char::from(byte[0]));
    }
    (stream, greeting.trim_end().to_owned())
}

/// Some megabytes there and back on a connection.
pub(crate) fn exchange(mut stream: TcpStream) {
    let sent: Vec<u8> = (0..6_u32 << 20)
        .map(|i| (i.wrapping_mul(31) >> 7).to_le_bytes()[0])
        .collect();
    let mut out = stream.try_clone().expect("a socket");
    let received = std::thread::scope(|s| {
        s.spawn(|| {
            out.write_all(&sent).expect("sent");
            out.shutdown(Shutdown::Write).expect("closed");
        });
        let mut received = Vec::new();
        stream.read_to_end(&mut received).expect("received");
        received
    });
    assert!(sent == received, "{} of {}", received.len(), sent.len());
}

/// What one datagram is answered with. It is sent once: none may be lost.
pub(crate) fn ask_udp(socket: &UdpSocket, to: Ipv4Addr, port: u16) -> String {
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    socket.send_to(b"?", (to, port)).expect("sent");
    let mut buffer = [0; 256];
    let (n, from) = socket
        .recv_from(&mut buffer)
        .unwrap_or_else(|e| panic!("{to}:{port}: {e}"));
    assert_eq!(from, (to, port).into());
    String::from_utf8_lossy(&buffer[..n]).into_owned()
}

/// Tries again until it is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not so after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
