//! What every check stands on: a mode's lab, the daemon on its director, and services on the VIP.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use uvs_lab::{Daemon, Families, Lab, Mode, Offloads, Options, Service};

const UVS: &str = env!("CARGO_BIN_EXE_uvs");

/// A service's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// One check at a time: each uses all of a small machine.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // What one check failed by is nothing to the next.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mode's lab with its real servers prepared.
pub(crate) fn lab(mode: Mode, offloads: Offloads) -> Lab {
    let options = Options {
        offloads,
        ..Options::default()
    };
    let lab = Lab::build(mode, options).expect("the lab is built");
    lab.prepare_servers(Path::new(UVS))
        .expect("the real servers are prepared");
    lab
}

/// `uvs run` on a lab's director. A check that fails prints what the daemon knows of it.
pub(crate) struct Director<'lab> {
    /// The service, as clients and servers see it.
    pub(crate) service: Service,
    daemon: Option<Daemon<'lab>>,
}

impl<'lab> Director<'lab> {
    /// Starts it with an empty table, for a service in these families.
    pub(crate) fn start(lab: &'lab Lab, families: Families) -> Self {
        let daemon = lab.start_daemon(Path::new(UVS)).expect("uvs runs");
        Self {
            service: lab.plan.service(families),
            daemon: Some(daemon),
        }
    }

    /// Adds the HTTP service with its first real servers, as many as said, taken in turn.
    pub(crate) fn serve_http(&self, servers: usize) {
        self.ipvsadm(&self.service.add_service("rr"));
        for server in 0..servers {
            self.ipvsadm(&self.service.add_server(server, 1));
        }
    }

    /// Adds a service on another port of the VIP, with one real server: the first. Returns where it is, and
    /// where the real server's program must listen.
    pub(crate) fn serve(&self, protocol: Protocol, port: u16) -> (SocketAddr, SocketAddr) {
        let service = &self.service;
        let vip = SocketAddr::new(service.vip.ip(), port);
        let server = SocketAddr::new(service.servers[0].ip(), port);
        let flag = match protocol {
            Protocol::Tcp => "-t",
            Protocol::Udp => "-u",
        };
        let local = service.local_words();
        self.ipvsadm(&format!("-A {flag} {vip} -s rr{local}"));
        let method = service.mode.flag();
        self.ipvsadm(&format!("-a {flag} {vip} -r {server} {method}"));
        let listen = match service.mode {
            Mode::Dr | Mode::Ipip => vip,
            Mode::Nat | Mode::FullNat => server,
        };
        (vip, listen)
    }

    /// Ends the daemon, which must succeed.
    pub(crate) fn stop(mut self) {
        let daemon = self.daemon.take().expect("it is stopped once");
        daemon.stop().expect("uvs run ends with success");
    }

    fn ipvsadm(&self, words: &str) {
        let daemon = self.daemon.as_ref().expect("it runs");
        daemon.ipvsadm(words).expect("the table takes it");
    }
}

impl Drop for Director<'_> {
    fn drop(&mut self) {
        let Some(daemon) = self.daemon.as_ref().filter(|_| thread::panicking()) else {
            return;
        };
        for what in ["drops", "info", "servers -o wide"] {
            match daemon.uvs(&format!("show {what}")) {
                Ok(shown) => eprintln!("{}", shown.stdout),
                Err(error) => eprintln!("{error}"),
            }
        }
        eprintln!("{}", daemon.log());
    }
}
