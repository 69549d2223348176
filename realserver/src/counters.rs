//! The decapsulator's counters: every packet ends in exactly one of `packets` and those after `dropped:`.

use std::fmt;

use super::ipip::{Inner, Refusal};
use super::vnet::VNET_LEN;

/// What became of the packets; printed on SIGUSR1 and at the end.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) unfinished: u64,
    pub(super) super_frames: u64,
    pub(super) refused_by_tun: u64,
    pub(super) not_ours: u64,
    pub(super) not_ipip: u64,
    pub(super) truncated: u64,
    pub(super) bad_header: u64,
    pub(super) bad_checksum: u64,
    pub(super) fragments: u64,
    pub(super) congested: u64,
    pub(super) bad_offload: u64,
}

impl Counters {
    /// Counts a packet that was handed on, or not.
    pub(super) fn add(&mut self, end: Result<Inner, Refusal>) {
        match end {
            Ok(inner) => {
                self.packets += 1;
                self.bytes += (inner.end - inner.start - VNET_LEN) as u64;
                self.unfinished += u64::from(inner.unfinished);
                self.super_frames += u64::from(inner.super_frame);
            }
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// Counts a packet that was not decapsulated.
    pub(super) const fn refuse(&mut self, refusal: Refusal) {
        let counter = match refusal {
            Refusal::NotIpip => &mut self.not_ipip,
            Refusal::Truncated => &mut self.truncated,
            Refusal::BadHeader => &mut self.bad_header,
            Refusal::BadChecksum => &mut self.bad_checksum,
            Refusal::Fragment => &mut self.fragments,
            Refusal::Congested => &mut self.congested,
            Refusal::BadOffload => &mut self.bad_offload,
        };
        *counter += 1;
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "packets={} bytes={} unfinished_checksums={} super_frames={} dropped: tun={} not_ours={} \
             not_ipip={} truncated={} bad_header={} bad_checksum={} fragments={} congested={} bad_offload={}",
            self.packets,
            self.bytes,
            self.unfinished,
            self.super_frames,
            self.refused_by_tun,
            self.not_ours,
            self.not_ipip,
            self.truncated,
            self.bad_header,
            self.bad_checksum,
            self.fragments,
            self.congested,
            self.bad_offload,
        )
    }
}
