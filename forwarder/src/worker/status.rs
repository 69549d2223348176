//! Copies of what a worker counts. What is the director's adds up over all workers; what a worker's thread did
//! with its time is its own.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::time::Duration;

use uvs_core::counters::Counters;
use uvs_core::engine::Report;
use uvs_core::offload::HandedOver;
use uvs_core::time::Instant;

use super::latency::Latencies;
use super::ledger::{BATCH_BUCKETS, Ledger};
use crate::port::RxStatistics;

/// What one worker tells when it is asked for everything.
#[derive(Clone)]
pub(crate) struct WorkerStatus {
    /// Its time.
    pub(crate) work: Work,
    /// What it counts.
    pub(crate) counted: Status,
}

/// What a worker's thread did with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    /// When this was copied.
    pub(crate) taken: Instant,
    /// When the worker began to count.
    pub(crate) started: Instant,
    /// How long it has worked.
    pub(crate) busy: Duration,
    /// How long it has waited.
    pub(crate) waited: Duration,
    /// Batches by size, and the frames in all of them.
    pub(crate) batches: ([u64; BATCH_BUCKETS], u64),
}

/// A copy of everything that is the director's and counted: one worker's, or with `+=` several workers'.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Status {
    /// Services and servers.
    pub(crate) services: Report,
    /// The engine's totals.
    pub(crate) counters: Counters,
    /// Connections in the table.
    pub(crate) connections: u32,
    /// How many of them other directors have told of.
    pub(crate) taken_up: u32,
    /// Per port.
    pub(crate) ports: Vec<PortStatus>,
    /// The host's own stack.
    pub(crate) own: PortStatus,
    /// From a frame's arrival in the ring until it was sent.
    pub(crate) latency: Latencies,
    /// What was handed over to the hook.
    pub(crate) handed_over: HandedOver,
}

/// What one port counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PortStatus {
    /// Received by the kernel for us.
    pub(crate) rx: RxStatistics,
    /// Where the frames went.
    pub(crate) ledger: Ledger,
    /// Frames that wait for their next hop.
    pub(crate) waiting: u64,
    /// Refused frames by errno.
    pub(crate) errors: BTreeMap<i32, u64>,
}

impl AddAssign<&Self> for Status {
    fn add_assign(&mut self, other: &Self) {
        // By name, so that the compiler asks for a number that is new.
        let Self {
            services,
            counters,
            connections,
            taken_up,
            ports,
            own,
            latency,
            handed_over,
        } = other;
        self.services += services;
        self.counters += counters;
        self.connections += connections;
        self.taken_up += taken_up;
        let more = self.ports.len().max(ports.len());
        self.ports.resize_with(more, PortStatus::default);
        for (sum, port) in self.ports.iter_mut().zip(ports) {
            *sum += port;
        }
        self.own += own;
        self.latency += latency;
        self.handed_over += handed_over;
    }
}

impl AddAssign<&Self> for PortStatus {
    fn add_assign(&mut self, other: &Self) {
        let Self {
            rx,
            ledger,
            waiting,
            errors,
        } = other;
        self.rx += *rx;
        self.ledger += ledger;
        self.waiting += waiting;
        for (errno, count) in errors {
            *self.errors.entry(*errno).or_insert(0) += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use uvs_core::verdict::{DropReason, Verdict};

    use super::*;

    prop_compose! {
        fn port()(n in 0..1000_u64, reasons in vec(0..DropReason::COUNT, 0..5),
            errors in btree_map(0..4_i32, 1..9_u64, 0..3)) -> PortStatus
        {
            let mut port = PortStatus { waiting: n % 5, errors, ..PortStatus::default() };
            (port.rx.received, port.rx.kernel_drops, port.rx.copied) = (n, n / 2, n / 3);
            for reason in reasons {
                port.ledger.received += 1;
                port.ledger.end(Verdict::Drop(DropReason::ALL[reason]));
                port.ledger.lose(1, DropReason::ALL[reason]);
            }
            (port.ledger.bytes, port.ledger.handed, port.ledger.sent) = (n * 60, n, n / 2);
            port
        }
    }

    prop_compose! {
        fn status()(ports in vec(port(), 0..3), own in port(), connections in 0..1000_u32,
            latencies in vec(1..20_000_000_000_u64, 0..20)) -> Status
        {
            let mut status = Status { ports, own, connections, ..Status::default() };
            latencies.into_iter().for_each(|ns| status.latency.record(ns));
            status.counters.received = connections.into();
            status
        }
    }

    fn sum(parts: &[&Status]) -> Status {
        let mut sum = Status::default();
        parts.iter().for_each(|part| sum += part);
        sum
    }

    proptest! {
        #[test]
        fn what_workers_count_adds_up_whichever_are_joined_first(
            a in status(), b in status(), c in status()
        ) {
            let left = sum(&[&sum(&[&a, &b]), &c]);
            prop_assert_eq!(&left, &sum(&[&a, &sum(&[&b, &c])]));
            prop_assert_eq!(&sum(&[&Status::default(), &a]), &a);
            prop_assert_eq!(&sum(&[&a, &Status::default()]), &a);
            let each = [&a, &b, &c];
            prop_assert_eq!(left.latency.len(), each.iter().map(|s| s.latency.len()).sum::<u64>());
            for port in left.ports.iter().chain([&left.own]) {
                prop_assert_eq!(port.ledger.ends.accounted(), port.ledger.received);
            }
        }
    }
}
