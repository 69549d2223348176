//! The decapsulator's socket filters, in classic BPF (linux/bpf_common.h): which packets are a tunnel's and have
//! this host as their link-layer destination.

use socket2::SockFilter;
use uvs_core::wire::{ipv4, ipv6, protocol};

const LD_W_ABS: u16 = 0x20;
const LD_B_ABS: u16 = 0x30;
const JEQ: u16 = 0x15;
const RET: u16 = 0x06;
/// Where a packet's type is, `PACKET_HOST` …, and where its IP header begins, whatever the link.
const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
const IP: u32 = libc::SKF_NET_OFF.cast_unsigned();
const PACKET_HOST: u32 = 0;

/// Lets nothing through.
pub(super) fn nothing() -> [SockFilter; 1] {
    [SockFilter::new(RET, 0, 0, 0)]
}

/// Lets IPv4 packets of these protocols through.
pub(super) fn in_ipv4(protocols: &[u8]) -> Vec<SockFilter> {
    let mut filter = to_this_host();
    filter.push(load(ipv4::offset::PROTOCOL));
    accept(&mut filter, protocols);
    filter.extend(nothing());
    filter
}

/// Lets IPv6 packets of these protocols through, also behind one extension header that a tunnel may have: a
/// fragment's, or the options with the encapsulation limit that Linux's `ip6tnl` adds (RFC 2473 §4.1.1).
pub(super) fn in_ipv6(protocols: &[u8]) -> Vec<SockFilter> {
    const OUTER: [u8; 3] = [
        protocol::HOP_BY_HOP,
        protocol::FRAGMENT,
        protocol::DESTINATION_OPTIONS,
    ];
    let mut filter = to_this_host();
    filter.push(load(ipv6::offset::NEXT_HEADER));
    accept(&mut filter, protocols);
    // Each jumps over those after it and over the refusal.
    for (number, after) in OUTER.into_iter().zip([3, 2, 1]) {
        filter.push(SockFilter::new(JEQ, after, 0, number.into()));
    }
    filter.extend(nothing());
    filter.push(load(ipv6::LEN + ipv6::extension::NEXT_HEADER));
    accept(&mut filter, protocols);
    accept(&mut filter, &OUTER);
    filter.extend(nothing());
    filter
}

fn to_this_host() -> Vec<SockFilter> {
    vec![
        SockFilter::new(LD_W_ABS, 0, 0, PACKET_TYPE),
        SockFilter::new(JEQ, 1, 0, PACKET_HOST),
        SockFilter::new(RET, 0, 0, 0),
    ]
}

/// Loads the byte at an offset in the IP packet.
fn load(offset: usize) -> SockFilter {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an offset in a header of a few bytes"
    )]
    let offset = offset as u32;
    SockFilter::new(LD_B_ABS, 0, 0, IP + offset)
}

/// Accepts the packet where the byte loaded is one of these.
fn accept(filter: &mut Vec<SockFilter>, numbers: &[u8]) {
    for &number in numbers {
        filter.push(SockFilter::new(JEQ, 0, 1, number.into()));
        filter.push(SockFilter::new(RET, 0, 0, u32::MAX));
    }
}
