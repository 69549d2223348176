//! ICMP errors about a tunnel's outer packet: the client is told of its own packet within, and a path MTU
//! is learnt. After the tunnel part of `ip_vs_in_icmp`.

use super::Engine;
use super::answer::{Notice, icmp};
use super::pmtu::MIN_MTU;
use super::related::{ICMP_HEADER, quote};
use super::transit::Transit;
use crate::conn::Side;
use crate::flow::Addr;
use crate::packet::{IPV4_MIN_HEADER, Transport};
use crate::rewrite::{self, Ends, read2, read4};
use crate::trace::Recorder;
use crate::verdict::{DropReason, Verdict};

impl<R: Recorder> Engine<R> {
    /// Where in `bytes` the packet within the tunnel packet at `ip` begins; `None` where that is none of
    /// our tunnels' or is cut off before.
    pub(super) fn tunnelled(&self, bytes: &[u8], ip: usize) -> Option<usize> {
        if self.tunnels.is_empty() {
            return None;
        }
        let header = bytes.get(ip..ip + IPV4_MIN_HEADER)?;
        let l4 = ip + usize::from(header[0] & 0x0f) * 4;
        if header[0] >> 4 != 4 || l4 < ip + IPV4_MIN_HEADER || read2(header, 6) & 0x1fff != 0 {
            return None;
        }
        let end = Addr::v4(read4(header, 16));
        let rest = bytes.get(l4..)?;
        let mut wrappings = self.modes.iter().filter_map(|mode| {
            let inside = mode.rewrite.inside(header[9], rest)?;
            Some((mode.encapsulation?, inside))
        });
        let ours = wrappings.find(|(kind, i)| self.tunnels.contains(&(end, i.port, *kind)));
        ours.map(|(_, inside)| l4 + inside.offset)
    }

    /// An ICMP error to one of the director's addresses about a tunnel packet; `None` where it is not
    /// about a known connection's.
    pub(super) fn outer_error(&mut self, t: &mut Transit<'_, '_>) -> Option<Verdict> {
        if !self.fib.is_local(t.packet.flow.dst) {
            return None;
        }
        let bytes = t.frame.bytes();
        let inner = self.tunnelled(bytes, t.packet.l4() + ICMP_HEADER)?;
        let flow = quote(bytes, inner)?.flow;
        let (id, Side::Client) = self.conns.find(&flow)? else {
            return None;
        };
        if !rewrite::checksum_is_right(t.frame, t.packet) {
            return Some(Verdict::Drop(DropReason::BadChecksum));
        }
        let Transport::Icmp { kind, code } = t.packet.transport else {
            return None;
        };
        let c = *self.conns.get(id);
        let mut rest = u32::from_be_bytes(read4(bytes, t.packet.l4() + 4));
        if (kind, code) == (icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED) {
            let link = self.fib.lookup(self.to_server(&c)).map_or(0, |hop| hop.mtu);
            let mtu = self
                .path_mtus
                .learn(t.now, c.server.addr, rest & 0xffff, link) as usize;
            if bytes[inner + 6] & 0x40 == 0 {
                // The client's packets may be cut, so there is nothing to tell it.
                return Some(Verdict::Answered);
            }
            // As the kernel does it, whatever the tunnel's kind: only the outer IP header is taken off.
            rest = if mtu > MIN_MTU + IPV4_MIN_HEADER {
                mtu - IPV4_MIN_HEADER
            } else {
                mtu
            } as u32;
        }
        self.counters.icmp_translated += 1;
        self.count_packet(c.backend, true, (bytes.len() - inner) as u64);
        let notice = Notice {
            kind,
            code,
            rest,
            from: c.vip.addr,
            to: c.client.addr,
            about: &bytes[inner..],
            ends: Ends::default(),
        };
        Some(self.notify(t.now, &notice, t.out))
    }
}
