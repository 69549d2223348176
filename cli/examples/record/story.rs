//! What happens on the directors: services come up, weights change, servers fail, nobody takes connections, a file is read
//! again.

use std::net::SocketAddrV4;
use std::path::Path;
use std::thread;
use std::time::Duration;

use uvs_lab::udp::UdpServer;
use uvs_lab::{Daemon, Lab, Mode, SERVERS};

use crate::traffic::{PERSISTENT_PORT, UDP_PORT};

pub(crate) const WEIGHTS: [u32; SERVERS] = [3, 1, 2];

/// A lab with its director at work.
pub(crate) struct Site<'a> {
    lab: &'a Lab,
    daemon: Daemon<'a>,
    _udp: Vec<UdpServer>,
}

/// Starts the daemon, with the file that has the lab's service or else by telling it of that, and of NAT's two more.
pub(crate) fn open<'a>(lab: &'a Lab, uvs: &Path, file: Option<&Path>) -> Site<'a> {
    lab.prepare_servers(uvs).expect("the real servers");
    let daemon = match file {
        Some(file) => lab.start_daemon_with(uvs, &format!("--config {}", file.display())),
        None => lab.start_daemon(uvs),
    };
    let daemon = daemon.expect("the daemon");
    let ask = |words: &str| daemon.ipvsadm(words).expect("done");
    if file.is_none() {
        ask(&lab.plan.add_service("wrr"));
        for (server, weight) in WEIGHTS.into_iter().enumerate() {
            ask(&lab.plan.add_server(server, weight));
        }
    }
    let mut udp = Vec::new();
    if lab.plan.mode == Mode::Nat {
        let vip = lab.plan.vip.ip();
        ask(&format!("-A -u {vip}:{UDP_PORT} -s rr"));
        ask(&format!("-A -t {vip}:{PERSISTENT_PORT} -s lc -p 60"));
        for (server, address) in lab.servers.iter().zip(&lab.plan.servers) {
            let own = SocketAddrV4::new(*address.ip(), UDP_PORT);
            udp.push(UdpServer::start(&server.host, own).expect("it listens"));
            ask(&format!("-a -u {vip}:{UDP_PORT} -r {own} -m"));
            // A port of its own at the servers, too: there NAT's clients are told apart by it.
            let own = SocketAddrV4::new(*address.ip(), PERSISTENT_PORT);
            ask(&format!("-a -t {vip}:{PERSISTENT_PORT} -r {own} -m"));
        }
    }
    let _udp = udp;
    Site { lab, daemon, _udp }
}

/// The seven minutes.
pub(crate) fn tell(sites: &[Site<'_>]) {
    let of = |mode| sites.iter().find(|s| s.lab.plan.mode == mode);
    let (dr, nat) = (of(Mode::Dr).expect("a lab"), of(Mode::Nat).expect("a lab"));
    let fullnat = of(Mode::FullNat).expect("a lab");
    let event = |pause, text: &str| {
        thread::sleep(Duration::from_secs(pause));
        println!("{text}");
    };
    event(60, "nat: rs1's weight goes from 3 to 1");
    nat.weight(0, 1);
    event(
        30,
        "dr: rs1 loses its link, and its neighbour entry with it",
    );
    dr.link(0, "down");
    event(40, "dr: the health checker drains rs1");
    dr.weight(0, 0);
    event(50, "dr: rs1's link is back");
    dr.link(0, "up");
    event(20, "dr: rs1 takes connections again");
    dr.weight(0, WEIGHTS[0]);
    event(30, "dr: the configuration is read again");
    dr.daemon.uvs("reload").expect("reloaded");
    event(20, "fullnat: all real servers are drained");
    (0..SERVERS).for_each(|server| fullnat.weight(server, 0));
    event(20, "fullnat: and back");
    for (server, weight) in WEIGHTS.into_iter().enumerate() {
        fullnat.weight(server, weight);
    }
    event(10, "nat: rs3's program is gone");
    nat.refuse(2);
    event(20, "dr: rs2 loses its link");
    dr.link(1, "down");
    event(130, "the end");
}

impl Site<'_> {
    /// Ends the daemon.
    pub(crate) fn close(self) -> uvs_lab::Result<()> {
        self.daemon.stop()
    }

    fn weight(&self, server: usize, weight: u32) {
        let line = self.lab.plan.edit_server(server, weight);
        self.daemon.ipvsadm(&line).expect("edited");
    }

    /// A real server answers with RST, as where nobody listens.
    fn refuse(&self, server: usize) {
        let host = &self.lab.servers[server].host;
        let port = self.lab.plan.servers[server].port();
        for line in [
            "add table ip gone".to_owned(),
            "add chain ip gone input { type filter hook input priority 0 ; }".to_owned(),
            format!("add rule ip gone input tcp dport {port} reject with tcp reset"),
        ] {
            host.run(&format!("nft {line}")).expect("refused");
        }
    }

    fn link(&self, server: usize, state: &str) {
        let host = &self.lab.servers[server].host;
        host.ip(&format!("link set eth0 {state}")).expect("set");
        let rip = self.lab.plan.servers[server].ip();
        self.lab
            .director
            .run(&format!("ip neigh flush to {rip}"))
            .expect("flushed");
    }
}
