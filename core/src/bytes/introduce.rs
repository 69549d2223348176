//! Changing a TCP segment so that its server learns of its client: the numbers of a stream with more before its first
//! byte, the options that would not survive that, timestamps, and an option with the client's address.
//!
//! Checksums are kept as [`rewrite`](crate::rewrite) keeps them: finished ones by difference, unfinished ones unfinished.

use serde::{Deserialize, Serialize};

use crate::flow::{Endpoint, Family};
use crate::frame::Frame;
use crate::glance::Glance;
use crate::narrow;
use crate::packet::{Packet, Transport};
use crate::splice::Splice;
use crate::verdict::DropReason;
use crate::wire::checksum::{self, Delta};
use crate::wire::tcp::options::{self, Fate, kind};
use crate::wire::tcp::{self, flag};
use crate::wire::{ipv4, ipv6, udp};

/// What becomes of a connection's timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stamps {
    /// They stay.
    #[default]
    Keep,
    /// The SYN loses the option.
    Strip,
    /// The client's are so much later at the server.
    Offset(u32),
}

/// TOA's option: its kind and whom it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Toa {
    pub(crate) kind: u8,
    pub(crate) client: Endpoint,
}

impl Toa {
    /// Bytes of the option: kind, length, port and address (`TCPOLEN_IP4_TOA`, `TCPOLEN_IP6_TOA`).
    pub(crate) const fn len(self) -> usize {
        match self.client.addr.family() {
            Family::V4 => 8,
            Family::V6 => 20,
        }
    }

    fn emit(self, option: &mut [u8]) {
        (option[0], option[1]) = (self.kind, narrow::to_u8(option.len()));
        option[2..4].copy_from_slice(&self.client.port.to_be_bytes());
        match self.client.addr.as_v4() {
            Some(octets) => option[4..].copy_from_slice(&octets),
            None => option[4..].copy_from_slice(&self.client.addr.v6_octets()),
        }
    }
}

/// All that a segment is changed by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edits {
    /// Its numbers.
    pub(crate) splice: Splice,
    /// Its timestamps.
    pub(crate) stamps: Stamps,
    /// The client's address, where it is to be in this segment of the client's.
    pub(crate) toa: Option<Toa>,
    /// Bytes that segments of the client's grow by on their way, so that it may send so much less in one.
    pub(crate) growth: u8,
}

impl Edits {
    /// Those of the segment with the header, which is what moves all others.
    pub(crate) const fn with_header(mut self) -> Self {
        self.splice.sent = true;
        self
    }

    /// Bytes that this segment grows by.
    pub(crate) fn growth_of(&self, packet: &Packet) -> usize {
        match (self.toa, packet.transport) {
            (Some(toa), Transport::Tcp { flags, header })
                if usize::from(header) + toa.len() <= tcp::MAX_LEN
                    && flags & (flag::SYN | flag::RST) == 0 =>
            {
                toa.len()
            }
            _ => 0,
        }
    }

    /// Changes a segment of the client's on its way to the server; the packet that it is then.
    ///
    /// # Errors
    /// [`DropReason::Oversized`] where there is no headroom for an option.
    pub(crate) fn forward(
        &self,
        frame: &mut Frame<'_>,
        packet: &Packet,
    ) -> Result<Packet, DropReason> {
        let Transport::Tcp { flags, header } = packet.transport else {
            return Ok(*packet);
        };
        change_header(frame, packet, header, |head, list| {
            let mut tcp = tcp::Header::new_mut(head);
            if flags & flag::SYN == 0 {
                tcp.set_seq(self.splice.to_server(tcp.seq()));
            } else {
                self.change_opening(list);
            }
            if let Stamps::Offset(by) = self.stamps {
                shift_stamp(list, STAMP, by);
            }
        });
        match self.toa.filter(|_| self.growth_of(packet) > 0) {
            Some(toa) => insert(frame, packet, header, toa),
            None => Ok(*packet),
        }
    }

    /// Changes a segment of the server's on its way to the client.
    pub(crate) fn reverse(&self, frame: &mut Frame<'_>, packet: &Packet) {
        let Transport::Tcp { flags, header } = packet.transport else {
            return;
        };
        change_header(frame, packet, header, |head, list| {
            let mut tcp = tcp::Header::new_mut(head);
            let acks = flags & flag::ACK != 0;
            if flags & flag::SYN != 0 {
                // What is put in takes of what the server has room for.
                let len = u16::try_from(self.splice.len).unwrap_or(u16::MAX);
                tcp.set_window(tcp.window().saturating_sub(len));
                lower_mss(list, self.growth.into());
            } else if acks {
                tcp.set_ack(self.splice.to_client(tcp.ack()));
                options::map_sack(list, |edge| self.splice.to_client(edge));
            }
            if let Stamps::Offset(by) = self.stamps
                && acks
            {
                shift_stamp(list, ECHO, by.wrapping_neg());
            }
        });
    }

