//! The engine's counters in brief: where frames went, and how connections ended.

use serde::{Deserialize, Serialize};

use crate::counters::Counters;

/// Frames since the start: `received` is the sum of those after it, but for `lost`.
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

impl From<&Counters> for Totals {
    fn from(counters: &Counters) -> Self {
        Self {
            received: counters.received,
            sent: counters.sent,
            answered: counters.answered,
            held: counters.held,
            passed: counters.passed,
            local: counters.local,
            dropped: counters.drops.iter().sum(),
            lost: counters.lost.iter().sum(),
        }
    }
}

/// How connections ended since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ended {
    /// In all.
    pub ended: u64,
    /// Given up for new ones at the table's limit.
    pub evicted: u64,
    /// By the defence drop_entry.
    pub dropped_entries: u64,
    /// Replaced by a new one of the same client, port and server, when they were over.
    pub replaced_over: u64,
    /// Replaced so although they were not over.
    pub replaced_live: u64,
    /// Clients that were told.
    pub told_clients: u64,
    /// Servers that were told.
    pub told_servers: u64,
}

impl From<&Counters> for Ended {
    fn from(counters: &Counters) -> Self {
        Self {
            ended: counters.expired,
            evicted: counters.evicted,
            dropped_entries: counters.dropped_entries,
            replaced_over: counters.replaced_over,
            replaced_live: counters.replaced_live,
            told_clients: counters.told_clients,
            told_servers: counters.told_servers,
        }
    }
}
