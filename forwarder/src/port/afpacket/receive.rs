//! Frames in by one socket, from a TPACKET_V2 ring; those larger than a slot by a recv() of their own.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

use libc::sock_filter;
use rustix::net::netdevice;
use socket2::Socket;
use uvs_core::frame::{Frame, Offload};
use uvs_core::verdict::DropReason;

use super::Geometry;
use super::copies::{self, Copies};
use super::open::attach;
use super::ring::{Ring, SLOT_HEADERS};
use super::stall::StallWatch;
use crate::kernel::Version;
use crate::port::fan_out::FanOut;
use crate::port::filter::{self, Program};
use crate::port::undescribed::Undescribed;
use crate::port::vnet::{self, VNET_LEN};
use crate::port::{
    Budget, Coverage, HandedRing, InletKind, Link, Received, RingPlace, RxMeta, RxStatistics,
};
use crate::sys;

/// Bytes of the tag that a hidden frame has behind its MAC addresses.
const TAG: u8 = 4;
/// Bytes of both MAC addresses.
const MACS: usize = 12;

/// A receiving socket and its ring; its methods are those of [`Receive`](crate::port::Receive).
#[derive(Debug)]
pub(super) struct RingReceiver {
    socket: Socket,
    ring: Ring,
    /// The slot that the next batch begins with.
    head: usize,
    batch: Vec<Entry>,
    copies: Copies,
    statistics: RxStatistics,
    before: Before,
    stall: StallWatch,
}

/// What a socket's filter looks at before its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// It sees everything: it must keep out what stops a ring.
    KeepingOut(Undescribed),
    /// It is for one protocol, and the hook keeps that out: only what is at this interface.
    OnlyAt(u32),
    /// As that, for what the hook has hidden there.
    Hidden(u32),
}

impl Before {
    /// For a socket of this kind at the interface with this index.
    pub(super) fn of(kind: InletKind, ifindex: u32) -> Self {
        match kind {
            InletKind::Everything => Self::KeepingOut(Undescribed::by(Version::running())),
            InletKind::Protocol => Self::OnlyAt(ifindex),
            InletKind::Marked => Self::Hidden(ifindex),
        }
    }

    /// As instructions, for a link with this MTU.
    pub(super) fn instructions(self, mtu: u32) -> Vec<sock_filter> {
        match self {
            Self::KeepingOut(undescribed) => undescribed.rejecting(mtu),
            Self::OnlyAt(ifindex) | Self::Hidden(ifindex) => filter::only_at(ifindex),
        }
    }

    /// What a socket is for that has this.
    const fn kind(self) -> InletKind {
        match self {
            Self::KeepingOut(_) => InletKind::Everything,
            Self::OnlyAt(_) => InletKind::Protocol,
            Self::Hidden(_) => InletKind::Marked,
        }
    }
}

/// One frame of the batch. Offsets count from the start of its memory: a slot after its headers, or a
/// copy. In both the first [`VNET_LEN`] bytes stay free for the header of a frame that uses up the
/// headroom, so the [`Frame`]'s buffer begins after them.
#[derive(Clone, Debug)]
struct Entry {
    slot: usize,
    place: Place,
    /// The frame as it arrived, its virtio_net_hdr right before it.
    frame: Range<usize>,
    /// Header and frame as they leave.
    sealed: Range<usize>,
    meta: RxMeta,
}

#[derive(Clone, Debug)]
enum Place {
    Slot,
    Copy(Range<usize>),
    Lost(DropReason),
    Tagged,
}

impl RingReceiver {
    /// The receiver of a socket and its ring.
    pub(super) fn new(socket: Socket, ring: Ring, before: Before) -> Self {
        let stall = StallWatch::new(ring.slots());
        Self {
            socket,
            ring,
            head: 0,
            batch: Vec::with_capacity(Budget::default().frames),
            copies: Copies::default(),
            statistics: RxStatistics::default(),
            before,
            stall,
        }
    }

    /// As [`RingReceiver::new`], which goes on where another has stopped.
    pub(super) fn succeed(socket: Socket, ring: Ring, before: Before, head: usize) -> Self {
        Self {
            head,
            ..Self::new(socket, ring, before)
        }
    }

