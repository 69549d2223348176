//! The outer IP header of a tunnel, as Linux's `ip_vs_tunnel_xmit` and `ip_vs_tunnel_xmit_v6` make it. The packet
//! within may be of either family, and so may the outer header: it is of the server's.
//!
//! TTL and traffic class are the inner packet's, but CE becomes ECT(0) outside (RFC 6040 §4.1, compatibility of the
//! encapsulator aside). In IPv4 DF is copied, and then there is no identification; IPv6 has none to be copied.

use uvs_core::flow::Family;
use uvs_core::frame::Frame;
use uvs_core::mode::Path;
use uvs_core::narrow;
use uvs_core::packet::Packet;
use uvs_core::rewrite;
use uvs_core::verdict::DropReason;
use uvs_core::wire::{ethernet, ipv4, ipv6, protocol};

/// ECN's bits in the traffic class (RFC 3168 §5).
const ECN: u8 = 0x03;
const CE: u8 = 0x03;
const ECT_0: u8 = 0x02;

/// What a tunnel's outer header is put around.
pub(crate) struct Wrapped<'a> {
    /// What follows the outer IP header.
    pub(crate) payload: &'a mut [u8],
    path: &'a Path,
    protocol: u8,
}

impl Wrapped<'_> {
    /// The sum of the outer header's pseudo-header.
    pub(crate) fn pseudo_header(&self) -> u16 {
        let (src, dst) = (self.path.tunnel_source, self.path.ends.server.addr);
        let len = narrow::to_u32(self.payload.len());
        rewrite::pseudo_header(src, dst, self.protocol, len)
    }
}

/// What the packet within says of itself.
struct Inner {
    class: u8,
    ttl: u8,
    dont_fragment: bool,
}

/// The protocol number of a packet of this family within another.
pub(crate) const fn protocol_of(family: Family) -> u8 {
    match family {
        Family::V4 => protocol::IPIP,
        Family::V6 => protocol::IPV6,
    }
}

/// Opens room for the tunnel's headers and writes the outer IP header.
///
/// # Errors
/// The frame has no headroom left, or becomes longer than an IP packet may be, or the director has no address of the
/// server's family.
#[inline(always)]
pub(crate) fn wrap<'f>(
    frame: &'f mut Frame<'_>,
    packet: &Packet,
    path: &'f Path,
    protocol: u8,
) -> Result<Wrapped<'f>, DropReason> {
    let inner = inner(frame, packet);
    let payload = match (path.tunnel_source.as_v4(), path.ends.server.addr.as_v4()) {
        (Some(src), Some(dst)) => {
            let (len, bytes) = open(frame, path, Family::V4)?;
            let dont_fragment = path.copy_df && inner.dont_fragment;
            let header = ipv4::Repr {
                tos: outer_class(inner.class),
                total_len: len,
                id: if dont_fragment { 0 } else { path.ip_id },
                dont_fragment,
                ttl: inner.ttl,
                protocol,
                src,
                dst,
            };
            header.emit(bytes);
            &mut bytes[ipv4::MIN_LEN..]
        }
        (None, None) => {
            let (len, bytes) = open(frame, path, Family::V6)?;
            let header = ipv6::Repr {
                traffic_class: outer_class(inner.class),
                flow_label: 0,
                payload_len: len - narrow::to_u16(ipv6::LEN),
                next_header: protocol,
                hop_limit: inner.ttl,
                src: path.tunnel_source.v6_octets(),
                dst: path.ends.server.addr.v6_octets(),
            };
            header.emit(bytes);
            &mut bytes[ipv6::LEN..]
        }
        _ => return Err(DropReason::NoRoute),
    };
    Ok(Wrapped {
        payload,
        path,
        protocol,
    })
}

/// Opens room for a tunnel's headers to a server of this family: how long the IP packet is then, and its bytes.
#[inline(always)]
fn open<'f>(
    frame: &'f mut Frame<'_>,
    path: &Path,
    server: Family,
) -> Result<(u16, &'f mut [u8]), DropReason> {
    let overhead = path.tunnel.overhead(server);
    let len = frame.len() - ethernet::LEN + overhead;
    let len = u16::try_from(len).map_err(|_| DropReason::Oversized)?;
    frame.open_gap(overhead)?;
    let bytes = frame.bytes_mut();
    ethernet::Header::new_mut(bytes).set_ethertype(ethernet::ethertype::of(server == Family::V6));
    Ok((len, &mut bytes[ethernet::LEN..]))
}

#[inline(always)]
fn inner(frame: &Frame<'_>, packet: &Packet) -> Inner {
    match packet.family {
        Family::V4 => {
            let header = packet.ipv4(frame.bytes());
            Inner {
                class: header.tos(),
                ttl: header.ttl(),
                dont_fragment: header.dont_fragment(),
            }
        }
        Family::V6 => {
            let header = packet.ipv6(frame.bytes());
            Inner {
                class: header.traffic_class(),
                ttl: header.hop_limit(),
                dont_fragment: false,
            }
        }
    }
}

const fn outer_class(inner: u8) -> u8 {
    match inner & ECN {
        CE => inner & !ECN | ECT_0,
        _ => inner,
    }
}
