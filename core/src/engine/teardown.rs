//! Telling a connection's ends that it is over: a RST to both for TCP, ICMP to the client for UDP.
//!
//! A RST is taken where it carries the very number that its receiver expects next (RFC 5961 §3.2), which the
//! engine remembers (`sequence.rs`). The server's RST is written as the client's and goes the connection's own
//! way, through its mode.

use super::Engine;
use super::flows::Cause;
use super::leg::{By, Leg};
use super::transit::Transit;
use super::transmit::to_server;
use super::voice::{Error, Reset};
use crate::conn::{Conn, ConnId, Hint};
use crate::flow::{Family, Protocol};
use crate::fragment::Pieces;
use crate::frame::{Frame, Offload};
use crate::introduce::Edits;
use crate::outbox::{HEADROOM, Outbox};
use crate::packet::{self, Parsed};
use crate::service::OnExpiry;
use crate::tcp::TcpState;
use crate::time::Instant;
use crate::trace::Recorder;
use crate::verdict::Verdict;
use crate::wire::ethernet;

/// A connection, and what its segments are changed by.
pub(super) type Ended<'a> = (&'a Conn, Option<Edits>);

impl<R: Recorder> Engine<R> {
    /// An idle connection's time is over.
    pub(super) fn time_out(&mut self, now: Instant, id: ConnId, out: &mut Outbox) {
        let c = *self.flows.conn(id);
        let wanted = self.flows.server_of(&c).teardown.on_expiry == OnExpiry::Tell;
        // Past the bound it ends all the same: the table must not wait for its teardown notices.
        if wanted
            && c.protocol == Protocol::Tcp
            && is_told(&c)
            && self.voice.teardown_limit.allows(now)
        {
            self.tell(now, (&c, self.flows.edits_of(id)), out);
        }
        self.flows.end(now, id, Cause::TimedOut);
    }

    /// Tells the ends of a connection for which [`is_told`] holds.
    pub(super) fn tell(&mut self, now: Instant, (c, edits): Ended<'_>, out: &mut Outbox) {
        // In the name of a VIP that is another's now, nothing is said.
        let speaks = !self.desired.is_absent(c.ends.vip.addr, &self.routes.fib);
        let client = match c.protocol {
            Protocol::Tcp => speaks && self.reset_client(c, out),
            Protocol::Udp => speaks && self.refuse_datagrams(c, out),
            Protocol::Sctp => return,
        };
        self.counters.told_clients += u64::from(client);
        if c.protocol == Protocol::Tcp {
            self.tell_server(now, (c, edits), out);
        }
    }

    /// Ends a connection, and where `tells`, and where there is something to say, tells both ends. Whether it told them;
    /// `None` where nothing was done, as that must wait until they may be told.
    pub(super) fn end_and_tell(
        &mut self,
        now: Instant,
        id: ConnId,
        (tells, cause): (bool, Cause),
        out: &mut Outbox,
    ) -> Option<bool> {
        let c = *self.flows.conn(id);
        let told = tells && is_told(&c);
        if told {
            if !self.voice.teardown_limit.allows(now) {
                return None;
            }
            self.tell(now, (&c, self.flows.edits_of(id)), out);
        }
        self.flows.end(now, id, cause);
        Some(told)
    }

    /// Tells the server alone, of a TCP connection for which [`is_told`] holds.
    pub(super) fn tell_server(&mut self, now: Instant, c: Ended<'_>, out: &mut Outbox) {
        let server = self.reset_server(now, c, out);
        self.counters.told_servers += u64::from(server);
    }

    fn reset_client(&mut self, c: &Conn, out: &mut Outbox) -> bool {
        let reset = Reset {
            from: c.ends.vip,
            to: c.ends.client,
            by: 0,
            seq: c.client_expects,
            ack: Some(c.server_expects),
        };
        self.voice.reset(&self.routes.fib, &reset, out) == Verdict::Answered
    }

    fn refuse_datagrams(&mut self, c: &Conn, out: &mut Outbox) -> bool {
        let ends = (c.ends.client, c.ends.vip);
        let told = self.voice.refuse_datagrams(&self.routes.fib, ends, out) == Verdict::Answered;
        if told {
            let message = Error::PortUnreachable.message(c.ends.client.addr.family());
            self.counters
                .count_icmp(c.ends.client.addr.family(), message.kind);
        }
        told
    }

    /// Sends the client's RST through the connection's mode. A server whose next hop is not resolved, dead
    /// as it may be, is not asked for.
    pub(super) fn reset_server(
        &mut self,
        now: Instant,
        (c, edits): Ended<'_>,
        out: &mut Outbox,
    ) -> bool {
        const IP: usize = HEADROOM + ethernet::LEN;
        let reset = Reset {
            from: c.ends.client,
            to: c.ends.vip,
            by: 0,
            seq: c.server_expects,
            ack: Some(c.client_expects),
        };
        let mut bytes = [0; IP + Reset::MAX_LEN];
        let Some(len) = reset.write(&mut bytes[IP..]) else {
            return false;
        };
        self.send_as_client(now, (c, edits), &mut bytes[..IP + len], out)
    }

    /// Sends a packet to a connection's server as if its client had; `bytes` is it behind [`HEADROOM`] and
    /// room for an Ethernet header. Whether it leaves: not where the next hop is not resolved.
    pub(super) fn send_as_client(
        &mut self,
        now: Instant,
        (c, edits): Ended<'_>,
        bytes: &mut [u8],
        out: &mut Outbox,
    ) -> bool {
        let (mode, tunnel) = self.mode_of(c);
        let hop = self.routes.fib.lookup(to_server(c, mode.forwarding));
        if !hop.is_ok_and(|hop| hop.mac.is_some()) {
            return false;
        }
        let mut header = ethernet::Header::new_mut(&mut bytes[HEADROOM..]);
        let six = c.ends.client.addr.family() == Family::V6;
        header.set_ethertype(ethernet::ethertype::of(six));
        let end = bytes.len();
        let mut frame = Frame::new(bytes, HEADROOM, end, Offload::default());
        let Parsed::Ip(packet) = packet::parse(&mut frame) else {
            return false;
        };
        self.voice.next_ip_id();
        let mut leg = Leg {
            by: By::Mode(mode),
            path: self.path_of(c, tunnel),
            forward: true,
            answer_from: c.ends.vip.addr,
            edits,
            prefix: None,
        };
        let mut transit = Transit {
            now,
            frame: &mut frame,
            packet: &packet,
            hint: Hint::NONE,
            pieces: Pieces::default(),
            out,
        };
        match self.transmit(&mut transit, &mut leg, &hop) {
            Verdict::Send(egress) => {
                out.push_copy(frame.bytes(), frame.offload, egress);
                true
            }
            _ => false,
        }
    }
}

/// Whether a connection has ends that know of it. One that is half-open has not: its client's address may
/// be forged, and a true one tries again. One that is over has no need.
pub(super) fn is_told(c: &Conn) -> bool {
    match c.protocol {
        Protocol::Tcp => {
            let open = matches!(
                TcpState::from_number(c.state),
                TcpState::Established | TcpState::FinWait | TcpState::CloseWait
            );
            open && c.client_expects != 0
        }
        Protocol::Udp => c.ends.client.port != 0,
        Protocol::Sctp => false,
    }
}
