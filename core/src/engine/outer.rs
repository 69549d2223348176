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
use crate::service::TunnelKind;
use crate::trace::Recorder;
use crate::verdict::{DropReason, Verdict};

/// IP protocol numbers of tunnels.
const IPIP: u8 = 4;
const UDP: u8 = 17;
const GRE: u8 = 47;
/// Bytes of the headers of UDP and of GUE without options.
const UDP_HEADER: usize = 8;
const GUE_HEADER: usize = 4;
/// GRE's flag for a checksum, and its type for IPv4 (RFC 2784).
const GRE_CHECKSUM: u16 = 0x8000;
const GRE_IPV4: u16 = 0x0800;

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
        let known = |port, kind| self.tunnels.contains(&(end, port, kind));
        let rest = bytes.get(l4..)?;
        match header[9] {
            IPIP if known(0, TunnelKind::Ipip) => Some(l4),
            UDP if rest.len() >= UDP_HEADER + GUE_HEADER => {
                let gue = &rest[UDP_HEADER..];
                // Version 0, no control message, and IPv4 inside.
                let plain = gue[0] & 0xe0 == 0 && gue[1] == IPIP;
                (plain && known(read2(rest, 2), TunnelKind::Gue))
                    .then(|| l4 + UDP_HEADER + GUE_HEADER + usize::from(gue[0] & 0x1f) * 4)
            }
            GRE if rest.len() >= 4 && known(0, TunnelKind::Gre) => {
                let flags = read2(rest, 0);
                (flags & !GRE_CHECKSUM == 0 && read2(rest, 2) == GRE_IPV4)
                    .then(|| l4 + if flags == 0 { 4 } else { 8 })
            }
            _ => None,
        }
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
