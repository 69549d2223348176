//! ICMP errors about a tunnel's outer packet: the client is told of its own packet within, and a path MTU
//! is learnt. After the tunnel part of `ip_vs_in_icmp`.

use super::Engine;
use super::pmtu::MIN_MTU;
use super::related::quote;
use super::transit::Transit;
use super::voice::Notice;
use crate::conn::Side;
use crate::flow::Addr;
use crate::narrow;
use crate::packet::Transport;
use crate::rewrite::{self, Ends};
use crate::trace::Recorder;
use crate::verdict::{DropReason, Verdict};
use crate::wire::{icmp, ipv4};

impl<R: Recorder> Engine<R> {
    /// Where in `bytes` the packet within the tunnel packet at `ip` begins; `None` where that is none of
    /// our tunnels' or is cut off before.
    pub(super) fn tunnelled(&self, bytes: &[u8], ip: usize) -> Option<usize> {
        if !self.desired.has_tunnels() {
            return None;
        }
        let packet = ipv4::Packet::new_checked(bytes.get(ip..)?).ok()?;
        if packet.header.fragment_offset() != 0 {
            return None;
        }
        let end = Addr::v4(packet.header.dst());
        let mut wrappings = self.catalog.modes.iter().filter_map(|mode| {
            let rewrite = mode.rewrite;
            let inside = rewrite.inside(packet.header.protocol(), packet.payload)?;
            Some((mode.encapsulation?, inside))
        });
        let ours = wrappings.find(|(kind, i)| self.desired.ends_tunnel(end, i.port, *kind));
        ours.map(|(_, inside)| ip + packet.header.header_len() + inside.offset)
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
        let Transport::Icmp { kind, code } = t.packet.transport else {
            return None;
        };
        let c = *self.flows.conn(id);
        let header = icmp::Header::new(&bytes[t.packet.l4()..]);
        let mut rest = header.rest();
        if (kind, code) == (icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED) {
            let link = self
                .routes
                .fib
                .lookup(self.to_server(&c))
                .map_or(0, |hop| hop.mtu);
            let mtu = self.routes.path_mtus.learn(
                t.now,
                c.server.addr,
                header.next_hop_mtu().into(),
                link,
            ) as usize;
            self.flows.change_way_to(c.server.addr);
            if !ipv4::Header::new(&bytes[inner..]).dont_fragment() {
                // The client's packets may be cut, so there is nothing to tell it.
                return Some(Verdict::Answered);
            }
            // As the kernel does it, whatever the tunnel's kind: only the outer IP header is taken off.
            rest = narrow::to_u32(if mtu > MIN_MTU + ipv4::MIN_LEN {
                mtu - ipv4::MIN_LEN
            } else {
                mtu
            });
        }
        self.counters.icmp_translated += 1;
        self.flows
            .count_packet(c.backend, true, (bytes.len() - inner) as u64);
        let notice = Notice {
            message: icmp::Repr { kind, code, rest },
            from: c.vip.addr,
            to: c.client.addr,
            about: &bytes[inner..],
            ends: Ends::default(),
        };
        Some(self.notify(t.now, &notice, t.out))
    }
}
