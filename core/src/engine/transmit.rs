//! The way out: route, TTL, MTU, the mode, the MAC addresses; cutting where it does not fit.

use super::Engine;
use crate::conn::{Conn, ConnId};
use crate::fib::{NextHop, Unreachable};
use crate::flow::Addr;
use crate::fragment;
use crate::frame::{ETH_LEN, Frame, Gso};
use crate::mode::{Mode, Path};
use crate::options;
use crate::outbox::Outbox;
use crate::packet::{Packet, Transport};
use crate::rewrite;
use crate::segment;
use crate::time::Instant;
use crate::verdict::{DropReason, Egress, Verdict};

/// Which way through a mode, and how large its fragments may be.
pub(super) struct Way<'a> {
    pub(super) mode: &'a dyn Mode,
    pub(super) path: Path,
    /// Towards the server; else towards the client.
    pub(super) forward: bool,
    /// The size in which a reassembled packet's fragments came.
    pub(super) refragment: Option<usize>,
}

impl Way<'_> {
    fn rewrite(&self, frame: &mut Frame<'_>, packet: &Packet) -> Result<(), DropReason> {
        if self.forward {
            self.mode.forward(frame, packet, &self.path)
        } else {
            self.mode.reverse(frame, packet, &self.path)
        }
    }

    fn overhead(&self) -> usize {
        if self.forward {
            self.mode.overhead(&self.path)
        } else {
            0
        }
    }
}

impl Engine {
    /// The addresses of a connection, and identification and DF for an outer header.
    pub(super) fn path(&mut self, id: ConnId) -> Path {
        self.ip_id = self.ip_id.wrapping_add(1);
        let conn: &Conn = self.conns.get(id);
        let tunnel = self.servers.get(conn.backend).spec.tunnel;
        Path {
            client: conn.client,
            vip: conn.vip,
            server: conn.server,
            local: conn.local,
            tunnel_source: Addr::UNSPECIFIED,
            tunnel,
            ip_id: self.ip_id,
            copy_df: self.snapshot.sysctls.pmtu_disc != 0,
        }
    }

    /// Sends `packet` towards `hop` through a mode. Where it cannot go, its sender is told by an ICMP
    /// message from `answer_from` ([`Addr::UNSPECIFIED`] = the director's own address towards the sender).
    pub(super) fn transmit(
        &mut self,
        now: Instant,
        frame: &mut Frame<'_>,
        packet: &Packet,
        mut way: Way<'_>,
        hop: Result<NextHop, Unreachable>,
        answer_from: Addr,
        out: &mut Outbox,
    ) -> Verdict {
        let hop = match hop {
            Ok(hop) => hop,
            Err(Unreachable::Local) => return Verdict::Pass,
            Err(Unreachable::NotAPort) => return Verdict::Drop(DropReason::NotAPort),
            Err(Unreachable::NoRoute) => {
                return self.host_unreachable(now, frame, packet, answer_from, out);
            }
        };
        if packet.ttl <= 1 {
            return self.time_exceeded(now, frame, packet, answer_from, out);
        }
        rewrite::decrement_ttl(frame, packet);
        if let Err(reason) = pass_options(frame, packet, answer_from, hop.source) {
            return Verdict::Drop(reason);
        }
        let room = (hop.mtu as usize).saturating_sub(way.overhead());
        let super_frame = frame.offload.gso != Gso::None;
        let len = if super_frame {
            segment::segment_ip_len(frame, packet)
        } else {
            packet.ip_len as usize
        };
        let icmp = matches!(packet.transport, Transport::Icmp { .. });
        let cut_outside = way.overhead() > 0 && !way.path.copy_df;
        if len > room && packet.dont_fragment && !icmp && !cut_outside {
            return self.too_big(now, frame, packet, room, answer_from, out);
        }
        way.path.tunnel_source = hop.source;
        let limit = way
            .refragment
            .map_or(hop.mtu as usize, |r| r.min(hop.mtu as usize));
        let egress = Egress {
            port: hop.port,
            unresolved: hop.mac.is_none().then_some(hop.via),
        };
        let result = if super_frame && (way.overhead() > 0 || len > room) {
            self.send_segments(frame, packet, &way, &hop, limit, egress, out)
        } else {
            self.send_one(frame, packet, &way, &hop, limit, egress, out)
        };
        result.unwrap_or_else(Verdict::Drop)
    }

    fn send_one(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        way: &Way<'_>,
        hop: &NextHop,
        limit: usize,
        egress: Egress,
        out: &mut Outbox,
    ) -> Result<Verdict, DropReason> {
        way.rewrite(frame, packet)?;
        rewrite::set_macs(frame, hop.mac.unwrap_or_default(), hop.source_mac);
        if frame.offload.gso != Gso::None || frame.len() - ETH_LEN <= limit {
            return Ok(Verdict::Send(egress));
        }
        rewrite::finish_checksum(frame);
        self.cut(frame, limit, egress, out);
        Ok(Verdict::SendOutbox)
    }

    fn send_segments(
        &mut self,
        frame: &Frame<'_>,
        packet: &Packet,
        way: &Way<'_>,
        hop: &NextHop,
        limit: usize,
        egress: Egress,
        out: &mut Outbox,
    ) -> Result<Verdict, DropReason> {
        let mut segments = segment::segments(frame, packet)?;
        while let Some(len) = segments.next_len() {
            let mut draft = out.draft(len);
            let (offload, packet) = segments.write(draft.bytes_mut());
            draft.offload = offload;
            way.rewrite(&mut draft, &packet)?;
            rewrite::set_macs(&mut draft, hop.mac.unwrap_or_default(), hop.source_mac);
            self.counters.segments += 1;
            if draft.len() - ETH_LEN <= limit {
                let (range, offload) = (draft.range(), draft.offload);
                out.push(range, offload, egress);
            } else {
                rewrite::finish_checksum(&mut draft);
                let whole = draft.bytes().to_vec();
                let before = out.len();
                fragment::cut(&whole, limit, egress, out);
                self.counters.fragments += (out.len() - before) as u64;
            }
        }
        Ok(Verdict::SendOutbox)
    }

    fn cut(&mut self, frame: &Frame<'_>, limit: usize, egress: Egress, out: &mut Outbox) {
        let before = out.len();
        fragment::cut(frame.bytes(), limit, egress, out);
        self.counters.fragments += (out.len() - before) as u64;
    }
}

/// Options are written to with the address that the packet reached the director by: the VIP, or on the
/// way back the director's own.
fn pass_options(
    frame: &mut Frame<'_>,
    packet: &Packet,
    vip: Addr,
    own: Addr,
) -> Result<(), DropReason> {
    if usize::from(packet.ip_header) == crate::packet::IPV4_MIN_HEADER {
        return Ok(());
    }
    let addr = if vip.is_unspecified() { own } else { vip };
    let header = &mut frame.bytes_mut()[usize::from(packet.ip)..packet.l4()];
    if options::pass(header, addr.as_v4().unwrap_or_default())? {
        fragment::seal_header(header);
    }
    Ok(())
}
