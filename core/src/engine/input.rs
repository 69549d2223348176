//! Packets from clients: known connections and new ones. After `ip_vs_in` of
//! `net/netfilter/ipvs/ip_vs_core.c`.

use super::Engine;
use super::flows::{Cause, Refused};
use super::host;
use super::leg::{By, Leg};
use super::replaced::behind;
use super::teardown::is_told;
use super::transit::Transit;
use super::transmit::to_server;
use super::voice::Error;
use crate::conn::{self, Conn, ConnId, NONE};
use crate::fib::{NextHop, Towards, Unreachable};
use crate::flow::{Family, Protocol};
use crate::packet::{Packet, Transport};
use crate::sctp::SctpState;
use crate::service::{Forwarding, OnRemoval};
use crate::tcp::TcpState;
use crate::trace::{Recorder, SetAside, Step};
use crate::verdict::{DropReason, Verdict};
use crate::wire::sctp::chunk::INIT;
use crate::wire::tcp::flag;

impl<R: Recorder> Engine<R> {
    /// A packet from the client of a known connection.
    #[inline(always)]
    pub(super) fn continue_connection(&mut self, t: &mut Transit<'_, '_>, id: ConnId) -> Verdict {
        let server = self.flows.server_of(self.flows.conn(id));
        let removed = server.is_removed();
        // One that only another director knows is as good as there: the connection says all that is needed.
        let unbound = removed && server.is_unbound();
        // Without its service the packet is none of IPVS's: the host answers.
        if removed && self.service_for(&t.packet.flow, t.frame.mark).is_none() {
            self.record(|_| SetAside::NoService.into());
            return self.answer_as_host(t);
        }
        if self.desired.is_absent(t.packet.flow.dst, &self.routes.fib) {
            return self.deliver_locally(t);
        }
        if opens(t.packet) {
            if let Some(why) = self.gives_way(id) {
                self.record(|_| why.into());
                if self.flows.conn(id).controlled == 0 {
                    self.flows.end(t.now, id, Cause::Reopened);
                }
                return self.start_connection(t);
            }
            self.flows.begin_again(t.now, id, (t.frame, t.packet));
        }
        if removed && !unbound {
            return self.leave(t, id);
        }
        self.forward(t, id)
    }

    /// Why a packet that opens a connection does not belong to this one, if it does not.
    fn gives_way(&self, id: ConnId) -> Option<SetAside> {
        let c = self.flows.conn(id);
        let server = self.flows.server_of(c);
        if self.expires_nodest() && !server.is_removed() && server.spec.weight == 0 {
            return Some(SetAside::Quiesced);
        }
        self.is_reusable(c).then_some(SetAside::Over)
    }

    /// Whether connections of servers that are gone or at weight 0 are given up.
    fn expires_nodest(&self) -> bool {
        self.desired.sysctls().expire_nodest_conn != 0
    }

    /// A packet of a connection whose server was removed: it goes elsewhere, where the server releases it.
    fn leave(&mut self, t: &mut Transit<'_, '_>, id: ConnId) -> Verdict {
        let server = self.flows.server_of(self.flows.conn(id));
        if !server.releases(self.expires_nodest()) {
            self.record(|_| SetAside::ServerGone.into());
            return Verdict::Drop(DropReason::ServerGone);
        }
        self.record(|_| SetAside::LetGo.into());
        let c = self.flows.conn(id);
        let told = self.flows.server_of(c).teardown.on_removal == OnRemoval::Tell;
        // The sweep is on its way to it, and tells the server too.
        if told && is_told(c) && c.protocol == Protocol::Tcp && !opens(t.packet) {
            return self.reset(t);
        }
        self.flows.end(t.now, id, Cause::ServerLeft);
        self.start_connection(t)
    }

    /// Whether a SYN or INIT on this connection starts a new one (`is_new_conn_expected`).
    fn is_reusable(&self, conn: &Conn) -> bool {
        let mode = self.desired.sysctls().conn_reuse_mode;
        if mode == 0 || conn.control != NONE {
            return false;
        }
        match conn.protocol {
            Protocol::Tcp => match TcpState::from_number(conn.state) {
                TcpState::TimeWait | TcpState::Close => true,
                TcpState::FinWait => mode & 2 != 0 && conn.has(conn::NO_OUTPUT),
                _ => false,
            },
            Protocol::Sctp => SctpState::from_number(conn.state) == SctpState::Closed,
            Protocol::Udp => false,
        }
    }

