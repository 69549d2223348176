//! What the ends of TCP connections expect next, from their segments: the rules are [`sequence`]'s.

use super::Flows;
use crate::conn::{Conn, ConnId};
use crate::frame::Frame;
use crate::narrow;
use crate::packet::{Packet, Transport};
use crate::sequence::{self, Numbers};
use crate::tcp;
use crate::wire::tcp::{controls, flag};

/// A segment that would have ended its connection.
pub(in crate::engine) struct OutOfWindow {
    /// Its number.
    pub(in crate::engine) seq: u32,
    /// What its receiver expects next.
    pub(in crate::engine) expected: u32,
}

impl Flows {
    /// Whether a segment of the server's (`output`) or the client's would end the connection, and its
    /// number shows that it is not of that connection.
    #[inline(always)]
    pub(in crate::engine) fn out_of_window(
        &mut self,
        id: ConnId,
        frame: &Frame<'_>,
        packet: &Packet,
        output: bool,
    ) -> Option<OutOfWindow> {
        match packet.transport {
            Transport::Tcp { flags, .. } if tcp::ends(flags) => {
                self.end_out_of_window(id, flags, packet.tcp(frame.bytes()).seq(), output)
            }
            _ => None,
        }
    }

    fn end_out_of_window(
        &mut self,
        id: ConnId,
        flags: u8,
        seq: u32,
        output: bool,
    ) -> Option<OutOfWindow> {
        let c = self.conns.get_mut(id);
        let state = c.state;
        let (receiver, sender) = ends_of(c, output);
        let expected = *receiver;
        let out = sequence::is_out_of_window(state, flags, seq, (expected, *sender));
        out.then_some(OutOfWindow { seq, expected })
    }

    /// Remembers what both ends of a TCP connection expect next, from a segment of the server's (`output`)
    /// or the client's: as the client has the numbers.
    #[inline(always)]
    pub(in crate::engine) fn note_sequence(
        &mut self,
        id: ConnId,
        frame: &Frame<'_>,
        packet: &Packet,
        output: bool,
    ) {
        let Some(mut n) = numbers(frame, packet) else {
            return;
        };
        if output && self.conns.get(id).is_introduced() {
            n.ack = n.ack.map(|ack| self.as_client_has_it(id, ack));
        }
        let c = self.conns.get_mut(id);
        let state = c.state;
        sequence::note(state, output, &n, ends_of(c, output));
    }
}

/// What the receiver and the sender of a segment of the server's (`output`) or the client's expect next.
pub(super) const fn ends_of(c: &mut Conn, output: bool) -> (&mut u32, &mut u32) {
    if output {
        (&mut c.client_expects, &mut c.server_expects)
    } else {
        (&mut c.server_expects, &mut c.client_expects)
    }
}

/// What a segment says of the numbers; `None` for what is none.
#[inline(always)]
pub(crate) fn numbers(frame: &Frame<'_>, packet: &Packet) -> Option<Numbers> {
    let Transport::Tcp { flags, header } = packet.transport else {
        return None;
    };
    let tcp = packet.tcp(frame.bytes());
    let data = narrow::to_u32(packet.l4_len()).saturating_sub(u32::from(header));
    let seq = tcp.seq();
    Some(Numbers {
        flags,
        seq,
        end: seq.wrapping_add(data + controls(flags)),
        ack: (flags & flag::ACK != 0).then(|| tcp.ack()),
    })
}
