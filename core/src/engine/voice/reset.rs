//! TCP resets (RFC 9293 §3.5.2).

use super::{Letter, Voice};
use crate::engine::transit::Transit;
use crate::fib::Fib;
use crate::flow::Endpoint;
use crate::narrow;
use crate::outbox::Outbox;
use crate::packet::Transport;
use crate::rewrite;
use crate::verdict::{DropReason, Verdict};
use crate::wire::tcp::{self, controls, flag};
use crate::wire::{ipv4, protocol};

/// A reset from one end to another.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Reset {
    pub(in crate::engine) from: Endpoint,
    pub(in crate::engine) to: Endpoint,
    pub(in crate::engine) seq: u32,
    /// What it acknowledges, where it does.
    pub(in crate::engine) ack: Option<u32>,
}

impl Reset {
    /// Bytes of the packet.
    pub(in crate::engine) const LEN: usize = ipv4::MIN_LEN + tcp::MIN_LEN;

    /// The whole packet; `None` for ends that are not of IPv4.
    pub(in crate::engine) fn packet(&self) -> Option<[u8; Self::LEN]> {
        let (src, dst) = (self.from.addr.as_v4()?, self.to.addr.as_v4()?);
        let mut packet = [0; Self::LEN];
        let header = super::header(protocol::TCP, src, dst, tcp::MIN_LEN);
        header.emit(&mut packet);
        self.emit(&header, &mut packet[ipv4::MIN_LEN..]);
        Some(packet)
    }

    /// Writes the segment that lies behind `header`.
    fn emit(&self, header: &ipv4::Repr, segment: &mut [u8]) {
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
            seq,
            ack,
        };
        self.reset(fib, &reset, t.out)
    }
}
