//! Many clients behind one local address, each with a clock of its own: a server that has closed first, and remembers the
//! last user of a port for a minute, takes the next one's SYN for what it is.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use uvs_lab::{Daemon, Host, Lab, Mode, Options};

use crate::connections;
use crate::stand::{PATIENCE, lab, uvs};

/// Local ports, and entries of the connection table: fewer, so that the oldest that is over goes for each new one, and a
/// port has its next user while the server still has the last one in TIME_WAIT.
const PORTS: &str = "20000-20099";
const ENTRIES: u32 = 64;
/// Clients, each with an address of its own.
const CLIENTS: u8 = 8;
/// The server's port.
const PORT: u16 = 9004;
/// A SYN that nobody answers is sent again after a second.
const AT_ONCE: Duration = Duration::from_millis(900);

/// The daemon with a FULLNAT service whose clients' timestamps it treats so.
fn configured<'lab>(lab: &'lab Lab, timestamps: &str) -> Daemon<'lab> {
    let plan = &lab.plan;
    let text = format!(
        "interfaces = {:?}\n[limits]\nconnections = {ENTRIES}\nlocal_ports = \"{PORTS}\"\n\
         [[service]]\ntcp = \"{}\"\nmode = \"fullnat\"\nlocal_addresses = [\"{}\"]\ntimestamps = \"{timestamps}\"\n\
         [[service.server]]\naddress = \"{}:{PORT}\"\n",
        plan.interfaces,
        plan.vip,
        plan.local.expect("FULLNAT has one"),
        plan.servers[0].ip(),
    );
    let file = lab.dir().join("uvs.toml");
    fs::write(&file, text).expect("written");
    Daemon::start_with(lab, uvs(), &format!("run --config {}", file.display())).expect("uvs runs")
}

/// A server that says a word to each client and closes first.
fn closes_first(host: &Host) {
    let listener = host.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)));
    let listener = listener.expect("entered").expect("it listens");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // A client that is gone says so itself.
            let _ = stream.write_all(b"bye");
        }
    });
}

/// A client's connection from this address, to its end; how long it took.
fn visit(lab: &Lab, from: Ipv4Addr) -> Duration {
    let since = Instant::now();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket
        .bind(&SocketAddr::from((from, 0)).into())
        .expect("bound");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    let vip = SocketAddrV4::new(*lab.plan.vip.ip(), lab.plan.vip.port());
    socket
        .connect(&SocketAddr::from(vip).into())
        .expect("a connection");
    let mut stream = TcpStream::from(socket);
    let mut word = Vec::new();
    stream.read_to_end(&mut word).expect("the server closes");
    assert_eq!(word, b"bye");
    since.elapsed()
}

/// So many connections of all clients; the longest, and how many the director had to open again.
fn visits(timestamps: &str, count: usize) -> (Duration, u64) {
    let (lab, _) = lab(Mode::FullNat, Options::default());
    closes_first(&lab.servers[0].host);
    let [a, b, c, _] = lab.plan.client.octets();
    let addresses = (0..CLIENTS).map(|n| Ipv4Addr::new(a, b, c, 110 + n));
    for address in addresses.clone() {
        let line = format!("addr add {address}/24 dev eth0");
        lab.client.ip(&line).expect("an address");
    }
    let daemon = configured(&lab, timestamps);
    // One after the other: at its limit the table gives half-open connections up first.
    let work = || {
        addresses
            .cycle()
            .take(count)
            .map(|from| visit(&lab, from))
            .max()
    };
    let longest = lab.client.enter(work).expect("entered").unwrap_or_default();
    let reopened = reopened(&lab);
    println!(
        "{timestamps}: {count} connections, {reopened} opened again, the longest took {longest:?}"
    );
    daemon.stop().expect("it ends well");
    (longest, reopened)
}

fn reopened(lab: &Lab) -> u64 {
    let line = "curl -s -S -f http://127.0.0.1:9650/metrics";
    let text = lab.director.run(line).expect("/metrics answers");
    let value = text
        .lines()
        .find_map(|l| l.strip_prefix("uvs_snat_reopened_total "));
    value.expect("the metric").parse().expect("a number")
}

#[test]
fn clients_with_clocks_of_their_own_share_ports_and_none_waits() {
    let (longest, reopened) = visits("offset", connections(1_600));
    assert!(
        longest < AT_ONCE && reopened == 0,
        "{longest:?}, {reopened}"
    );
    // As they come, the server takes many a client's SYN for an old one's: the director has to open those again.
    let (longest, reopened) = visits("keep", 400);
    assert!(longest < AT_ONCE && reopened > 0, "{longest:?}, {reopened}");
}
