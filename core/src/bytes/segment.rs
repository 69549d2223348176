//! Software segmentation: cutting a super-frame where the kernel cannot do it for us.
//!
//! A super-frame inside an outer header cannot be described to the kernel with a virtio_net_hdr, so IPIP
//! cuts first and wraps each segment. The transport checksums stay unfinished, as offloads leave them.

use crate::flow::Family;
use crate::frame::{Frame, Gso, Offload};
use crate::narrow;
use crate::packet::{Packet, Transport};
use crate::verdict::DropReason;
use crate::wire::tcp::flag;
use crate::wire::{ethernet, ipv4, ipv6, tcp, udp};

/// A super-frame's segments, made one at a time.
pub struct Segments<'a> {
    bytes: &'a [u8],
    packet: Packet,
    /// Bytes of all headers.
    headers: usize,
    size: usize,
    ecn: bool,
    at: usize,
}

/// How to cut the super-frame in `frame`.
///
/// # Errors
/// [`DropReason::GsoUnsupported`] where it is of a kind this code cannot cut.
pub fn segments<'a>(frame: &'a Frame<'_>, packet: &Packet) -> Result<Segments<'a>, DropReason> {
    if !suits(&frame.offload, packet) {
        return Err(DropReason::GsoUnsupported);
    }
    let gso = frame.offload.gso;
    let ecn = matches!(gso, Gso::TcpV4 { ecn: true } | Gso::TcpV6 { ecn: true });
    Ok(Segments {
        bytes: frame.bytes(),
        packet: *packet,
        headers: packet.l4() + transport_header(packet),
        size: usize::from(frame.offload.gso_size),
        ecn,
        at: 0,
    })
}

/// Bytes of the IP packet that each full segment of a super-frame becomes.
pub fn segment_ip_len(frame: &Frame<'_>, packet: &Packet) -> usize {
    let size = usize::from(frame.offload.gso_size);
    usize::from(packet.ip_header) + transport_header(packet) + size
}

/// Whether a super-frame is of the kind that a packet's headers say, and says how large its segments are.
const fn suits(offload: &Offload, packet: &Packet) -> bool {
    let kind = matches!(
        (offload.gso, packet.transport, packet.family),
        (Gso::TcpV4 { .. }, Transport::Tcp { .. }, Family::V4)
            | (Gso::TcpV6 { .. }, Transport::Tcp { .. }, Family::V6)
            | (Gso::UdpL4, Transport::Udp, _)
    );
    kind && offload.gso_size > 0
}

/// A super-frame is of a kind that segments say, and says how large they are.
///
/// # Errors
/// [`DropReason::GsoUnsupported`] where it is not.
#[inline(always)]
pub fn check_offload(frame: &Frame<'_>, packet: &Packet) -> Result<(), DropReason> {
    match frame.offload.gso {
        Gso::None => Ok(()),
        _ => check_super_frame(&frame.offload, packet),
    }
}

fn check_super_frame(offload: &Offload, packet: &Packet) -> Result<(), DropReason> {
    let whole = !offload.is_partial() || offload.is_partial_at(packet.l4());
    match whole && suits(offload, packet) {
        true => Ok(()),
        false => Err(DropReason::GsoUnsupported),
    }
}

fn transport_header(packet: &Packet) -> usize {
    match packet.transport {
        Transport::Tcp { header, .. } => usize::from(header),
        _ => udp::LEN,
    }
}

impl Segments<'_> {
    /// Length of the next segment's frame, `None` at the end.
    pub fn next_len(&self) -> Option<usize> {
        let payload = self.bytes.len() - self.headers;
        (self.at < payload || (payload == 0 && self.at == 0))
            .then(|| self.headers + self.size.min(payload - self.at))
    }

    /// Writes the next segment into `out`, which must be [`Segments::next_len`] bytes long, and returns
    /// what is unfinished in it and its packet.
    pub fn write(&mut self, out: &mut [u8]) -> (Offload, Packet) {
        let payload = out.len() - self.headers;
        let from = self.headers + self.at;
        out[..self.headers].copy_from_slice(&self.bytes[..self.headers]);
        out[self.headers..].copy_from_slice(&self.bytes[from..from + payload]);
        let index = self.at / self.size;
        let last = from + payload == self.bytes.len();
        let mut packet = self.packet;
        packet.ip_len = narrow::to_u32(out.len() - ethernet::LEN);
        self.write_ip(out, index);
        // All that a segment's checksum field holds; the rest is left to an offload.
        let sum = packet.pseudo_header(out);
        let offload = match packet.transport {
            Transport::Tcp { .. } => self.write_tcp(out, sum, index, last),
            _ => self.write_udp(out, sum),
        };
        self.at += payload.max(1);
        (offload, packet)
    }

    /// Its length, and in IPv4 an identification of its own for each (as the kernel's inet_gso_segment).
    fn write_ip(&self, out: &mut [u8], index: usize) {
        let (ip, l4) = (usize::from(self.packet.ip), self.packet.l4());
        let total = out.len() - ip;
        let bytes = &mut out[ip..l4];
        if self.packet.family == Family::V6 {
            ipv6::Header::new_mut(bytes).set_payload_len(narrow::to_u16(total - ipv6::LEN));
            return;
        }
        let mut header = ipv4::Header::new_mut(bytes);
        header.set_total_len(narrow::to_u16(total));
        header.set_id(header.id().wrapping_add(narrow::to_u16(index)));
        ipv4::seal(bytes);
    }

    /// FIN and PSH belong to the last segment, CWR to the first (RFC 3168 §6.1.2).
    fn write_tcp(&self, out: &mut [u8], sum: u16, index: usize, last: bool) -> Offload {
        let mut tcp = tcp::Header::new_mut(&mut out[self.packet.l4()..]);
        let passed = narrow::to_u32(index * self.size);
        tcp.set_seq(tcp.seq().wrapping_add(passed));
        if !last {
            tcp.set_flags(tcp.flags() & !(flag::FIN | flag::PSH));
        }
        if index > 0 && self.ecn {
            tcp.set_flags(tcp.flags() & !flag::CWR);
        }
        tcp.set_checksum(sum);
        self.unfinished(tcp::offset::CHECKSUM)
    }

    fn write_udp(&self, out: &mut [u8], sum: u16) -> Offload {
        let l4 = &mut out[self.packet.l4()..];
        let length = l4.len();
        let mut udp = udp::Header::new_mut(l4);
        udp.set_length(narrow::to_u16(length));
        udp.set_checksum(sum);
        self.unfinished(udp::offset::CHECKSUM)
    }

    /// The rest of the checksum at `offset` is left to an offload.
    fn unfinished(&self, offset: usize) -> Offload {
        Offload {
            csum_start: Some(narrow::to_u16(self.packet.l4())),
            csum_offset: narrow::to_u16(offset),
            ..Offload::default()
        }
    }
}
