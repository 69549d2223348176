//! Where every frame went, per port: what came in and how it ended, what was handed over and whether it
//! left. Both sums must come out even; a port that is opened again goes on counting.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use uvs_core::counters::{ByReason, Counters};
use uvs_core::verdict::{DropReason, Verdict};

use crate::port::{Flushed, RxStatistics};

/// Batches are counted by their size's power of two: 1, 2, 3-4, … 33-64.
pub(crate) const BATCH_BUCKETS: usize = 7;

/// What one port counts, or with `+=` several workers' ports of one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// Frames taken from the ring.
    pub(crate) received: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Frames that came in by another worker's and were handed over to this one.
    pub(crate) taken_over: u64,
    /// How they ended.
    pub(crate) ends: Counters,
    /// Frames handed over to leave here.
    pub(crate) handed: u64,
    /// Frames among them that left, their bytes, and those that were lost, by reason.
    pub(crate) sent: u64,
    /// Bytes of those that left.
    pub(crate) sent_bytes: u64,
    /// Those that were lost, by reason.
    pub(crate) lost: ByReason,
}

impl Ledger {
    /// A received frame's end.
    pub(super) fn end(&mut self, verdict: Verdict) {
        self.ends.count(verdict);
    }

    /// A frame of another worker's could not be handed over.
    pub(super) fn refuse(&mut self, reason: DropReason) {
        self.ends.refuse_handing(reason);
    }

    /// Received frames whose end is not known: anything but 0 is a fault of UVS, where no frame is on its way between
    /// workers.
    pub(crate) fn unaccounted(&self) -> i64 {
        let came = self.received + self.taken_over;
        let ended = self.ends.accounted() + self.ends.handed_on;
        came.wrapping_sub(ended).cast_signed()
    }

    /// Frames that were handed over were lost.
    pub(super) fn lose(&mut self, n: u64, reason: DropReason) {
        self.lost[reason as usize] += n;
    }

    /// A flush's outcome.
    pub(super) fn flushed(&mut self, flushed: &Flushed) {
        self.sent += flushed.sent;
        self.sent_bytes += flushed.bytes;
        self.lose(flushed.queue_full, DropReason::SendQueueFull);
        self.lose(flushed.failed, DropReason::SendFailed);
    }
}

impl AddAssign<&Self> for Ledger {
    fn add_assign(&mut self, other: &Self) {
        let Self {
            received,
            bytes,
            taken_over,
            ends,
            handed,
            sent,
            sent_bytes,
            lost,
        } = other;
        self.received += received;
        self.bytes += bytes;
        self.taken_over += taken_over;
        self.ends += ends;
        self.handed += handed;
        self.sent += sent;
        self.sent_bytes += sent_bytes;
        self.lost += *lost;
    }
}

/// What the ports at one place had counted that were replaced there: each port counts from 0.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Before {
    rx: RxStatistics,
    errors: BTreeMap<i32, u64>,
}

impl Before {
    /// A port with these counters is about to be replaced.
    pub(super) fn keep(&mut self, rx: RxStatistics, errors: &[(i32, u64)]) {
        self.rx = self.and_rx(rx);
        self.errors = self.and_errors(errors);
    }

    /// The port's counters, with those of the ports before it.
    pub(super) fn and_rx(&self, now: RxStatistics) -> RxStatistics {
        let mut sum = self.rx;
        sum += now;
        sum
    }

    /// The port's errors, with those of the ports before it.
    pub(super) fn and_errors(&self, now: &[(i32, u64)]) -> BTreeMap<i32, u64> {
        let mut sum = self.errors.clone();
        for (errno, count) in now {
            *sum.entry(*errno).or_insert(0) += count;
        }
        sum
    }
}

/// The bucket of a batch of `frames`, which is not empty.
pub(super) fn batch_bucket(frames: usize) -> usize {
    (frames.next_power_of_two().trailing_zeros() as usize).min(BATCH_BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_counted_up_to_their_bound() {
        let bounds = [1, 2, 4, 8, 16, 32, 64];
        for frames in 1..=64 {
            let bucket = batch_bucket(frames);
            assert!(frames <= bounds[bucket], "{frames}");
            assert!(bucket == 0 || frames > bounds[bucket - 1], "{frames}");
        }
    }

    #[test]
    fn a_port_opened_again_goes_on_counting() {
        let rx = |received| RxStatistics {
            received,
            ..RxStatistics::default()
        };
        let mut before = Before::default();
        before.keep(rx(5), &[(105, 2)]);
        before.keep(rx(3), &[(100, 1), (105, 1)]);
        assert_eq!(before.and_rx(rx(1)).received, 9);
        assert_eq!(
            before.and_errors(&[(100, 7)]),
            BTreeMap::from([(100, 8), (105, 3)])
        );
    }
}