    /// Takes out of a SYN what would not be true of the connection at both ends: Fast Open, whose data would come
    /// before what is put in, Multipath, which numbers the stream by itself, and timestamps where asked.
    fn change_opening(&self, list: &mut [u8]) {
        options::visit(list, |kind, option| {
            let goes = match kind {
                kind::TIMESTAMPS => self.stamps == Stamps::Strip,
                kind::FAST_OPEN | kind::MULTIPATH => self.splice.len > 0,
                kind if kind::EXPERIMENTS.contains(&kind) => {
                    let whose = option.get(options::HEAD..options::HEAD + 2);
                    self.splice.len > 0 && whose == Some(&options::EXPERIMENTAL_FAST_OPEN)
                }
                _ => false,
            };
            if goes { Fate::Goes } else { Fate::Stays }
        });
    }
}

/// Where in a timestamps option the sender's own is,
const STAMP: usize = options::HEAD;
/// and where the one that it echoes.
const ECHO: usize = STAMP + 4;

/// The sender's timestamp in a segment, where it has one.
pub(crate) fn stamp(frame: &Frame<'_>, packet: &Packet) -> Option<u32> {
    let Transport::Tcp { header, .. } = packet.transport else {
        return None;
    };
    let mut list = [0; options::MAX_LEN];
    let from = &frame.bytes()[packet.l4() + tcp::MIN_LEN..packet.l4() + usize::from(header)];
    let list = &mut list[..from.len()];
    list.copy_from_slice(from);
    let mut found = None;
    options::visit(list, |kind, option| {
        if kind == kind::TIMESTAMPS {
            found = options::number(option, STAMP);
        }
        Fate::Stays
    });
    found
}

fn shift_stamp(list: &mut [u8], at: usize, by: u32) {
    options::visit(list, |kind, option| {
        if let Some(stamp) = options::number(option, at).filter(|_| kind == kind::TIMESTAMPS) {
            options::set_number(option, at, stamp.wrapping_add(by));
        }
        Fate::Stays
    });
}

fn lower_mss(list: &mut [u8], by: u16) {
    options::visit(list, |kind, option| {
        if let (kind::MSS, [.., high, low]) = (kind, &mut *option) {
            let mss = u16::from_be_bytes([*high, *low]).saturating_sub(by);
            [*high, *low] = mss.to_be_bytes();
        }
        Fate::Stays
    });
}

/// Changes a segment's header, handed over as its fixed part and its options, and its checksum with it.
fn change_header(
    frame: &mut Frame<'_>,
    packet: &Packet,
    header: u8,
    change: impl FnOnce(&mut [u8], &mut [u8]),
) {
    let l4 = packet.l4();
    let partial = frame.offload.is_partial_at(l4);
    let bytes = &mut frame.bytes_mut()[l4..l4 + usize::from(header)];
    let before = checksum::sum(bytes);
    let (head, list) = bytes.split_at_mut(tcp::MIN_LEN);
    change(head, list);
    let after = checksum::sum(bytes);
    if !partial {
        let mut tcp = tcp::Header::new_mut(bytes);
        let delta = Delta::ZERO.word(before, after);
        tcp.set_checksum(delta.apply(tcp.checksum()));
    }
}

/// Puts TOA's option before all others; the packet that it is then.
fn insert(
    frame: &mut Frame<'_>,
    packet: &Packet,
    header: u8,
    toa: Toa,
) -> Result<Packet, DropReason> {
    let (l4, len) = (packet.l4(), toa.len());
    let partial = frame.offload.is_partial_at(l4);
    frame.open_gap_at(l4 + tcp::MIN_LEN, len)?;
    let mut grown = *packet;
    grown.ip_len += narrow::to_u32(len);
    if let Transport::Tcp { header, .. } = &mut grown.transport {
        *header += narrow::to_u8(len);
    }
    let bytes = frame.bytes_mut();
    let (head, segment) = bytes.split_at_mut(l4);
    let before = checksum::sum(&segment[..tcp::MIN_LEN]);
    toa.emit(&mut segment[tcp::MIN_LEN..][..len]);
    tcp::Header::new_mut(segment).set_header_len(usize::from(header) + len);
    let after = checksum::sum(&segment[..tcp::MIN_LEN + len]);
    // The pseudo-header has the segment's length.
    let lengths = (packet.pseudo_header(head), grown.pseudo_header(head));
    let length = Delta::ZERO.word(lengths.0, lengths.1);
    let mut tcp = tcp::Header::new_mut(segment);
    let sum = match partial {
        true => length.apply_partial(tcp.checksum()),
        false => length.word(before, after).apply(tcp.checksum()),
    };
    tcp.set_checksum(sum);
    set_ip_len(bytes, &grown);
    if frame.offload.hdr_len > 0 {
        frame.offload.hdr_len += narrow::to_u16(len);
    }
    Ok(grown)
}

