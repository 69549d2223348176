//! Software segmentation: cutting a super-frame where the kernel cannot do it for us.
//!
//! A super-frame inside an outer header cannot be described to the kernel with a virtio_net_hdr, so IPIP
//! cuts first and wraps each segment. The transport checksums stay unfinished, as offloads leave them.

use crate::frame::{ETH_LEN, Frame, Gso, Offload};
use crate::packet::{Packet, Transport, tcp_flags};
use crate::rewrite::{TCP_CHECKSUM, UDP_CHECKSUM, read2, write2};
use crate::verdict::DropReason;
use crate::wire::checksum;

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
    let (transport_header, ecn) = match (frame.offload.gso, packet.transport) {
        (Gso::TcpV4 { ecn }, Transport::Tcp { header, .. }) => (usize::from(header), ecn),
        (Gso::UdpL4, Transport::Udp) => (8, false),
        _ => return Err(DropReason::GsoUnsupported),
    };
    if frame.offload.gso_size == 0 {
        return Err(DropReason::GsoUnsupported);
    }
    Ok(Segments {
        bytes: frame.bytes(),
        packet: *packet,
        headers: packet.l4() + transport_header,
        size: usize::from(frame.offload.gso_size),
        ecn,
        at: 0,
    })
}

/// Bytes of the IP packet that each full segment of a super-frame becomes.
pub fn segment_ip_len(frame: &Frame<'_>, packet: &Packet) -> usize {
    let transport_header = match packet.transport {
        Transport::Tcp { header, .. } => usize::from(header),
        _ => 8,
    };
    usize::from(packet.ip_header) + transport_header + usize::from(frame.offload.gso_size)
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
        self.write_ip(out, index);
        let offload = match self.packet.transport {
            Transport::Tcp { .. } => self.write_tcp(out, index, last),
            _ => self.write_udp(out),
        };
        self.at += payload.max(1);
        let mut packet = self.packet;
        packet.ip_len = (out.len() - ETH_LEN) as u32;
        (offload, packet)
    }

    /// Total length, and an identification of its own for each (as the kernel's inet_gso_segment).
    fn write_ip(&self, out: &mut [u8], index: usize) {
        let ip = usize::from(self.packet.ip);
        let header = ip..ip + usize::from(self.packet.ip_header);
        write2(out, ip + 2, (out.len() - ip) as u16);
        let id = read2(out, ip + 4).wrapping_add(index as u16);
        write2(out, ip + 4, id);
        write2(out, ip + 10, 0);
        let sum = checksum::of(&out[header]);
        write2(out, ip + 10, sum);
    }

    /// FIN and PSH belong to the last segment, CWR to the first (RFC 3168 §6.1.2).
    fn write_tcp(&self, out: &mut [u8], index: usize, last: bool) -> Offload {
        let l4 = self.packet.l4();
        let seq = u32::from_be_bytes([out[l4 + 4], out[l4 + 5], out[l4 + 6], out[l4 + 7]]);
        let seq = seq.wrapping_add((index * self.size) as u32);
        out[l4 + 4..l4 + 8].copy_from_slice(&seq.to_be_bytes());
        if !last {
            out[l4 + 13] &= !(tcp_flags::FIN | tcp_flags::PSH);
        }
        if index > 0 && self.ecn {
            out[l4 + 13] &= !tcp_flags::CWR;
        }
        self.leave_checksum(out, TCP_CHECKSUM)
    }

    fn write_udp(&self, out: &mut [u8]) -> Offload {
        let l4 = self.packet.l4();
        write2(out, l4 + 4, (out.len() - l4) as u16);
        self.leave_checksum(out, UDP_CHECKSUM)
    }

    /// Writes the pseudo-header's sum and leaves the rest to the offload.
    fn leave_checksum(&self, out: &mut [u8], offset: usize) -> Offload {
        let l4 = self.packet.l4();
        let (src, dst) = (self.packet.flow.src.as_v4(), self.packet.flow.dst.as_v4());
        let len = (out.len() - l4) as u32;
        let sum = checksum::pseudo_header_v4(
            src.unwrap_or_default(),
            dst.unwrap_or_default(),
            self.packet.protocol,
            len,
        );
        write2(out, l4 + offset, sum);
        Offload {
            csum_start: Some(l4 as u16),
            csum_offset: offset as u16,
            ..Offload::default()
        }
    }
}
