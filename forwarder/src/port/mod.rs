//! Ports: how frames come in and go out of an interface.
//!
//! Two small traits, [`Receive`] and [`Transmit`], so that other ways than the AF_PACKET ring (recvmmsg,
//! an eBPF tier, the in-memory pair of the tests) fit without touching the engine or the loop.
//!
//! A frame is rewritten where the kernel put it and sent from there, so its memory must stay until it has
//! left. Hence the order of a turn, the same for every port:
//!
//! ```text
//! for port in ports:
//!     for i in 0..rx[port].fill(budget):
//!         match rx[port].frame(i):
//!             Frame(frame, meta) -> verdict = engine.handle_frame(now, port, &mut frame, outbox)
//!                 Send(egress)   -> (range, offload) = (frame.range(), frame.offload)
//!                                   rx[port].seal(i, range, &offload)
//!                                   tx[egress.port].queue(FrameRef { source: port, index: i })
//!                 ...            -> tx[..].queue_copy(bytes, &offload) for what is in the outbox
//!             Drop(reason)       -> counted
//!             Pass               -> the kernel's
//! for tx: tx.flush(&rx)
//! for rx: rx.release()
//! ```
//!
//! A port that `fill` did not drain stays readable without a new event (mio is edge-triggered): ask
//! [`Receive::is_ready`] before blocking.

pub(crate) mod afpacket;
mod error;
pub(crate) mod fan_out;
pub(crate) mod filter;
#[cfg(test)]
pub(crate) mod memory;
#[cfg(test)]
mod tests;
mod undescribed;
pub(crate) mod vnet;

use std::io;
use std::ops::{AddAssign, Range};
use std::os::fd::{BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};
use uvs_core::frame::{Frame, Offload};
use uvs_core::verdict::{DropReason, PortId};

pub(crate) use error::PortError;

/// How much one turn takes from a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Frames at most.
    pub(crate) frames: usize,
    /// No further frame once this many bytes are taken, so at most one frame more.
    pub(crate) bytes: usize,
}

impl Default for Budget {
    /// 64 frames or 256 KB: longer batches gain nothing per frame, and above 256 KB of super-frames what
    /// was just copied has left the cache before it is sent (10 % of the CPU of bulk transfers).
    fn default() -> Self {
        Self {
            frames: 64,
            bytes: 256 << 10,
        }
    }
}

/// The id of the port at a place in the list of interfaces.
#[expect(
    clippy::cast_possible_truncation,
    reason = "each port has a ring: memory ends long before the ids do"
)]
pub(crate) fn port_id(place: usize) -> PortId {
    PortId(place as u16)
}

/// What the kernel says about a received frame besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RxMeta {
    /// Bytes of the frame as it arrived, however much of it is here.
    pub(crate) len: u32,
    /// When it arrived: nanoseconds of CLOCK_REALTIME.
    pub(crate) arrived_ns: u64,
}

/// One entry of a batch.
#[derive(Debug)]
pub(crate) enum Received<'a> {
    /// A whole frame.
    Frame(Frame<'a>, RxMeta),
    /// The frame did not arrive whole: count it.
    Drop(DropReason),
    /// Not for us (a VLAN-tagged frame): the kernel's.
    Pass,
}

/// Whether a port's interface works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// It is up.
    Up,
    /// It is down; the port works again by itself once it is up.
    Down,
    /// It was deleted or moved to another namespace; the port must be opened again.
    Gone,
}

impl Link {
    /// What a port has whose sockets say these: one that is gone does not come back.
    fn worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Gone, _) | (_, Self::Gone) => Self::Gone,
            (Self::Down, _) | (_, Self::Down) => Self::Down,
            (Self::Up, Self::Up) => Self::Up,
        }
    }
}

/// Which of an interface's frames a port gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Copies of those that its filter lets through; the kernel has them too.
    #[default]
    Copies,
    /// Those that the hook's program has hidden from the kernel's stack and marked with this bit, and copies of what its
    /// filter lets through of ARP.
    Marked(u32),
}

/// What the socket filter lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coverage {
    /// Exactly the addresses asked for.
    Exact,
    /// All IPv4 and ARP: more addresses than a filter program holds. Right, but foreign traffic costs
    /// 1.5 µs a packet then instead of 0.1.
    Everything,
}

/// Frames since the port was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RxStatistics {
    /// Put into the ring.
    pub(crate) received: u64,
    /// Dropped by the kernel: the ring was full or had stopped, or it could not describe them.
    pub(crate) kernel_drops: u64,
    /// Larger than a slot, so fetched with a system call of their own.
    pub(crate) copied: u64,
    /// How often the kernel was found to have stopped filling a ring.
    pub(crate) stalls: u64,
}

