//! IPv6 (RFC 8200): the header, and the extension headers between it and the transport.

use super::{Malformed, checksum, protocol};
use crate::narrow;

pub mod options;

/// Bytes of the header without extension headers.
pub const LEN: usize = 40;
/// The smallest MTU that an IPv6 link may have (RFC 8200 §5).
pub const MIN_MTU: usize = 1280;
/// Extension headers that are walked at most: more than a packet of 2 KB can have.
pub const MAX_EXTENSIONS: usize = 256;

header! {
    /// An IPv6 header without extension headers.
    pub struct Header[LEN], offset;
    /// Version, traffic class and flow label.
    pub(super) FIRST => first, set_first: u32 = 0;
    /// Bytes after this header; 0 in a super-frame that is too long for it.
    pub PAYLOAD_LEN => payload_len, set_payload_len: u16 = 4;
    /// What lies behind this header, of [`wire::protocol`](crate::wire::protocol).
    pub NEXT_HEADER => next_header, set_next_header: u8 = 6;
    /// Hop limit.
    pub HOP_LIMIT => hop_limit, set_hop_limit: u8 = 7;
    /// Source address.
    pub SRC => src, set_src: [u8; 16] = 8;
    /// Destination address.
    pub DST => dst, set_dst: [u8; 16] = 24;
}

impl<B: std::borrow::Borrow<[u8; LEN]>> Header<B> {
    /// IP version; 6.
    #[inline]
    pub fn version(&self) -> u8 {
        (self.first() >> 28 & 0x0f) as u8
    }

    /// Traffic class: DSCP and ECN (RFC 2474, RFC 3168).
    pub fn traffic_class(&self) -> u8 {
        (self.first() >> 20 & 0xff) as u8
    }

    /// Flow label (RFC 6437), 20 bits.
    pub fn flow_label(&self) -> u32 {
        self.first() & 0x000f_ffff
    }
}

impl<B: std::borrow::BorrowMut<[u8; LEN]>> Header<B> {
    /// Sets the flow label, 20 bits.
    pub fn set_flow_label(&mut self, label: u32) {
        let others = self.first() & !0x000f_ffff;
        self.set_first(others | label & 0x000f_ffff);
    }
}

impl<B: std::borrow::BorrowMut<[u8; LEN]>> Header<B> {
    /// Replaces the traffic class.
    pub fn set_traffic_class(&mut self, class: u8) {
        self.set_first(self.first() & 0xf00f_ffff | u32::from(class) << 20);
    }
}

header! {
    /// What hop-by-hop options, destination options, routing header and AH begin with.
    pub struct Extension[EXTENSION_LEN], extension;
    /// What lies behind it, of [`wire::protocol`](crate::wire::protocol).
    pub NEXT_HEADER => next_header, set_next_header: u8 = 0;
    /// Its length: in units of 8 bytes, the first 8 left out; AH's in units of 4.
    pub LENGTH => length, set_length: u8 = 1;
    /// Of a routing header: how many addresses are still to be visited.
    pub SEGMENTS_LEFT => segments_left, set_segments_left: u8 = 3;
}

/// Bytes of an extension header at least.
pub const EXTENSION_LEN: usize = 8;

header! {
    /// The Fragment header (RFC 8200 §4.5).
    pub struct Fragment[FRAGMENT_LEN], fragment;
    /// What the datagram has behind the headers of each fragment.
    pub NEXT_HEADER => next_header, set_next_header: u8 = 0;
    /// Zero.
    pub RESERVED => reserved, set_reserved: u8 = 1;
    /// Fragment offset, and whether more follow.
    pub(super) WHERE => place, set_place: u16 = 2;
    /// Whose fragment it is.
    pub ID => id, set_id: u32 = 4;
}

/// Bytes of a Fragment header.
pub const FRAGMENT_LEN: usize = 8;

/// "More fragments" in the word of a Fragment header's offset.
const MORE_FRAGMENTS: u16 = 1;

