//! Where frames went and how connections ended.

use serde::{Deserialize, Serialize};

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

/// Frames since the start: `received` is the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Handed to the engine.
    pub received: u64,
    /// Forwarded.
    pub sent: u64,
    /// Ended in an answer.
    pub answered: u64,
    /// Fragments kept for their datagram.
    pub held: u64,
    /// Left to the kernel.
    pub passed: u64,
    /// Delivered to the host itself, which is their real server.
    pub local: u64,
    /// Dropped, for whatever reason.
    pub dropped: u64,
    /// No part of the sum: frames that were to leave, forwarded or made, and did not.
    pub lost: u64,
}

/// How connections ended since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// In all.
    pub ended: u64,
    /// Given up for new ones at the table's limit.
    pub evicted: u64,
    /// By the defence drop_entry.
    pub dropped_entries: u64,
    /// Replaced by a new one of the same client, port and server, when they were over.
    #[serde(default)]
    pub replaced_over: u64,
    /// Replaced so although they were not over.
    #[serde(default)]
    pub replaced_live: u64,
    /// Clients that were told.
    pub told_clients: u64,
    /// Servers that were told.
    pub told_servers: u64,
}

/// Where an interface's frames went: those that came in by it, and those that were to leave by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceFrames {
    /// The interface.
    pub interface: String,
    /// Those that came in, `received` being what was taken from the ring.
    #[serde(flatten)]
    pub came: Totals,
    /// Why those of them were dropped that were: label and count, without the zeros.
    pub drops: Vec<(String, u64)>,
    /// Frames handed over to leave here: forwarded, segments, fragments and answers.
    pub handed: u64,
    /// Those of them that left.
    pub left: u64,
    /// Those that wait for their next hop's MAC address.
    pub waiting: u64,
    /// Why the others did not leave: label and count, without the zeros.
    pub losses: Vec<(String, u64)>,
    /// Frames that the kernel dropped before UVS saw them, since the ring was full.
    pub ring_full: u64,
    /// Received frames less all their ends: 0, or UVS has a fault.
    pub unaccounted: i64,
    /// Frames handed over less those that left, wait or were lost: 0, or UVS has a fault.
    pub unsent: i64,
}
