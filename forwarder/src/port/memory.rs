//! A port in memory, for tests of the event loop: frames are put in by hand and taken out by hand.
//!
//! It keeps the same rules as the AF_PACKET port: one batch at a time, frames sealed before they are
//! queued, and it is readable (an eventfd) when frames wait.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::event::{EventfdFlags, eventfd};
use uvs_core::frame::{Frame, Offload};
use uvs_core::verdict::DropReason;

use super::fan_out::FanOut;
use super::filter::Program;
use super::vnet::{self, VNET_LEN};
use super::{
    Budget, Coverage, Flushed, FrameRef, HandedRing, Link, Receive, Received, RxMeta, RxStatistics,
    Transmit,
};

/// Free bytes before each frame.
const HEADROOM: usize = 64;

/// A frame on the wire.
pub(crate) type WireFrame = (Vec<u8>, Offload);

/// The other end of a port in memory.
#[derive(Clone)]
pub(crate) struct Wire {
    shared: Arc<Mutex<Shared>>,
    event: Arc<OwnedFd>,
}

#[derive(Default)]
struct Shared {
    to_port: VecDeque<WireFrame>,
    from_port: Vec<WireFrame>,
    stalled: bool,
}

impl Wire {
    /// A port and the wire it is plugged into.
    pub(crate) fn plug() -> (Self, MemoryReceiver, MemorySender) {
        let event = eventfd(0, EventfdFlags::NONBLOCK).expect("an eventfd");
        let wire = Self {
            shared: Arc::default(),
            event: Arc::new(event),
        };
        let receiver = MemoryReceiver {
            wire: wire.clone(),
            batch: Vec::new(),
            received: 0,
        };
        let sender = MemorySender {
            wire: wire.clone(),
            queue: Vec::new(),
        };
        (wire, receiver, sender)
    }

    /// Puts a frame on the wire to the port.
    pub(crate) fn put(&self, bytes: &[u8], offload: Offload) {
        self.shared().to_port.push_back((bytes.to_vec(), offload));
        rustix::io::write(&self.event, &1u64.to_ne_bytes()).expect("an eventfd takes a one");
    }

    /// Says that the port's ring has stopped, once.
    pub(crate) fn stall(&self) {
        self.shared().stalled = true;
    }

    /// Whether the port has sent what was not taken yet.
    pub(crate) fn has_sent(&self) -> bool {
        !self.shared().from_port.is_empty()
    }

    /// Takes all that the port has sent.
    pub(crate) fn take(&self) -> Vec<WireFrame> {
        std::mem::take(&mut self.shared().from_port)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared
            .lock()
            .expect("no test panics while it holds the wire")
    }
}

/// The receiving side.
pub(crate) struct MemoryReceiver {
    wire: Wire,
    batch: Vec<Entry>,
    received: u64,
}

struct Entry {
    memory: Vec<u8>,
    offload: Offload,
    sealed: Range<usize>,
}

