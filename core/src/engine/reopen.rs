//! FULLNAT after a restart of the director: a new connection may get a local port by which the server still
//! has an old one. The server answers the SYN with an ACK of the old connection (a challenge ACK, RFC 5961
//! §4.2, or TIME_WAIT's), and waits for the RST that shows that the other end knows nothing of it.
//!
//! The client would send that RST, and its SYN again after a second (RFC 6298). The engine does both at once,
//! as it is the other end: it keeps the last SYNs, until their servers have answered.
//!
//! Nobody gains by forging such an ACK. It is answered only for a connection of ours that waits for its SYN-ACK,
//! once, and where it acknowledges something else than the SYN. The RST carries the number that was
//! acknowledged: to a server that has got the SYN it is outside the window, or the SYN behind it opens the
//! connection again.

use super::Engine;
use super::flows::{MAX_SYN, Syn};
use super::teardown::Ended;
use super::transit::Transit;
use super::voice::Reset;
use crate::conn::{Conn, ConnId};
use crate::flow::{Family, Protocol};
use crate::narrow;
use crate::outbox::{HEADROOM, Outbox};
use crate::packet::Transport;
use crate::rewrite;
use crate::tcp::TcpState;
use crate::time::Instant;
use crate::trace::{Recorder, Step};
use crate::verdict::Verdict;
use crate::wire::tcp::flag;
use crate::wire::{checksum, ethernet, ipv4, ipv6, protocol, tcp};

impl<R: Recorder> Engine<R> {
    /// The server of a connection that waits for its SYN-ACK has answered. Where that is about an old
    /// connection, that one is reset and the SYN sent again.
    pub(super) fn reopen(&mut self, t: &mut Transit<'_, '_>, id: ConnId) -> Option<Verdict> {
        let c = *self.flows.conn(id);
        let Transport::Tcp { flags, .. } = t.packet.transport else {
            return None;
        };
        let syn = self.flows.syn_of(id)?;
        let kind = flags & (flag::ACK | flag::SYN | flag::RST);
        let acknowledged = t.packet.tcp(t.frame.bytes()).ack();
        if kind == flag::SYN | flag::ACK && acknowledged == syn.next() {
            // It knows no other connection. A copy of the SYN that comes late, when one end has closed already, must not
            // make its acknowledgements look like an old one's.
            self.flows.forget_syn(id);
            return None;
        }
        if kind != flag::ACK
            || acknowledged == syn.next()
            || !rewrite::checksum_is_right(t.frame, t.packet)
        {
            return None;
        }
        self.flows.forget_syn(id);
        self.record(|_| Step::Reopened {
            local: c.ends.local,
        });
        let reset = Reset {
            from: c.ends.local,
            to: c.ends.server,
            by: t.frame.arrival,
            seq: acknowledged,
            ack: None,
        };
        let reset = self.voice.reset(&self.routes.fib, &reset, t.out);
        if reset != Verdict::Answered {
            return Some(reset);
        }
        self.counters.reopened += 1;
        self.resend(t.now, (&c, self.flows.edits_of(id)), &syn, t.out);
        Some(Verdict::Answered)
    }

    fn resend(&mut self, now: Instant, (c, edits): Ended<'_>, syn: &Syn, out: &mut Outbox) {
        let (packet, l4) = (syn.packet(), syn.l4());
        let len = packet.len();
        let mut bytes = [0; HEADROOM + ethernet::LEN + MAX_SYN];
        let ip = &mut bytes[HEADROOM + ethernet::LEN..][..len];
        ip.copy_from_slice(packet);
        // It may have come with a checksum that was left to an offload.
        let len_of_l4 = narrow::to_u32(len - l4);
        let pseudo = match c.ends.client.addr.family() {
            Family::V4 => {
                let header = ipv4::Header::new(ip);
                let (src, dst) = (header.src(), header.dst());
                checksum::pseudo_header_v4(src, dst, protocol::TCP, len_of_l4)
            }
            Family::V6 => {
                let header = ipv6::Header::new(ip);
                let (src, dst) = (header.src(), header.dst());
                checksum::pseudo_header_v6(src, dst, protocol::TCP, len_of_l4)
            }
        };
        tcp::seal(&mut ip[l4..], pseudo);
        self.send_as_client(
            now,
            (c, edits),
            &mut bytes[..HEADROOM + ethernet::LEN + len],
            out,
        );
    }
}

/// Whether a connection waits for its server's SYN-ACK by a local port.
pub(super) fn is_opening(c: &Conn) -> bool {
    c.state == TcpState::SynRecv as u8 && c.ends.local.port != 0 && c.protocol == Protocol::Tcp
}
