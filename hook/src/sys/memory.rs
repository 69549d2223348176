//! The memory of a map that the program and this process share, and the ring of events.
//!
//! The kernel's program writes it at any time, so that all of it is atomics.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::map::{MMAPABLE, Map, kind};

/// What may lie in such memory.
///
/// # Safety
/// It is made of nothing but atomics (any bytes are a value, and others may change them), and its size is a multiple
/// of 8, as the kernel lays elements of an array out.
pub(crate) unsafe trait Shared {}

/// The elements of an array.
pub(crate) struct Array<T: Shared> {
    at: NonNull<T>,
    len: usize,
}

// SAFETY: it is memory of the process's until it is unmapped, and all of it is atomics.
unsafe impl<T: Shared> Send for Array<T> {}
// SAFETY: as above.
unsafe impl<T: Shared> Sync for Array<T> {}

impl<T: Shared> Array<T> {
    /// Maps a map's memory.
    ///
    /// # Errors
    /// It is no array of these elements that can be mapped, or there is no memory.
    pub(crate) fn map(map: &Map) -> io::Result<Self> {
        let shape = map.shape();
        let fits = shape.kind == kind::ARRAY
            && shape.flags & MMAPABLE != 0
            && shape.value as usize == size_of::<T>();
        if !fits {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let len = shape.entries as usize;
        let at = map_memory(map, len * size_of::<T>(), 0, true)?.cast();
        Ok(Self { at, len })
    }
}

impl<T: Shared> Deref for Array<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: so many elements are mapped there for as long as `self` lives, and a page's start is aligned for
        // each; any bytes are a value of theirs.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}

impl<T: Shared> Drop for Array<T> {
    fn drop(&mut self) {
        unmap(self.at.cast(), self.len * size_of::<T>());
    }
}

/// A BPF ring buffer, as its one reader has it (kernel/bpf/ringbuf.c).
///
/// Its memory is a page with the reader's position, a page with the writers', and the data twice, one behind the
/// other, so that what wraps can be read in one piece.
pub(crate) struct Ring {
    reader: NonNull<u8>,
    writer: NonNull<u8>,
    page: usize,
    size: usize,
}

// SAFETY: it is memory of the process's, whose one reader may be any thread.
unsafe impl Send for Ring {}

/// A record that is being written.
const BUSY: u32 = 1 << 31;
/// A record that its writer has given up.
const DISCARDED: u32 = 1 << 30;
/// Bytes before a record's data.
const HEADER: usize = 8;

impl Ring {
    /// Maps a ring buffer's memory.
    pub(crate) fn map(map: &Map) -> io::Result<Self> {
        let shape = map.shape();
        if shape.kind != kind::RINGBUF {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let (page, size) = (rustix::param::page_size(), shape.entries as usize);
        let reader = map_memory(map, page, 0, true)?;
        let writer = match map_memory(map, page + 2 * size, page, false) {
            Ok(at) => at,
            Err(e) => {
                unmap(reader, page);
                return Err(e);
            }
        };
        Ok(Self {
            reader,
            writer,
            page,
            size,
        })
    }

    /// The next record's words; `None` where there is none, or none that is complete.
    pub(crate) fn next<const N: usize>(&mut self) -> Option<[u64; N]> {
        loop {
            // SAFETY: the reader's page begins with its position.
            let position = unsafe { self.reader.cast::<AtomicU64>().as_ref() };
            // SAFETY: the writers' page begins with theirs.
            let end = unsafe { self.writer.cast::<AtomicU64>().as_ref() };
            let at = position.load(Ordering::Relaxed);
            if at == end.load(Ordering::Acquire) {
                return None;
            }
            let offset = self.page + (usize::try_from(at).ok()? & (self.size - 1));
            let header = self.word32(offset).load(Ordering::Acquire);
            if header & BUSY != 0 {
                return None;
            }
            let len = (header & !DISCARDED) as usize;
            let words = len == N * 8 && header & DISCARDED == 0;
            let record = words.then(|| {
                std::array::from_fn(|i| {
                    self.word64(offset + HEADER + i * 8).load(Ordering::Relaxed)
                })
            });
            let next = at + (len + HEADER).next_multiple_of(8) as u64;
            position.store(next, Ordering::Release);
            if record.is_some() {
                return record;
            }
        }
    }

    /// A word of the data; `offset` is below the page and twice the size, and aligned.
    fn word32(&self, offset: usize) -> &AtomicU32 {
        assert!(offset + 4 <= self.page + 2 * self.size && offset.is_multiple_of(4));
        // SAFETY: it is within the memory, as was just asserted.
        let at = unsafe { self.writer.byte_add(offset) };
        // SAFETY: it is aligned, and stays mapped for as long as `self` lives.
        unsafe { at.cast().as_ref() }
    }

    /// As [`Ring::word32`].
    fn word64(&self, offset: usize) -> &AtomicU64 {
        assert!(offset + 8 <= self.page + 2 * self.size && offset.is_multiple_of(8));
        // SAFETY: it is within the memory, as was just asserted.
        let at = unsafe { self.writer.byte_add(offset) };
        // SAFETY: it is aligned, and stays mapped for as long as `self` lives.
        unsafe { at.cast().as_ref() }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        unmap(self.reader, self.page);
        unmap(self.writer, self.page + 2 * self.size);
    }
}

/// Maps `len` bytes of a map from `offset` on, whole pages of them.
fn map_memory(map: &Map, len: usize, offset: usize, writable: bool) -> io::Result<NonNull<u8>> {
    let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let protection = if writable {
        libc::PROT_READ | libc::PROT_WRITE
    } else {
        libc::PROT_READ
    };
    let fd = map.as_fd().as_raw_fd();
    // SAFETY: the kernel picks an address that is free.
    let at = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len,
            protection,
            libc::MAP_SHARED,
            fd,
            offset,
        )
    };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(at.cast()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn unmap(at: NonNull<u8>, len: usize) {
    // SAFETY: it was mapped with this length, and whoever calls this has nothing of it any more. That it fails for no
    // other reason leaves nothing to be done.
    unsafe { libc::munmap(at.as_ptr().cast(), len) };
}
