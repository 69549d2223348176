//! Frames that the engine makes: answers, segments, fragments. One buffer, reused, no allocation per frame.

use std::ops::Range;

use crate::frame::{Frame, Offload};
use crate::verdict::Egress;

/// Headroom of every frame in the outbox, bytes: room for an outer header and the shell's own.
pub const HEADROOM: usize = 64;

/// One frame in the outbox.
#[derive(Clone, Debug)]
struct Entry {
    range: Range<usize>,
    offload: Offload,
    egress: Egress,
}

/// Frames to be sent besides, or instead of, the one received.
#[derive(Debug, Default)]
pub struct Outbox {
    buf: Vec<u8>,
    used: usize,
    entries: Vec<Entry>,
}

impl Outbox {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets all frames; the memory stays.
    pub fn clear(&mut self) {
        self.used = 0;
        self.entries.clear();
    }

    /// How many frames are in it.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The frames in order: bytes from the destination MAC on, what is unfinished, where they leave.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Offload, Egress)> {
        self.entries
            .iter()
            .map(|e| (&self.buf[e.range.clone()], e.offload, e.egress))
    }

    /// A frame of `len` undefined bytes, with [`HEADROOM`], to be filled and then [`Outbox::push`]ed.
    pub fn draft(&mut self, len: usize) -> Frame<'_> {
        let start = self.used + HEADROOM;
        if self.buf.len() < start + len {
            self.buf.resize(start + len, 0);
        }
        let used = self.used;
        Frame::new(
            &mut self.buf[used..start + len],
            HEADROOM,
            HEADROOM + len,
            Offload::default(),
        )
    }

    /// Keeps the draft, which now lies at `range` of its buffer.
    pub fn push(&mut self, range: Range<usize>, offload: Offload, egress: Egress) {
        let range = self.used + range.start..self.used + range.end;
        self.used = range.end;
        self.entries.push(Entry {
            range,
            offload,
            egress,
        });
    }

    /// Keeps a copy of a whole frame.
    pub fn push_copy(&mut self, bytes: &[u8], offload: Offload, egress: Egress) {
        let mut draft = self.draft(bytes.len());
        draft.bytes_mut().copy_from_slice(bytes);
        let range = draft.range();
        self.push(range, offload, egress);
    }
}