/// Writes a packet's length into its IP header: 0 where it has no room for it, as super-frames have it.
fn set_ip_len(bytes: &mut [u8], packet: &Packet) {
    let ip = usize::from(packet.ip);
    match packet.family {
        Family::V4 => {
            let total = u16::try_from(packet.ip_len).unwrap_or_default();
            packet.ipv4_mut(bytes).set_total_len(total);
            ipv4::seal(&mut bytes[ip..packet.l4()]);
        }
        Family::V6 => {
            let payload = packet.ip_len as usize - ipv6::LEN;
            let payload = u16::try_from(payload).unwrap_or_default();
            packet.ipv6_mut(bytes).set_payload_len(payload);
        }
    }
}

/// Puts a header before a datagram's data. The frame has so many bytes more than the packet, which lies at its end; the
/// packet that it is then.
pub(crate) fn prefix(frame: &mut Frame<'_>, packet: &Packet, header: &[u8]) -> Packet {
    let (l4, headers) = (packet.l4(), packet.l4() + udp::LEN);
    let partial = frame.offload.is_partial_at(l4);
    let mut grown = *packet;
    grown.ip_len += narrow::to_u32(header.len());
    let bytes = frame.bytes_mut();
    bytes.copy_within(header.len()..header.len() + headers, 0);
    bytes[headers..headers + header.len()].copy_from_slice(header);
    set_ip_len(bytes, &grown);
    let (head, datagram) = bytes.split_at_mut(l4);
    let mut udp = udp::Header::new_mut(datagram);
    udp.set_length(narrow::to_u16(grown.l4_len()));
    let pseudo = grown.pseudo_header(head);
    match (partial, udp.checksum()) {
        (true, _) => udp.set_checksum(pseudo),
        // None stays none, for the mode to see to.
        (false, 0) => {}
        (false, _) => udp::seal(datagram, pseudo),
    }
    grown
}

/// Takes the data out of a segment, and FIN with them; the packet that it is then.
pub(crate) fn cut_data(frame: &mut Frame<'_>, packet: &Packet) -> Packet {
    let Transport::Tcp { flags, header } = packet.transport else {
        return *packet;
    };
    let l4 = packet.l4();
    let mut cut = *packet;
    cut.ip_len = narrow::to_u32(usize::from(packet.ip_header) + usize::from(header));
    cut.transport = Transport::Tcp {
        flags: flags & !flag::FIN,
        header,
    };
    frame.truncate(l4 + usize::from(header));
    frame.offload = Default::default();
    let bytes = frame.bytes_mut();
    set_ip_len(bytes, &cut);
    tcp::Header::new_mut(&mut bytes[l4..]).set_flags(flags & !flag::FIN);
    let pseudo = cut.pseudo_header(bytes);
    tcp::seal(&mut bytes[l4..], pseudo);
    cut
}

/// Puts the number of a segment that an ICMP error quotes into the terms of the end that it goes to: the client's own
/// number, or, where it is quoted so far, the one by which the server's segment acknowledged the client's. `quoted` is
/// from its IP header on.
pub(crate) fn renumber_quote(quoted: &mut [u8], splice: Splice, to_client: bool) {
    let Some(l4) = Glance::of_packet(quoted).and_then(|seen| seen.l4) else {
        return;
    };
    let segment = quoted.get_mut(l4..).unwrap_or_default();
    let flags = segment.get(tcp::offset::FLAGS).copied();
    let at = match to_client {
        true => tcp::offset::SEQ,
        false if flags.is_some_and(|flags| flags & flag::SYN == 0) => tcp::offset::ACK,
        // A SYN's numbers both ends have.
        false => return,
    };
    let Some(field) = segment.get_mut(at..).and_then(|s| s.first_chunk_mut()) else {
        return;
    };
    let number = u32::from_be_bytes(*field);
    let number = match to_client {
        true => splice.to_client(number),
        false => splice.to_server(number),
    };
    *field = number.to_be_bytes();
}
