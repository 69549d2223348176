//! What the connection log says of a connection: a record when it ends, and where that is asked for one when it
//! begins.
//!
//! An engine makes them as plain values with its own instants; what day that was, and where they are written, is the
//! shell's.

use std::time::Duration;

use crate::flow::{Endpoint, Protocol};
use crate::offload::Traffic;
use crate::service::ServiceKey;
use crate::time::Instant;

/// A line of the connection log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whether it begins or has ended.
    pub event: Event,
    /// The service that scheduled it.
    pub service: ServiceKey,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its client.
    pub client: Endpoint,
    /// The VIP as the client used it.
    pub vip: Endpoint,
    /// FULLNAT's local endpoint.
    pub local: Option<Endpoint>,
    /// The real server.
    pub server: Endpoint,
    /// How it is forwarded: `route`, `nat`, `fullnat`, `ipip` and so on.
    pub mode: &'static str,
    /// When its first packet came; `None` where that was before this director logged it: another director's, or a
    /// killed daemon's.
    pub began: Option<Instant>,
    /// When the record was made.
    pub made: Instant,
}

/// What is told of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was made.
    Started,
    /// It has left the table.
    Ended(Ended),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When its last packet passed.
    pub last_packet: Instant,
    /// The state that it was in: `TIME_WAIT`, `CLOSE`, … `UDP`.
    pub state: &'static str,
    /// Why it is no more.
    pub why: Why,
    /// What was forwarded of it, wherever that was done; of one that began before it was logged, since then. `None`
    /// where nothing was counted.
    pub traffic: Option<Traffic>,
    /// Whether its server's packets pass the director, and so are counted.
    pub replies_pass: bool,
}

impl Record {
    /// How long it lasted, from its first packet to its last.
    pub fn lasted(&self) -> Option<Duration> {
        match self.event {
            Event::Started => None,
            Event::Ended(ended) => Some(ended.last_packet.since(self.began?)),
        }
    }
}

/// Declares the reasons: one row a reason, with the word of the log and what it means.
macro_rules! whys {
    ($($variant:ident $word:literal $meaning:literal)*) => {
        /// Why a connection is no more.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Why { $(#[doc = $meaning] $variant,)* }

        impl Why {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As the log has it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// What it means, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }
        }
    };
}

whys! {
    Closed "closed" "Both ends have closed it."
    Reset "reset" "One end has reset it."
    TimedOut "timeout" "There was no packet for its time-out; of UDP, that is every end."
    OnePacket "one_packet" "Its service schedules every packet by itself."
    Reopened "reopened" "Its client has begun a new one from the same port."
    Replaced "replaced" "A new one of the same client to the same server needed its place, and it was not over."
    Evicted "evicted" "The table was full, and a new one needed its place."
    DropEntry "drop_entry" "The defence drop_entry chose it."
    ServerLeft "server_left" "Its server was removed, or its drain's time was over."
    Denied "denied" "Its client is denied."
    Superseded "superseded" "Another director has given it to another server."
    Killed "killed" "`uvs kill` has ended it."
    Stopped "stopped" "The daemon was stopped, and it was not over."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let mut words: Vec<&str> = Why::ALL.iter().map(|why| why.name()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Why::ALL.len());
    }
}
