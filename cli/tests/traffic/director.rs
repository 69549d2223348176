//! What every check stands on: a mode's lab, the daemon on its director, and services on the VIP.

use std::net::SocketAddrV4;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use uvs_lab::{Daemon, Lab, Mode, Offloads, Options};

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
    lab: &'lab Lab,
    daemon: Option<Daemon<'lab>>,
}

impl<'lab> Director<'lab> {
    /// Starts it with an empty table.
    pub(crate) fn start(lab: &'lab Lab) -> Self {
        let daemon = lab.start_daemon(Path::new(UVS)).expect("uvs runs");
        Self {
            lab,
            daemon: Some(daemon),
        }
    }

    /// Adds the plan's HTTP service with its first real servers, as many as said, taken in turn.
    pub(crate) fn serve_http(&self, servers: usize) {
        self.ipvsadm(&self.lab.plan.add_service("rr"));
        for server in 0..servers {
            self.ipvsadm(&self.lab.plan.add_server(server, 1));
        }
    }

    /// Adds a service on another port of the VIP, with one real server: the first. Returns where it is, and
    /// where the real server's program must listen.
    pub(crate) fn serve(&self, protocol: Protocol, port: u16) -> (SocketAddrV4, SocketAddrV4) {
        let plan = &self.lab.plan;
        let vip = SocketAddrV4::new(*plan.vip.ip(), port);
        let server = SocketAddrV4::new(*plan.servers[0].ip(), port);
        let flag = match protocol {
            Protocol::Tcp => "-t",
            Protocol::Udp => "-u",
        };
        let local = plan
            .local
            .map_or_else(String::new, |address| format!(" --laddr {address}"));
        self.ipvsadm(&format!("-A {flag} {vip} -s rr{local}"));
        self.ipvsadm(&format!("-a {flag} {vip} -r {server} {}", plan.mode.flag()));
        let listen = match plan.mode {
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
