//! Telling a connection's ends that it is over: a RST to both for TCP, ICMP to the client for UDP.
//!
//! A RST is taken where it carries the very number that its receiver expects next (RFC 5961 §3.2), which the
//! engine remembers (`sequence.rs`). The server's RST is written as the client's and goes the connection's own
//! way, through its mode.

use super::Engine;
use super::answer::{Limiter, Notice, ipv4_header, write_reset};
use super::transit::Transit;
use super::transmit::Way;
use crate::conn::{Conn, ConnId};
use crate::flow::Protocol;
use crate::frame::{Frame, Offload};
use crate::outbox::{HEADROOM, Outbox};
use crate::packet::{self, Parsed};
use crate::rewrite::Ends;
use crate::service::OnExpiry;
use crate::tcp::TcpState;
use crate::time::Instant;
use crate::trace::Recorder;
use crate::verdict::Verdict;
use crate::wire::tcp::flag;
use crate::wire::{ethernet, icmp, ipv4, protocol, tcp, udp};

/// Connections whose ends are told, per second and at once: a million take 20 s, and a turn of the worker
/// sends no more than twice the burst.
const PER_SECOND: u64 = 50_000;
const BURST: u32 = 128;

/// Bounds what is told.
pub(super) const fn limiter() -> Limiter {
    Limiter::new(PER_SECOND, BURST)
}

impl<R: Recorder> Engine<R> {
    /// An idle connection's time is over.
    pub(super) fn time_out(&mut self, now: Instant, id: ConnId, out: &mut Outbox) {
        let c = *self.conns.get(id);
        let wanted = self.servers.get(c.backend).care.on_expiry == OnExpiry::Tell;
        // Past the bound it ends all the same: the table must not wait for its farewells.
        if wanted && c.protocol == Protocol::Tcp && is_told(&c) && self.farewells.allows(now) {
            self.tell(now, &c, out);
        }
        self.expire(now, id);
    }

    /// Tells the ends of a connection for which [`is_told`] holds.
    pub(super) fn tell(&mut self, now: Instant, c: &Conn, out: &mut Outbox) {
        // In the name of a VIP that is another's now, nothing is said.
        let speaks = !self.is_absent(c.vip.addr);
        let client = match c.protocol {
            Protocol::Tcp => speaks && self.reset_client(c, out),
            Protocol::Udp => speaks && self.refuse_datagrams(c, out),
            Protocol::Sctp => return,
        };
        self.counters.told_clients += u64::from(client);
        if c.protocol == Protocol::Tcp {
            self.tell_server(now, c, out);
        }
    }

    /// Tells the server alone, of a TCP connection for which [`is_told`] holds.
    pub(super) fn tell_server(&mut self, now: Instant, c: &Conn, out: &mut Outbox) {
        let server = self.reset_server(now, c, out);
        self.counters.told_servers += u64::from(server);
    }

    fn reset_client(&mut self, c: &Conn, out: &mut Outbox) -> bool {
        let (from, to, next) = (c.vip, c.client, (c.client_expects, c.server_expects));
        let verdict = self.emit(to.addr, from.addr, tcp::MIN_LEN, out, |_, ip, a, b| {
            ipv4_header(ip, protocol::TCP, a, b).emit(ip);
            write_reset(ip, (from, a), (to, b), next, flag::RST | flag::ACK);
        });
        verdict == Verdict::Answered
    }

    /// As a port unreachable about the client's last datagram, of which only the headers are known. Its
    /// socket fails with ECONNREFUSED, where it is connected.
    fn refuse_datagrams(&mut self, c: &Conn, out: &mut Outbox) -> bool {
        let (Some(client), Some(vip)) = (c.client.addr.as_v4(), c.vip.addr.as_v4()) else {
            return false;
        };
        let mut about = [0; ipv4::MIN_LEN + udp::LEN];
        ipv4_header(&about, protocol::UDP, client, vip).emit(&mut about);
        let datagram = udp::Repr {
            src_port: c.client.port,
            dst_port: c.vip.port,
            length: udp::LEN as u16,
        };
        datagram.emit(&mut about[ipv4::MIN_LEN..]);
        let notice = Notice {
            kind: icmp::UNREACHABLE,
            code: icmp::PORT_UNREACHABLE,
            rest: 0,
            from: c.vip.addr,
            to: c.client.addr,
            about: &about,
            ends: Ends::default(),
        };
        self.emit_notice(&notice, out) == Verdict::Answered
    }

    /// Sends the client's RST through the connection's mode. A server whose next hop is not resolved, dead
    /// as it may be, is not asked for.
    pub(super) fn reset_server(&mut self, now: Instant, c: &Conn, out: &mut Outbox) -> bool {
        const LEN: usize = ethernet::LEN + ipv4::MIN_LEN + tcp::MIN_LEN;
        let (Some(client), Some(vip)) = (c.client.addr.as_v4(), c.vip.addr.as_v4()) else {
            return false;
        };
        let mut bytes = [0; HEADROOM + LEN];
        let ip = &mut bytes[HEADROOM + ethernet::LEN..];
        ipv4_header(ip, protocol::TCP, client, vip).emit(ip);
        let next = (c.server_expects, c.client_expects);
        let flags = flag::RST | flag::ACK;
        write_reset(ip, (c.client, client), (c.vip, vip), next, flags);
        self.send_as_client(now, c, &mut bytes, out)
    }

    /// Sends a packet to a connection's server as if its client had; `bytes` is it behind [`HEADROOM`] and
    /// room for an Ethernet header. Whether it leaves: not where the next hop is not resolved.
    pub(super) fn send_as_client(
        &mut self,
        now: Instant,
        c: &Conn,
        bytes: &mut [u8],
        out: &mut Outbox,
    ) -> bool {
        let hop = self.fib.lookup(self.to_server(c));
        if !hop.is_ok_and(|hop| hop.mac.is_some()) {
            return false;
        }
        let mut header = ethernet::Header::new_mut(&mut bytes[HEADROOM..]);
        header.set_ethertype(ethernet::ethertype::IPV4);
        let end = bytes.len();
        let mut frame = Frame::new(bytes, HEADROOM, end, Offload::default());
        let Parsed::Ipv4(packet) = packet::parse(&mut frame) else {
            return false;
        };
        self.next_id();
        let way = Way {
            mode: self.modes[usize::from(c.mode)],
            path: self.path_of(c),
            forward: true,
            answer_from: c.vip.addr,
        };
        let mut transit = Transit {
            now,
            frame: &mut frame,
            packet: &packet,
            out,
        };
        match self.transmit(&mut transit, way, hop) {
            Verdict::Send(egress) => {
                out.push_copy(frame.bytes(), frame.offload, egress);
                true
            }
            _ => false,
        }
    }

    /// When a farewell may be said again.
    pub(super) fn next_farewell(&self) -> Instant {
        self.farewells.next()
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
        Protocol::Udp => c.client.port != 0,
        Protocol::Sctp => false,
    }
}
