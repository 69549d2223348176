//! A frame: bytes with headroom, and what the sender's kernel has left undone in them.
//!
//! Encapsulation moves the frame's start, never its payload. The offload metadata mirrors virtio's
//! `virtio_net_hdr` (virtio 1.2 §5.1.6), which AF_PACKET hands over with `PACKET_VNET_HDR`.

use crate::fib::LOOPBACK;
use crate::verdict::DropReason;
use serde::{Deserialize, Serialize};

use crate::wire::ethernet;

/// How the sender wants a super-frame cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gso {
    /// Not a super-frame.
    #[default]
    None,
    /// TCP over IPv4, `ecn`: the CWR flag only on the first segment.
    TcpV4 {
        /// VIRTIO_NET_HDR_GSO_ECN was set.
        ecn: bool,
    },
    /// TCP over IPv6.
    TcpV6 {
        /// VIRTIO_NET_HDR_GSO_ECN was set.
        ecn: bool,
    },
    /// UDP segmentation: each segment is a datagram of its own (UDP_SEGMENT).
    UdpL4,
    /// A kind that this code does not know; never forwarded.
    Other,
}

/// What is unfinished in a frame's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offload {
    /// Where the transport header starts, counted from the frame's start; `Some` = the transport checksum
    /// field holds only the folded, uncomplemented pseudo-header sum (VIRTIO_NET_HDR_F_NEEDS_CSUM).
    pub csum_start: Option<u16>,
    /// Offset of the checksum field from `csum_start`.
    pub csum_offset: u16,
    /// Kind of super-frame.
    pub gso: Gso,
    /// Payload bytes per segment of a super-frame.
    pub gso_size: u16,
    /// Bytes of all headers of a super-frame, a hint.
    pub hdr_len: u16,
}

impl Offload {
    /// Whether a checksum is still to be finished.
    pub const fn is_partial(&self) -> bool {
        self.csum_start.is_some()
    }

    /// Whether the checksum that is to be finished lies within a frame of `len` bytes.
    pub fn lies_within(&self, len: usize) -> bool {
        let end = |start| usize::from(start) + usize::from(self.csum_offset) + 2;
        self.csum_start.is_none_or(|start| end(start) <= len)
    }

    /// Whether the checksum of the transport header at `l4` is: else it is one further in, of a packet
    /// within a tunnel of the sender's own.
    pub fn is_partial_at(&self, l4: usize) -> bool {
        self.csum_start.is_some_and(|s| usize::from(s) == l4)
    }
}

/// A frame with headroom.
#[derive(Debug)]
pub struct Frame<'a> {
    /// To the frame's end.
    buf: &'a mut [u8],
    start: usize,
    /// What is unfinished in it.
    pub offload: Offload,
    /// Its firewall mark (`skb->mark`); 0 where the shell cannot know it, as from a packet socket.
    pub mark: u32,
    /// The kernel's index of the interface that it came in by; the engine sets it. [`LOOPBACK`] for a frame
    /// of the director's own.
    pub arrival: u32,
    /// The workers that do not know its connection, a bit each ([`Handing`](crate::crew::Handing)); 0 as it comes in.
    pub asked: u64,
}

impl<'a> Frame<'a> {
    /// The frame at `start..end` of `buf`, without a mark; what lies before is headroom.
    ///
    /// # Panics
    /// Where `start..end` is not within `buf`: the caller's own arithmetic is broken.
    pub fn new(buf: &'a mut [u8], start: usize, end: usize, offload: Offload) -> Self {
        assert!(start <= end && end <= buf.len(), "frame outside its buffer");
        Self {
            buf: &mut buf[..end],
            start,
            offload,
            mark: 0,
            arrival: LOOPBACK,
            asked: 0,
        }
    }

    /// The frame's bytes, from the destination MAC on.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.buf[self.start..]
    }

    /// The frame's bytes, from the destination MAC on.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buf[self.start..]
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.buf.len() - self.start
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Free bytes before the frame.
    pub fn headroom(&self) -> usize {
        self.start
    }

    /// Where the frame lies in its buffer now.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start..self.buf.len()
    }

    /// Cuts the frame after `len` bytes (Ethernet padding goes); longer than it is: unchanged.
    #[inline(always)]
    pub fn truncate(&mut self, len: usize) {
        if len < self.len() {
            let buf = std::mem::take(&mut self.buf);
            self.buf = &mut buf[..self.start + len];
        }
    }

    /// Opens `gap` bytes between the Ethernet header and what follows, in the headroom.
    /// The gap's content is undefined; `csum_start` moves along.
    ///
    /// # Errors
    /// [`DropReason::Oversized`] where the headroom is too small.
    #[inline]
    pub fn open_gap(&mut self, gap: usize) -> Result<(), DropReason> {
        self.open_gap_at(ethernet::LEN, gap)
    }

    /// Opens `gap` bytes at `at`, counted from the frame's start: what lies before moves into the headroom.
    /// The gap's content is undefined; `csum_start` moves along where it lies behind.
    ///
    /// # Errors
    /// [`DropReason::Oversized`] where the headroom is too small, or the frame too short.
    #[inline(always)]
    pub fn open_gap_at(&mut self, at: usize, gap: usize) -> Result<(), DropReason> {
        if gap > self.start || self.len() < at {
            return Err(DropReason::Oversized);
        }
        let behind = |start: &u16| usize::from(*start) >= at;
        if let Some(s) = self.offload.csum_start.filter(behind) {
            let moved = u16::try_from(usize::from(s) + gap);
            self.offload.csum_start = Some(moved.map_err(|_| DropReason::Oversized)?);
        }
        let start = self.start;
        self.buf.copy_within(start..start + at, start - gap);
        self.start -= gap;
        Ok(())
    }

    /// Removes `gap` bytes after the Ethernet header: the reverse of [`Frame::open_gap`].
    ///
    /// # Errors
    /// [`DropReason::Truncated`] where the frame is too short.
    pub fn close_gap(&mut self, gap: usize) -> Result<(), DropReason> {
        if self.len() < ethernet::LEN + gap {
            return Err(DropReason::Truncated);
        }
        let start = self.start;
        self.buf
            .copy_within(start..start + ethernet::LEN, start + gap);
        self.start += gap;
        let gap = u16::try_from(gap).map_err(|_| DropReason::Truncated)?;
        if let Some(s) = &mut self.offload.csum_start {
            *s = s.saturating_sub(gap);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_opens_in_the_headroom_and_closes_again() {
        let mut buf: Vec<u8> = (0..60).collect();
        let before: Vec<u8> = buf[20..].to_vec();
        let offload = Offload {
            csum_start: Some(34),
            csum_offset: 16,
            ..Offload::default()
        };
        let mut f = Frame::new(&mut buf, 20, 60, offload);
        f.open_gap(20).expect("headroom enough");
        assert_eq!(f.len(), 60);
        assert_eq!(f.offload.csum_start, Some(54));
        assert_eq!(f.bytes()[..ethernet::LEN], before[..ethernet::LEN]);
        assert_eq!(f.bytes()[ethernet::LEN + 20..], before[ethernet::LEN..]);
        assert_eq!(f.open_gap(1), Err(DropReason::Oversized));
        f.close_gap(20).expect("long enough");
        assert_eq!(f.bytes(), before);
        assert_eq!(f.offload.csum_start, Some(34));
        f.open_gap_at(36, 8).expect("headroom enough");
        assert_eq!(f.offload.csum_start, Some(34), "before the gap");
        assert_eq!(f.bytes()[..36], before[..36]);
        assert_eq!(f.bytes()[44..], before[36..]);
    }
}
