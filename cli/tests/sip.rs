//! SIP with the persistence engine that ipvsadm calls `--pe sip`, with real datagrams: each call of a proxy's that sends all
//! from one port has a server of its own, and a server begins calls. Needs root, or `make test`.

#[path = "support/stand.rs"]
mod stand;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use uvs_lab::{Daemon, Families, Host, Lab, Mode, Options};

use stand::{PATIENCE, eventually, lab, uvs};

const SIP: u16 = 5060;
/// Longer than the MTU.
const LONG: usize = 3000;

/// A client and the real servers, each with one socket; and the director between them.
struct Site<'lab> {
    daemon: Daemon<'lab>,
    client: UdpSocket,
    servers: Vec<UdpSocket>,
    vip: SocketAddr,
}

fn bind(host: &Host, at: SocketAddr) -> UdpSocket {
    let socket = host.enter(|| UdpSocket::bind(at)).expect("it is entered");
    let socket = socket.unwrap_or_else(|e| panic!("{at}: {e}"));
    socket.set_nonblocking(true).expect("set");
    socket
}

impl<'lab> Site<'lab> {
    /// With the service as the documentation has it, beside further words.
    fn new(lab: &'lab Lab, families: Families, words: &str) -> Self {
        let service = lab.plan.service(families);
        let at = |address| SocketAddr::new(address, SIP);
        let vip = at(service.vip.ip());
        let daemon = lab.start_daemon(uvs()).expect("uvs runs");
        let add = format!("-A -u {vip} -s rr -p 300{words} --pe sip");
        daemon.ipvsadm(&add).expect("added");
        let mut servers = Vec::new();
        for (server, own) in lab.servers.iter().zip(&service.servers) {
            let own = at(own.ip());
            let flag = service.mode.flag();
            let add = format!("-a -u {vip} -r {own} {flag}");
            daemon.ipvsadm(&add).expect("added");
            let listens = if service.mode == Mode::Nat { own } else { vip };
            servers.push(bind(&server.host, listens));
        }
        Self {
            daemon,
            client: bind(&lab.client, at(service.client)),
            servers,
            vip,
        }
    }

    /// The client sends a message of a call; the number of the server that gets it, and has answered it as the service.
    fn ask(&self, call: &str, len: usize) -> usize {
        let sent = message("INVITE sip:bob@example.com SIP/2.0", call, len);
        self.client.send_to(&sent, self.vip).expect("sent");
        let (server, from) = self.heard(&sent);
        let answer = message("SIP/2.0 200 OK", call, len);
        self.servers[server]
            .send_to(&answer, from)
            .expect("answered");
        let (data, from) =
            received(&self.client).unwrap_or_else(|| panic!("{}", self.daemon.log()));
        assert_eq!((data == answer, from), (true, self.vip));
        server
    }

    /// Which server gets a message, and where it comes from.
    fn heard(&self, sent: &[u8]) -> (usize, SocketAddr) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            for (n, server) in self.servers.iter().enumerate() {
                if let Some((data, from)) = receive(server) {
                    assert!(data == sent, "{:?}", String::from_utf8_lossy(&data));
                    return (n, from);
                }
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("no server has got it: {}", self.daemon.log());
    }

    fn dropped(&self) -> u64 {
        let shown = self.daemon.uvs("show drops -o json").expect("shown").stdout;
        let drops: Value = serde_json::from_str(&shown).expect("JSON");
        let reasons = drops["drops"].as_array().into_iter().flatten();
        let mut no_call = reasons.filter(|d| d["reason"] == "no_call_id");
        let no_call = no_call.next().and_then(|d| d["count"].as_u64());
        no_call.unwrap_or_else(|| panic!("{shown}"))
    }
}

fn message(first: &str, call: &str, len: usize) -> Vec<u8> {
    let mut message = format!("{first}\r\nCall-ID: {call}\r\n\r\n").into_bytes();
    message.resize(len.max(message.len()), b'x');
    message
}

fn receive(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
    let mut data = vec![0; 1 << 16];
    match socket.recv_from(&mut data) {
        Ok((len, from)) => {
            data.truncate(len);
            Some((data, from))
        }
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
        Err(e) => panic!("{e}"),
    }
}

