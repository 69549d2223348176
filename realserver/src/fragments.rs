//! Outer IPv6 packets that come in fragments: a packet socket gets them as they are, for the kernel puts only
//! IPv4's together for it.

use std::time::Instant as Clock;

use uvs_core::flow::Family;
use uvs_core::fragment::Reassembler;
use uvs_core::frame::{Frame, Offload};
use uvs_core::packet::{Parsed, Transport, parse};
use uvs_core::time::Instant;
use uvs_core::wire::{ethernet, ipv6};

use super::vnet::VNET_LEN;

/// Bytes of fragments that wait (Linux: net.ipv6.ip6frag_high_thresh).
const LIMIT: usize = 4 << 20;

/// What a packet turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// No fragment of IPv6's.
    Other,
    /// A fragment of a packet that is not whole yet.
    Waits,
    /// The last one: the packet as if it had never been cut, behind a `virtio_net_hdr`.
    Whole(Vec<u8>),
    /// One that cannot be, or too many.
    Refused,
}

/// The fragments that wait for others.
pub(super) struct Fragments {
    reassembler: Reassembler,
    started: Clock,
}

impl Fragments {
    pub(super) fn new() -> Self {
        Self {
            reassembler: Reassembler::new(LIMIT),
            started: Clock::now(),
        }
    }

    /// Adds the packet in `buf`, a `virtio_net_hdr`, `link` bytes of link header and an IP packet, where it is a
    /// fragment of IPv6's.
    pub(super) fn put(&mut self, buf: &mut [u8], link: usize) -> Put {
        if !is_fragment(buf, link) {
            return Put::Other;
        }
        if link != ethernet::LEN {
            return Put::Refused;
        }
        let end = buf.len();
        let mut frame = Frame::new(buf, VNET_LEN, end, Offload::default());
        let Parsed::Ip(packet) = parse(&mut frame) else {
            return Put::Refused;
        };
        if (packet.family, packet.transport) != (Family::V6, Transport::Fragment) {
            return Put::Refused;
        }
        match self.reassembler.add(self.now(), frame.bytes(), &packet) {
            Ok(None) => Put::Waits,
            Ok(Some(whole)) => Put::Whole([&[0; VNET_LEN][..], &whole.frame].concat()),
            Err(_) => Put::Refused,
        }
    }

    /// Forgets those that have waited too long; how many.
    pub(super) fn expire(&mut self) -> u64 {
        let now = self.now();
        self.reassembler.expire(now)
    }

    fn now(&self) -> Instant {
        let elapsed = u64::try_from(self.started.elapsed().as_millis());
        Instant::from_millis(elapsed.unwrap_or(u64::MAX))
    }
}

fn is_fragment(buf: &[u8], link: usize) -> bool {
    let Some(packet) = buf.get(VNET_LEN + link..) else {
        return false;
    };
    packet.first().is_some_and(|first| first >> 4 == 6)
        && ipv6::walk(packet).is_ok_and(|chain| chain.fragment.is_some())
}

#[cfg(test)]
mod tests {
    use uvs_core::wire::protocol;

    use super::*;

    /// Ethernet, IPv6, a Fragment header and these data.
    fn fragment(offset: usize, more: bool, data: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; ipv6::LEN + ipv6::FRAGMENT_LEN];
        let header = ipv6::Repr {
            traffic_class: 0,
            flow_label: 0,
            payload_len: u16::try_from(ipv6::FRAGMENT_LEN + data.len()).unwrap(),
            next_header: protocol::FRAGMENT,
            hop_limit: 64,
            src: [1; 16],
            dst: [2; 16],
        };
        header.emit(&mut packet);
        let mut fragment = ipv6::Fragment::new_mut(&mut packet[ipv6::LEN..]);
        fragment.set_next_header(protocol::IPV6);
        fragment.set_part(offset, more);
        let link = [&[2; 12][..], &ethernet::ethertype::IPV6.to_be_bytes()].concat();
        [vec![0; VNET_LEN], link, packet, data.to_vec()].concat()
    }

    #[test]
    fn fragments_become_the_packet_they_were() {
        let mut fragments = Fragments::new();
        let last = &mut fragment(8, false, b"ijk");
        assert_eq!(fragments.put(last, ethernet::LEN), Put::Waits);
        let first = &mut fragment(0, true, b"abcdefgh");
        let Put::Whole(whole) = fragments.put(first, ethernet::LEN) else {
            panic!("it is whole");
        };
        let packet = &whole[VNET_LEN + ethernet::LEN..];
        let header = ipv6::Header::new(packet);
        assert_eq!(header.next_header(), protocol::IPV6);
        assert_eq!(usize::from(header.payload_len()), 11);
        assert_eq!(&packet[ipv6::LEN..], b"abcdefghijk");
        assert_eq!(whole[..VNET_LEN], [0; VNET_LEN]);
    }

    #[test]
    fn what_is_no_fragment_is_left_alone_and_what_cannot_be_is_refused() {
        let mut fragments = Fragments::new();
        assert_eq!(fragments.put(&mut [0; 80], ethernet::LEN), Put::Other);
        assert_eq!(fragments.put(&mut [], ethernet::LEN), Put::Other);
        let odd = &mut fragment(0, true, b"abc");
        assert_eq!(fragments.put(odd, ethernet::LEN), Put::Refused);
        let sound = fragment(0, true, b"abcdefgh");
        assert_eq!(fragments.put(&mut sound.clone(), ethernet::LEN), Put::Waits);
        // Of a link whose header is none of Ethernet's.
        let without = &mut [&sound[..VNET_LEN], &sound[VNET_LEN + ethernet::LEN..]].concat();
        assert_eq!(fragments.put(without, 0), Put::Refused);
        assert_eq!(fragments.expire(), 0, "nothing has waited long");
    }
}
