//! Frames larger than their ring slot, fetched from the socket's receive queue into memory of ours.
//!
//! The kernel queues such a frame whole, marks its slot TP_STATUS_COPY, and hands it out by recv() in the
//! order of the slots. The memory lasts as long as the batch and is kept for the next.

use std::ops::Range;
use std::os::fd::AsFd as _;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use socket2::Socket;
use uvs_core::verdict::DropReason;

use super::geometry::RESERVE;
use crate::port::vnet::VNET_LEN;

/// Largest frame: IPv4 BIG TCP's super-frames exceed 100 KB, and a buffer that cut them off would wreck
/// the connection.
pub(crate) const MAX_FRAME: usize = 256 << 10;

/// Where a frame lies in its memory: after a free virtio_net_hdr, the headroom, and its own header.
pub(super) const FRAME_AT: usize = VNET_LEN + RESERVE as usize + VNET_LEN;

/// The copies of one batch.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// Grows to the largest batch there was: the batch's limit of bytes and one frame.
    memory: Vec<u8>,
    used: usize,
}

impl Copies {
    /// Fetches the next copy, which is of a frame of `len` bytes, and returns where its memory is.
    pub(super) fn fetch(
        &mut self,
        socket: &Socket,
        len: usize,
    ) -> Result<Range<usize>, DropReason> {
        // A frame above the limit is taken off the queue all the same.
        let room = len.min(MAX_FRAME);
        let memory = self.used..self.used + FRAME_AT + room;
        if self.memory.len() < memory.end {
            self.memory.resize(memory.end, 0);
        }
        let received = &mut self.memory[memory.start + FRAME_AT - VNET_LEN..memory.end];
        let whole = receive(socket, received).map_err(|_| DropReason::ClampedFrame)?;
        if len > MAX_FRAME {
            return Err(DropReason::Oversized);
        }
        if whole != VNET_LEN + len {
            return Err(DropReason::ClampedFrame);
        }
        self.used = memory.end;
        Ok(memory)
    }

    /// The memory of a copy.
    pub(super) fn bytes(&self, memory: Range<usize>) -> &[u8] {
        &self.memory[memory]
    }

    /// The memory of a copy.
    pub(super) fn bytes_mut(&mut self, memory: Range<usize>) -> &mut [u8] {
        &mut self.memory[memory]
    }

    /// Forgets all copies.
    pub(super) fn clear(&mut self) {
        self.used = 0;
    }
}

/// Receives one frame with its header and returns how long it was, which may be more than fits.
fn receive(socket: &Socket, buffer: &mut [u8]) -> Result<usize, Errno> {
    let flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
    match recv(socket.as_fd(), &mut *buffer, flags) {
        // The interface went down: that error comes once, before the frames that still wait.
        Err(Errno::NETDOWN) => recv(socket.as_fd(), buffer, flags),
        result => result,
    }
    .map(|(_, len)| len)
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Type};

    use super::*;

    /// A socket that a frame of `len` bytes waits in, behind its header.
    fn with_frame(len: usize) -> Socket {
        let (kernel, ours) = Socket::pair(Domain::UNIX, Type::DGRAM, None).expect("a pair");
        kernel.set_send_buffer_size(1 << 20).expect("a buffer");
        kernel
            .send(&vec![7; VNET_LEN + len])
            .expect("room for one frame");
        ours
    }

    #[test]
    fn copies_lie_apart_with_headroom_until_the_batch_ends() {
        let mut copies = Copies::default();
        let first = copies.fetch(&with_frame(3000), 3000).expect("whole");
        let second = copies.fetch(&with_frame(60_000), 60_000).expect("whole");
        assert_eq!(first.len(), FRAME_AT + 3000);
        assert_eq!(first.end, second.start);
        assert_eq!(copies.bytes(second)[FRAME_AT..], [7; 60_000]);
        copies.clear();
        assert_eq!(copies.fetch(&with_frame(50), 50).expect("whole").start, 0);
    }

    #[test]
    fn the_largest_frame_fits_and_a_larger_one_is_dropped_off_the_queue() {
        let mut copies = Copies::default();
        assert!(copies.fetch(&with_frame(MAX_FRAME), MAX_FRAME).is_ok());
        let socket = with_frame(MAX_FRAME + 1);
        assert_eq!(
            copies.fetch(&socket, MAX_FRAME + 1),
            Err(DropReason::Oversized)
        );
        assert_eq!(
            copies.fetch(&socket, 100),
            Err(DropReason::ClampedFrame),
            "nothing waits there"
        );
    }

    #[test]
    fn another_frame_than_the_slot_s_is_not_taken_for_it() {
        let mut copies = Copies::default();
        assert_eq!(
            copies.fetch(&with_frame(3000), 4000),
            Err(DropReason::ClampedFrame)
        );
        assert_eq!(
            copies.fetch(&with_frame(4000), 3000),
            Err(DropReason::ClampedFrame)
        );
    }
}
