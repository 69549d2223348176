//! The way out: route, TTL, MTU, the mode, the MAC addresses; cutting where it does not fit.

use std::ops::Range;

use super::leg::Leg;
use super::pmtu;
use super::sizes::{Fit, Sizes, wire_len};
use super::transit::Transit;
use super::voice::Error;
use super::{Engine, describe};
use crate::conn::{Conn, ConnId};
use crate::fib::{NextHop, Query, Unreachable};
use crate::flow::{Addr, Family};
use crate::fragment::{self, Cut, Pieces};
use crate::frame::{Frame, Gso, Offload};
use crate::mode::{ModeDef, Path};
use crate::outbox::Outbox;
use crate::packet::{Packet, Transport};
use crate::rewrite;
use crate::segment;
use crate::service::{Forwarding, Tunnel};
use crate::time::Instant;
use crate::trace::Recorder;
use crate::verdict::{DropReason, Verdict};
use crate::wire::ethernet;
use crate::wire::ipv4;
use crate::wire::ipv4::options::Refusal;

/// The last step out: next hop, when the packet is cut and into what.
pub(super) struct Exit<'a> {
    hop: &'a NextHop,
    sizes: Sizes,
}

/// A packet that was made in the outbox's memory, and rewritten.
pub(super) enum Made {
    /// Where it lies, and what is unfinished in it.
    Fits(Range<usize>, Offload),
    /// A copy of it, to be cut.
    TooLong(Vec<u8>),
}

impl<R: Recorder> Engine<R> {
    /// A connection's mode, and the parameters of its tunnel where that is one. Its method is bound to it for good; with
    /// what a tunnel wraps is its server's to say at any time, as in the kernel (`tun_type` in `ip_vs_tunnel_xmit`).
    #[inline(always)]
    pub(super) fn mode_of(&self, c: &Conn) -> (&'static ModeDef, Tunnel) {
        let bound = self.catalog.mode(c.mode());
        if bound.encapsulation.is_none() {
            return (bound, Tunnel::default());
        }
        let server = self.flows.server_of(c);
        let tunnel = server.spec.tunnel;
        if server.mode == c.mode() {
            return (bound, tunnel);
        }
        let now = self.catalog.mode_for(bound.forwarding, tunnel.kind);
        (now.map_or(bound, |place| self.catalog.mode(place)), tunnel)
    }

    /// The addresses of a connection, and identification and DF for an outer header.
    #[inline(always)]
    pub(super) fn path(&mut self, id: ConnId, tunnel: Tunnel) -> Path {
        self.voice.next_ip_id();
        self.path_of(self.flows.conn(id), tunnel)
    }

    /// As [`Engine::path`], with the identification that was given out last.
    #[inline(always)]
    pub(super) fn path_of(&self, conn: &Conn, tunnel: Tunnel) -> Path {
        Path {
            ends: conn.ends,
            tunnel_source: Addr::UNSPECIFIED,
            tunnel,
            ip_id: self.voice.ip_id(),
            copy_df: self.desired.sysctls().pmtu_disc != 0,
        }
    }

    /// Sends the packet towards `hop` through a mode. Where it cannot go, its sender is told.
    pub(super) fn transmit(
        &mut self,
        t: &mut Transit<'_, '_>,
        leg: &mut Leg,
        hop: &Result<NextHop, Unreachable>,
    ) -> Verdict {
        self.transmit_here(t, leg, hop)
    }

