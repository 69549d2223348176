//! The memory of a TPACKET_V2 ring, shared with the kernel, as slices that are ours for the time being.
//!
//! A slot's status word says whose it is. The kernel fills a slot, then sets TP_STATUS_USER; from then on
//! it does not touch the slot until we write TP_STATUS_KERNEL. Every access here checks that bit first,
//! and giving back needs `&mut self`, so no slice can outlive its slot's being ours. This and `sys.rs` are
//! the shell's only unsafe code.
//!
//! A slot: `tpacket2_hdr`, `sockaddr_ll`, padding and [`RESERVE`](super::geometry::RESERVE) bytes of
//! headroom, the virtio_net_hdr, and the frame at `tp_mac`.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::geometry::Geometry;

/// Where what the kernel says about a frame ends and memory begins that it leaves to us.
pub(super) const SLOT_HEADERS: usize = libc::TPACKET2_HDRLEN;

/// A mapped ring.
#[derive(Debug)]
pub(super) struct Ring {
    base: NonNull<u8>,
    geometry: Geometry,
}

// SAFETY: the mapping belongs to this value alone and is not tied to the thread that made it.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps the ring that the socket `fd` was given with [`Geometry::request`].
    pub(super) fn map(fd: BorrowedFd<'_>, geometry: Geometry) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a null hint places the mapping where nothing is mapped.
        let base = unsafe {
            mmap(
                ptr::null_mut(),
                geometry.bytes(),
                protection,
                MapFlags::SHARED,
                fd,
                0,
            )?
        };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, geometry })
    }

    /// How it is cut.
    pub(super) const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Number of slots.
    pub(super) fn slots(&self) -> usize {
        self.geometry.slots
    }

    /// Whether the kernel has filled the slot and it is ours.
    pub(super) fn is_ours(&self, slot: usize) -> bool {
        // Acquire: what the kernel wrote before the status is seen after it.
        self.status(slot).load(Ordering::Acquire) & libc::TP_STATUS_USER != 0
    }

    /// What the kernel says about the frame.
    pub(super) fn header(&self, slot: usize) -> libc::tpacket2_hdr {
        let at = self.ours(slot).cast::<libc::tpacket2_hdr>();
        // SAFETY: the slot is ours, aligned to 16, longer than the header, and the kernel wrote it there.
        unsafe { at.read() }
    }

    /// The slot after its headers.
    pub(super) fn bytes(&self, slot: usize) -> &[u8] {
        let (at, len) = self.body(slot);
        // SAFETY: `body` is within the mapping and ours until `release`, which needs `&mut self`.
        unsafe { std::slice::from_raw_parts(at, len) }
    }

    /// The slot after its headers.
    pub(super) fn bytes_mut(&mut self, slot: usize) -> &mut [u8] {
        let (at, len) = self.body(slot);
        // SAFETY: as in `bytes`; `&mut self` makes it the only slice.
        unsafe { std::slice::from_raw_parts_mut(at, len) }
    }

    /// Makes the slot the kernel's.
    pub(super) fn release(&mut self, slot: usize) {
        // Release: our reads and writes are done before the kernel sees the status.
        self.status(slot)
            .store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }

    fn status(&self, slot: usize) -> &AtomicU32 {
        let at = self.slot(slot).cast::<u32>().as_ptr();
        // SAFETY: tp_status is the slot's first field, aligned to 16; both sides access it atomically.
        unsafe { AtomicU32::from_ptr(at) }
    }

    fn body(&self, slot: usize) -> (*mut u8, usize) {
        let start = self.ours(slot).as_ptr();
        // SAFETY: a slot is longer than its headers.
        let body = unsafe { start.add(SLOT_HEADERS) };
        (body, self.geometry.slot_bytes - SLOT_HEADERS)
    }

    fn ours(&self, slot: usize) -> NonNull<u8> {
        assert!(self.is_ours(slot), "slot {slot} is the kernel's");
        self.slot(slot)
    }

    fn slot(&self, slot: usize) -> NonNull<u8> {
        assert!(slot < self.geometry.slots, "the ring has no slot {slot}");
        // SAFETY: a slot that exists begins within the mapping.
        unsafe { self.base.add(self.geometry.offset(slot)) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, and no slice of it outlives `self`.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.geometry.bytes()) };
        debug_assert!(unmapped.is_ok(), "munmap of our own mapping");
    }
}
