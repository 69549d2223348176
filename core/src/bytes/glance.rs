//! A packet's ends as far as they can be read, whatever else may be wrong with it: for filters, and for what
//! predicts others' rules. What is forwarded is read by [`packet::parse`](crate::packet::parse), which checks.

use crate::flow::Addr;
use crate::wire::ethernet::{self, ethertype};
use crate::wire::ports::Ports;
use crate::wire::{ipv4, ipv6, protocol};

/// What is seen at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// IP protocol number of the transport, behind all extension headers.
    pub protocol: u8,
    /// Bytes from the IP header to the transport's; to the packet's end in a later fragment of IPv6.
    pub l4: usize,
    /// Ports of TCP, UDP and SCTP, source and destination, host byte order; `None` in a later fragment.
    pub ports: Option<(u16, u16)>,
}

impl Glance {
    /// At a frame; `None` where it holds no IP, or its headers are cut off.
    pub fn of_frame(frame: &[u8]) -> Option<Self> {
        let ethertype = ethernet::Header::new_checked(frame).ok()?.ethertype();
        let packet = &frame[ethernet::LEN..];
        let seen = Self::of_packet(packet)?;
        (ethertype == ethertype::of(!seen.src.is_v4())).then_some(seen)
    }

    /// At a packet, from its IP header on.
    pub fn of_packet(packet: &[u8]) -> Option<Self> {
        let (src, dst, protocol, l4, first) = match packet.first()? >> 4 {
            4 => {
                let header = ipv4::Header::new_checked(packet).ok()?;
                let (src, dst) = (Addr::v4(header.src()), Addr::v4(header.dst()));
                let first = header.fragment_offset() == 0;
                (src, dst, header.protocol(), header.header_len(), first)
            }
            6 => {
                let header = ipv6::Header::new_checked(packet).ok()?;
                let (src, dst) = (Addr::v6(header.src()), Addr::v6(header.dst()));
                let (protocol, l4, first) = behind_extensions(packet)?;
                (src, dst, protocol, l4, first)
            }
            _ => return None,
        };
        let with_ports = [protocol::TCP, protocol::UDP, protocol::SCTP];
        let has_ports = first && with_ports.contains(&protocol);
        let transport = packet.get(l4..).filter(|_| has_ports);
        let ports = transport.and_then(|bytes| Ports::new_checked(bytes).ok());
        Some(Self {
            src,
            dst,
            protocol,
            l4,
            ports: ports.map(|p| (p.src(), p.dst())),
        })
    }
}

/// What an IPv6 packet's extension headers end in, where that begins, and whether it is there at all: a fragment
/// that is not the first has none of it.
fn behind_extensions(packet: &[u8]) -> Option<(u8, usize, bool)> {
    let chain = ipv6::walk(packet).ok()?;
    let Some(at) = chain.fragment else {
        return Some((chain.protocol, chain.len, true));
    };
    let fragment = ipv6::Fragment::new_checked(packet.get(at..)?).ok()?;
    if fragment.offset() != 0 {
        return Some((chain.protocol, packet.len(), false));
    }
    let chain = ipv6::walk_from(packet, chain.protocol, chain.len, at).ok()?;
    Some((chain.protocol, chain.len, true))
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::flow::Family;
    use crate::testing::net::{client, vip};
    use crate::testing::packets::{tcp, udp};

    #[test]
    fn ends_are_seen_in_both_families_and_behind_extension_headers() {
        for family in Family::ALL {
            let (from, to) = (client(family), vip(family));
            let frame = tcp(from, to, 2).frame();
            let seen = Glance::of_frame(&frame).expect("a packet");
            assert_eq!((seen.src, seen.dst), (from.addr, to.addr));
            assert_eq!(seen.ports, Some((from.port, to.port)));
            assert_eq!(seen.protocol, protocol::TCP);
            for end in 0..frame.len() {
                let _ = Glance::of_frame(&frame[..end]);
            }
        }
        let (from, to) = (client(Family::V6), vip(Family::V6));
        let long = udp(from, to).extension(protocol::HOP_BY_HOP, &[0; 6]);
        let seen = Glance::of_frame(&long.frame()).expect("a packet");
        assert_eq!((seen.protocol, seen.l4), (protocol::UDP, ipv6::LEN + 8));
        assert_eq!(seen.ports, Some((from.port, to.port)));
    }
}
