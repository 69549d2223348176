//! What systemd is told of an upgrade, so that it takes the end of a process for no end of the service.

use std::os::unix::net::UnixDatagram;

use uvs_lab::{Daemon, Lab, Mode, Options};

use crate::heir::{Heir, pid};
use crate::script;
use crate::stand::{PATIENCE, eventually, lab, must_serve, uvs};

/// In place of systemd.
struct Systemd(UnixDatagram);

impl Systemd {
    fn new(lab: &Lab) -> Self {
        let socket = UnixDatagram::bind(lab.dir().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        Self(socket)
    }

    /// What it is told, but for status and heartbeats, until one thing is `wanted`.
    fn hears(&self, wanted: &str) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        while all.last().is_none_or(|last| last != wanted) {
            let mut datagram = [0; 4096];
            let length = self.0.recv(&mut datagram);
            let length = length.unwrap_or_else(|e| panic!("{e}; heard {all:?}"));
            let said = String::from_utf8_lossy(&datagram[..length]).into_owned();
            if !said.starts_with("STATUS=") && said != "WATCHDOG=1" {
                all.push(said);
            }
        }
        all
    }
}

/// A daemon that systemd has started.
fn started<'lab>(lab: &'lab Lab, words: &str) -> Daemon<'lab> {
    let notify = lab.dir().join("notify");
    let text = format!(
        "exec env NOTIFY_SOCKET={} WATCHDOG_USEC=500000 WATCHDOG_PID=$$ {} \"$@\"",
        notify.display(),
        uvs().display()
    );
    let wrapped = script(lab, &text);
    let daemon = lab.start_daemon_with(&wrapped, words).expect("uvs runs");
    crate::fill(lab, &daemon);
    daemon
}

#[test]
fn the_service_is_the_new_process() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let systemd = Systemd::new(&lab);
    let daemon = started(&lab, "--hook auto");
    assert_eq!(systemd.hears("READY=1"), ["READY=1"]);
    let mut heir: Option<Heir> = None;
    for _ in 0..2 {
        daemon.uvs("upgrade").expect("upgraded");
        let main = format!("MAINPID={}", pid(&daemon));
        // The old one's word, before the new one, which is nobody until then, says that it is ready.
        assert_eq!(systemd.hears("READY=1"), [main, "READY=1".to_owned()]);
        if let Some(before) = heir.replace(Heir::of(pid(&daemon))) {
            before.ended();
        }
    }
    // It has the watchdog's time, though it is not the process that systemd has started.
    let mut datagram = [0; 64];
    eventually("a heartbeat", || {
        let length = systemd.0.recv(&mut datagram).expect("told");
        datagram[..length] == *b"WATCHDOG=1"
    });
    must_serve(&lab, &daemon);
    heir.expect("upgraded").stop();
    systemd.hears("STOPPING=1");
}

#[test]
fn the_old_process_waits_until_systemd_has_room_for_that() {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let systemd = Systemd::new(&lab);
    let mut daemon = started(&lab, "--hook off");
    systemd.hears("READY=1");
    let busy = UnixDatagram::unbound().expect("a socket");
    busy.set_nonblocking(true).expect("set");
    let path = lab.dir().join("notify");
    while busy.send_to(b"STATUS=busy", &path).is_ok() {}
    daemon.uvs("upgrade").expect("upgraded");
    let heir = Heir::of(pid(&daemon));
    must_serve(&lab, &daemon);
    assert!(daemon.process().is_running(), "it must be told of first");
    systemd.hears(&format!("MAINPID={}", pid(&daemon)));
    eventually("it ends", || !daemon.process().is_running());
    heir.stop();
}