    /// A packet that belongs to no connection: of a service, of a server, or not ours.
    pub(super) fn start_connection(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        let slot = self.service_for(&t.packet.flow, t.frame.mark);
        self.record(|e| e.matched(&t.packet.flow, slot));
        let Some(slot) = slot else {
            return self.stray(t);
        };
        if self.desired.is_absent(t.packet.flow.dst, &self.routes.fib) {
            return self.deliver_locally(t);
        }
        // The kernel's IPv6 has no such rule, and IPVS serves what comes from the VIP itself.
        if t.packet.family == Family::V4 && self.claims_to_be_ours(t.frame, &t.packet.flow) {
            return Verdict::Drop(DropReason::MartianSource);
        }
        if self.denies(slot, t.packet.flow.src) {
            self.count_failure(slot, &Refused::Drop(DropReason::Denied));
            return Verdict::Drop(DropReason::Denied);
        }
        if !self.may_start(t.packet) {
            self.record(|_| Step::NoOpening);
            return match t.packet.transport {
                Transport::Tcp { .. } => self.reset(t),
                _ => self.refuse_transport(t),
            };
        }
        let data = t.packet.datagram(t.frame.bytes());
        match self.schedule(t.now, slot, (&t.packet.flow, data)) {
            Ok(id) => {
                let opening = (&*t.frame, t.packet);
                self.flows.begin_introduction(t.now, id, slot, opening);
                self.flows.keep_syn_of(id, t.frame, t.packet);
                let told = self.tell_replaced(t.now, t.out);
                let verdict = self.forward(t, id);
                self.flows.end_one_packet(t.now, id);
                if told { behind(t, verdict) } else { verdict }
            }
            Err(refused) => {
                self.count_failure(slot, &refused);
                match refused {
                    Refused::NotForUs => self.decline(t),
                    Refused::NoServer => self.refuse(t, Error::PortUnreachable, t.packet.flow.dst),
                    Refused::Drop(reason) => Verdict::Drop(reason),
                }
            }
        }
    }

    /// What the host's own stack does with a packet that it gets from a service and does not know.
    fn decline(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        match t.packet.transport {
            Transport::Tcp { .. } => self.reset(t),
            Transport::Udp => self.refuse(t, Error::PortUnreachable, t.packet.flow.dst),
            _ => self.refuse_transport(t),
        }
    }

    /// What the host's own stack says of a protocol that it does not speak, as most do of SCTP: in IPv6 that the header
    /// is not known (`ip6_protocol_deliver_rcu`). Of IPv4 that is not recorded, and UVS is silent.
    fn refuse_transport(&mut self, t: &mut Transit<'_, '_>) -> Verdict {
        match t.packet.family {
            Family::V4 => Verdict::Drop(DropReason::NoConnection),
            Family::V6 => {
                let at = host::named_at(t);
                self.refuse(t, Error::ProtocolUnreachable { at }, t.packet.flow.dst)
            }
        }
    }

    /// Whether a packet may start a connection (`tcp_conn_schedule` and its like).
    fn may_start(&self, packet: &Packet) -> bool {
        let sysctls = self.desired.sysctls();
        match packet.transport {
            Transport::Tcp { flags, .. } => {
                flags & flag::RST == 0 && (flags & flag::SYN != 0 || sysctls.sloppy_tcp != 0)
            }
            Transport::Udp => true,
            Transport::Sctp { chunk } => chunk == INIT || sysctls.sloppy_sctp != 0,
            Transport::Icmp { .. }
            | Transport::Icmpv6 { .. }
            | Transport::Fragment
            | Transport::Other => false,
        }
    }

    /// Counts, tracks and sends a client's packet to its server.
    fn forward(&mut self, t: &mut Transit<'_, '_>, id: ConnId) -> Verdict {
        self.flows.count_input(id);
        self.flows.note_asked(t.now, id, t.packet);
        let c = self.flows.conn(id);
        let (mode, tunnel) = self.mode_of(c);
        self.flows
            .count_packet(id, false, u64::from(t.packet.ip_len));
        self.follow(t, id, false);
        self.flows.tell_peers(t.now, id);
        let hop = self.hop_to_server(id, mode.forwarding);
        let c = self.flows.conn(id);
        let mut leg = Leg {
            by: By::Mode(mode),
            answer_from: c.ends.vip.addr,
            path: self.path(id, tunnel),
            forward: true,
            edits: None,
            prefix: None,
        };
        if self.flows.conn(id).is_introduced() {
            return self.forward_introduced(t, id, &mut leg, &hop);
        }
        self.transmit_here(t, &mut leg, &hop)
    }

    /// The way of a client's packet to its server, that is forwarded by this method.
    #[inline(always)]
    fn hop_to_server(&mut self, id: ConnId, by: Forwarding) -> Result<NextHop, Unreachable> {
        match self.routes.kept(self.flows.ways(id), Towards::Server) {
            Some(kept) => kept,
            None => self.find_hop_to_server(id, by),
        }
    }

    #[cold]
    fn find_hop_to_server(&mut self, id: ConnId, by: Forwarding) -> Result<NextHop, Unreachable> {
        let query = to_server(self.flows.conn(id), by);
        let ways = (self.flows.ways_mut(id), Towards::Server);
        self.routes.lookup_for(ways, &query)
    }
}

/// Whether a packet is a connection's first (`is_new_conn`).
fn opens(packet: &Packet) -> bool {
    match packet.transport {
        Transport::Tcp { flags, .. } => flags & flag::SYN != 0,
        Transport::Sctp { chunk } => chunk == INIT,
        _ => false,
    }
}
