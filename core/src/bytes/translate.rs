//! A packet of one address family made one of the other's (RFC 7915), for FULLNAT between the families: IPv6
//! clients of IPv4 servers and the reverse.
//!
//! The headers change, the transport's data do not. What only one family has is lost: IPv4's options, IPv6's flow
//! label and extension headers. What cannot be left out without another meaning is dropped: a routing header with
//! a way still to go (§5.1), and AH, whose sum would be wrong.
//!
//! Checksums are kept as [`rewrite`] keeps them: finished ones by difference, unfinished ones
//! as unfinished, between the two pseudo-headers. A super-frame becomes one of the other family.

use crate::flow::{Endpoint, Family};
use crate::frame::{Frame, Gso};
use crate::narrow;
use crate::packet::{Packet, Transport};
use crate::rewrite::{self, Ends};
use crate::verdict::DropReason;
use crate::wire::checksum::Delta;
use crate::wire::{ethernet, ipv4, ipv6};

mod error;

pub use error::{len_of, message, quote};

/// The longest IPv4 packet that a translated one may be cut as: of an IPv6 packet of the smallest MTU (§5.1).
pub const MAX_CUTTABLE: usize = ipv6::MIN_MTU - (ipv6::LEN - ipv4::MIN_LEN);

/// What a packet becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its new source.
    pub src: Endpoint,
    /// Its new destination, of the same family.
    pub dst: Endpoint,
    /// Identification of an IPv4 header.
    pub id: u16,
}

/// What both families' headers say.
struct Common {
    class: u8,
    ttl: u8,
    protocol: u8,
    /// Bytes behind the headers.
    payload: usize,
}

/// Bytes of the header that a translated packet has.
pub const fn header_len(family: Family) -> usize {
    match family {
        Family::V4 => ipv4::MIN_LEN,
        Family::V6 => ipv6::LEN,
    }
}

/// Makes a whole packet one of its target's family, which is not its own.
///
/// # Errors
/// [`DropReason::Untranslatable`] where the other family cannot say the same, or the ends are of two families;
/// [`DropReason::Oversized`] where it becomes longer than a packet may be, or there is no headroom. Then the frame's
/// content is undefined.
pub fn packet(frame: &mut Frame<'_>, packet: &Packet, to: &Target) -> Result<(), DropReason> {
    let family = to.dst.addr.family();
    if family != to.src.addr.family() || !can_change(frame, packet) {
        return Err(DropReason::Untranslatable);
    }
    let header = header_len(family);
    let common = Common {
        class: class_of(frame, packet),
        ttl: ttl_of(frame, packet),
        protocol: packet.protocol,
        payload: packet.l4_len(),
    };
    if header + common.payload > usize::from(u16::MAX) {
        return Err(DropReason::Oversized);
    }
    change_transport(frame, packet, to, &common)?;
    let old = usize::from(packet.ip_header);
    match header.checked_sub(old) {
        Some(more) => frame.open_gap(more)?,
        None => frame.close_gap(old - header)?,
    }
    let whole = frame.offload.gso == Gso::None && packet.fragment_size.is_none();
    write_header(frame, to, &common, whole);
    change_offload(frame, header, old);
    Ok(())
}

/// Whether a packet's extension headers may be left out.
fn can_change(frame: &Frame<'_>, packet: &Packet) -> bool {
    match packet.family {
        Family::V4 => true,
        Family::V6 => ipv6::may_be_stripped(&frame.bytes()[usize::from(packet.ip)..packet.l4()]),
    }
}

fn class_of(frame: &Frame<'_>, packet: &Packet) -> u8 {
    match packet.family {
        Family::V4 => packet.ipv4(frame.bytes()).tos(),
        Family::V6 => packet.ipv6(frame.bytes()).traffic_class(),
    }
}

/// As it is now: the engine has lowered it.
fn ttl_of(frame: &Frame<'_>, packet: &Packet) -> u8 {
    match packet.family {
        Family::V4 => packet.ipv4(frame.bytes()).ttl(),
        Family::V6 => packet.ipv6(frame.bytes()).hop_limit(),
    }
}

/// Replaces ports and checksum; a datagram without a checksum gets one (§4.5).
fn change_transport(
    frame: &mut Frame<'_>,
    packet: &Packet,
    to: &Target,
    common: &Common,
) -> Result<(), DropReason> {
    if !matches!(
        packet.transport,
        Transport::Tcp { .. } | Transport::Udp | Transport::Sctp { .. }
    ) {
        return Err(DropReason::Untranslatable);
    }
    let before = packet.pseudo_header(frame.bytes());
    let len = narrow::to_u32(common.payload);
    let after = rewrite::pseudo_header(to.src.addr, to.dst.addr, common.protocol, len);
    let ends = Ends {
        src: Some(to.src),
        dst: Some(to.dst),
    };
    // Both sums have the same protocol and length.
    rewrite::set_transport_ends(frame, packet, ends, Delta::ZERO.word(before, after), after);
    Ok(())
}

fn write_header(frame: &mut Frame<'_>, to: &Target, common: &Common, whole: bool) {
    let family = to.dst.addr.family();
    let bytes = frame.bytes_mut();
    ethernet::Header::new_mut(bytes).set_ethertype(ethernet::ethertype::of(family == Family::V6));
    emit(&mut bytes[ethernet::LEN..], to, common, whole);
}

/// Writes the header of a packet that is `whole`: no super-frame, and did not come in pieces.
fn emit(bytes: &mut [u8], to: &Target, common: &Common, whole: bool) {
    match (to.src.addr.as_v4(), to.dst.addr.as_v4()) {
        (Some(src), Some(dst)) => {
            let total = ipv4::MIN_LEN + common.payload;
            let header = ipv4::Repr {
                tos: common.class,
                total_len: narrow::to_u16(total),
                id: to.id,
                dont_fragment: whole && total > MAX_CUTTABLE,
                ttl: common.ttl,
                protocol: common.protocol,
                src,
                dst,
            };
            header.emit(bytes);
        }
        _ => {
            let header = ipv6::Repr {
                traffic_class: common.class,
                flow_label: 0,
                payload_len: narrow::to_u16(common.payload),
                next_header: common.protocol,
                hop_limit: common.ttl,
                src: to.src.addr.v6_octets(),
                dst: to.dst.addr.v6_octets(),
            };
            header.emit(bytes);
        }
    }
}

/// A super-frame is cut into packets of the new family.
fn change_offload(frame: &mut Frame<'_>, new: usize, old: usize) {
    let offload = &mut frame.offload;
    offload.gso = match offload.gso {
        Gso::TcpV4 { ecn } => Gso::TcpV6 { ecn },
        Gso::TcpV6 { ecn } => Gso::TcpV4 { ecn },
        other => other,
    };
    if offload.hdr_len > 0 {
        let headers = usize::from(offload.hdr_len) + new;
        offload.hdr_len = narrow::to_u16(headers.saturating_sub(old));
    }
}