impl Receive for MemoryReceiver {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.wire.event.as_fd()]
    }

    fn is_ready(&self) -> bool {
        !self.wire.shared().to_port.is_empty()
    }

    fn fill(&mut self, budget: Budget) -> usize {
        assert!(self.batch.is_empty(), "the batch before was not released");
        let mut bytes = 0;
        while self.batch.len() < budget.frames && bytes < budget.bytes {
            let Some((frame, offload)) = self.wire.shared().to_port.pop_front() else {
                break;
            };
            bytes += frame.len();
            let mut memory = vec![0; VNET_LEN + HEADROOM];
            memory.extend(frame);
            self.batch.push(Entry {
                memory,
                offload,
                sealed: 0..0,
            });
        }
        self.received += self.batch.len() as u64;
        self.batch.len()
    }

    fn frame(&mut self, index: usize) -> Received<'_> {
        let entry = &mut self.batch[index];
        let buffer = &mut entry.memory[VNET_LEN..];
        let end = buffer.len();
        let meta = RxMeta {
            len: u32::try_from(end - HEADROOM).expect("a frame's length"),
            arrived_ns: 0,
        };
        Received::Frame(Frame::new(buffer, HEADROOM, end, entry.offload), meta)
    }

    fn seal(&mut self, index: usize, range: Range<usize>, offload: &Offload) {
        let entry = &mut self.batch[index];
        entry.memory[range.start..range.start + VNET_LEN].copy_from_slice(&vnet::encode(offload));
        entry.sealed = range.start..range.end + VNET_LEN;
    }

    fn sealed(&self, index: usize) -> &[u8] {
        let entry = &self.batch[index];
        &entry.memory[entry.sealed.clone()]
    }

    fn release(&mut self) {
        self.batch.clear();
    }

    fn set_filter(&mut self, _program: &Program) -> io::Result<Coverage> {
        Ok(Coverage::Everything)
    }

    fn set_fan_out(&mut self, _: &FanOut) -> io::Result<()> {
        Ok(())
    }

    fn link(&mut self) -> Link {
        Link::Up
    }

    fn has_stalled(&mut self) -> bool {
        std::mem::take(&mut self.wire.shared().stalled)
    }

    /// It has no ring.
    fn hand_down(&self) -> io::Result<Vec<HandedRing>> {
        Ok(Vec::new())
    }

    fn statistics(&mut self) -> RxStatistics {
        RxStatistics {
            received: self.received,
            ..RxStatistics::default()
        }
    }
}

/// The sending side.
pub(crate) struct MemorySender {
    wire: Wire,
    queue: Vec<Queued>,
}

enum Queued {
    InPlace(FrameRef),
    Copy(WireFrame),
}

impl Transmit for MemorySender {
    fn queue(&mut self, frame: FrameRef) {
        self.queue.push(Queued::InPlace(frame));
    }

    fn queue_copy(&mut self, bytes: &[u8], offload: &Offload) -> Result<(), DropReason> {
        self.queue.push(Queued::Copy((bytes.to_vec(), *offload)));
        Ok(())
    }

    fn flush(&mut self, sources: &[Box<dyn Receive>]) -> Flushed {
        let mut flushed = Flushed::default();
        for queued in self.queue.drain(..) {
            let (bytes, offload) = match queued {
                Queued::Copy(frame) => frame,
                Queued::InPlace(at) => {
                    let sealed = sources[usize::from(at.source.0)].sealed(at.index);
                    let (header, bytes) = sealed
                        .split_first_chunk()
                        .expect("a sealed frame has its header");
                    (bytes.to_vec(), vnet::decode(header))
                }
            };
            flushed.sent += 1;
            flushed.bytes += bytes.len() as u64;
            self.wire.shared().from_port.push((bytes, offload));
        }
        flushed
    }

    fn errors(&self) -> &[(i32, u64)] {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use uvs_core::verdict::PortId;

    use super::*;

    #[test]
    fn a_frame_goes_through_a_port_in_memory_with_its_headroom_used() {
        let (wire, rx, mut tx) = Wire::plug();
        let mut receivers: Vec<Box<dyn Receive>> = vec![Box::new(rx)];
        let offload = Offload {
            csum_start: Some(34),
            csum_offset: 16,
            ..Offload::default()
        };
        wire.put(&[7; 60], offload);
        assert!(receivers[0].is_ready());
        assert_eq!(receivers[0].fill(Budget::default()), 1);
        let Received::Frame(mut frame, _) = receivers[0].frame(0) else {
            panic!("no frame")
        };
        frame.open_gap(HEADROOM).expect("all of the headroom");
        let (range, offload) = (frame.range(), frame.offload);
        receivers[0].seal(0, range, &offload);
        tx.queue(FrameRef {
            source: PortId(0),
            index: 0,
        });
        tx.queue_copy(&[9; 42], &Offload::default()).expect("room");
        assert_eq!(tx.flush(&receivers).sent, 2);
        receivers[0].release();
        let sent = wire.take();
        assert_eq!(
            (sent[0].0.len(), sent[0].1.csum_start.map(usize::from)),
            (60 + HEADROOM, Some(34 + HEADROOM))
        );
        assert_eq!(sent[1].0, [9; 42]);
        assert!(!receivers[0].is_ready());
    }
}