/// What comes within the time that things take here.
fn received(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let got = receive(socket);
        if got.is_some() {
            return got;
        }
        thread::sleep(Duration::from_millis(1));
    }
    None
}

#[test]
fn each_call_has_a_server_of_its_own() {
    for (mode, families) in [
        (Mode::Nat, Families::V4),
        (Mode::Nat, Families::V6),
        (Mode::Dr, Families::V4),
    ] {
        let (lab, _shell) = lab(mode, Options::default());
        let site = Site::new(&lab, families, " -o");
        let mut servers = BTreeMap::new();
        for round in 0..4_usize {
            for n in 0..9_usize {
                let call = format!("{}@pc33", (n + round) % 9);
                // A message in fragments is of its call too.
                let len = if (n + round) % 2 == 0 { 0 } else { LONG };
                let server = site.ask(&call, len);
                assert_eq!(*servers.entry(call).or_insert(server), server, "{mode}");
            }
        }
        // All are one client's, and so one worker's, whose turn is exact.
        for n in 0..3 {
            assert_eq!(
                servers.values().filter(|server| **server == n).count(),
                3,
                "{servers:?}"
            );
        }
        let listed = site
            .daemon
            .ipvsadm("-Lcn --persistent-conn")
            .expect("listed");
        for call in servers.keys() {
            assert!(
                listed.contains(&format!(" sip                {call}\n")),
                "{listed}"
            );
        }
        assert_eq!(site.dropped(), 0);
        site.daemon.stop().expect("it ends in order");
    }
}

#[test]
fn a_datagram_without_a_call_is_dropped_by_name() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let site = Site::new(&lab, Families::V4, " -o");
    let told = site.ask("first@pc33", 0);
    for data in [&b"\r\n\r\n"[..], b"jaK", &[0; 12]] {
        site.client.send_to(data, site.vip).expect("sent");
    }
    eventually("all are counted", || site.dropped() == 3);
    assert_eq!(site.ask("first@pc33", 0), told, "and that one only");
    let (client, vip) = (lab.plan.client, site.vip);
    let trace = format!("uvs trace {client}:1024 {vip} --proto udp");
    let traced = |more: &str| {
        let line = format!("{trace}{more}");
        shell.run(&lab.director, &line).expect("traced").stdout
    };
    let said = traced("");
    assert!(said.contains("no_call_id"), "{said}");
    let said = traced(" --call-id first@pc33");
    let known = format!(
        "call first@pc33, 300 s: stays with {}",
        lab.plan.service(Families::V4).servers[told].ip()
    );
    assert!(said.contains(&known), "{said}");
    site.daemon.stop().expect("it ends in order");
}

#[test]
fn a_server_begins_a_call_as_the_service() {
    let (lab, _shell) = lab(Mode::Nat, Options::default());
    for (families, words) in [
        (Families::V4, " -o"),
        (Families::V4, ""),
        (Families::V6, " -o"),
    ] {
        let site = Site::new(&lab, families, words);
        let client = site.client.local_addr().expect("bound");
        for (n, len) in [(2, 0), (0, LONG), (1, 0)] {
            let call = format!("from-{n}@rs");
            let request = message("NOTIFY sip:alice@example.com SIP/2.0", &call, len);
            site.servers[n].send_to(&request, client).expect("sent");
            let (data, from) =
                received(&site.client).unwrap_or_else(|| panic!("{}", site.daemon.log()));
            assert_eq!((data == request, from), (true, site.vip), "{words:?}");
            let answer = message("SIP/2.0 200 OK", &call, 0);
            site.client.send_to(&answer, from).expect("answered");
            assert_eq!(site.heard(&answer).0, n, "{words:?}");
        }
        // What is of no call and no connection is its own, and the host's to route; nothing before it has come twice.
        let own = site.servers[1].local_addr().expect("bound");
        let own = if words.is_empty() { site.vip } else { own };
        site.servers[1].send_to(b"jaK", client).expect("sent");
        let (data, from) =
            received(&site.client).unwrap_or_else(|| panic!("{}", site.daemon.log()));
        assert_eq!((&data[..], from), (&b"jaK"[..], own), "{words:?}");
        site.daemon.stop().expect("it ends in order");
    }
}