    /// Its socket.
    pub(super) const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Has the kernel divide what this kind of socket gets among all of its group.
    pub(super) fn set_fan_out(&self, fan_out: &FanOut) -> io::Result<()> {
        let program = match self.kind() {
            InletKind::Everything => &fan_out.plain,
            InletKind::Marked => &fan_out.hidden,
            InletKind::Protocol => return Ok(()),
        };
        sys::set_fan_out(self.socket.as_fd(), program)
    }

    /// Looks at a filled slot; fetches the copy that comes with it.
    fn admit(&mut self, slot: usize) -> Entry {
        let header = self.ring.header(slot);
        let meta = RxMeta {
            len: header.tp_len,
            arrived_ns: u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec),
        };
        let mut start = usize::from(header.tp_mac) - SLOT_HEADERS;
        let mut place = Place::Slot;
        if header.tp_status & libc::TP_STATUS_COPY != 0 {
            // Always, for copies come in the order of their slots.
            self.statistics.copied += 1;
            start = copies::FRAME_AT;
            place = match self.copies.fetch(&self.socket, header.tp_len as usize) {
                Ok(memory) => Place::Copy(memory),
                Err(reason) => Place::Lost(reason),
            };
        } else if header.tp_snaplen < header.tp_len {
            place = Place::Lost(DropReason::ClampedFrame);
        }
        if header.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
            place = Place::Tagged;
        }
        let frame = start..start + header.tp_len as usize;
        let mut entry = Entry {
            slot,
            place,
            frame,
            sealed: 0..0,
            meta,
        };
        if self.kind() == InletKind::Marked {
            self.reveal(&mut entry);
        }
        entry
    }

    /// Takes out the tag that the hook has hidden a frame by: what is before it moves up.
    fn reveal(&mut self, entry: &mut Entry) {
        let tag = usize::from(TAG);
        let memory = match &entry.place {
            _ if entry.frame.len() < MACS + tag => return,
            Place::Slot => self.ring.bytes_mut(entry.slot),
            Place::Copy(memory) => self.copies.bytes_mut(memory.clone()),
            Place::Lost(_) | Place::Tagged => return,
        };
        let before = entry.frame.start - VNET_LEN;
        if let Some(header) = memory[before..].first_chunk_mut() {
            vnet::count_from(header, TAG.into());
        }
        memory.copy_within(before..entry.frame.start + MACS, before + tag);
        entry.frame.start += tag;
        entry.meta.len -= u32::from(TAG);
    }

    fn after(&self, slot: usize) -> usize {
        if slot + 1 == self.ring.slots() {
            0
        } else {
            slot + 1
        }
    }
}

impl AsFd for RingReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl RingReceiver {
    pub(super) fn is_ready(&self) -> bool {
        self.ring.is_ours(self.head)
    }

    pub(super) fn fill(&mut self, budget: Budget) -> usize {
        assert!(self.batch.is_empty(), "the batch before was not released");
        let mut slot = self.head;
        let mut bytes = 0;
        // Once around, the first slot of the batch is still ours.
        let most = budget.frames.min(self.ring.slots());
        while self.batch.len() < most && bytes < budget.bytes && self.ring.is_ours(slot) {
            let entry = self.admit(slot);
            bytes += entry.meta.len as usize;
            self.batch.push(entry);
            slot = self.after(slot);
        }
        self.batch.len()
    }

