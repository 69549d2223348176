//! ICMP errors about a tunnel's outer packet: the client is told of its own packet within, and a path MTU
//! is learnt. After the tunnel part of `ip_vs_in_icmp`, which knows IPv4 within IPv4 alone: between the families and in
//! IPv6 it does neither, so that a path that narrows behind the director is a black hole. Here it is not.

use super::Engine;
use super::pmtu::{MIN_MTU, least_mtu};
use super::related::quote;
use super::transit::Transit;
use super::transmit::to_server;
use super::voice::{Error, Notice};
use crate::conn::{Conn, Side};
use crate::flow::Family;
use crate::glance::Glance;
use crate::packet::{Packet, Transport};
use crate::rewrite::{self, Ends};
use crate::trace::Recorder;
use crate::verdict::{DropReason, Verdict};
use crate::wire::{icmp, icmpv6, ipv4};

impl<R: Recorder> Engine<R> {
    /// Where in `bytes` the packet within the tunnel packet at `ip` begins; `None` where that is none of
    /// our tunnels' or is cut off before.
    pub(super) fn tunnelled(&self, bytes: &[u8], ip: usize) -> Option<usize> {
        if !self.desired.has_tunnels() {
            return None;
        }
        let packet = bytes.get(ip..)?;
        let outer = Glance::of_packet(packet)?;
        let l4 = outer.l4?;
        let payload = packet.get(l4..)?;
        let mut wrappings = self.catalog.modes.iter().filter_map(|mode| {
            let inside = mode.rewrite.inside(outer.protocol, payload)?;
            Some((mode.encapsulation?, inside))
        });
        let ends = |port, kind| self.desired.ends_tunnel(outer.dst, port, kind);
        let ours = wrappings.find(|(kind, inside)| ends(inside.port, *kind));
        ours.map(|(_, inside)| ip + l4 + inside.offset)
    }

    /// An ICMP error to one of the director's addresses about a tunnel packet; `None` where it is not
    /// about a known connection's.
    pub(super) fn outer_error(&mut self, t: &mut Transit<'_, '_>) -> Option<Verdict> {
        if !self.routes.fib.is_local(t.packet.flow.dst) {
            return None;
        }
        let bytes = t.frame.bytes();
        let inner = self.tunnelled(bytes, t.packet.l4() + icmp::LEN)?;
        let flow = quote(bytes, inner)?.flow;
        let (id, Side::Client) = self.flows.find(&flow)? else {
            return None;
        };
        if !rewrite::checksum_is_right(t.frame, t.packet) {
            return Some(Verdict::Drop(DropReason::BadChecksum));
        }
        let c = *self.flows.conn(id);
        let told = match self.outer_message(t, &c, inner) {
            Ok(message) => message,
            Err(verdict) => return Some(verdict),
        };
        self.counters.icmp_translated += 1;
        self.flows
            .count_packet(id, true, (bytes.len() - inner) as u64);
        let notice = Notice {
            message: told,
            from: c.ends.vip.addr,
            to: c.ends.client.addr,
            by: 0,
            about: &bytes[inner..],
            ends: Ends::default(),
        };
        Some(self.notify(t.now, &notice, t.out))
    }

    /// What the client of a connection is told, whose packet lies at `inner` in the error's frame.
    ///
    /// # Errors
    /// What becomes of the error where there is nothing to tell.
    fn outer_message(
        &mut self,
        t: &Transit<'_, '_>,
        c: &Conn,
        inner: usize,
    ) -> Result<icmp::Repr, Verdict> {
        let bytes = t.frame.bytes();
        let header = icmp::Header::new(&bytes[t.packet.l4()..]);
        let families = (t.packet.family, c.ends.client.addr.family());
        let Some(reported) = reported_mtu(t.packet, &header) else {
            return Ok(match families {
                (Family::V4, Family::V4) => icmp::Repr {
                    kind: header.kind(),
                    code: header.code(),
                    rest: header.rest(),
                },
                // Whatever is wrong, it is wrong within the tunnel, which its user does not see (RFC 2473 §8).
                (_, inside) => Error::HostUnreachable.message(inside),
            });
        };
        let (mode, tunnel) = self.mode_of(c);
        let hop = self.routes.fib.lookup(to_server(c, mode.forwarding));
        let link = hop.map_or(0, |hop| hop.mtu);
        let path_mtus = &mut self.routes.path_mtus;
        let believed = path_mtus.learn(t.now, c.ends.server.addr, reported, link);
        self.flows.change_way_to(c.ends.server.addr);
        if families.1 == Family::V4 && !ipv4::Header::new(&bytes[inner..]).dont_fragment() {
            // The client's packets may be cut, so there is nothing to tell it.
            return Err(Verdict::Answered);
        }
        let mtu = match families {
            // As the kernel does it, whatever the tunnel's kind: only the outer IP header is taken off.
            (Family::V4, Family::V4) => match believed as usize {
                mtu if mtu > MIN_MTU + ipv4::MIN_LEN => mtu - ipv4::MIN_LEN,
                mtu => mtu,
            },
            (_, inside) => {
                let known = path_mtus.mtu(t.now, c.ends.server.addr, link) as usize;
                let room = known.saturating_sub(mode.overhead(&self.path_of(c, tunnel)));
                room.max(least_mtu(inside))
            }
        };
        Ok(Error::FragmentationNeeded { mtu }.message(families.1))
    }
}

/// What a router has said that its next link takes.
fn reported_mtu(packet: &Packet, header: &icmp::Header<&[u8; icmp::LEN]>) -> Option<u32> {
    match packet.transport {
        Transport::Icmp {
            kind: icmp::UNREACHABLE,
            code: icmp::FRAGMENTATION_NEEDED,
        } => Some(header.next_hop_mtu().into()),
        Transport::Icmpv6 {
            kind: icmpv6::TOO_BIG,
            ..
        } => Some(header.rest()),
        _ => None,
    }
}
