//! A bad line: between a host and its interface frames are lost, repeated and reordered, as a seed says, and counted.
//! netem does the same in kernels that have it.

use std::path::Path;

use crate::process::{Process, SOON};
use crate::{Error, Host, Result, tools};

/// What carries the frames.
const SCRIPT: &str = include_str!("relay.py");
/// The host's new interface, and the end of the same pair that the relay has.
const INSIDE: &str = "line1";
const RELAYED: &str = "line0";

/// How bad a line is: of a thousand TCP and UDP packets each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Badness {
    /// So many are lost.
    pub lost: u32,
    /// So many come twice.
    pub twice: u32,
    /// So many come late, and so behind others.
    pub late: u32,
}

/// What a relay has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Frames handed on.
    pub passed: u64,
    /// Those that were not.
    pub lost: u64,
    /// Those that went twice.
    pub twice: u64,
    /// Those that went late.
    pub late: u64,
}

/// A relay that runs; ended when dropped. Its interfaces end with their host.
#[derive(Debug)]
pub struct Relay {
    process: Process,
}

impl Relay {
    /// Puts a line between a host and its `eth0`, whose addresses and default routes the line gets; the log is in `dir`.
    pub fn start(host: &Host, seed: u64, badness: Badness, dir: &Path) -> Result<Self> {
        move_addresses(host)?;
        let numbers = [
            seed.to_string(),
            badness.lost.to_string(),
            badness.twice.to_string(),
            badness.late.to_string(),
        ];
        let words = ["-c", SCRIPT, "eth0", RELAYED].map(str::to_owned);
        let command = tools::command("python3", words.into_iter().chain(numbers))?;
        let log = dir.join(format!("{}-relay.log", host.role()));
        let mut process = host.spawn(command, &log)?;
        process.wait_ready(SOON, |process| process.log().contains("ready"))?;
        Ok(Self { process })
    }

    /// Ends it; what it has done.
    pub fn finish(mut self) -> Result<Carried> {
        self.process.stop()?;
        read(&self.process.log())
    }
}

/// Gives a host's addresses and default routes to a veth pair's end, the other end of which the relay has. What comes in by
/// `eth0` is to be looked at by the relay alone.
fn move_addresses(host: &Host) -> Result<()> {
    let shown = host.run("ip -brief address show dev eth0 scope global")?;
    let addresses: Vec<&str> = shown.split_whitespace().skip(2).collect();
    let mut lines = format!(
        "link add {RELAYED} type veth peer name {INSIDE}\naddr flush dev eth0\nlink set {RELAYED} up\nlink set {INSIDE} up\n"
    );
    let routes = [
        host.run("ip -4 route show default")?,
        host.run("ip -6 route show default")?,
    ];
    for address in addresses {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        lines += &format!("addr add {address} dev {INSIDE}{nodad}\n");
    }
    for route in routes.iter().flat_map(|text| text.lines()) {
        let gateway = route
            .split_whitespace()
            .skip_while(|word| *word != "via")
            .nth(1);
        let gateway = gateway.ok_or_else(|| Error::Wrong(format!("no gateway in {route:?}")))?;
        lines += &format!("route add default via {gateway} dev {INSIDE}\n");
    }
    host.ip(&lines)?;
    host.sysctl("net.ipv4.conf.all.arp_ignore", "1")
}

/// Reads its last line: `passed 10 lost 1 …`.
fn read(log: &str) -> Result<Carried> {
    let line = log.lines().last().unwrap_or_default();
    let words: Vec<&str> = line.split(' ').collect();
    let count = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1)?.parse().ok()
    };
    let carried = || {
        Some(Carried {
            passed: count("passed")?,
            lost: count("lost")?,
            twice: count("twice")?,
            late: count("late")?,
        })
    };
    carried().ok_or_else(|| Error::Wrong(format!("the relay did not say what it did:\n{log}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_did_is_read() {
        let log = "ready\npassed 10 lost 1 twice 2 late 3 unsent 0\n";
        let carried = Carried {
            passed: 10,
            lost: 1,
            twice: 2,
            late: 3,
        };
        assert_eq!(read(log).expect("said"), carried);
        assert!(read("ready\n").is_err());
    }
}
