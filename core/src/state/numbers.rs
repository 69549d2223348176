//! What is told of services, real servers and the whole: each number's name, unit and meaning, once.
//!
//! The control protocol carries these as they are serialised here, the exporter takes them as they are, and
//! whoever shows a number reads it here. So a field's name is interface.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::counters::{ByBulkResult, ByFailure, Counters, Stats};
use crate::plugins::{PluginNumbers, either};

/// What is counted of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceNumbers {
    /// Totals since it was added.
    pub stats: Stats,
    /// New connections that got no server.
    pub failures: ByFailure,
    /// Of its scheduler, where that is a plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginNumbers>,
}

/// Of several engines together.
impl AddAssign for ServiceNumbers {
    fn add_assign(&mut self, other: Self) {
        // By name, here and below, so that the compiler asks for a number that is new.
        let Self {
            stats,
            failures,
            plugin,
        } = other;
        self.stats += stats;
        self.failures += failures;
        self.plugin = either(self.plugin, plugin, |mut one, other| {
            one += other;
            one
        });
    }
}

/// How a real server has answered TCP handshakes since it was added: each connection once. All 0 where its packets do not
/// pass the director.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandshakeNumbers {
    /// By a SYN-ACK.
    pub ok: u64,
    /// By a RST.
    pub reset: u64,
    /// Not at all: by the third SYN, or until the connection's time was over.
    pub timeout: u64,
    /// Those that failed since the last that did not.
    pub failed_in_a_row: u32,
    /// Whole seconds since the last that did not fail; `None` = there was none.
    pub ok_ago: Option<u64>,
    /// Whole seconds since the last that failed; `None` = there was none.
    pub failed_ago: Option<u64>,
}

impl HandshakeNumbers {
    /// So many that failed one after the other are no accident.
    pub const DEAD: u32 = 3;

    /// Whether the server answers none, as far as is known.
    pub fn is_dead(&self) -> bool {
        let later = self
            .ok_ago
            .is_none_or(|ok| self.failed_ago.is_some_and(|failed| failed <= ok));
        self.failed_in_a_row >= Self::DEAD && later
    }

    /// The failures since the last answer, in words.
    pub fn failures(&self) -> String {
        format!(
            "{} handshakes in a row failed, the last {} s ago; in all {} reset, {} timed out",
            self.failed_in_a_row,
            self.failed_ago.unwrap_or_default(),
            self.reset,
            self.timeout
        )
    }
}

/// Of several engines together: the last of any is the last of all.
impl AddAssign for HandshakeNumbers {
    fn add_assign(&mut self, other: Self) {
        let Self {
            ok,
            reset,
            timeout,
            failed_in_a_row,
            ok_ago,
            failed_ago,
        } = other;
        let last = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        self.ok += ok;
        self.reset += reset;
        self.timeout += timeout;
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(failed_in_a_row);
        self.ok_ago = last(self.ok_ago, ok_ago);
        self.failed_ago = last(self.failed_ago, failed_ago);
    }
}

/// What is counted of a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerNumbers {
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// What it counts for during its slow start; its weight otherwise.
    pub effective_weight: f64,
    /// Smoothed time of its TCP handshakes in microseconds, 0 = not known.
    pub handshake: u32,
    /// How it has answered them.
    pub handshakes: HandshakeNumbers,
    /// Connections that are not over: neither closed by both sides nor reset.
    pub open: u32,
    /// Seconds since its weight became 0, while it is; rounded down.
    pub draining: Option<u64>,
    /// Whether it is over its upper threshold.
    pub overloaded: bool,
    /// Totals since it was added.
    pub stats: Stats,
}

/// Of several engines together: what is counted adds up, and of what is the server's own the value that promises
/// least holds.
impl AddAssign for ServerNumbers {
    fn add_assign(&mut self, other: Self) {
        let Self {
            active,
            inactive,
            persistent,
            effective_weight,
            handshake,
            handshakes,
            open,
            draining,
            overloaded,
            stats,
        } = other;
        self.active += active;
        self.inactive += inactive;
        self.persistent += persistent;
        self.effective_weight = self.effective_weight.min(effective_weight);
        self.handshake = self.handshake.max(handshake);
        self.handshakes += handshakes;
        self.open += open;
        self.draining = self.draining.max(draining);
        self.overloaded |= overloaded;
        self.stats += stats;
    }
}

/// Frames since the start: `received` is the sum of those after it, but for `lost`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Handed to an engine, or forwarded in the kernel.
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
    /// Forwarded in the kernel, and never handed to an engine.
    #[serde(default)]
    pub in_kernel: u64,
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
            in_kernel: counters.in_kernel,
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

/// Lines that the daemon's log lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLosses {
    /// Lost, since those before them were not written fast enough.
    pub queue_full: u64,
    /// Lost, since they could not be written.
    pub write_failed: u64,
    /// Left out, since many like them had been logged.
    pub suppressed: u64,
}

impl AddAssign for LogLosses {
    fn add_assign(&mut self, more: Self) {
        self.queue_full += more.queue_full;
        self.write_failed += more.write_failed;
        self.suppressed += more.suppressed;
    }
}

/// Lines that the connection log has, and those that it lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordNumbers {
    /// Written.
    pub written: u64,
    /// Lost, since those before them were not written fast enough.
    pub queue_full: u64,
    /// Lost, since they could not be written.
    pub write_failed: u64,
}

impl AddAssign for RecordNumbers {
    fn add_assign(&mut self, more: Self) {
        self.written += more.written;
        self.queue_full += more.queue_full;
        self.write_failed += more.write_failed;
    }
}

/// What a sync daemon has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncNumbers {
    /// Datagrams sent, or received.
    pub datagrams: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was said of connections in them; of a backup's, what was taken up.
    pub messages: u64,
    /// Datagrams of a backup's that were for others, or no synchronisation; messages that could not be taken up.
    pub refused: u64,
    /// Messages of a master's that were lost before they were sent: too many at once, or no way out.
    pub lost: u64,
    /// Whole seconds since the last datagram; `None` before the first.
    pub last: Option<u64>,
    /// Datagrams that other directors have sent and that did not come to a backup, or after later ones; known where they
    /// are sealed.
    pub missed: u64,
    /// Microseconds between the sealing of the datagram that a backup took up last and its being taken up, by both hosts'
    /// clocks: below 0 where they differ. `None` without a key, or before the first.
    pub delay_us: Option<i64>,
    /// The connections and templates in the table that other directors have told of, where this is a backup.
    pub entries: Option<u64>,
    /// Transfers of the whole table: that a master has given, that a backup has asked for.
    pub bulk: ByBulkResult,
    /// What was said of connections in them; of a backup's, what it was told.
    pub bulk_messages: u64,
}