impl<B: std::borrow::Borrow<[u8; FRAGMENT_LEN]>> Fragment<B> {
    /// Where this fragment's data begin in its datagram, bytes.
    pub fn offset(&self) -> usize {
        usize::from(self.place() & !7)
    }

    /// Whether another fragment follows this one.
    pub fn more_fragments(&self) -> bool {
        self.place() & MORE_FRAGMENTS != 0
    }
}

impl<B: std::borrow::BorrowMut<[u8; FRAGMENT_LEN]>> Fragment<B> {
    /// Sets which part of its datagram it is: where its data begin, a multiple of 8 bytes below 64 KiB, and
    /// whether more follow.
    pub fn set_part(&mut self, offset: usize, more: bool) {
        self.set_place(narrow::to_u16(offset) & !7 | u16::from(more));
    }
}

/// Where a packet's extension headers end, and in what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// What lies behind them, of [`protocol`]; behind a Fragment header, what that says.
    pub protocol: u8,
    /// Bytes from the IPv6 header's beginning to it: behind the Fragment header, where there is one.
    pub len: usize,
    /// Where the Fragment header is that ended the walk, counted from the IPv6 header's beginning.
    pub fragment: Option<usize>,
    /// Where the field is that names `protocol`, or the Fragment header where there is one; counted likewise.
    pub named_at: usize,
}

/// Follows a packet's extension headers in any order and number, up to what is none or to a Fragment header:
/// what lies behind that belongs to the first fragment alone.
///
/// # Errors
/// The packet ends within one, or there are more than [`MAX_EXTENSIONS`].
#[inline]
pub fn walk(packet: &[u8]) -> Result<Chain, Malformed> {
    let header = Header::new_checked(packet)?;
    walk_from(packet, header.next_header(), LEN, offset::NEXT_HEADER)
}

/// As [`walk`], from the header of kind `next` at `at` on, which the field at `named_at` names.
///
/// # Errors
/// As those of [`walk`].
#[inline]
pub fn walk_from(packet: &[u8], next: u8, at: usize, named_at: usize) -> Result<Chain, Malformed> {
    if !protocol::is_extension(next) {
        return Ok(Chain {
            protocol: next,
            len: at,
            fragment: None,
            named_at,
        });
    }
    follow(packet, next, at, named_at)
}

#[inline(never)]
fn follow(
    packet: &[u8],
    mut next: u8,
    mut at: usize,
    mut named_at: usize,
) -> Result<Chain, Malformed> {
    for _ in 0..MAX_EXTENSIONS {
        let bytes = packet.get(at..).ok_or(Malformed::Truncated)?;
        match next {
            protocol::FRAGMENT => {
                return Ok(Chain {
                    protocol: Fragment::new_checked(bytes)?.next_header(),
                    len: at + FRAGMENT_LEN,
                    fragment: Some(at),
                    named_at,
                });
            }
            next if protocol::is_extension(next) => {}
            protocol => {
                return Ok(Chain {
                    protocol,
                    len: at,
                    fragment: None,
                    named_at,
                });
            }
        }
        let extension = Extension::new_checked(bytes)?;
        let length = usize::from(extension.length());
        named_at = at + extension::NEXT_HEADER;
        at += if next == protocol::AH {
            (length + 2) * 4
        } else {
            (length + 1) * 8
        };
        if at > packet.len() {
            return Err(Malformed::Truncated);
        }
        next = extension.next_header();
    }
    Err(Malformed::Header)
}

/// Whether the extension headers between an IPv6 header and the end of `headers` may be left out: none of them is
/// AH, which is about the whole packet, or a routing header with a way still to go (RFC 7915 §5.1).
pub fn may_be_stripped(headers: &[u8]) -> bool {
    let mut next = Header::new(headers).next_header();
    let mut at = LEN;
    while let Some(Ok(extension)) = headers.get(at..).map(Extension::new_checked) {
        let on_its_way = next == protocol::ROUTING && extension.segments_left() != 0;
        if on_its_way || next == protocol::AH {
            return false;
        }
        next = extension.next_header();
        at += (usize::from(extension.length()) + 1) * 8;
    }
    true
}

