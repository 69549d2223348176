//! Taking the outer header off an IPIP packet (RFC 2003), on bytes alone.
//!
//! The packet comes with the `virtio_net_hdr` of an AF_PACKET socket and leaves with one for a TUN device:
//! an unfinished checksum stays unfinished and a super-frame stays whole, which is what the sender's
//! offloads leave in nearly every packet on a virtual network.

use uvs_core::wire::{Malformed, ipv4, protocol};

/// Bytes of a `virtio_net_hdr` (virtio 1.2 §5.1.6, without num_buffers).
pub(super) const VNET_LEN: usize = 10;
/// The checksum is unfinished.
const NEEDS_CSUM: u8 = 1;
/// The ECN codepoints (RFC 3168 §5).
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// A packet without its outer header, within the buffer it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inner {
    /// Where its `virtio_net_hdr` starts, right before the packet.
    pub(super) start: usize,
    /// Where the packet ends.
    pub(super) end: usize,
    /// Whether its transport checksum is unfinished.
    pub(super) unfinished: bool,
    /// Whether it is a super-frame.
    pub(super) super_frame: bool,
}

/// Why a packet is not decapsulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not an IPIP packet.
    NotIpip,
    /// Shorter than its headers say.
    Truncated,
    /// An outer or inner IPv4 header that cannot be.
    BadHeader,
    /// An outer or inner IPv4 header checksum that is wrong.
    BadChecksum,
    /// A fragment that the kernel did not put together.
    Fragment,
    /// Congestion was met on a packet whose sender does not support ECN (RFC 6040 §4.2).
    Congested,
    /// Offload metadata that contradict the packet.
    BadOffload,
}

/// The outer destination of the packet in `buf`, which is as [`decapsulate`] wants it.
pub(super) fn outer_destination(buf: &[u8], link: usize) -> Option<[u8; 4]> {
    let packet = buf.get(VNET_LEN + link..)?;
    Some(ipv4::Header::new_checked(packet).ok()?.dst())
}

/// Takes the outer header off the packet in `buf`: a `virtio_net_hdr`, `link` bytes of link header, an IPv4
/// packet.
pub(super) fn decapsulate(buf: &mut [u8], link: usize) -> Result<Inner, Refusal> {
    let (head, packet) = buf
        .split_at_mut_checked(VNET_LEN + link)
        .ok_or(Refusal::Truncated)?;
    let mut vnet = Vnet::read(head);
    let outer = Ipv4::check(packet, vnet.gso_type != 0)?;
    let header = ipv4::Header::new(packet);
    if header.protocol() != protocol::IPIP {
        return Err(Refusal::NotIpip);
    }
    if outer.fragment {
        return Err(Refusal::Fragment);
    }
    let outer_ecn = header.tos() & CE;
    let inner_bytes = &mut packet[outer.header..outer.total];
    let inner = Ipv4::check(inner_bytes, vnet.gso_type != 0)?;
    merge_ecn(outer_ecn, inner_bytes)?;
    vnet.strip(link + outer.header, &inner)?;

    // The new header takes the place of the outer header's last bytes, so nothing is moved.
    let start = link + outer.header;
    buf[start..start + VNET_LEN].copy_from_slice(&vnet.bytes());
    let end = start + VNET_LEN + inner.total;
    let unfinished = vnet.flags & NEEDS_CSUM != 0;
    Ok(Inner {
        start,
        end,
        unfinished,
        super_frame: vnet.gso_type != 0,
    })
}

/// What an IPv4 header says of itself, checked against the bytes there are.
struct Ipv4 {
    header: usize,
    total: usize,
    fragment: bool,
}

impl Ipv4 {
    fn check(packet: &[u8], super_frame: bool) -> Result<Self, Refusal> {
        let checked = ipv4::Packet::new_checked(packet).map_err(|wrong| match wrong {
            Malformed::Truncated => Refusal::Truncated,
            Malformed::Header => Refusal::BadHeader,
        })?;
        let header = checked.header.header_len();
        let total = match usize::from(checked.header.total_len()) {
            // A super-frame over 64 KiB has no room for its length (IPv4 BIG TCP).
            0 if super_frame => packet.len(),
            n => n,
        };
        if total > packet.len() {
            return Err(Refusal::Truncated);
        }
        if total < header {
            return Err(Refusal::BadHeader);
        }
        if !checked.is_sound() {
            return Err(Refusal::BadChecksum);
        }
        Ok(Self {
            header,
            total,
            fragment: checked.header.is_fragment(),
        })
    }
}

/// RFC 6040 §4.2: what the network said of congestion outside is kept inside.
fn merge_ecn(outer: u8, inner: &mut [u8]) -> Result<(), Refusal> {
    let mut header = ipv4::Header::new_mut(inner);
    let tos = header.tos();
    let merged = match (tos & CE, outer) {
        (NOT_ECT, CE) => return Err(Refusal::Congested),
        (ECT_0 | ECT_1, CE) => CE,
        (ECT_0, ECT_1) => ECT_1,
        (unchanged, _) => unchanged,
    };
    header.change_tos(tos & !CE | merged);
    Ok(())
}

