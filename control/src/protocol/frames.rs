//! Where frames went and how connections ended.

use serde::{Deserialize, Serialize};
use uvs_core::counters::ByReason;
use uvs_core::numbers::{Ended, Totals};

/// Where frames went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Drops {
    /// All of them.
    pub totals: Totals,
    /// Frames dropped and lost: label, count, in the order of the list of reasons.
    pub reasons: Vec<(String, u64)>,
    /// What became of connections.
    pub ended: Ended,
    /// The same of each interface.
    #[serde(default)]
    pub interfaces: Vec<InterfaceFrames>,
}

/// Where an interface's frames went: those that came in by it, and those that were to leave by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceFrames {
    /// The interface.
    pub interface: String,
    /// Those that came in, `received` being what was taken from the ring.
    #[serde(flatten)]
    pub came: Totals,
    /// Why those of them were dropped that were.
    pub drops: ByReason,
    /// Frames handed over to leave here: forwarded, segments, fragments and answers.
    pub handed: u64,
    /// Those of them that left.
    pub left: u64,
    /// Those that wait for their next hop's MAC address.
    pub waiting: u64,
    /// Why the others did not leave.
    pub losses: ByReason,
    /// Frames that the kernel dropped before UVS saw them, since the ring was full.
    pub ring_full: u64,
    /// Received frames less all their ends: 0, or UVS has a fault.
    pub unaccounted: i64,
    /// Frames handed over less those that left, wait or were lost: 0, or UVS has a fault.
    pub unsent: i64,
}
