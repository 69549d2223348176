//! Where a daemon's frames went: the sums that must come out even when a lab's daemon ends, and the sum of
//! them over a whole run of tests.
//!
//! Where `$UVS_LAB_FRAMES` names a file, each daemon adds a line to it, so that a suite can end with one
//! line that says what all of them received and what became of it (`lab/frames.sh`).

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::thread;

use serde::Deserialize;

use crate::{Error, Result};

/// The variable that names the file of a suite's sum.
const SUITE: &str = "UVS_LAB_FRAMES";

/// What `uvs show drops -o json` says.
#[derive(Clone, Debug, Deserialize)]
pub struct Frames {
    /// Over all interfaces.
    pub totals: Totals,
    /// Interface by interface.
    pub interfaces: Vec<Interface>,
}

/// Frames that came in: `received` is the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Totals {
    /// Taken from the ring, or forwarded in the kernel.
    pub received: u64,
    /// Forwarded.
    pub sent: u64,
    /// Ended in an answer.
    pub answered: u64,
    /// Fragments kept for their datagram.
    pub held: u64,
    /// Left to the kernel.
    pub passed: u64,
    /// Delivered to the host itself.
    pub local: u64,
    /// Forwarded in the kernel.
    #[serde(default)]
    pub in_kernel: u64,
    /// Dropped, for whatever reason.
    pub dropped: u64,
}

/// An interface's frames: what came in, and what was to go out.
#[derive(Clone, Debug, Deserialize)]
pub struct Interface {
    /// Its name.
    pub interface: String,
    /// What came in.
    #[serde(flatten)]
    pub came: Totals,
    /// Handed over to leave.
    pub handed: u64,
    /// Left.
    pub left: u64,
    /// Wait for their next hop.
    pub waiting: u64,
    /// Did not leave, by reason.
    pub losses: Vec<(String, u64)>,
    /// Dropped by reason, of those that came in.
    pub drops: Vec<(String, u64)>,
}

impl Totals {
    fn ended(&self) -> u64 {
        let kept = self.held + self.passed + self.local;
        self.sent + self.answered + kept + self.in_kernel + self.dropped
    }
}

impl Frames {
    /// Reads what the daemon said, and adds up by itself.
    pub fn read(json: &str) -> Result<Self> {
        let wrong = |e: serde_json::Error| Error::Wrong(format!("uvs show drops -o json: {e}"));
        let frames: Self = serde_json::from_str(json).map_err(wrong)?;
        frames.check().map_err(Error::Wrong)?;
        Ok(frames)
    }

    /// What is unexplained, where anything is.
    fn check(&self) -> std::result::Result<(), String> {
        even(
            "all interfaces: received",
            self.totals.received,
            self.totals.ended(),
        )?;
        let received = self.interfaces.iter().map(|i| i.came.received).sum();
        even("received by all, by each", self.totals.received, received)?;
        for i in &self.interfaces {
            let sum = |all: &[(String, u64)]| all.iter().map(|(_, n)| n).sum::<u64>();
            let name = &i.interface;
            even(
                &format!("{name}: received"),
                i.came.received,
                i.came.ended(),
            )?;
            even(
                &format!("{name}: dropped, by reason"),
                i.came.dropped,
                sum(&i.drops),
            )?;
            let ended = i.left + i.waiting + sum(&i.losses);
            even(&format!("{name}: handed over to leave"), i.handed, ended)?;
        }
        Ok(())
    }

    /// Adds a line to the suite's file, where there is one.
    pub(crate) fn record(&self) -> Result<()> {
        let Some(file) = std::env::var_os(SUITE).filter(|file| !file.is_empty()) else {
            return Ok(());
        };
        let t = &self.totals;
        let lost: u64 = self
            .interfaces
            .iter()
            .flat_map(|i| &i.losses)
            .map(|(_, n)| n)
            .sum();
        let handed: u64 = self.interfaces.iter().map(|i| i.handed).sum();
        let left: u64 = self.interfaces.iter().map(|i| i.left).sum();
        let waiting: u64 = self.interfaces.iter().map(|i| i.waiting).sum();
        let counts = [
            t.received,
            t.sent,
            t.answered,
            t.held,
            t.passed,
            t.local,
            t.dropped,
            handed,
            left,
            waiting,
            lost,
            t.in_kernel,
        ];
        let counts = counts.map(|n| n.to_string()).join(" ");
        let line = format!("{counts} {}\n", thread::current().name().unwrap_or("-"));
        // One write a line: several tests append at once.
        let mut open = OpenOptions::new();
        let written = open.create(true).append(true).open(&file);
        let written = written.and_then(|mut f| f.write_all(line.as_bytes()));
        match written {
            // Another user's daemon, of the tests without root: it is checked, and not in the sum.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
            other => other.map_err(Error::io(format!("add to {}", file.display()))),
        }
    }
}

fn even(what: &str, total: u64, parts: u64) -> std::result::Result<(), String> {
    if total == parts {
        return Ok(());
    }
    Err(format!(
        "unexplained frames: {what} {total}, but the parts are {parts}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sent: u64, left: u64) -> Result<Frames> {
        let totals = format!(
            r#""received": 5, "sent": {sent}, "answered": 0, "held": 0, "passed": 1, "local": 0, "dropped": 1"#
        );
        Frames::read(&format!(
            r#"{{ "totals": {{ {totals} }}, "drops": [], "interfaces": [ {{ "interface": "eth0", {totals},
                "drops": [["no_route", 1]], "handed": 4, "left": {left}, "waiting": 0,
                "losses": [["send_failed", 1]], "ring_full": 0, "unaccounted": 0, "unsent": 0 }} ] }}"#
        ))
    }

    #[test]
    fn a_frame_that_is_missing_is_an_error_whatever_the_daemon_says_of_it() {
        assert_eq!(told(3, 3).expect("even").totals.received, 5);
        let error = |sent, left| told(sent, left).expect_err("uneven").to_string();
        assert!(error(2, 3).contains("received 5, but the parts are 4"));
        assert!(error(3, 2).contains("eth0: handed over to leave 4, but the parts are 3"));
    }
}
