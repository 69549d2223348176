//! TCP resets (RFC 9293 §3.5.2).

use super::{Header, Letter, Voice};
use crate::engine::transit::Transit;
use crate::fib::Fib;
use crate::flow::Endpoint;
use crate::narrow;
use crate::outbox::Outbox;
use crate::packet::Transport;
use crate::rewrite;
use crate::verdict::{DropReason, Verdict};
use crate::wire::tcp::{self, controls, flag};
use crate::wire::{ipv6, protocol};

/// A reset from one end to another.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Reset {
    pub(in crate::engine) from: Endpoint,
    pub(in crate::engine) to: Endpoint,
    /// The interface that the segment it answers came in by; 0 where it answers none.
    pub(in crate::engine) by: u32,
    pub(in crate::engine) seq: u32,
    /// What it acknowledges, where it does.
    pub(in crate::engine) ack: Option<u32>,
}

impl Reset {
    /// The most bytes of the packet.
    pub(in crate::engine) const MAX_LEN: usize = ipv6::LEN + tcp::MIN_LEN;

    /// Writes the whole packet to the beginning of `packet`, which must have [`Self::MAX_LEN`] bytes; how long it
    /// is. `None` for ends of two families.
    pub(in crate::engine) fn write(&self, packet: &mut [u8]) -> Option<usize> {
        let ends = (self.from.addr, self.to.addr);
        let header = Header::new(protocol::TCP, ends.0, ends.1, tcp::MIN_LEN)?;
        let end = header.len() + tcp::MIN_LEN;
        header.emit(packet);
        self.emit(&header, &mut packet[header.len()..end]);
        Some(end)
    }

    /// Writes the segment that lies behind `header`.
    fn emit(&self, header: &Header, segment: &mut [u8]) {
        let acknowledges = if self.ack.is_some() { flag::ACK } else { 0 };
        let tcp = tcp::Repr {
            src_port: self.from.port,
            dst_port: self.to.port,
            seq: self.seq,
            ack: self.ack.unwrap_or_default(),
            flags: flag::RST | acknowledges,
            window: 0,
        };
        tcp.emit(segment);
        tcp::seal(segment, header.pseudo_header());
    }
}

impl Voice {
    /// Sends a reset.
    pub(in crate::engine) fn reset(
        &mut self,
        fib: &Fib,
        reset: &Reset,
        out: &mut Outbox,
    ) -> Verdict {
        let letter = Letter {
            from: reset.from.addr,
            to: reset.to.addr,
            by: reset.by,
            protocol: protocol::TCP,
            len: tcp::MIN_LEN,
        };
        self.send(fib, &letter, out, |_, header, segment| {
            reset.emit(header, segment);
        })
    }

    /// Answers a segment that belongs to no connection with a reset, as the host's own stack would.
    pub(in crate::engine) fn refuse_segment(
        &mut self,
        fib: &Fib,
        t: &mut Transit<'_, '_>,
    ) -> Verdict {
        let Transport::Tcp { flags, header } = t.packet.transport else {
            return Verdict::Drop(DropReason::NoConnection);
        };
        if flags & flag::RST != 0 {
            return Verdict::Drop(DropReason::NoConnection);
        }
        if !rewrite::checksum_is_right(t.frame, t.packet) {
            return Verdict::Drop(DropReason::BadChecksum);
        }
        let tcp = t.packet.tcp(t.frame.bytes());
        let (seq, ack) = if flags & flag::ACK != 0 {
            (tcp.ack(), None)
        } else {
            let taken = narrow::to_u32(t.packet.l4_len()) - u32::from(header) + controls(flags);
            (0, Some(tcp.seq().wrapping_add(taken)))
        };
        let reset = Reset {
            from: t.packet.flow.destination(),
            to: t.packet.flow.source(),
            by: t.frame.arrival,
            seq,
            ack,
        };
        self.reset(fib, &reset, t.out)
    }
}
