//! Looking ahead: all frames of a batch are read before the first is handled, and what they will need is fetched from
//! memory while none of them waits for it.
//!
//! Nothing is decided by that. Whatever becomes of the frames before it, a frame goes the way that it would have gone.

use super::Engine;
use crate::conn::Hint;
use crate::frame::Frame;
use crate::packet::{self, Parsed};

/// What was read of a frame, and where its connection may be.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub(super) parsed: Parsed,
    pub(super) hint: Hint,
}

impl Seen {
    /// Of no frame: stands where a batch has one that the engine is not to see.
    pub const NOTHING: Self = Self {
        parsed: Parsed::Foreign,
        hint: Hint::NONE,
    };

    /// Reads a frame, and cuts Ethernet padding off it.
    #[inline(always)]
    pub(super) fn of(frame: &mut Frame<'_>) -> Self {
        Self {
            parsed: packet::parse(frame),
            hint: Hint::NONE,
        }
    }
}

impl Engine {
    /// Reads a frame of a batch. Once all are read, [`Engine::fetch`] is to follow, and then
    /// [`Engine::handle_seen`] for each.
    #[inline(never)]
    pub fn look(&self, frame: &mut Frame<'_>) -> Seen {
        let mut seen = Seen::of(frame);
        if let Parsed::Ip(packet) = &seen.parsed
            && packet.balanced().is_some()
        {
            seen.hint = self.flows.table().hint(&packet.flow);
        }
        seen
    }

    /// Fetches what frames that were read will need.
    #[inline(never)]
    pub fn fetch(&self, seen: &mut [Seen]) {
        let table = self.flows.table();
        seen.iter_mut().for_each(|s| table.refer(&mut s.hint));
        seen.iter().for_each(|s| table.fetch(s.hint));
    }
}
