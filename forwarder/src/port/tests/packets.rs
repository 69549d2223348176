//! Packets as offloading senders make them, and the judge of finished ones.

use std::net::Ipv4Addr;

use uvs_core::frame::{Gso, Offload};
use uvs_core::wire::checksum;
use uvs_core::wire::ethernet;

use super::A;

/// An Ethernet frame with an IPv4 header for `transport`, whose checksum field is `at` bytes into it and
/// is left as offloads leave it: the sum of the pseudo-header.
fn frame(
    macs: ([u8; 6], [u8; 6]),
    ips: (Ipv4Addr, Ipv4Addr),
    protocol: u8,
    at: usize,
    transport: &[u8],
) -> Vec<u8> {
    let mut f = [&macs.1[..], &macs.0[..], &[0x08, 0x00]].concat();
    let length = u16::try_from(transport.len()).expect("a packet's length");
    let total = 20 + length;
    let mut ip = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0].to_vec();
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ip.extend([ips.0.octets(), ips.1.octets()].concat());
    let sum = checksum::of(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    f.extend(ip);
    f.extend(transport);
    let pseudo =
        checksum::pseudo_header_v4(ips.0.octets(), ips.1.octets(), protocol, length.into());
    f[ethernet::LEN + 20 + at..][..2].copy_from_slice(&pseudo.to_be_bytes());
    f
}

/// A UDP datagram to port 9 with `len` bytes of data, its checksum unfinished.
pub(super) fn udp(macs: ([u8; 6], [u8; 6]), dst: Ipv4Addr, len: usize) -> (Vec<u8>, Offload) {
    let length = u16::try_from(8 + len).expect("a datagram's length");
    let mut datagram = [
        &4000u16.to_be_bytes()[..],
        &9u16.to_be_bytes(),
        &length.to_be_bytes(),
        &[0, 0],
    ]
    .concat();
    datagram.extend((0..=u8::MAX).cycle().take(len));
    let offload = Offload {
        csum_start: Some(34),
        csum_offset: 6,
        ..Offload::default()
    };
    (frame(macs, (A, dst), 17, 6, &datagram), offload)
}

/// A TCP super-frame with `len` bytes of data in segments of 1448.
pub(super) fn super_frame(
    macs: ([u8; 6], [u8; 6]),
    dst: Ipv4Addr,
    len: usize,
) -> (Vec<u8>, Offload) {
    let mut segment = [
        &4000u16.to_be_bytes()[..],
        &9u16.to_be_bytes(),
        &[0; 8],
        &[0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0],
    ]
    .concat();
    segment.extend((0..=u8::MAX).cycle().take(len));
    let offload = Offload {
        csum_start: Some(34),
        csum_offset: 16,
        gso: Gso::TcpV4 { ecn: false },
        gso_size: 1448,
        hdr_len: 54,
    };
    (frame(macs, (A, dst), 6, 16, &segment), offload)
}

/// Whether the transport checksum of an IPv4 frame without options is right.
pub(super) fn transport_checksum_holds(frame: &[u8]) -> bool {
    let word = |at: usize| [frame[at], frame[at + 1], frame[at + 2], frame[at + 3]];
    let total = u16::from_be_bytes([frame[16], frame[17]]);
    let transport = &frame[ethernet::LEN + 20..ethernet::LEN + usize::from(total)];
    let pseudo = checksum::pseudo_header_v4(word(26), word(30), frame[23], u32::from(total - 20));
    checksum::add(pseudo, checksum::sum(transport)) == 0xffff
}

/// The frame in VLAN 5.
pub(super) fn tagged((bytes, offload): &(Vec<u8>, Offload)) -> (Vec<u8>, Offload) {
    let mut bytes = bytes.clone();
    bytes.splice(12..12, [0x81, 0x00, 0, 5]);
    (
        bytes,
        Offload {
            csum_start: offload.csum_start.map(|s| s + 4),
            ..*offload
        },
    )
}
