//! Servers behind NAT and FULLNAT that are told of their clients, on real sockets: every connection's server knows the
//! client's own address and port, through lines that lose, repeat and reorder, and both ends have every byte of the other.
//! Judges are a receiver written from the protocol's specification, nginx, and haproxy and Postfix where they are installed, set up by the
//! snippets of docs/client-address.md. Needs root, or `make test`.
//!
//! `UVS_PROXY_CONNECTIONS=10000 cargo test --release -p uvs --test introduced` makes so many connections (`make proxy-load`).

#[path = "support/heir.rs"]
mod heir;
#[path = "support/stand.rs"]
mod stand;

#[path = "introduced/bodies.rs"]
mod bodies;
#[path = "introduced/hygiene.rs"]
mod hygiene;
#[path = "introduced/judge.rs"]
mod judge;
#[path = "introduced/kept.rs"]
mod kept;
#[path = "introduced/lines.rs"]
mod lines;
#[path = "introduced/peers.rs"]
mod peers;
#[path = "introduced/smtp.rs"]
mod smtp;

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use uvs_lab::{Daemon, Families, Host, Lab, Service};

use stand::PATIENCE;

/// What TCP itself may take where a few packets in a row are lost, those of its handshake among them: from then on it waits
/// three times as long as that took, and doubles.
const LONGEST: Duration = PATIENCE.saturating_mul(4);

/// How many connections a test makes: `default`, or what the environment asks for.
fn connections(default: usize) -> usize {
    let asked = std::env::var("UVS_PROXY_CONNECTIONS").ok();
    asked.map_or(default, |text| text.parse().expect("a number"))
}

/// Adds a service on a port of the VIP's, with further words, whose one server is the first of the lab's at another port.
fn serve(
    lab: &Lab,
    daemon: &Daemon<'_>,
    families: Families,
    ports: (u16, u16),
    words: &str,
) -> SocketAddr {
    let service = Service::of(&lab.plan, families);
    let vip = SocketAddr::new(service.vip.ip(), ports.0);
    let server = SocketAddr::new(service.servers[0].ip(), ports.1);
    let local = service
        .local
        .map_or_else(String::new, |local| format!(" --laddr {local}"));
    let method = lab.plan.mode.flag();
    for line in [
        format!("-A -t {vip} -s rr{local} {words}"),
        format!("-a -t {vip} -r {server} {method}"),
    ] {
        daemon.ipvsadm(&line).expect("the command is carried out");
    }
    vip
}

/// A connection of a host's, and its own end.
fn connect(host: &Host, to: SocketAddr) -> (TcpStream, SocketAddr) {
    let stream = host.enter(|| TcpStream::connect(to)).expect("entered");
    let stream = stream.expect("a connection");
    stream.set_read_timeout(Some(LONGEST)).expect("set");
    let own = stream.local_addr().expect("its own end");
    (stream, own)
}
