//! Taking the outer header off a tunnel's packet, of either family in either (RFC 2003, RFC 2473, RFC 4213), on
//! bytes alone.
//!
//! The packet comes with the `virtio_net_hdr` of an AF_PACKET socket and leaves with one for a TUN device:
//! an unfinished checksum stays unfinished and a super-frame stays whole, which is what the sender's
//! offloads leave in nearly every packet on a virtual network.

use std::net::IpAddr;

use uvs_core::wire::{Malformed, ipv4, ipv6, protocol};

use super::vnet::{NEEDS_CSUM, VNET_LEN, Vnet};

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
    /// Not a tunnel's packet.
    NotIpip,
    /// Shorter than its headers say.
    Truncated,
    /// An outer or inner IP header that cannot be.
    BadHeader,
    /// An outer or inner IPv4 header checksum that is wrong.
    BadChecksum,
    /// A fragment that nobody put together.
    Fragment,
    /// Congestion was met on a packet whose sender does not support ECN (RFC 6040 §4.2).
    Congested,
    /// Offload metadata that contradict the packet.
    BadOffload,
}

impl From<Malformed> for Refusal {
    fn from(wrong: Malformed) -> Self {
        match wrong {
            Malformed::Truncated => Self::Truncated,
            Malformed::Header => Self::BadHeader,
        }
    }
}

/// The outer destination of the packet in `buf`, which is as [`decapsulate`] wants it.
pub(super) fn outer_destination(buf: &[u8], link: usize) -> Option<IpAddr> {
    let packet = buf.get(VNET_LEN + link..)?;
    match packet.first()? >> 4 {
        4 => Some(ipv4::Header::new_checked(packet).ok()?.dst().into()),
        6 => Some(ipv6::Header::new_checked(packet).ok()?.dst().into()),
        _ => None,
    }
}

/// Takes the outer header off the packet in `buf`: a `virtio_net_hdr`, `link` bytes of link header, an IP
/// packet.
pub(super) fn decapsulate(buf: &mut [u8], link: usize) -> Result<Inner, Refusal> {
    let (head, packet) = buf
        .split_at_mut_checked(VNET_LEN + link)
        .ok_or(Refusal::Truncated)?;
    let mut vnet = Vnet::read(head);
    let super_frame = vnet.gso_type != 0;
    let outer = Headers::check(packet, super_frame)?;
    let version = match outer.protocol {
        protocol::IPIP => 4,
        protocol::IPV6 => 6,
        _ => return Err(Refusal::NotIpip),
    };
    if outer.fragment {
        return Err(Refusal::Fragment);
    }
    let inner_bytes = &mut packet[outer.len..outer.total];
    let inner = match inner_bytes.first() {
        None => return Err(Refusal::Truncated),
        Some(first) if first >> 4 != version => return Err(Refusal::BadHeader),
        Some(_) => Headers::check(inner_bytes, super_frame)?,
    };
    if let Some(merged) = merged_ecn(outer.class & CE, inner.class)? {
        inner.change_class(inner_bytes, merged);
    }
    vnet.strip(link + outer.len, inner.first, inner.total)
        .map_err(|_| Refusal::BadOffload)?;

    // The new header takes the place of the outer header's last bytes, so nothing is moved.
    let start = link + outer.len;
    buf[start..start + VNET_LEN].copy_from_slice(&vnet.bytes());
    let end = start + VNET_LEN + inner.total;
    let unfinished = vnet.flags & NEEDS_CSUM != 0;
    Ok(Inner {
        start,
        end,
        unfinished,
        super_frame,
    })
}

/// What an IP packet's headers say of it, checked against the bytes there are.
struct Headers {
    version: u8,
    /// Bytes of the header itself: IPv4's with its options, IPv6's without extension headers.
    first: usize,
    /// Bytes before what is carried.
    len: usize,
    total: usize,
    fragment: bool,
    protocol: u8,
    /// Type of service, or traffic class.
    class: u8,
}

impl Headers {
    fn check(packet: &[u8], super_frame: bool) -> Result<Self, Refusal> {
        match packet.first().map(|first| first >> 4) {
            None => Err(Refusal::Truncated),
            Some(6) => Self::of_ipv6(packet, super_frame),
            Some(_) => Self::of_ipv4(packet, super_frame),
        }
    }

    fn of_ipv4(packet: &[u8], super_frame: bool) -> Result<Self, Refusal> {
        let checked = ipv4::Packet::new_checked(packet)?;
        let first = checked.header.header_len();
        let total = match usize::from(checked.header.total_len()) {
            // A super-frame over 64 KiB has no room for its length (IPv4 BIG TCP).
            0 if super_frame => packet.len(),
            n => n,
        };
        if total > packet.len() {
            return Err(Refusal::Truncated);
        }
        if total < first {
            return Err(Refusal::BadHeader);
        }
        if !checked.is_sound() {
            return Err(Refusal::BadChecksum);
        }
        Ok(Self {
            version: 4,
            first,
            len: first,
            total,
            fragment: checked.header.is_fragment(),
            protocol: checked.header.protocol(),
            class: checked.header.tos(),
        })
    }

    fn of_ipv6(packet: &[u8], super_frame: bool) -> Result<Self, Refusal> {
        let header = ipv6::Header::new_checked(packet)?;
        let total = match usize::from(header.payload_len()) {
            // As above; what has a jumbo payload option instead has no tunnel's header behind it.
            0 if super_frame => packet.len(),
            n => ipv6::LEN + n,
        };
        let whole = packet.get(..total).ok_or(Refusal::Truncated)?;
        let chain = ipv6::walk(whole)?;
        Ok(Self {
            version: 6,
            first: ipv6::LEN,
            len: chain.len,
            total,
            fragment: chain.fragment.is_some(),
            protocol: chain.protocol,
            class: header.traffic_class(),
        })
    }

    fn change_class(&self, packet: &mut [u8], class: u8) {
        if self.version == 6 {
            ipv6::Header::new_mut(packet).set_traffic_class(class);
        } else {
            ipv4::Header::new_mut(packet).change_tos(class);
        }
    }
}

/// RFC 6040 §4.2: what the network said of congestion outside is kept inside. The inner class, where it changes.
fn merged_ecn(outer: u8, inner: u8) -> Result<Option<u8>, Refusal> {
    let merged = match (inner & CE, outer) {
        (NOT_ECT, CE) => return Err(Refusal::Congested),
        (ECT_0 | ECT_1, CE) => CE,
        (ECT_0, ECT_1) => ECT_1,
        _ => return Ok(None),
    };
    Ok(Some(inner & !CE | merged))
}

#[cfg(test)]
mod tests;
