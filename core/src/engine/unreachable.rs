//! Frames that were sent to a next hop that does not answer: their senders are told, as the kernel tells
//! them when ARP has failed (`arp_error_report`, `ipv4_link_failure`). Where either packet is of IPv6 it was seen to tell
//! nobody, and so does UVS; that holds for a connection between the families too, which the kernel does not have.

use super::Engine;
use super::related::quote;
use super::voice::{Error, Notice};
use crate::conn::{ConnId, Side};
use crate::flow::{Addr, Family};
use crate::frame::{Frame, Gso};
use crate::outbox::Outbox;
use crate::packet::{self, Packet, Parsed, Transport};
use crate::rewrite::{self, Ends};
use crate::time::Instant;
use crate::trace::Recorder;

impl<R: Recorder> Engine<R> {
    /// A frame that left this engine with an [`unresolved`](crate::verdict::Egress::unresolved) next hop
    /// has waited too long. What its sender is told is in `out`, which must be empty; the frame itself is
    /// the shell's to count, by [`Engine::count_lost`].
    pub fn handle_unreachable(&mut self, now: Instant, frame: &mut Frame<'_>, out: &mut Outbox) {
        if frame.offload.gso == Gso::None {
            rewrite::finish_checksum(frame);
        }
        let Parsed::Ip(packet) = packet::parse(frame) else {
            return;
        };
        if packet.family == Family::V6 {
            return;
        }
        // Never about an ICMP message that is itself an error (RFC 1122 §3.2.2); of ours all are.
        if matches!(packet.transport, Transport::Icmp { .. }) {
            return;
        }
        let ip = usize::from(packet.ip);
        self.renumber_unreachable(frame, ip);
        let bytes = frame.bytes();
        if let Some((about, from, to, ends)) = self.sender(bytes, ip, &packet) {
            let notice = Notice {
                message: Error::HostUnreachable.message(Family::V4),
                from,
                to,
                by: 0,
                about: &bytes[about..],
                ends,
            };
            self.notify(now, &notice, out);
        }
    }

    /// Gives a segment of an introduced connection back the number that its client gave it.
    fn renumber_unreachable(&self, frame: &mut Frame<'_>, ip: usize) {
        let Some(quote) = quote(frame.bytes(), ip) else {
            return;
        };
        if let Some((id, Side::Server)) = self.flows.find(&quote.flow.reversed()) {
            self.renumber_quote(frame, id, &quote, true);
        }
    }

    /// Where the packet begins that is told of, from and to whom, and what its ends are called there;
    /// `None` where nobody may be told.
    fn sender(
        &self,
        bytes: &[u8],
        ip: usize,
        packet: &Packet,
    ) -> Option<(usize, Addr, Addr, Ends)> {
        let client_of = |id: ConnId| {
            let c = self.flows.conn(id);
            (c.ends.vip.addr, c.ends.client.addr)
        };
        if let Some(inner) = self.tunnelled(bytes, ip) {
            let flow = quote(bytes, inner)?.flow;
            if flow.family() == Family::V6 {
                return None;
            }
            let (id, _) = self.flows.find(&flow)?;
            let (vip, client) = client_of(id);
            return Some((inner, vip, client, Ends::default()));
        }
        let flow = quote(bytes, ip)?.flow;
        if let Some((id, Side::Client)) = self.flows.find(&flow) {
            let (vip, client) = client_of(id);
            return Some((ip, vip, client, Ends::default()));
        }
        let Some((id, side)) = self.flows.find(&flow.reversed()) else {
            return Some((ip, Addr::UNSPECIFIED, packet.flow.src, Ends::default()));
        };
        let c = self.flows.conn(id);
        if c.ends.client.addr.family() != c.ends.server.addr.family() {
            return None;
        }
        let ends = |src, dst| Ends {
            src: Some(src),
            dst: Some(dst),
        };
        Some(match side {
            Side::Server => (
                ip,
                c.ends.vip.addr,
                c.ends.client.addr,
                ends(c.ends.client, c.ends.vip),
            ),
            Side::Client => {
                let far = *c.ends.facing_server();
                (
                    ip,
                    Addr::UNSPECIFIED,
                    c.ends.server.addr,
                    ends(c.ends.server, far),
                )
            }
        })
    }
}
