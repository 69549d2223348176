//! What the engine counts: plain integers, copied out by the shell, never reset.

use std::ops::{AddAssign, Deref, DerefMut};

use serde::{Deserialize, Serialize};

use crate::flow::Family;
use crate::reasons::reasons;
use crate::verdict::{DropReason, Verdict};
use crate::wire::{icmp, icmpv6};

/// Totals of a service or a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets from servers.
    pub out_packets: u64,
    /// IP bytes from clients, before encapsulation.
    pub in_bytes: u64,
    /// IP bytes from servers.
    pub out_bytes: u64,
}

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.in_packets += other.in_packets;
        self.out_packets += other.out_packets;
        self.in_bytes += other.in_bytes;
        self.out_bytes += other.out_bytes;
    }
}

reasons! {
    /// Why a new connection got no real server.
    ScheduleFailure {
        NoBackend "no_backend"
            "The service has no real server with a weight above 0, or its scheduler chose none."
        AllOverloaded "all_overloaded"
            "All real servers with a weight above 0 are at their upper threshold."
        SchedulerFault "scheduler_fault"
            "The scheduler named a real server that does not exist or may not be used."
        TableFull "table_full"
            "The connection table is at its limit."
        PortsExhausted "ports_exhausted"
            "No local port was free for FULLNAT."
        Denied "denied"
            "The client's address is on a deny list."
        ClientRate "client_rate"
            "The client opened connections faster than new_connections_per_client."
        ServiceRate "service_rate"
            "All clients together opened connections faster than new_connections_per_second."
        DropPacket "drop_packet"
            "The defence drop_packet dropped the connection's first packet."
        NoCallId "no_call_id"
            "The packet names no call, and the service has the persistence engine sip."
    }
}

reasons! {
    /// What became of a director's asking another one for its whole table, at either end.
    BulkResult {
        Complete "complete"
            "All was told."
        Unreachable "unreachable"
            "Nobody answers at the other director."
        Closed "closed"
            "The other director closed the connection, or the way to it broke, before all was told."
        Slow "slow"
            "The other director said or took nothing for too long, or what it said had been too long on its way."
        Stranger "stranger"
            "Who asks is none of `peers`."
        Busy "busy"
            "As many others as may be are being told all."
        Greeting "greeting"
            "The other end speaks another protocol, or another version of this one."
        Key "key"
            "What was said is not sealed with the key for this conversation: another key, a copy of another conversation, or a director behind a translation of addresses."
        Frame "frame"
            "What was said is sealed well and makes no sense, or is too long."
        SyncId "syncid"
            "Who asks has another syncid."
    }
}

impl Stats {
    /// Counts a packet from a server (`out`) or a client.
    pub const fn count(&mut self, out: bool, bytes: u64) {
        if out {
            self.out_packets += 1;
            self.out_bytes += bytes;
        } else {
            self.in_packets += 1;
            self.in_bytes += bytes;
        }
    }
}

/// The ICMP errors that the engine makes: their type in ICMP and in ICMPv6, where it has them, and the metric label.
/// What is too big is unreachable in ICMP.
pub const ICMP_ERRORS: [(Option<u8>, u8, &str); 4] = [
    (
        Some(icmp::UNREACHABLE),
        icmpv6::UNREACHABLE,
        "destination_unreachable",
    ),
    (
        Some(icmp::TIME_EXCEEDED),
        icmpv6::TIME_EXCEEDED,
        "time_exceeded",
    ),
    (None, icmpv6::TOO_BIG, "packet_too_big"),
    (None, icmpv6::PARAMETER_PROBLEM, "parameter_problem"),
];