    pub(super) fn frame(&mut self, index: usize) -> Received<'_> {
        let Entry {
            slot,
            place,
            frame,
            meta,
            ..
        } = &self.batch[index];
        let memory = match place {
            Place::Slot => self.ring.bytes_mut(*slot),
            Place::Copy(range) => self.copies.bytes_mut(range.clone()),
            Place::Lost(reason) => return Received::Drop(*reason),
            Place::Tagged => return Received::Pass,
        };
        let offload = match memory[..frame.start].last_chunk::<VNET_LEN>() {
            Some(header) => vnet::decode(header),
            None => Offload::default(),
        };
        let (start, end) = (frame.start - VNET_LEN, frame.end - VNET_LEN);
        Received::Frame(
            Frame::new(&mut memory[VNET_LEN..], start, end, offload),
            *meta,
        )
    }

    pub(super) fn seal(&mut self, index: usize, range: Range<usize>, offload: &Offload) {
        let entry = &mut self.batch[index];
        // The range counts from the frame's buffer, VNET_LEN into the memory.
        entry.sealed = range.start..range.end + VNET_LEN;
        let memory = match &entry.place {
            Place::Slot => self.ring.bytes_mut(entry.slot),
            Place::Copy(memory) => self.copies.bytes_mut(memory.clone()),
            Place::Lost(_) | Place::Tagged => unreachable!("there is no frame to seal"),
        };
        memory[range.start..range.start + VNET_LEN].copy_from_slice(&vnet::encode(offload));
    }

    pub(super) fn sealed(&self, index: usize) -> &[u8] {
        let entry = &self.batch[index];
        let memory = match &entry.place {
            Place::Slot => self.ring.bytes(entry.slot),
            Place::Copy(memory) => self.copies.bytes(memory.clone()),
            Place::Lost(_) | Place::Tagged => unreachable!("there is no frame to send"),
        };
        &memory[entry.sealed.clone()]
    }

    pub(super) fn release(&mut self) {
        for entry in &self.batch {
            self.ring.release(entry.slot);
        }
        if let Some(last) = self.batch.last() {
            self.head = self.after(last.slot);
        }
        self.batch.clear();
        self.copies.clear();
    }

    pub(super) fn set_filter(&self, program: &Program) -> io::Result<Coverage> {
        // The MTU may have been changed since.
        let mtu = |name: String| sys::interface_mtu(self.as_fd(), &name).ok();
        let mtu = self.name().and_then(mtu).unwrap_or(u32::MAX);
        attach(&self.socket, self.before.instructions(mtu), program)
    }

    /// The interface's name; `None` = it is gone.
    fn name(&self) -> Option<String> {
        let address = sys::packet_address(&self.socket).ok()?;
        // The kernel sets the index to -1 when the interface goes.
        let index = u32::try_from(address.sll_ifindex).ok()?;
        let name = netdevice::index_to_name_inlined(self.as_fd(), index).ok()?;
        Some(name.as_str().to_owned())
    }

    /// What its socket is for.
    pub(super) const fn kind(&self) -> InletKind {
        self.before.kind()
    }

    pub(super) fn hand_down(&self) -> io::Result<HandedRing> {
        assert!(self.batch.is_empty(), "a batch is in hand");
        let Geometry { slot_bytes, slots } = self.ring.geometry();
        Ok(HandedRing {
            socket: self.socket.try_clone()?.into(),
            place: RingPlace {
                slot_bytes,
                slots,
                head: self.head,
                inlet: self.kind(),
            },
        })
    }

    /// Whether the kernel has stopped filling the ring.
    pub(super) fn has_stalled(&mut self) -> bool {
        let RxStatistics {
            received,
            kernel_drops,
            ..
        } = self.statistics();
        let is_empty = self.batch.is_empty() && !self.is_ready();
        let stalled = self.stall.look(is_empty, received, kernel_drops);
        self.statistics.stalls += u64::from(stalled);
        stalled
    }

    pub(super) fn link(&mut self) -> Link {
        // ENETDOWN waits there after a change; as long as it does, the descriptor reports an error.
        drop(self.socket.take_error());
        let Some(name) = self.name() else {
            return Link::Gone;
        };
        match sys::interface_is_up(self.socket.as_fd(), &name) {
            Ok(true) => Link::Up,
            Ok(false) => Link::Down,
            Err(_) => Link::Gone,
        }
    }

    pub(super) fn statistics(&mut self) -> RxStatistics {
        // The kernel counts the drops as packets too, and starts again from zero after each reading.
        if let Ok(new) = sys::packet_statistics(self.socket.as_fd()) {
            self.statistics.received += u64::from(new.tp_packets - new.tp_drops);
            self.statistics.kernel_drops += u64::from(new.tp_drops);
        }
        self.statistics
    }
}
