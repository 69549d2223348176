//! The `virtio_net_hdr` in front of each frame of a packet socket with PACKET_VNET_HDR (virtio 1.2 §5.1.6).
//!
//! Ten bytes in the host's byte order: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset.

use uvs_core::frame::{Gso, Offload};

/// Bytes of the header.
pub(crate) const VNET_LEN: usize = 10;

/// The transport checksum is unfinished. The other flag, DATA_VALID, says that the sender's network card
/// has checked it: nothing for us to do, and an error to pass on.
const F_NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// What a received header says.
pub(crate) fn decode(header: &[u8; VNET_LEN]) -> Offload {
    let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1] = *header;
    let ecn = gso_type & GSO_ECN != 0;
    let gso = match gso_type & !GSO_ECN {
        GSO_NONE => Gso::None,
        GSO_TCPV4 => Gso::TcpV4 { ecn },
        GSO_TCPV6 => Gso::TcpV6 { ecn },
        GSO_UDP_L4 => Gso::UdpL4,
        _ => Gso::Other,
    };
    Offload {
        csum_start: (flags & F_NEEDS_CSUM != 0).then_some(u16::from_ne_bytes([s0, s1])),
        csum_offset: u16::from_ne_bytes([o0, o1]),
        gso,
        gso_size: u16::from_ne_bytes([g0, g1]),
        hdr_len: u16::from_ne_bytes([h0, h1]),
    }
}

/// The header to send. [`Gso::Other`] is never forwarded; were it, the frame would go as no super-frame
/// and the kernel would refuse it for its length.
pub(crate) fn encode(offload: &Offload) -> [u8; VNET_LEN] {
    let ecn_bit = |ecn| if ecn { GSO_ECN } else { 0 };
    let gso_type = match offload.gso {
        Gso::None | Gso::Other => GSO_NONE,
        Gso::TcpV4 { ecn } => GSO_TCPV4 | ecn_bit(ecn),
        Gso::TcpV6 { ecn } => GSO_TCPV6 | ecn_bit(ecn),
        Gso::UdpL4 => GSO_UDP_L4,
    };
    let flags = if offload.is_partial() {
        F_NEEDS_CSUM
    } else {
        0
    };
    let [h0, h1] = offload.hdr_len.to_ne_bytes();
    let [g0, g1] = offload.gso_size.to_ne_bytes();
    let [s0, s1] = offload.csum_start.unwrap_or(0).to_ne_bytes();
    let [o0, o1] = if offload.is_partial() {
        offload.csum_offset.to_ne_bytes()
    } else {
        [0, 0]
    };
    [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1]
}

/// Has a received header count from `bytes` later in its frame.
pub(crate) fn count_from(header: &mut [u8; VNET_LEN], bytes: u16) {
    let [flags, _, h0, h1, _, _, s0, s1, _, _] = header;
    let later = |low: &mut u8, high: &mut u8| {
        let from_there = u16::from_ne_bytes([*low, *high]).saturating_sub(bytes);
        [*low, *high] = from_there.to_ne_bytes();
    };
    later(h0, h1);
    if *flags & F_NEEDS_CSUM != 0 {
        later(s0, s1);
    }
}

/// Whether the header in front of a frame to send says that it is a super-frame.
pub(crate) fn is_super_frame(header_and_frame: &[u8]) -> bool {
    header_and_frame
        .get(1)
        .is_some_and(|gso_type| gso_type & !GSO_ECN != GSO_NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(flags: u8, gso_type: u8) -> [u8; VNET_LEN] {
        let mut h = [flags, gso_type, 0, 0, 0, 0, 0, 0, 0, 0];
        for (at, word) in [(2, 54u16), (4, 1448), (6, 34), (8, 16)] {
            h[at..at + 2].copy_from_slice(&word.to_ne_bytes());
        }
        h
    }

    #[test]
    fn an_unfinished_checksum_and_each_kind_of_super_frame_go_in_and_out() {
        for (gso_type, gso) in [
            (0, Gso::None),
            (1, Gso::TcpV4 { ecn: false }),
            (0x81, Gso::TcpV4 { ecn: true }),
            (4, Gso::TcpV6 { ecn: false }),
            (0x84, Gso::TcpV6 { ecn: true }),
            (5, Gso::UdpL4),
        ] {
            let offload = Offload {
                csum_start: Some(34),
                csum_offset: 16,
                gso,
                gso_size: 1448,
                hdr_len: 54,
            };
            assert_eq!(decode(&header(1, gso_type)), offload);
            assert_eq!(encode(&offload), header(1, gso_type));
        }
    }

    #[test]
    fn a_header_counts_from_where_its_frame_begins() {
        for flags in [0, 1] {
            let mut tagged = header(flags, 1);
            count_from(&mut tagged, 4);
            let (before, after) = (decode(&header(flags, 1)), decode(&tagged));
            assert_eq!(after.csum_start, before.csum_start.map(|start| start - 4));
            assert_eq!(after.hdr_len, before.hdr_len - 4);
            assert_eq!((after.gso, after.gso_size), (before.gso, before.gso_size));
        }
    }

    #[test]
    fn data_valid_is_neither_read_nor_sent() {
        let offload = decode(&header(2, 0));
        assert_eq!(offload.csum_start, None);
        assert_eq!(encode(&offload)[0], 0);
        assert_eq!(encode(&offload)[6..], [0; 4]);
    }

    #[test]
    fn what_the_code_does_not_know_is_other() {
        for gso_type in [2, 3, 6, 0x20, 0x40, 0x83] {
            assert_eq!(
                decode(&header(1, gso_type)).gso,
                Gso::Other,
                "gso_type {gso_type:#x}"
            );
        }
    }
}