macro_rules! counts_by {
    ($(#[$about:meta])* $name:ident $kind:ident) => {
        $(#[$about])*
        ///
        /// Serialised as a list of labels and counts, without the zeros; a label that is not known, of
        /// another release, is left out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(from = "Vec<(String, u64)>", into = "Vec<(String, u64)>")]
        pub struct $name([u64; $kind::COUNT]);

        impl $name {
            /// Those that are not 0, with their labels.
            pub fn counted(&self) -> impl Iterator<Item = (&'static str, u64)> {
                let all = $kind::ALL.iter().zip(self.0);
                all.filter(|(_, n)| *n > 0).map(|(kind, n)| (kind.label(), n))
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self([0; $kind::COUNT])
            }
        }

        impl Deref for $name {
            type Target = [u64; $kind::COUNT];

            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }

        impl DerefMut for $name {
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.0
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                for (sum, n) in self.0.iter_mut().zip(other.0) {
                    *sum += n;
                }
            }
        }

        impl From<$name> for Vec<(String, u64)> {
            fn from(counts: $name) -> Self {
                let counted = counts.counted();
                counted.map(|(label, n)| (label.to_owned(), n)).collect()
            }
        }

        impl From<Vec<(String, u64)>> for $name {
            fn from(list: Vec<(String, u64)>) -> Self {
                let mut counts = Self::default();
                for (label, n) in list {
                    if let Some(kind) = $kind::ALL.iter().find(|kind| kind.label() == label) {
                        counts[*kind as usize] = n;
                    }
                }
                counts
            }
        }
    };
}

counts_by! {
    /// A count for each [`DropReason`], in their order: `counts[reason as usize]`.
    ByReason DropReason
}

counts_by! {
    /// A count for each [`ScheduleFailure`], in their order: `counts[failure as usize]`.
    ByFailure ScheduleFailure
}

counts_by! {
    /// A count for each [`BulkResult`], in their order: `counts[result as usize]`.
    ByBulkResult BulkResult
}

/// Totals of an engine, or of several together: `+=` counts another's in.
///
/// Every received frame is in exactly one of `sent`, `answered`, `held`, `passed`, `local`, `in_kernel` and `drops`,
/// so [`Counters::accounted`] equals `received`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Frames handed in.
    pub received: u64,
    /// Frames forwarded, as they were or as segments or fragments.
    pub sent: u64,
    /// Frames that ended in an answer.
    pub answered: u64,
    /// Fragments kept for their datagram.
    pub held: u64,
    /// Frames left to the kernel.
    pub passed: u64,
    /// Frames given to the host's own stack.
    pub local: u64,
    /// Frames that the kernel forwarded by the hook: the engine has not seen them.
    pub in_kernel: u64,
    /// Frames dropped, by [`DropReason`].
    pub drops: ByReason,
    /// Frames handed on to another worker, whose engine counts them; no part of the sum.
    pub handed_on: u64,
    /// Frames made by segmentation.
    pub segments: u64,
    /// Frames made by fragmentation.
    pub fragments: u64,
    /// ICMP errors made, in the order of [`ICMP_ERRORS`].
    pub icmp_sent: [u64; ICMP_ERRORS.len()],
    /// ICMP messages passed on about a connection.
    pub icmp_translated: u64,
    /// Segments that would have ended a connection, and whose sequence number was none of its.
    pub out_of_window: u64,
    /// Connections that ended, for whatever reason.
    pub expired: u64,
    /// Connections and templates evicted for new ones at the table's limit: half-open ones and theirs first.
    pub evicted: u64,
    /// Connections and templates that the defence drop_entry ended.
    pub dropped_entries: u64,
    /// Connections that were over and gave way to a new one whose replies would have looked like theirs.
    pub replaced_over: u64,
    /// Connections that did so although they were not over, since no other server was left.
    pub replaced_live: u64,
    /// FULLNAT connections that a server's old connection stood in the way of, and that were opened again.
    pub reopened: u64,
    /// Headers of the PROXY protocol that were sent before a stream,
    pub proxy_headers: u64,
    /// and those among them that were sent again.
    pub proxy_headers_again: u64,
    /// Connections and templates of another director's that were not taken up.
    pub not_taken_up: u64,
    /// Clients that were told that their connection ended.
    pub told_clients: u64,
    /// Servers that were told so.
    pub told_servers: u64,
    /// Frames that were to leave and did not, by reason. Received frames that were to be forwarded,
    /// answered or delivered count as that all the same; frames that the engine made were never received.
    pub lost: ByReason,
    /// Held fragments whose datagram never became whole (they were counted as held).
    pub fragments_expired: u64,
    /// Picks refused because the scheduler named a server that does not exist or may not be used.
    pub scheduler_faults: u64,
}

impl Counters {
    /// Counts an ICMP error of this family and type that was made.
    pub fn count_icmp(&mut self, family: Family, kind: u8) {
        let is_it = |(icmp, icmpv6, _): &(Option<u8>, u8, &str)| match family {
            Family::V4 => *icmp == Some(kind),
            Family::V6 => *icmpv6 == kind,
        };
        let place = ICMP_ERRORS.iter().position(is_it);
        if let Some(place) = place {
            self.icmp_sent[place] += 1;
        }
    }

    /// Counts one received frame's end.
    pub fn count(&mut self, verdict: Verdict) {
        self.received += u64::from(!matches!(verdict, Verdict::Elsewhere(_)));
        match verdict {
            Verdict::Elsewhere(_) => self.handed_on += 1,
            Verdict::Send(_) | Verdict::SendOutbox => self.sent += 1,
            Verdict::Answered => self.answered += 1,
            Verdict::Held => self.held += 1,
            Verdict::Pass => self.passed += 1,
            Verdict::Local => self.local += 1,
            Verdict::Drop(reason) => self.drops[reason as usize] += 1,
        }
    }

