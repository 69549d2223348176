//! Frames out: sendmmsg straight from where they lie, in batches of 64 frames or 256 KB.
//!
//! The socket is for sending only: with protocol 0 it receives nothing. What the interface does not take
//! is dropped and counted: to wait for one link would hold up all others.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::AsFd as _;

use socket2::Socket;
use uvs_core::frame::Offload;
use uvs_core::verdict::DropReason;

use super::outlet::Outlet;
use crate::port::vnet::{self, VNET_LEN};
use crate::port::{Flushed, FrameRef, Receive, Transmit};
use crate::sys::{self, MAX_BATCH};

/// Bytes of a batch after which no further frame is added.
const MAX_BATCH_BYTES: usize = 256 << 10;
/// Copies that may wait for a flush, bytes: the segments of all frames of a turn on several ports.
const MAX_COPIES: usize = 4 << 20;
/// What may be on its way in the kernel and the network card, bytes (SO_SNDBUF).
const SEND_BUFFER: i32 = 4 << 20;

/// The sending side of an AF_PACKET port.
#[derive(Debug)]
pub(crate) struct PacketSender {
    queue: Queue,
    outlet: Outlet<Socket>,
}

impl PacketSender {
    /// Sets up a socket that is bound to its interface with protocol 0.
    pub(super) fn new(socket: Socket) -> io::Result<Self> {
        sys::set_option(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        // Without CAP_NET_ADMIN as much as net.core.wmem_max allows, which suffices for most.
        if sys::set_option(
            socket.as_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUFFORCE,
            SEND_BUFFER,
        )
        .is_err()
        {
            socket.set_send_buffer_size(SEND_BUFFER as usize)?;
        }
        Ok(Self {
            queue: Queue::default(),
            outlet: Outlet::new(socket)?,
        })
    }
}

impl Transmit for PacketSender {
    fn queue(&mut self, frame: FrameRef) {
        self.queue.frames.push(Queued::InPlace(frame));
    }

    fn queue_copy(&mut self, bytes: &[u8], offload: &Offload) -> Result<(), DropReason> {
        self.queue.copy(bytes, offload)
    }

    fn flush(&mut self, sources: &[Box<dyn Receive>]) -> Flushed {
        let mut first = 0;
        while first < self.queue.frames.len() {
            let (slices, count) = self.queue.batch(first, sources);
            self.outlet.deliver(&slices[..count]);
            first += count;
        }
        self.queue.frames.clear();
        self.queue.copies.clear();
        self.outlet.finish()
    }

    fn errors(&self) -> &[(i32, u64)] {
        self.outlet.errors()
    }
}

/// What waits for the flush.
#[derive(Debug, Default)]
struct Queue {
    frames: Vec<Queued>,
    /// Copies, each behind its virtio_net_hdr.
    copies: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Queued {
    InPlace(FrameRef),
    Copy(Range<usize>),
}

impl Queue {
    fn copy(&mut self, bytes: &[u8], offload: &Offload) -> Result<(), DropReason> {
        let start = self.copies.len();
        if start + VNET_LEN + bytes.len() > MAX_COPIES {
            return Err(DropReason::SendQueueFull);
        }
        self.copies.extend_from_slice(&vnet::encode(offload));
        self.copies.extend_from_slice(bytes);
        self.frames.push(Queued::Copy(start..self.copies.len()));
        Ok(())
    }

    /// The next batch from `frames[first..]`: the slices to send and how many they are.
    fn batch<'a>(
        &'a self,
        first: usize,
        sources: &'a [Box<dyn Receive>],
    ) -> ([IoSlice<'a>; MAX_BATCH], usize) {
        let mut slices = [IoSlice::new(&[]); MAX_BATCH];
        let (mut count, mut bytes) = (0, 0);
        for (slice, queued) in slices.iter_mut().zip(&self.frames[first..]) {
            if bytes >= MAX_BATCH_BYTES {
                break;
            }
            let frame = match queued {
                Queued::InPlace(at) => sources[usize::from(at.source.0)].sealed(at.index),
                Queued::Copy(range) => &self.copies[range.clone()],
            };
            bytes += frame.len();
            count += 1;
            *slice = IoSlice::new(frame);
        }
        (slices, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_ends_at_64_frames_or_256_kb() {
        let mut queue = Queue::default();
        (0..100).for_each(|_| queue.copy(&[0; 60], &Offload::default()).expect("room"));
        assert_eq!(queue.batch(0, &[]).1, 64);
        assert_eq!(queue.batch(64, &[]).1, 36);
        let mut queue = Queue::default();
        (0..10).for_each(|_| queue.copy(&[0; 60_000], &Offload::default()).expect("room"));
        assert_eq!(queue.batch(0, &[]).1, 5);
        assert_eq!(queue.batch(5, &[]).1, 5);
    }

    #[test]
    fn copies_have_a_limit() {
        let mut queue = Queue::default();
        let copied = (0..100).take_while(|_| queue.copy(&[0; 60_000], &Offload::default()).is_ok());
        assert_eq!(copied.count(), MAX_COPIES / (60_000 + VNET_LEN));
        assert_eq!(
            queue.copy(&[0; 60_000], &Offload::default()),
            Err(DropReason::SendQueueFull)
        );
    }
}