/// A `virtio_net_hdr`; the kernel's sockets and TUN devices have it in host order.
struct Vnet {
    flags: u8,
    gso_type: u8,
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

impl Vnet {
    fn read(b: &[u8]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([b[at], b[at + 1]]);
        // DATA_VALID says that a checksum was verified; the inner one was not.
        let flags = b[0] & NEEDS_CSUM;
        Self {
            flags,
            gso_type: b[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        }
    }

    fn bytes(&self) -> [u8; VNET_LEN] {
        let mut b = [0; VNET_LEN];
        b[0] = self.flags;
        b[1] = self.gso_type;
        b[2..4].copy_from_slice(&self.hdr_len.to_ne_bytes());
        b[4..6].copy_from_slice(&self.gso_size.to_ne_bytes());
        b[6..8].copy_from_slice(&self.csum_start.to_ne_bytes());
        b[8..10].copy_from_slice(&self.csum_offset.to_ne_bytes());
        b
    }

    /// The same for the packet without its first `removed` bytes.
    fn strip(&mut self, removed: usize, inner: &Ipv4) -> Result<(), Refusal> {
        let removed = u16::try_from(removed).map_err(|_| Refusal::BadOffload)?;
        self.hdr_len = self.hdr_len.saturating_sub(removed);
        if self.flags & NEEDS_CSUM == 0 {
            (self.csum_start, self.csum_offset) = (0, 0);
            return Ok(());
        }
        self.csum_start = self
            .csum_start
            .checked_sub(removed)
            .ok_or(Refusal::BadOffload)?;
        let field = usize::from(self.csum_start) + usize::from(self.csum_offset);
        if usize::from(self.csum_start) < inner.header || field + 2 > inner.total {
            return Err(Refusal::BadOffload);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use uvs_core::wire::checksum;

    use super::*;

    /// Ethernet.
    const LINK: usize = 14;
    const OUTER: usize = VNET_LEN + LINK;
    const INNER: usize = OUTER + 20;

    /// A `virtio_net_hdr`, a link header, an outer header with this ECN codepoint, an inner UDP packet with
    /// that.
    fn packet(outer_ecn: u8, inner_ecn: u8) -> Vec<u8> {
        let mut inner = vec![
            0x45, inner_ecn, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 100,
        ];
        inner.extend([0x30, 0x39, 0, 80, 0, 12, 0, 0, b'p', b'i', b'n', b'g']);
        seal(&mut inner);
        let total = 20 + u8::try_from(inner.len()).unwrap();
        let mut outer = vec![
            0x45, outer_ecn, 0, total, 0, 2, 0, 0, 64, 4, 0, 0, 10, 9, 0, 2, 10, 9, 0, 3,
        ];
        seal(&mut outer);
        [vec![0; VNET_LEN], vec![0xee; LINK], outer, inner].concat()
    }

    fn seal(header: &mut [u8]) {
        header[10..12].fill(0);
        let sum = checksum::of(&header[..20]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }

    /// [`decapsulate`] of `packet(0, 0)` with one byte changed, both header checksums made right again.
    fn with(at: usize, value: u8) -> Result<Inner, Refusal> {
        let mut p = packet(0, 0);
        p[at] = value;
        seal(&mut p[OUTER..]);
        seal(&mut p[INNER..]);
        decapsulate(&mut p, LINK)
    }

    #[test]
    fn the_inner_packet_comes_out_as_it_went_in() {
        let mut p = packet(0, 0);
        let inner = p[INNER..].to_vec();
        let out = decapsulate(&mut p, LINK).expect("sound");
        assert_eq!(
            out,
            Inner {
                start: 34,
                end: 76,
                unfinished: false,
                super_frame: false
            }
        );
        assert_eq!(p[out.start..out.start + VNET_LEN], [0; VNET_LEN]);
        assert_eq!(p[out.start + VNET_LEN..out.end], inner);
    }

    #[test]
    fn ethernet_padding_goes_with_the_outer_header() {
        let mut p = packet(0, 0);
        p.extend([0xff; 6]);
        assert_eq!(decapsulate(&mut p, LINK).map(|i| i.end), Ok(76));
    }

    #[test]
    fn outer_options_are_taken_off() {
        let mut p = packet(0, 0);
        p.splice(INNER..INNER, [1, 1, 1, 1]);
        p[OUTER] = 0x46;
        p[OUTER + 3] += 4;
        p[OUTER + 10..OUTER + 12].fill(0);
        let sum = checksum::of(&p[OUTER..OUTER + 24]);
        p[OUTER + 10..OUTER + 12].copy_from_slice(&sum.to_be_bytes());
        let out = decapsulate(&mut p, LINK).expect("sound");
        assert_eq!(p[out.start + VNET_LEN], 0x45);
        assert_eq!(p[out.end - 4..out.end], *b"ping");
    }

    #[test]
    fn an_unfinished_checksum_and_a_super_frame_stay_so() {
        let mut p = packet(0, 0);
        p[0] = NEEDS_CSUM | 2;
        p[1] = 1;
        p[2..4].copy_from_slice(&62u16.to_ne_bytes());
        p[4..6].copy_from_slice(&2u16.to_ne_bytes());
        p[6..8].copy_from_slice(&54u16.to_ne_bytes());
        p[8..10].copy_from_slice(&6u16.to_ne_bytes());
        let out = decapsulate(&mut p, LINK).expect("sound");
        assert!(out.unfinished && out.super_frame);
        let words: Vec<u16> = p[out.start + 2..out.start + 10]
            .chunks(2)
            .map(|w| u16::from_ne_bytes([w[0], w[1]]))
            .collect();
        assert_eq!(p[out.start..out.start + 2], [NEEDS_CSUM, 1]);
        assert_eq!(words, [28, 2, 20, 6]);
    }

    #[test]
    fn an_unfinished_checksum_outside_the_inner_packet_is_refused() {
        for csum_start in [0u16, 33, 53, 61, u16::MAX] {
            let mut p = packet(0, 0);
            p[0] = NEEDS_CSUM;
            p[6..8].copy_from_slice(&csum_start.to_ne_bytes());
            p[8..10].copy_from_slice(&6u16.to_ne_bytes());
            assert_eq!(
                decapsulate(&mut p, LINK),
                Err(Refusal::BadOffload),
                "csum_start {csum_start}"
            );
        }
    }

    #[test]
    fn inconsistent_headers_are_refused() {
        assert_eq!(with(OUTER, 0x65), Err(Refusal::BadHeader));
        assert_eq!(with(OUTER, 0x44), Err(Refusal::BadHeader));
        assert_eq!(with(OUTER + 3, 19), Err(Refusal::BadHeader));
        assert_eq!(with(OUTER + 3, 53), Err(Refusal::Truncated));
        assert_eq!(with(OUTER + 3, 0), Err(Refusal::BadHeader));
        assert_eq!(with(OUTER + 9, 17), Err(Refusal::NotIpip));
        assert_eq!(with(OUTER + 6, 0x20), Err(Refusal::Fragment));
        assert_eq!(with(OUTER + 7, 1), Err(Refusal::Fragment));
        assert_eq!(with(INNER, 0x65), Err(Refusal::BadHeader));
        assert_eq!(with(INNER, 0x4f), Err(Refusal::Truncated));
        assert_eq!(with(INNER + 3, 33), Err(Refusal::Truncated));
    }

    #[test]
    fn wrong_header_checksums_are_refused() {
        for at in [OUTER + 8, INNER + 8] {
            let mut p = packet(0, 0);
            p[at] ^= 1;
            assert_eq!(decapsulate(&mut p, LINK), Err(Refusal::BadChecksum));
        }
    }

    #[test]
    fn every_prefix_is_refused() {
        for len in 0..packet(0, 0).len() {
            assert_eq!(
                decapsulate(&mut packet(0, 0)[..len], LINK),
                Err(Refusal::Truncated),
                "{len} bytes"
            );
        }
    }

    #[test]
    fn ecn_follows_rfc_6040() {
        let decapsulated = |outer, inner| {
            let mut p = packet(outer, inner);
            decapsulate(&mut p, LINK).map(|i| {
                let header = &p[i.start + VNET_LEN..i.start + VNET_LEN + 20];
                assert_eq!(checksum::of(header), 0);
                header[1]
            })
        };
        // RFC 6040 figure 4; rows: inner, columns: outer Not-ECT, ECT(0), ECT(1), CE.
        let table = [
            (
                NOT_ECT,
                [
                    Ok(NOT_ECT),
                    Ok(NOT_ECT),
                    Ok(NOT_ECT),
                    Err(Refusal::Congested),
                ],
            ),
            (ECT_0, [Ok(ECT_0), Ok(ECT_0), Ok(ECT_1), Ok(CE)]),
            (ECT_1, [Ok(ECT_1), Ok(ECT_1), Ok(ECT_1), Ok(CE)]),
            (CE, [Ok(CE), Ok(CE), Ok(CE), Ok(CE)]),
        ];
        for (inner, row) in table {
            for (outer, expected) in [NOT_ECT, ECT_0, ECT_1, CE].into_iter().zip(row) {
                assert_eq!(
                    decapsulated(outer, inner),
                    expected,
                    "inner {inner:02b}, outer {outer:02b}"
                );
            }
        }
        // The DSCP above it stays.
        assert_eq!(decapsulated(CE, 0xb8 | ECT_0), Ok(0xb8 | CE));
    }
}