    /// [`Engine::transmit`] in line, for the way of most packets.
    #[inline(always)]
    pub(super) fn transmit_here(
        &mut self,
        t: &mut Transit<'_, '_>,
        leg: &mut Leg,
        hop: &Result<NextHop, Unreachable>,
    ) -> Verdict {
        self.record(|_| describe::leaving(leg.name(), leg.forward, leg.overhead(), hop));
        let hop = match hop {
            Ok(hop) => hop,
            Err(Unreachable::Local) => return self.deliver(t, leg),
            Err(Unreachable::NotAPort) => return Verdict::Drop(DropReason::NotAPort),
            // Whatever the route says, it is IPVS that answers (`__ip_vs_get_out_rt`).
            Err(Unreachable::NoRoute | Unreachable::Refused(_)) => {
                return self.refuse(t, Error::HostUnreachable, leg.answer_from);
            }
        };
        if t.packet.ttl <= 1 {
            return self.refuse(t, Error::TtlExceeded, leg.answer_from);
        }
        if let Err(reason) = segment::check_offload(t.frame, t.packet) {
            return Verdict::Drop(reason);
        }
        rewrite::decrement_ttl(t.frame, t.packet);
        if let Err(reason) = pass_options(t.frame, t.packet, &leg.answer_from, &hop.source) {
            return Verdict::Drop(reason);
        }
        let mtu = self.path_mtu(t.now, leg, hop);
        let Fit { mut room, sizes } = leg.fit(t.packet, mtu);
        if leg.edits.is_some() || leg.prefix.is_some() {
            room = self.room_for_growth(t, leg, room);
        }
        if room < pmtu::MIN_MTU && leg.has_no_room(room) {
            return Verdict::Drop(DropReason::Oversized);
        }
        let super_frame = t.frame.offload.gso != Gso::None;
        let len = wire_len(t.frame, t.packet);
        if len > room && !leg.may_cut(t.packet, len) {
            let mtu = leg.told_mtu(t.packet, room);
            let error = Error::FragmentationNeeded { mtu };
            return self.refuse(t, error, leg.answer_from);
        }
        leg.path.tunnel_source = hop.source;
        let exit = Exit { hop, sizes };
        if let Some(id) = leg.prefix {
            let sent = self.send_datagrams(t, leg, &exit, id);
            return sent.unwrap_or_else(Verdict::Drop);
        }
        if super_frame && (len > room || !leg.keeps_super_frame(t.packet)) {
            let sent = self.send_segments(t, leg, &exit);
            return sent.unwrap_or_else(Verdict::Drop);
        }
        match leg.rewrite(t.frame, t.packet) {
            Ok(()) => self.send_one(t, leg, &exit),
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// Bytes of the largest IP packet on this way.
    #[inline(always)]
    fn path_mtu(&mut self, now: Instant, leg: &Leg, hop: &NextHop) -> usize {
        let mtu = if leg.forward {
            self.routes
                .path_mtus
                .mtu(now, leg.path.ends.server.addr, hop.mtu)
        } else {
            hop.mtu
        };
        mtu as usize
    }

    /// The way ends at the director itself: for a server or a client of its own. ICMP reaches the host's
    /// stack anyway, for no guard keeps it away, so that only what was translated is delivered.
    #[cold]
    fn deliver(&mut self, t: &mut Transit<'_, '_>, leg: &mut Leg) -> Verdict {
        if !leg.translates() {
            return match t.packet.transport {
                Transport::Icmp { .. } | Transport::Icmpv6 { .. } => Verdict::Pass,
                _ if self.routes.fib.is_local(t.packet.flow.dst) => Verdict::Local,
                _ => Verdict::Drop(DropReason::LocalServer),
            };
        }
        let to = if leg.forward {
            leg.path.ends.server.addr
        } else {
            leg.path.ends.client.addr
        };
        // The host's stack takes nothing for it that comes from outside (`ip_vs_nat_xmit`).
        if leg.forward && is_loopback(to) {
            return Verdict::Drop(DropReason::LocalServer);
        }
        let exit = Exit {
            hop: &NextHop::host(to),
            sizes: Sizes::up_to(usize::from(u16::MAX)),
        };
        // The stack takes a TCP super-frame as one long segment, but no two datagrams as one.
        let one = t.frame.offload.gso != Gso::UdpL4
            && t.frame.len() - ethernet::LEN <= exit.sizes.whole
            && leg.keeps_super_frame(t.packet);
        let result =
            segment::check_offload(t.frame, t.packet).and_then(|()| match (leg.prefix, one) {
                (Some(id), _) => self.send_datagrams(t, leg, &exit, id).map(drop),
                (None, true) => leg
                    .rewrite(t.frame, t.packet)
                    .map(|()| exit.address(t.frame)),
                (None, false) => self.send_segments(t, leg, &exit).map(drop),
            });
        match result {
            Ok(()) => Verdict::Local,
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// Sends a packet that has been rewritten.
    #[inline(always)]
    fn send_one(&mut self, t: &mut Transit<'_, '_>, leg: &Leg, exit: &Exit<'_>) -> Verdict {
        exit.address(t.frame);
        if t.frame.offload.gso != Gso::None || t.frame.len() - ethernet::LEN <= exit.sizes.whole {
            return Verdict::Send(exit.hop.egress());
        }
        self.send_cut(t, leg, exit)
    }

    /// Cuts a packet that has been rewritten, and is too long.
    #[cold]
    fn send_cut(&mut self, t: &mut Transit<'_, '_>, leg: &Leg, exit: &Exit<'_>) -> Verdict {
        rewrite::finish_checksum(t.frame);
        // What is cut although it carries DF (ICMP) loses it, unless it came in such pieces.
        let ethertype = ethernet::Header::new(t.frame.bytes()).ethertype();
        if t.packet.fragment_size.is_none() && ethertype == ethernet::ethertype::IPV4 {
            let header = &mut t.frame.bytes_mut()[ethernet::LEN..];
            ipv4::Header::new_mut(header).set_dont_fragment(false);
        }
        let mut pieces = t.pieces;
        if leg.overhead() > 0 || pieces.sizes.is_empty() {
            pieces.id = self.voice.next_fragment_id();
        }
        self.cut(t.frame.bytes(), exit, pieces, t.out);
        Verdict::SendOutbox
    }

    fn send_segments(
        &mut self,
        t: &mut Transit<'_, '_>,
        leg: &mut Leg,
        exit: &Exit<'_>,
    ) -> Result<Verdict, DropReason> {
        let mut segments = segment::segments(t.frame, t.packet)?;
        while let Some(len) = segments.next_len() {
            let mut draft = t.out.draft(len);
            let (offload, packet) = segments.write(draft.bytes_mut());
            draft.offload = offload;
            leg.path.ip_id = self.voice.next_ip_id();
            leg.rewrite(&mut draft, &packet)?;
            let made = exit.finish(draft);
            self.counters.segments += 1;
            self.push_made(made, exit, t.out);
        }
        Ok(Verdict::SendOutbox)
    }

    /// Puts a packet that was made in the outbox into it, cut where it is too long.
    pub(super) fn push_made(&mut self, made: Made, exit: &Exit<'_>, out: &mut Outbox) {
        match made {
            Made::Fits(range, offload) => out.push(range, offload, exit.hop.egress()),
            Made::TooLong(whole) => {
                let pieces = Pieces {
                    sizes: &[],
                    id: self.voice.next_fragment_id(),
                };
                self.cut(&whole, exit, pieces, out);
            }
        }
    }

    fn cut(&mut self, frame: &[u8], exit: &Exit<'_>, pieces: Pieces<'_>, out: &mut Outbox) {
        let before = out.len();
        let cut = Cut {
            limit: exit.sizes.fragment,
            pieces,
        };
        fragment::cut(frame, &cut, exit.hop.egress(), out);
        self.counters.fragments += (out.len() - before) as u64;
    }
}

/// What a connection's way to its server is looked up by, where it is forwarded by this method.
pub(super) fn to_server(c: &Conn, forwarding: Forwarding) -> Query {
    Query::to_server(c.ends.server.addr, forwarding, Some(c.ends.local.addr)).of(c.ends.client)
}

/// What a connection's way to its client is looked up by: from the VIP, which is what replies carry
/// (`ip_vs_route_me_harder` in ip_vs_core.c). A link-local client is on the link that the reply came in by, where the
/// kernel looks for it too, and no other.
pub(super) fn to_client(c: &Conn, arrival: u32) -> Query {
    let query = Query::to(c.ends.client.addr)
        .from(c.ends.vip.addr)
        .of(c.ends.client);
    if c.ends.client.addr.is_link_local() {
        query.back(arrival)
    } else {
        query
    }
}

impl Exit<'_> {
    #[inline]
    fn address(&self, frame: &mut Frame<'_>) {
        rewrite::set_macs(frame, self.hop.destination_mac(), &self.hop.source_mac);
    }

    /// Addresses a packet that was made in the outbox's memory.
    pub(super) fn finish(&self, mut draft: Frame<'_>) -> Made {
        self.address(&mut draft);
        if draft.len() - ethernet::LEN <= self.sizes.whole {
            return Made::Fits(draft.range(), draft.offload);
        }
        rewrite::finish_checksum(&mut draft);
        Made::TooLong(draft.bytes().to_vec())
    }
}

/// Whether an address is of 127.0.0.0/8, or ::1.
fn is_loopback(addr: Addr) -> bool {
    match addr.as_v4() {
        Some([first, ..]) => first == 127,
        None => u128::from_be_bytes(addr.0) == 1,
    }
}

/// Options are written to with the address that the packet reached the director by: the VIP, or on the
/// way back the director's own.
#[inline]
fn pass_options(
    frame: &mut Frame<'_>,
    packet: &Packet,
    vip: &Addr,
    own: &Addr,
) -> Result<(), DropReason> {
    if usize::from(packet.ip_header) == ipv4::MIN_LEN || packet.family == Family::V6 {
        return Ok(());
    }
    write_options(frame, packet, vip, own)
}

#[cold]
fn write_options(
    frame: &mut Frame<'_>,
    packet: &Packet,
    vip: &Addr,
    own: &Addr,
) -> Result<(), DropReason> {
    let addr = if vip.is_unspecified() { own } else { vip };
    let header = &mut frame.bytes_mut()[usize::from(packet.ip)..packet.l4()];
    let options = &mut header[ipv4::MIN_LEN..];
    match ipv4::options::pass(options, addr.as_v4().unwrap_or_default()) {
        Ok(false) => {}
        Ok(true) => ipv4::seal(header),
        Err(Refusal::Malformed) => return Err(DropReason::BadIpHeader),
        Err(Refusal::SourceRoute) => return Err(DropReason::SourceRoute),
    }
    Ok(())
}
