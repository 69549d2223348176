//! Decapsulation on bytes: what comes out, and what is refused.

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
    assert_eq!(with(OUTER, 0x55), Err(Refusal::BadHeader));
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

/// An IP header of this version before `payload`, with these ECN bits.
fn headed(version: u8, ecn: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = if version == 4 {
        let total = 20 + u8::try_from(payload.len()).unwrap();
        let mut header = vec![0x45, ecn, 0, total, 0, 2, 0, 0, 64, protocol, 0, 0];
        header.extend([10, 9, 0, 2, 10, 9, 0, 3]);
        seal(&mut header);
        header
    } else {
        let mut header = vec![0; ipv6::LEN];
        let repr = ipv6::Repr {
            traffic_class: ecn,
            flow_label: 0,
            payload_len: u16::try_from(payload.len()).unwrap(),
            next_header: protocol,
            hop_limit: 64,
            src: [1; 16],
            dst: [2; 16],
        };
        repr.emit(&mut header);
        header
    };
    packet.extend(payload);
    packet
}

fn framed(packet: &[u8]) -> Vec<u8> {
    [&[0; VNET_LEN][..], &[0xee; LINK], packet].concat()
}

const UDP: &[u8] = &[0x30, 0x39, 0, 80, 0, 12, 0, 0, b'p', b'i', b'n', b'g'];

#[test]
fn either_family_comes_out_of_either() {
    for (outer, inner) in [(4, 4), (4, 6), (6, 4), (6, 6)] {
        let carried = headed(inner, ECT_0, protocol::UDP, UDP);
        let number = if inner == 4 {
            protocol::IPIP
        } else {
            protocol::IPV6
        };
        let mut p = framed(&headed(outer, CE, number, &carried));
        let out = decapsulate(&mut p, LINK).expect("sound");
        let came = &p[out.start + VNET_LEN..out.end];
        // The congestion outside is kept inside.
        assert_eq!(
            came,
            headed(inner, CE, protocol::UDP, UDP),
            "{inner} in {outer}"
        );

        let wrong = if inner == 4 {
            protocol::IPV6
        } else {
            protocol::IPIP
        };
        let mut p = framed(&headed(outer, 0, wrong, &carried));
        assert_eq!(decapsulate(&mut p, LINK), Err(Refusal::BadHeader));
    }
}

/// As Linux's ip6tnl sends it: the encapsulation limit in destination options (RFC 2473 §4.1.1).
#[test]
fn outer_extension_headers_are_taken_off() {
    let carried = headed(6, 0, protocol::UDP, UDP);
    let options = [&[protocol::IPV6, 0, 4, 1, 4, 1, 1, 0][..], &carried].concat();
    let mut p = framed(&headed(6, 0, protocol::DESTINATION_OPTIONS, &options));
    let out = decapsulate(&mut p, LINK).expect("sound");
    assert_eq!(&p[out.start + VNET_LEN..out.end], carried);
}

#[test]
fn every_prefix_of_an_ipv6_packet_is_refused() {
    let whole = framed(&headed(
        6,
        0,
        protocol::IPV6,
        &headed(6, 0, protocol::UDP, UDP),
    ));
    for len in 0..whole.len() {
        let cut = &mut whole[..len].to_vec();
        assert_eq!(
            decapsulate(cut, LINK),
            Err(Refusal::Truncated),
            "{len} bytes"
        );
    }
    let mut fragment = framed(&headed(
        6,
        0,
        protocol::FRAGMENT,
        &[protocol::IPV6, 0, 0, 1, 0, 0, 0, 1, 0x60, 0, 0, 0],
    ));
    assert_eq!(decapsulate(&mut fragment, LINK), Err(Refusal::Fragment));
}

#[test]
fn an_unfinished_checksum_in_ipv6_stays_so() {
    let carried = headed(6, 0, protocol::UDP, UDP);
    let mut p = framed(&headed(6, 0, protocol::IPV6, &carried));
    let transport = u16::try_from(LINK + 2 * ipv6::LEN).unwrap();
    p[0] = NEEDS_CSUM;
    p[6..8].copy_from_slice(&transport.to_ne_bytes());
    p[8..10].copy_from_slice(&6u16.to_ne_bytes());
    let out = decapsulate(&mut p, LINK).expect("sound");
    assert!(out.unfinished && !out.super_frame);
    let start = u16::from_ne_bytes([p[out.start + 6], p[out.start + 7]]);
    assert_eq!(usize::from(start), ipv6::LEN);
}