impl AddAssign for RxStatistics {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.kernel_drops += other.kernel_drops;
        self.copied += other.copied;
        self.stalls += other.stalls;
    }
}

/// Names a frame of a receiver's current batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameRef {
    /// The port it came in by.
    pub(crate) source: PortId,
    /// Its place in that port's batch.
    pub(crate) index: usize,
}

/// What became of the frames of one flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flushed {
    /// Frames that the kernel took.
    pub(crate) sent: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Frames for [`DropReason::SendQueueFull`].
    pub(crate) queue_full: u64,
    /// Frames for [`DropReason::SendFailed`]; [`Transmit::errors`] has the reasons.
    pub(crate) failed: u64,
}

/// A ring as another process takes it over: frames that lie in it wait for that.
#[derive(Debug)]
pub(crate) struct HandedRing {
    /// Its socket.
    pub(crate) socket: OwnedFd,
    /// How its memory is cut, and where it is read.
    pub(crate) place: RingPlace,
}

/// Where a ring is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RingPlace {
    /// Bytes of a slot.
    pub(crate) slot_bytes: usize,
    /// Their number.
    pub(crate) slots: usize,
    /// The slot that comes next.
    pub(crate) head: usize,
    /// What its socket's filter lets in.
    pub(crate) inlet: InletKind,
}

/// What a receiving socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum InletKind {
    /// Copies of everything, as far as its filter says.
    Everything,
    /// One protocol, likewise.
    Protocol,
    /// What the hook has hidden and marked, always.
    Marked,
}

/// The receiving side of a port.
pub(crate) trait Receive: Send {
    /// Its descriptors: readable when frames wait; they report an error when the interface's state changed: ask
    /// [`Receive::link`] then.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;

    /// Whether a frame waits; no system call.
    fn is_ready(&self) -> bool;

    /// Takes a batch and returns how many frames it has. The batch before must have been released.
    fn fill(&mut self, budget: Budget) -> usize;

    /// A frame of the batch.
    fn frame(&mut self, index: usize) -> Received<'_>;

    /// Says where a rewritten frame lies in its buffer now ([`Frame::range`]) and what is unfinished in
    /// it, and so makes it ready to be sent.
    fn seal(&mut self, index: usize, range: Range<usize>, offload: &Offload);

    /// A sealed frame behind its virtio_net_hdr, as [`Transmit`] needs it.
    fn sealed(&self, index: usize) -> &[u8];

    /// Ends the batch: its memory is the kernel's again.
    fn release(&mut self);

    /// Replaces the socket filter at once, without a gap.
    fn set_filter(&mut self, program: &filter::Program) -> io::Result<Coverage>;

    /// Has the kernel divide frames among all workers' ports of the interface by this program, from now on; nothing
    /// where this is the only one.
    fn set_fan_out(&mut self, fan_out: &fan_out::FanOut) -> io::Result<()>;

    /// The interface's state; also takes the pending error off the descriptor.
    fn link(&mut self) -> Link;

    /// Whether the kernel has stopped filling a ring; asked about once a second. The port is to be opened again then.
    fn has_stalled(&mut self) -> bool;

    /// The rings as another process takes them over; with no batch in hand. This end may go on all the same, as long as
    /// the other has not.
    fn hand_down(&self) -> io::Result<Vec<HandedRing>>;

    /// Counters, read from the kernel.
    fn statistics(&mut self) -> RxStatistics;
}

/// The sending side of a port.
pub(crate) trait Transmit: Send {
    /// Queues a sealed frame of a current batch. It is sent from where it lies.
    fn queue(&mut self, frame: FrameRef);

    /// Queues a copy of `bytes`: generated, segmented and formerly held frames.
    ///
    /// # Errors
    /// [`DropReason::SendQueueFull`] where more copies wait than a turn may make.
    fn queue_copy(&mut self, bytes: &[u8], offload: &Offload) -> Result<(), DropReason>;

    /// Sends all that is queued. `sources` are all receivers, in the order of their [`PortId`]s.
    fn flush(&mut self, sources: &[Box<dyn Receive>]) -> Flushed;

    /// How often the kernel refused a frame, by errno.
    fn errors(&self) -> &[(i32, u64)];
}

/// A port's two ends.
pub(crate) type Ends = (Box<dyn Receive>, Box<dyn Transmit>);
