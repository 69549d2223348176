//! About the daemon itself.

use std::fmt;

use serde::{Deserialize, Serialize};
use uvs_core::flow::Addr;
use uvs_core::numbers::{LogLosses, RecordNumbers};

use super::HookStatus;

/// An owned VIP that another host claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct YieldedVip {
    /// The VIP.
    pub vip: Addr,
    /// The other host's MAC address.
    pub mac: String,
    /// The interface by which it was heard.
    pub interface: String,
}

impl fmt::Display for YieldedVip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} on {}", self.vip, self.mac, self.interface)
    }
}

/// About the daemon.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Info {
    /// The program's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime: u64,
    /// The interfaces it runs on.
    pub interfaces: Vec<String>,
    /// The socket for programs that speak to the kernel's IPVS; empty from a daemon that does not tell.
    #[serde(default)]
    pub ipvs_socket: String,
    /// The configuration file, where it has one.
    pub config: Option<String>,
    /// Scheduler names it knows.
    pub schedulers: Vec<String>,
    /// Connections in the table.
    pub connections: u32,
    /// The table's limit.
    pub connection_limit: u32,
    /// Its workers, in the order of their numbers; none from a daemon that does not tell.
    #[serde(default)]
    pub workers: Vec<WorkerInfo>,
    /// What `--own-vip` said on its command line.
    #[serde(default)]
    pub own_vip: Vec<String>,
    /// VIPs that are on no interface of the host's and that it owns: it answers for them.
    pub owned_vips: Vec<Addr>,
    /// Those of them that another host claims: ARP is not answered until that one is silent.
    #[serde(default)]
    pub yielded_vips: Vec<YieldedVip>,
    /// VIPs that are neither on the host nor owned: a stand-by's.
    #[serde(default)]
    pub absent_vips: Vec<Addr>,
    /// First and last port of FULLNAT's local ports; 0 and 0 from a daemon that does not tell.
    #[serde(default)]
    pub local_ports: (u16, u16),
    /// The guard; `None` from a daemon that does not tell.
    #[serde(default)]
    pub guard: Option<GuardStatus>,
    /// How many seconds a reload is still on trial, where one is.
    #[serde(default)]
    pub reload_on_trial: Option<u64>,
    /// The program in the kernel.
    #[serde(default)]
    pub hook: HookStatus,
    /// What it has given up; nothing of it from a daemon that does not tell.
    #[serde(default)]
    pub confinement: ConfinementStatus,
    /// What its log lacks.
    #[serde(default)]
    pub log: LogLosses,
    /// What the connection log has and lacks.
    #[serde(default)]
    pub connection_log: RecordNumbers,
}

/// What a daemon has given up, and what it has still.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfinementStatus {
    /// The capabilities that it has.
    pub capabilities: Vec<String>,
    /// Those that a program which it starts could have.
    pub bounding: Vec<String>,
    /// Whether programs that it starts can give it no rights.
    pub no_new_privs: bool,
    /// What was asked for of system calls: `on`, `log`, `off`.
    pub seccomp: String,
    /// Whether a filter of system calls is in force, this daemon's or one that it was started with.
    pub is_filtered: bool,
    /// System calls that were refused, or with `log` would have been.
    pub refused: u64,
    /// What could not be given up, and why, a sentence each.
    pub kept: Vec<String>,
}

/// How other programs of the host have treated the guard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardStatus {
    /// Times that it was put up again after somebody had removed it.
    pub removed: u64,
    /// Times that it was repaired after somebody had changed it.
    pub damaged: u64,
    /// When it was last, in seconds ago, and what had been done to it.
    pub last: Option<(u64, String)>,
    /// What is wrong with it now; `None` = it is as it must be.
    pub wrong: Option<String>,
}

/// A worker of the daemon's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Connections in its table.
    pub connections: u32,
    /// Nanoseconds that it has worked.
    pub busy_ns: u64,
    /// Nanoseconds that it has waited for frames.
    pub waited_ns: u64,
}
