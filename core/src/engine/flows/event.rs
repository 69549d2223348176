//! What becomes of connections and persistence templates, as one stream.
//!
//! Each is told of once when it is made, whenever its state or what it counts as changes, and once when it
//! ends, in that order. [`Flows`](super::Flows) tells, where it inserts into the table, changes and removes,
//! and [`Stream::tell`](super::stream::Stream::tell) is the one place that all of it passes.

use serde::{Deserialize, Serialize};

use crate::conn::{self, Conn};

/// What has become of a connection or template.
pub(super) enum FlowEvent<'a> {
    /// It was made.
    Opened(&'a Conn),
    /// It has moved on; with what it was before.
    Changed(&'a Conn, Standing),
    /// It has left the table.
    Ended(&'a Conn, Cause),
}

/// What a connection counts as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// The state of its protocol, or a template's.
    pub(super) state: u8,
    /// Active or inactive in IPVS's sense.
    pub(super) active: bool,
    /// Closed by both sides, or reset.
    pub(super) over: bool,
}

impl Standing {
    pub(super) fn of(c: &Conn) -> Self {
        Self {
            state: c.state,
            active: !c.has(conn::INACTIVE),
            over: c.is_over(),
        }
    }
}

/// Why a connection or template ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Cause {
    /// There was no packet for its time-out.
    TimedOut,
    /// It was for one packet.
    OnePacket,
    /// Its client began again.
    Reopened,
    /// It was over, and its replies would have looked like those of a new one.
    ReplacedOver,
    /// As that, and it was not over.
    ReplacedLive,
    /// A new one needed its place in the table.
    Evicted,
    /// The defence drop_entry chose it.
    DropEntry,
    /// The connection that it was made for ended before its time: a template that stood for no other.
    Unproven,
    /// Its server left.
    ServerLeft,
    /// Its client is denied.
    Denied,
    /// Another director has made one to another server in its place.
    Superseded,
    /// Somebody wanted it to.
    Killed,
}

impl Cause {
    const COUNT: usize = Self::Killed as usize + 1;
}

/// How many have ended, by cause.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Ends([u64; Cause::COUNT]);

impl Ends {
    pub(super) fn note(&mut self, event: &FlowEvent<'_>) {
        if let FlowEvent::Ended(_, cause) = event {
            self.0[*cause as usize] += 1;
        }
    }

    pub(super) fn of(&self, cause: Cause) -> u64 {
        self.0[cause as usize]
    }

    pub(super) fn all(&self) -> u64 {
        self.0.iter().sum()
    }
}
