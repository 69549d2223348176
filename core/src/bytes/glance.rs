//! A packet's ends as far as they can be read, whatever else may be wrong with it: for filters, for what predicts others'
//! rules, and for packets that ICMP errors quote, which may be cut off anywhere. What is forwarded is read by [`packet::parse`](crate::packet::parse), which checks.

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
    /// Bytes from the IP header to the transport's. `None` where there is none: in a later fragment, and where IPv4's
    /// header has an impossible length or is cut off within its options.
    pub l4: Option<usize>,
    /// Ports of TCP, UDP and SCTP, source and destination, host byte order, where the packet reaches so far.
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
        let (src, dst, protocol, l4) = match packet.first()? >> 4 {
            4 => {
                let header = ipv4::Header::new_checked(packet).ok()?;
                let (src, dst) = (Addr::v4(header.src()), Addr::v4(header.dst()));
                let has_transport =
                    header.fragment_offset() == 0 && header.check(packet.len()).is_ok();
                let l4 = has_transport.then(|| header.header_len());
                (src, dst, header.protocol(), l4)
            }
            6 => {
                let header = ipv6::Header::new_checked(packet).ok()?;
                let (src, dst) = (Addr::v6(header.src()), Addr::v6(header.dst()));
                let chain = ipv6::walk(packet).ok()?;
                let transport = ipv6::first_transport(packet);
                let (protocol, l4) = transport.map_or((chain.protocol, None), |(protocol, l4)| {
                    (protocol, Some(l4))
                });
                (src, dst, protocol, l4)
            }
            _ => return None,
        };
        let has_ports = matches!(protocol, protocol::TCP | protocol::UDP | protocol::SCTP);
        let transport = l4.filter(|_| has_ports).and_then(|l4| packet.get(l4..));
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
        assert_eq!(
            (seen.protocol, seen.l4),
            (protocol::UDP, Some(ipv6::LEN + 8))
        );
        assert_eq!(seen.ports, Some((from.port, to.port)));
    }

    /// A packet of this family behind its Ethernet header, changed.
    fn changed(family: Family, change: impl FnOnce(&mut Vec<u8>)) -> Option<Glance> {
        let mut packet = udp(client(family), vip(family)).frame()[ethernet::LEN..].to_vec();
        change(&mut packet);
        Glance::of_packet(&packet)
    }

    #[test]
    fn of_a_broken_ipv4_header_the_addresses_are_seen_and_no_transport() {
        let seen = |change: fn(&mut Vec<u8>)| {
            let seen = changed(Family::V4, change).expect("addresses");
            assert_eq!(
                (seen.src, seen.dst),
                (client(Family::V4).addr, vip(Family::V4).addr)
            );
            (seen.l4, seen.ports.is_some())
        };
        assert_eq!(seen(|_| {}), (Some(ipv4::MIN_LEN), true));
        assert_eq!(seen(|packet| packet[0] = 0x44), (None, false), "too short");
        assert_eq!(
            seen(|packet| packet[0] = 0x40),
            (None, false),
            "none at all"
        );
        let cut_options = |packet: &mut Vec<u8>| {
            packet[0] = 0x4f;
            packet.truncate(ipv4::MIN_LEN + 8);
        };
        assert_eq!(seen(cut_options), (None, false), "cut off");
        assert_eq!(
            seen(|packet| packet[7] = 1),
            (None, false),
            "a later fragment"
        );
        let cut_ports = |packet: &mut Vec<u8>| packet.truncate(ipv4::MIN_LEN + 3);
        assert_eq!(seen(cut_ports), (Some(ipv4::MIN_LEN), false));
        assert_eq!(changed(Family::V4, |packet| packet.truncate(19)), None);
        assert_eq!(changed(Family::V4, |packet| packet[0] = 0x55), None);
    }

    #[test]
    fn a_later_fragment_of_ipv6_has_a_protocol_and_no_transport() {
        let fragment = |offset: u16| {
            let change = |packet: &mut Vec<u8>| {
                let [high, low] = (offset << 3 | 1).to_be_bytes();
                packet[6] = protocol::FRAGMENT;
                let header = [protocol::UDP, 0, high, low, 0, 0, 0, 7];
                packet.splice(ipv6::LEN..ipv6::LEN, header);
            };
            let seen = changed(Family::V6, change).expect("addresses");
            (seen.protocol, seen.l4, seen.ports.is_some())
        };
        assert_eq!(fragment(0), (protocol::UDP, Some(ipv6::LEN + 8), true));
        assert_eq!(fragment(1), (protocol::UDP, None, false));
    }
}
