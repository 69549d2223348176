//! One direction of a packet's way: what it is changed by, and who answers for the director.

use crate::conn::ConnId;
use crate::flow::Addr;
use crate::frame::Frame;
use crate::introduce::Edits;
use crate::mode::{ModeDef, Path};
use crate::packet::Packet;
use crate::rewrite::{self, Ends};
use crate::verdict::DropReason;

/// What a packet is changed by on its way.
#[derive(Clone, Copy)]
pub(super) enum By {
    /// Its connection's mode.
    Mode(&'static ModeDef),
    /// New addresses: an ICMP error's, whose connection's mode has not touched it.
    Addresses(Ends),
}

/// Which way through a mode, and who answers for the director.
#[derive(Clone, Copy)]
pub(super) struct Leg {
    pub(super) by: By,
    pub(super) path: Path,
    /// Towards the server; else towards the client.
    pub(super) forward: bool,
    /// Where an ICMP message to the packet's sender comes from; [`Addr::UNSPECIFIED`] = the director's
    /// own address towards it.
    pub(super) answer_from: Addr,
    /// What a segment is changed by beside, where its server is told of its client.
    pub(super) edits: Option<Edits>,
    /// Whose header goes into each datagram, where its server is told of its client.
    pub(super) prefix: Option<ConnId>,
}

impl Leg {
    #[inline(always)]
    pub(super) fn rewrite(&self, frame: &mut Frame<'_>, packet: &Packet) -> Result<(), DropReason> {
        match &self.edits {
            None => self.change(frame, packet),
            Some(edits) if self.forward => {
                let edited = edits.forward(frame, packet)?;
                self.change(frame, &edited)
            }
            Some(edits) => {
                edits.reverse(frame, packet);
                self.change(frame, packet)
            }
        }
    }

    #[inline(always)]
    fn change(&self, frame: &mut Frame<'_>, packet: &Packet) -> Result<(), DropReason> {
        match self.by {
            By::Mode(mode) if self.forward => mode.rewrite.forward(frame, packet, &self.path),
            By::Mode(mode) => mode.rewrite.reverse(frame, packet, &self.path),
            By::Addresses(ends) => {
                rewrite::set_addresses(frame, packet, ends);
                Ok(())
            }
        }
    }

    /// What traces call it.
    pub(super) fn name(&self) -> &'static str {
        match self.by {
            By::Mode(mode) => mode.forwarding.def().listed,
            By::Addresses(_) => "Addresses",
        }
    }

    /// Bytes that are added in front of the packet.
    pub(super) fn overhead(&self) -> usize {
        match self.by {
            By::Mode(mode) if self.forward => mode.overhead(&self.path),
            By::Mode(_) | By::Addresses(_) => 0,
        }
    }

    /// Whether the packet's addresses are translated, so that its answers come back to the director.
    pub(super) fn translates(&self) -> bool {
        match self.by {
            By::Mode(mode) => !self.forward || mode.forwarding.passes_replies(),
            By::Addresses(_) => true,
        }
    }
}
