//! What systemd is told: ready, reloading, stopping, alive, and a line of status (sd_notify(3)).
//!
//! No datagram is waited for. The crate `sd-notify` sends with a blocking socket, and where systemd does not
//! read, such as while it loads itself again, that would stop the control thread; what finds no room here is
//! sent in a later turn.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt::Display;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use crate::clock::monotonic;

/// Messages kept for later; what comes beyond replaces nothing and is left out.
const KEPT: usize = 16;

/// The way to systemd, where it started us and wants to know.
pub(super) struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    unsent: VecDeque<String>,
    status: String,
    /// How often it wants a heartbeat: twice in the time that it waits for one.
    watchdog: Option<Duration>,
    /// When one is due.
    due: Instant,
}

impl Notifier {
    /// By `$NOTIFY_SOCKET`, `$WATCHDOG_USEC` and `$WATCHDOG_PID`.
    pub(super) fn from_env() -> Self {
        let var = |name| std::env::var_os(name).filter(|v| !v.is_empty());
        let number = |name| var(name)?.to_str()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| ours && *usec > 0);
        Self::new(
            var("NOTIFY_SOCKET").and_then(|name| destination(&name)),
            watchdog.map(Duration::from_micros),
        )
    }

    fn new(to: Option<(UnixDatagram, SocketAddr)>, watchdog: Option<Duration>) -> Self {
        Self {
            watchdog: watchdog.filter(|_| to.is_some()).map(|usec| usec / 2),
            to,
            unsent: VecDeque::new(),
            status: String::new(),
            due: Instant::now(),
        }
    }

    /// What is in force serves.
    pub(super) fn ready(&mut self) {
        self.send("READY=1".to_owned());
    }

    /// A reload begins; [`ready`](Self::ready) ends it.
    pub(super) fn reloading(&mut self) {
        let usec = monotonic().0 / 1000;
        self.send(format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// The service is another process's from now on, whose words count and not this one's.
    pub(super) fn main_pid(&mut self, pid: u32) {
        self.send(format!("MAINPID={pid}"));
    }

    /// The end begins.
    pub(super) fn stopping(&mut self) {
        self.send("STOPPING=1".to_owned());
    }

    /// One line for `systemctl status`; told where it is another than before.
    pub(super) fn status(&mut self, status: impl Display) {
        let status = status.to_string().replace('\n', " ");
        if status != self.status {
            self.send(format!("STATUS={status}"));
            self.status = status;
        }
    }

    /// A turn: sends what found no room, and a heartbeat where one is due and `alive`.
    pub(super) fn turn(&mut self, now: Instant, alive: bool) {
        self.flush();
        let Some(every) = self.watchdog.filter(|_| now >= self.due) else {
            return;
        };
        self.due = now + every;
        if alive {
            self.send("WATCHDOG=1".to_owned());
        }
    }

    /// How long the control thread may sleep.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        self.watchdog
            .map(|_| self.due.saturating_duration_since(now))
    }

    fn send(&mut self, message: String) {
        if self.to.is_some() && self.unsent.len() < KEPT {
            self.unsent.push_back(message);
            self.flush();
        }
    }

    /// Sends what found no room; whether nothing is left.
    pub(super) fn flush(&mut self) -> bool {
        let Some((socket, to)) = &self.to else {
            return true;
        };
        while let Some(message) = self.unsent.front() {
            match socket.send_to_addr(message.as_bytes(), to) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
                // It is there, or nobody will ever read it.
                _ => self.unsent.pop_front(),
            };
        }
        true
    }
}

/// A path, or a name in the abstract namespace behind `@`.
fn destination(name: &OsStr) -> Option<(UnixDatagram, SocketAddr)> {
    let to = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name).ok()?,
        None => SocketAddr::from_pathname(name).ok()?,
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rig {
        systemd: UnixDatagram,
        notifier: Notifier,
        _dir: tempfile::TempDir,
    }

    fn rig(watchdog: Option<Duration>) -> Rig {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let systemd = UnixDatagram::bind(&path).expect("a socket");
        systemd.set_nonblocking(true).expect("non-blocking");
        let notifier = Notifier::new(destination(path.as_os_str()), watchdog);
        Rig {
            systemd,
            notifier,
            _dir: dir,
        }
    }

    impl Rig {
        fn heard(&self) -> Vec<String> {
            let next = || {
                let mut datagram = [0; 512];
                let length = self.systemd.recv(&mut datagram).ok()?;
                Some(String::from_utf8_lossy(&datagram[..length]).into_owned())
            };
            std::iter::from_fn(next).collect()
        }
    }

    #[test]
    fn each_state_is_a_datagram_and_a_status_is_told_once() {
        let mut rig = rig(None);
        rig.notifier.ready();
        rig.notifier.status("2 services");
        rig.notifier.status("2 services");
        rig.notifier.status("reload failed:\nno such file");
        rig.notifier.stopping();
        assert_eq!(
            rig.heard(),
            [
                "READY=1",
                "STATUS=2 services",
                "STATUS=reload failed: no such file",
                "STOPPING=1"
            ]
        );
        let before = monotonic().0 / 1000;
        rig.notifier.reloading();
        let heard = rig.heard();
        let usec = heard[0].strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let usec: u64 = usec.and_then(|n| n.parse().ok()).expect("a time");
        assert!((before..=monotonic().0 / 1000).contains(&usec));
    }

    #[test]
    fn a_sign_of_life_comes_at_half_time_and_only_from_the_living() {
        let mut rig = rig(Some(Duration::from_secs(10)));
        let start = rig.notifier.due;
        let at = |ms| start + Duration::from_millis(ms);
        rig.notifier.turn(at(0), true);
        assert_eq!(rig.heard(), ["WATCHDOG=1"]);
        assert_eq!(rig.notifier.left(at(1000)), Some(Duration::from_secs(4)));
        rig.notifier.turn(at(4999), true);
        rig.notifier.turn(at(5000), false);
        assert!(rig.heard().is_empty());
        let left = rig.notifier.left(at(5000));
        assert_eq!(left, Some(Duration::from_secs(5)), "nobody spins");
        rig.notifier.turn(at(10_000), true);
        rig.notifier.turn(at(10_001), true);
        assert_eq!(rig.heard(), ["WATCHDOG=1"]);
    }

    #[test]
    fn what_finds_no_room_is_sent_later_and_nothing_waits() {
        let mut rig = rig(None);
        let full = || {
            let mut sent = 0;
            while rig.notifier.unsent.is_empty() {
                rig.notifier.status(sent);
                sent += 1;
                assert!(sent < 1_000_000, "a socket's queue has an end");
            }
            sent
        };
        let sent = { full }();
        rig.notifier.ready();
        assert_eq!(rig.heard().len(), sent - 1);
        rig.notifier.turn(Instant::now(), true);
        assert_eq!(rig.heard().last().map(String::as_str), Some("READY=1"));
    }

    #[test]
    fn without_systemd_nothing_is_kept() {
        let mut notifier = Notifier::new(None, Some(Duration::from_secs(1)));
        notifier.ready();
        assert!(notifier.unsent.is_empty());
        assert_eq!(notifier.left(Instant::now()), None);
    }
}
