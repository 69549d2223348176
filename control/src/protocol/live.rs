//! What live views ask: one sample of everything counted, connections by filter and in bounded parts,
//! how long frames took, neighbours and settings.
//!
//! Counters here are the engine's own, current and never reset: a rate is the difference of two samples
//! over the difference of their times.

use serde::{Deserialize, Serialize};
use uvs_core::engine::ConnReport;
use uvs_core::flow::{Addr, Endpoint};
use uvs_core::numbers::Totals;
use uvs_core::service::ServiceKey;

use super::ServiceStatus;

/// Everything counted at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// When, in nanoseconds of the host's monotonic clock.
    pub taken_ns: u64,
    /// The daemon's process id: another one counts from 0.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime: u64,
    /// Nanoseconds that all workers together have worked.
    pub busy_ns: u64,
    /// Nanoseconds that each has.
    #[serde(default)]
    pub each_busy_ns: Vec<u64>,
    /// Frames that the kernel dropped because a ring was full.
    pub ring_drops: u64,
    /// Where frames went.
    pub totals: Totals,
    /// Connections in the table.
    pub connections: u32,
    /// The table's limit.
    pub connection_limit: u32,
    /// The services; `stats` counts from their beginning, whatever was zeroed.
    pub services: Vec<ServiceStatus>,
}

/// Which connections to look for, and where to go on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Find {
    /// Which.
    pub filter: Filter,
    /// 0, or [`Found::next`] of the answer before.
    pub from: u64,
    /// Of those found, only so many: those with the latest packets.
    pub latest: Option<u32>,
}

/// What a connection must be; `None` = anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Scheduled by this service.
    pub service: Option<ServiceKey>,
    /// With this real server; port 0 = any of its ports.
    pub server: Option<Endpoint>,
    /// From these clients.
    pub client: Option<ClientFilter>,
}

/// Clients by subnet and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientFilter {
    /// The subnet.
    pub addr: Addr,
    /// Bits of it that count, within the family.
    pub prefix: u8,
    /// The port; 0 = any.
    #[serde(default)]
    pub port: u16,
}

/// Connections of a part of the table.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Found {
    /// In table order; where only the latest were asked for, those first that had a packet last.
    pub connections: Vec<ConnReport>,
    /// How many fit, with those that were left out.
    pub matched: u32,
    /// Where to go on, `None` at the end.
    pub next: Option<u64>,
}

/// Puts those with the latest packets first, and leaves so many.
pub fn keep_latest(list: &mut Vec<ConnReport>, most: u32) {
    list.sort_by_key(|c| c.idle_ns);
    list.truncate(most as usize);
}

/// How long frames took, until now and until some time ago.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// The oldest that is kept of the time asked for; `None` where nothing was asked for or is kept.
    pub before: Option<LatencySample>,
    /// Now.
    pub now: LatencySample,
}

/// Frames by the time from the ring to their batch's sending, since the daemon's start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencySample {
    /// When, in nanoseconds of the host's monotonic clock.
    pub taken_ns: u64,
    /// When the first worker began to count, by the same clock.
    pub started_ns: u64,
    /// Frames forwarded.
    pub forwarded: u64,
    /// Frames that the kernel dropped because a ring was full: nobody knows how long they would have taken.
    pub ring_drops: u64,
    /// Nanoseconds that all workers together have worked.
    pub busy_ns: u64,
    /// Nanoseconds (the bucket's upper end, to two digits) and frames, rising; empty buckets are left out.
    pub counts: Vec<(u64, u64)>,
}

/// A neighbour entry of the host's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourStatus {
    /// The address.
    pub addr: Addr,
    /// The interface.
    pub interface: String,
    /// Its MAC address, `None` while unknown.
    pub mac: Option<String>,
    /// `known`, `failed` (ARP went unanswered) or `unknown`.
    pub state: String,
    /// Who keeps it: `kernel` (asked by UVS to keep it resolved), `administrator`, or nobody.
    pub kept_by: Option<String>,
    /// Real servers that are reached by it.
    pub servers: Vec<Addr>,
}

/// A value in force, by its key in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// What it is where nobody says anything.
    pub default: String,
}
