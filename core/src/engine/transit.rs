//! What the steps of a frame's journey are handed together.

use crate::conn::Hint;
use crate::fragment::Pieces;
use crate::frame::Frame;
use crate::outbox::Outbox;
use crate::packet::Packet;
use crate::time::Instant;

/// A packet on its way through the engine.
///
/// The steps hand one reference on; a step that makes a packet of its own (a datagram put together, a reset
/// in a client's name) makes a transit of its own for it, with the same time and outbox.
pub(super) struct Transit<'a, 'f> {
    /// The time at which the packet is handled.
    pub(super) now: Instant,
    /// The frame that the packet came in, and leaves in once it is rewritten.
    pub(super) frame: &'a mut Frame<'f>,
    /// What the frame's headers said when it was parsed, before anything was rewritten.
    pub(super) packet: &'a Packet,
    /// Where its connection may be.
    pub(super) hint: Hint,
    /// What it came in, where it was put together.
    pub(super) pieces: Pieces<'a>,
    /// Takes what the engine makes beside the frame: answers, segments, fragments.
    pub(super) out: &'a mut Outbox,
}
