//! A host: a named network namespace, and what is done inside it.
//!
//! Programs start on a thread that has entered the namespace and inherit it, which needs no helper process
//! and makes the child's id the program's own.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{self, Output, Process, SOON};
use crate::sweep::{NETNS_DIR, remove_namespace};
use crate::{Error, Names, Result, tools};

/// Of `net.ipv6.conf`: without duplicate address detection an address is not tentative for a second, nobody asks
/// for routers, which no lab has, and what is set down keeps its addresses, as in IPv4.
const IPV6_SETTINGS: [(&str, &str); 6] = [
    ("disable_ipv6", "0"),
    ("accept_dad", "0"),
    ("dad_transmits", "0"),
    ("accept_ra", "0"),
    ("router_solicitations", "0"),
    ("keep_addr_on_down", "1"),
];

/// A network namespace; removed with all its processes when dropped.
#[derive(Debug)]
pub struct Host {
    name: String,
    role: String,
}

impl Host {
    /// Makes the namespace, with `lo` up and settings that do not depend on the machine's own: no reverse path
    /// filter, no forwarding, and IPv6 addresses that are there at once and not asked of a router.
    pub fn new(names: &Names, role: &str) -> Result<Self> {
        let name = names.of(role);
        process::output(tools::command("ip", ["netns", "add", &name])?, "", SOON)?;
        let host = Self {
            name,
            role: role.to_owned(),
        };
        for on in ["all", "default"] {
            host.sysctl(&format!("net.ipv4.conf.{on}.rp_filter"), "0")?;
            for (key, value) in IPV6_SETTINGS {
                host.sysctl(&format!("net.ipv6.conf.{on}.{key}"), value)?;
            }
        }
        host.forwarding(false)?;
        host.ip("link set lo up")?;
        Ok(host)
    }

    /// The namespace's name, as `ip netns exec` takes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is in the lab: `client`, `director`, `rs1` …
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Runs `work` inside. Sockets it opens stay in the namespace.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = self.path();
        let namespace = File::open(&path).map_err(Error::io(format!("open {}", path.display())))?;
        let inside = || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(Error::io(format!("enter {}", path.display())))?;
            Ok(work())
        };
        // A thread of its own, as there is no way back that cannot fail.
        thread::scope(|scope| {
            scope
                .spawn(inside)
                .join()
                .unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Runs a command line inside, split at spaces and without a shell, and returns its standard output.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let tool = words.next().unwrap_or_default();
        self.output(tools::command(tool, words)?, SOON)
            .map(|output| output.stdout)
    }

    /// Runs a command inside to its end.
    pub fn output(&self, command: Command, deadline: Duration) -> Result<Output> {
        self.enter(|| process::output(command, "", deadline))?
    }

    /// Starts a command inside; what it prints goes to `log`.
    pub fn spawn(&self, command: Command, log: &Path) -> Result<Process> {
        self.enter(|| Process::spawn(command, log))?
    }

    /// Runs `ip` commands, one a line, without the word `ip`.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let command = tools::command("ip", ["-netns", &self.name, "-batch", "-"])?;
        process::output(command, lines, SOON).map(drop)
    }

    /// Sets a sysctl by its dotted name; interface names must have no dot.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = sysctl_path(name);
        self.enter(|| fs::write(&path, value))?
            .map_err(Error::io(format!("set {name}={value} on {}", self.role)))
    }

    /// Sets whether the kernel forwards what is not this host's, in both families.
    pub fn forwarding(&self, on: bool) -> Result<()> {
        let value = if on { "1" } else { "0" };
        self.sysctl("net.ipv4.ip_forward", value)?;
        self.sysctl("net.ipv6.conf.all.forwarding", value)
    }

    /// Reads a sysctl.
    pub fn read_sysctl(&self, name: &str) -> Result<String> {
        let path = sysctl_path(name);
        let read = self.enter(|| fs::read_to_string(&path))?;
        read.map(|text| text.trim().to_owned())
            .map_err(Error::io(format!("read {name} on {}", self.role)))
    }

    /// Turns checksum offload, segmentation and GRO of an interface off.
    pub fn offloads_off(&self, interface: &str) -> Result<()> {
        self.run(&format!(
            "ethtool -K {interface} tx off tso off gso off gro off"
        ))
        .map(drop)
    }

    /// The hardware address of an interface, as `02:00:5e:00:00:01`.
    pub fn mac(&self, interface: &str) -> Result<String> {
        let shown = self.run(&format!("ip -brief link show dev {interface}"))?;
        let mac = shown.split_whitespace().nth(2).map(str::to_owned);
        mac.ok_or_else(|| Error::Wrong(format!("{}: no hardware address in {shown:?}", self.role)))
    }

    /// The ids of the processes inside.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let command = tools::command("ip", ["netns", "pids", &self.name])?;
        let listed = process::output(command, "", SOON)?;
        Ok(listed
            .stdout
            .lines()
            .filter_map(|line| line.trim().parse().ok())
            .collect())
    }

    fn path(&self) -> PathBuf {
        Path::new(NETNS_DIR).join(&self.name)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the next lab's start finds what is left.
        let _ = remove_namespace(&self.name);
    }
}

fn sysctl_path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

/// Whether `/proc/PID` is there and, where known, still is the process that started at `started`.
pub(crate) fn started_at(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // proc(5): field 22, counted after the command, which may have spaces and brackets.
    let after_command = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = after_command
        .split_whitespace()
        .nth(19)
        .and_then(|text| text.parse().ok());
    field.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no start time in stat"))
}