/// The protocol of a packet's transport and where it begins, bytes from the IPv6 header's first, behind the Fragment
/// header of a first fragment too. `None` where the extension headers are cut off or malformed, or it is a later
/// fragment, which has none.
pub fn first_transport(packet: &[u8]) -> Option<(u8, usize)> {
    let chain = walk(packet).ok()?;
    let Some(at) = chain.fragment else {
        return Some((chain.protocol, chain.len));
    };
    if Fragment::new(&packet[at..]).offset() != 0 {
        return None;
    }
    let rest = walk_from(packet, chain.protocol, chain.len, at).ok()?;
    rest.fragment.is_none().then_some((rest.protocol, rest.len))
}

/// The headers of a packet that each of its fragments has (`ip6_find_1stfragopt`): those that routers look at, so that
/// destination options belong to it unless they stand behind a routing header. What [`walk`] accepts has them.
pub fn repeated(packet: &[u8]) -> Chain {
    let mut next = Header::new(packet).next_header();
    let (mut at, mut named_at, mut routed) = (LEN, offset::NEXT_HEADER, false);
    loop {
        let belongs = match next {
            protocol::HOP_BY_HOP => true,
            protocol::ROUTING => {
                routed = true;
                true
            }
            protocol::DESTINATION_OPTIONS => !routed,
            _ => false,
        };
        let extension = packet
            .get(at..)
            .and_then(|b| Extension::new_checked(b).ok());
        let Some(extension) = extension.filter(|_| belongs) else {
            return Chain {
                protocol: next,
                len: at,
                fragment: None,
                named_at,
            };
        };
        named_at = at + extension::NEXT_HEADER;
        at += (usize::from(extension.length()) + 1) * 8;
        next = extension.next_header();
    }
}

/// What an IPv6 header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Traffic class.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Bytes after the header.
    pub payload_len: u16,
    /// What lies behind it, of [`wire::protocol`](crate::wire::protocol).
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
}

impl Repr {
    /// Writes it to the beginning of `packet`.
    ///
    /// # Panics
    /// Where that is shorter than [`LEN`].
    pub fn emit(&self, packet: &mut [u8]) {
        let mut header = Header::new_mut(packet);
        let label = self.flow_label & 0x000f_ffff;
        header.set_first(6 << 28 | u32::from(self.traffic_class) << 20 | label);
        header.set_payload_len(self.payload_len);
        header.set_next_header(self.next_header);
        header.set_hop_limit(self.hop_limit);
        header.set_src(self.src);
        header.set_dst(self.dst);
    }