    /// A frame that was counted as handed on could not be.
    pub fn refuse_handing(&mut self, reason: DropReason) {
        self.handed_on -= 1;
        self.count(Verdict::Drop(reason));
    }

    /// Counts frames that the kernel forwarded.
    pub const fn count_in_kernel(&mut self, n: u64) {
        self.received += n;
        self.in_kernel += n;
    }

    /// The frames whose end is known: equals `received`.
    pub fn accounted(&self) -> u64 {
        let drops: u64 = self.drops.iter().sum();
        let kept = self.held + self.passed + self.local;
        self.sent + self.answered + kept + self.in_kernel + drops
    }
}

impl AddAssign<&Self> for Counters {
    fn add_assign(&mut self, other: &Self) {
        // By name, so that the compiler asks for a count that is new.
        let Self {
            received,
            sent,
            answered,
            held,
            passed,
            local,
            in_kernel,
            drops,
            handed_on,
            segments,
            fragments,
            icmp_sent,
            icmp_translated,
            out_of_window,
            expired,
            evicted,
            dropped_entries,
            replaced_over,
            replaced_live,
            reopened,
            proxy_headers,
            proxy_headers_again,
            not_taken_up,
            told_clients,
            told_servers,
            lost,
            fragments_expired,
            scheduler_faults,
        } = other;
        for (sum, n) in [
            (&mut self.received, received),
            (&mut self.sent, sent),
            (&mut self.answered, answered),
            (&mut self.held, held),
            (&mut self.passed, passed),
            (&mut self.local, local),
            (&mut self.in_kernel, in_kernel),
            (&mut self.handed_on, handed_on),
            (&mut self.segments, segments),
            (&mut self.fragments, fragments),
            (&mut self.icmp_translated, icmp_translated),
            (&mut self.out_of_window, out_of_window),
            (&mut self.expired, expired),
            (&mut self.evicted, evicted),
            (&mut self.dropped_entries, dropped_entries),
            (&mut self.replaced_over, replaced_over),
            (&mut self.replaced_live, replaced_live),
            (&mut self.reopened, reopened),
            (&mut self.proxy_headers, proxy_headers),
            (&mut self.proxy_headers_again, proxy_headers_again),
            (&mut self.not_taken_up, not_taken_up),
            (&mut self.told_clients, told_clients),
            (&mut self.told_servers, told_servers),
            (&mut self.fragments_expired, fragments_expired),
            (&mut self.scheduler_faults, scheduler_faults),
        ] {
            *sum += n;
        }
        for (sum, n) in self.icmp_sent.iter_mut().zip(icmp_sent) {
            *sum += n;
        }
        self.drops += *drops;
        self.lost += *lost;
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn counters()(reasons in vec(0..DropReason::COUNT, 0..20), sent in 0..50_u64) -> Counters {
            let mut counters = Counters::default();
            for reason in reasons {
                counters.count(Verdict::Drop(DropReason::ALL[reason]));
                counters.lost[reason] += 1;
                counters.count_icmp(Family::V4, 3);
                counters.count_icmp(Family::V6, 2);
            }
            (0..sent).for_each(|_| counters.count(Verdict::Pass));
            counters
        }
    }

    proptest! {
        #[test]
        fn every_frame_of_several_engines_has_one_end(a in counters(), b in counters()) {
            let mut both = Counters::default();
            both += &a;
            prop_assert_eq!(&both, &a, "zero changes nothing");
            both += &b;
            prop_assert_eq!(both.accounted(), both.received);
            prop_assert_eq!(both.received, a.received + b.received);
            let lost = |c: &ByReason| c.iter().sum::<u64>();
            prop_assert_eq!(lost(&both.lost), lost(&a.lost) + lost(&b.lost));
        }
    }

    #[test]
    fn counts_travel_by_their_labels() {
        let mut counts = ByReason::default();
        counts[DropReason::NoRoute as usize] = 7;
        counts[DropReason::Denied as usize] = 1;
        let json = serde_json::to_string(&counts).expect("JSON");
        assert_eq!(json, r#"[["denied",1],["no_route",7]]"#);
        assert_eq!(serde_json::from_str::<ByReason>(&json).ok(), Some(counts));
        let newer = r#"[["of_another_release",3],["denied",2]]"#;
        let read: ByFailure = serde_json::from_str(newer).expect("JSON");
        assert_eq!(read.counted().collect::<Vec<_>>(), [("denied", 2)]);
    }
}