    /// The sum of the pseudo-header of the transport right behind it (RFC 8200 §8.1).
    pub fn pseudo_header(&self) -> u16 {
        let len = u32::from(self.payload_len);
        checksum::pseudo_header_v6(self.src, self.dst, self.next_header, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet of these extension headers, each its kind and its length field, and 8 bytes behind them.
    fn packet(headers: &[(u8, u8)], last: u8) -> Vec<u8> {
        let kinds = headers.iter().map(|(kind, _)| *kind);
        let mut next = kinds.chain([last]);
        let mut bytes = vec![0; LEN];
        bytes[0] = 0x60;
        bytes[offset::NEXT_HEADER] = next.next().unwrap();
        for (kind, length) in headers {
            let len = match *kind {
                protocol::AH => (usize::from(*length) + 2) * 4,
                protocol::FRAGMENT => FRAGMENT_LEN,
                _ => (usize::from(*length) + 1) * 8,
            };
            let mut header = vec![0; len];
            (header[0], header[1]) = (next.next().unwrap(), *length);
            bytes.extend(header);
        }
        bytes.extend([0; 8]);
        bytes
    }

    #[test]
    fn extension_headers_are_walked_in_any_order() {
        use protocol::{AH, DESTINATION_OPTIONS as DST, HOP_BY_HOP as HOP, ROUTING, TCP};
        let chains: [(&[(u8, u8)], usize); 4] = [
            (&[], 40),
            (&[(HOP, 0)], 48),
            (&[(DST, 1), (HOP, 0), (ROUTING, 2), (DST, 0)], 96),
            (&[(AH, 4), (AH, 1)], 76),
        ];
        for (headers, len) in chains {
            let chain = walk(&packet(headers, TCP)).unwrap();
            assert_eq!((chain.protocol, chain.len), (TCP, len), "{headers:?}");
            assert_eq!(chain.fragment, None);
        }
    }

    #[test]
    fn a_fragment_header_ends_the_walk() {
        use protocol::{DESTINATION_OPTIONS as DST, FRAGMENT, HOP_BY_HOP as HOP};
        let chain = walk(&packet(&[(HOP, 0), (FRAGMENT, 0), (DST, 0)], 6)).unwrap();
        assert_eq!((chain.protocol, chain.len), (DST, 56));
        assert_eq!((chain.fragment, chain.named_at), (Some(48), 40));
    }

    #[test]
    fn each_fragment_has_what_routers_look_at() {
        use protocol::{AH, DESTINATION_OPTIONS as DST, HOP_BY_HOP as HOP, ROUTING, UDP};
        type Case<'a> = (&'a [(u8, u8)], u8, usize);
        let cases: [Case<'_>; 5] = [
            (&[], UDP, 40),
            (&[(HOP, 0), (DST, 0)], UDP, 56),
            (&[(DST, 0), (ROUTING, 0), (DST, 0)], DST, 56),
            (&[(AH, 4)], AH, 40),
            (&[(HOP, 1), (AH, 4)], AH, 56),
        ];
        for (headers, next, len) in cases {
            let chain = repeated(&packet(headers, UDP));
            assert_eq!((chain.protocol, chain.len), (next, len), "{headers:?}");
        }
    }

    #[test]
    fn a_first_fragment_has_a_transport_and_a_later_one_has_none() {
        use protocol::{DESTINATION_OPTIONS as DST, FRAGMENT, HOP_BY_HOP as HOP, UDP};
        let mut bytes = packet(&[(HOP, 0), (FRAGMENT, 0), (DST, 0)], UDP);
        assert_eq!(first_transport(&bytes), Some((UDP, 64)));
        Fragment::new_mut(&mut bytes[48..]).set_part(8, true);
        assert_eq!(first_transport(&bytes), None);
        assert_eq!(first_transport(&bytes[..50]), None);
        assert_eq!(first_transport(&packet(&[(DST, 0)], UDP)), Some((UDP, 48)));
    }

    #[test]
    fn a_chain_that_is_cut_off_or_endless_is_malformed() {
        let hop = protocol::HOP_BY_HOP;
        let whole = packet(&[(hop, 0), (hop, 3), (hop, 0)], 6);
        for len in 0..whole.len() - 8 {
            assert_eq!(walk(&whole[..len]), Err(Malformed::Truncated), "{len}");
        }
        let most = vec![(hop, 0); MAX_EXTENSIONS - 1];
        assert!(walk(&packet(&most, 6)).is_ok());
        let over = vec![(hop, 0); MAX_EXTENSIONS];
        assert_eq!(walk(&packet(&over, 6)), Err(Malformed::Header));
    }

    #[test]
    fn what_is_written_is_read() {
        let repr = Repr {
            traffic_class: 0xb9,
            flow_label: 0xa_bcde,
            payload_len: 20,
            next_header: protocol::TCP,
            hop_limit: 63,
            src: [1; 16],
            dst: [2; 16],
        };
        let mut bytes = [0; LEN];
        repr.emit(&mut bytes);
        let header = Header::new(&bytes);
        assert_eq!(header.version(), 6);
        assert_eq!(header.traffic_class(), repr.traffic_class);
        assert_eq!(header.flow_label(), repr.flow_label);
        assert_eq!((header.src(), header.dst()), (repr.src, repr.dst));
    }
}
