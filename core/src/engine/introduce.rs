//! The packets of connections whose servers are told of their clients: what goes before them, into them, and what is
//! changed of them (ADR 0035).
//!
//! The step stands between tracking and the way out. What goes before a segment is a packet of its own, written as the
//! client's and sent through the connection's mode, so that no segment of the client's grows, however long it is, and
//! none is cut: not even a super-frame.

use super::Engine;
use super::flows::Due;
use super::leg::Leg;
use super::related::Quote;
use super::sizes::wire_len;
use super::transit::Transit;
use super::transmit::Exit;
use super::voice::Header;
use crate::conn::{ConnId, Hint};
use crate::fib::{NextHop, Unreachable};
use crate::flow::Family;
use crate::fragment::Pieces;
use crate::frame::{Frame, Gso, Offload};
use crate::introduce::{self, Edits};
use crate::narrow;
use crate::outbox::HEADROOM;
use crate::packet::{self, Parsed, Transport};
use crate::rewrite;
use crate::segment;
use crate::trace::{Recorder, Step};
use crate::verdict::{DropReason, Egress, PortId, Verdict};
use crate::wire::{ethernet, ipv6, protocol, proxy, tcp};

/// Where a made packet's IP header is in its buffer,
const IP: usize = HEADROOM + ethernet::LEN;
/// and bytes of a buffer for the longest.
const ROOM: usize = IP + ipv6::LEN + tcp::MAX_LEN + proxy::MAX_LEN;

impl<R: Recorder> Engine<R> {
    /// Sends a packet of an introduced connection's client to its server.
    #[cold]
    pub(super) fn forward_introduced(
        &mut self,
        t: &mut Transit<'_, '_>,
        id: ConnId,
        leg: &mut Leg,
        hop: &Result<NextHop, Unreachable>,
    ) -> Verdict {
        match self.flows.introduce(id, t.frame, t.packet) {
            Due::Nothing => {}
            // What is made out of a damaged segment would look whole. The server drops it, and it comes again.
            Due::Header { .. } | Due::CutData if !rewrite::checksum_is_right(t.frame, t.packet) => {
            }
            Due::Datagram => leg.prefix = Some(id),
            Due::CutData => {
                let packet = introduce::cut_data(t.frame, t.packet);
                leg.edits = self.flows.edits_of(id);
                let mut cut = Transit {
                    now: t.now,
                    frame: t.frame,
                    packet: &packet,
                    hint: Hint::NONE,
                    pieces: Pieces::default(),
                    out: t.out,
                };
                return self.transmit(&mut cut, leg, hop);
            }
            Due::Header { again, instead } => match self.send_header(t, id, leg, hop) {
                Err(verdict) => return verdict,
                Ok(sent) => {
                    self.counters.proxy_headers += 1;
                    self.counters.proxy_headers_again += u64::from(again);
                    if instead {
                        return sent;
                    }
                }
            },
        }
        leg.edits = self.flows.edits_of(id);
        self.transmit_behind(t, leg, hop)
    }

    /// Sends a packet of an introduced connection's server to its client. Where the server does not get on, the header
    /// goes to it again.
    #[cold]
    pub(super) fn reply_introduced(
        &mut self,
        t: &mut Transit<'_, '_>,
        id: ConnId,
        leg: &mut Leg,
        hop: &Result<NextHop, Unreachable>,
    ) -> Verdict {
        let mut bytes = [0; ROOM];
        let packet = self.flows.answered(t.now, id, t.frame, t.packet);
        let packet = packet.filter(|packet| packet.len() <= ROOM - IP);
        if let Some(packet) = packet {
            let end = IP + packet.len();
            bytes[IP..end].copy_from_slice(packet);
            let c = *self.flows.conn(id);
            let edits = self.flows.edits_of(id);
            if self.send_as_client(t.now, (&c, edits), &mut bytes[..end], t.out) {
                self.counters.proxy_headers += 1;
                self.counters.proxy_headers_again += 1;
            }
        }
        leg.edits = self.flows.edits_of(id);
        self.transmit_behind(t, leg, hop)
    }

    /// Puts a packet with the header into the outbox: the client's own without its data and without options of IP's, so
    /// that it says the same beside. As what the frame ends where it stays behind; or why the packet cannot go.
    fn send_header(
        &mut self,
        t: &mut Transit<'_, '_>,
        id: ConnId,
        leg: &Leg,
        hop: &Result<NextHop, Unreachable>,
    ) -> Result<Verdict, Verdict> {
        let mut bytes = [0; ROOM];
        let len = self.write_header(t, id, &mut bytes[IP..]);
        let end = IP + len.ok_or(Verdict::Drop(DropReason::Oversized))?;
        self.record(|e| Step::Introduced {
            bytes: narrow::to_u32(e.flows.header(id).len()),
        });
        let unchanged = bytes;
        let six = t.packet.family == Family::V6;
        let mut ethernet = ethernet::Header::new_mut(&mut bytes[HEADROOM..]);
        ethernet.set_ethertype(ethernet::ethertype::of(six));
        let mut frame = Frame::new(&mut bytes[..end], HEADROOM, end, Offload::default());
        frame.arrival = t.frame.arrival;
        let Parsed::Ip(packet) = packet::parse(&mut frame) else {
            return Err(Verdict::Drop(DropReason::Oversized));
        };
        let mut leg = Leg {
            edits: self.flows.edits_of(id).map(Edits::with_header),
            ..*leg
        };
        let mut made = Transit {
            now: t.now,
            frame: &mut frame,
            packet: &packet,
            hint: Hint::NONE,
            pieces: Pieces::default(),
            out: t.out,
        };
        let before = made.out.len();
        let verdict = self.transmit(&mut made, &mut leg, hop);
        match queue(&mut made, before, verdict) {
            sent @ (Verdict::SendOutbox | Verdict::Local) => {
                self.flows.header_sent(t.now, id, &unchanged[IP..end]);
                Ok(sent)
            }
            other => Err(other),
        }
    }

    /// Writes the packet with the header, from its IP header on; its length, `None` where it does not fit.
    fn write_header(&self, t: &Transit<'_, '_>, id: ConnId, out: &mut [u8]) -> Option<usize> {
        let Transport::Tcp { header, .. } = t.packet.transport else {
            return None;
        };
        let splice = self.flows.edits_of(id)?.splice;
        let data = self.flows.header(id);
        let options = usize::from(header);
        let ip = ip_header(t, options + data.len())?;
        let len = ip.len() + options + data.len();
        let out = out.get_mut(..len)?;
        ip.emit(out);
        let segment = &mut out[ip.len()..];
        let own = &t.frame.bytes()[t.packet.l4()..];
        segment[..options].copy_from_slice(&own[..options]);
        segment[options..].copy_from_slice(data);
        let mut head = tcp::Header::new_mut(segment);
        // Its edits move it to the stream's very beginning.
        head.set_seq(splice.start.wrapping_sub(splice.len));
        head.set_flags(tcp::flag::ACK | tcp::flag::PSH);
        head.set_urgent(0);
        tcp::seal(segment, ip.pseudo_header());
        Some(len)
    }

    /// As [`Engine::transmit`], behind what is in the outbox already.
    fn transmit_behind(
        &mut self,
        t: &mut Transit<'_, '_>,
        leg: &mut Leg,
        hop: &Result<NextHop, Unreachable>,
    ) -> Verdict {
        let before = t.out.len();
        let verdict = self.transmit(t, leg, hop);
        match before {
            0 => verdict,
            _ => queue(t, before, verdict),
        }
    }

    /// What is left of the room for a packet that grows on its way. An option is left out where there is none.
    pub(super) fn room_for_growth(&self, t: &Transit<'_, '_>, leg: &mut Leg, room: usize) -> usize {
        if let Some(id) = leg.prefix {
            return room.saturating_sub(self.flows.header(id).len());
        }
        if let Some(edits) = &mut leg.edits
            && wire_len(t.frame, t.packet) + edits.growth_of(t.packet) > room
        {
            edits.toa = None;
        }
        room
    }

    /// Sends each datagram of the frame with the header in it.
    pub(super) fn send_datagrams(
        &mut self,
        t: &mut Transit<'_, '_>,
        leg: &mut Leg,
        exit: &Exit<'_>,
        id: ConnId,
    ) -> Result<Verdict, DropReason> {
        // Its checksum is a new one, which must not make a damaged datagram look whole.
        if !rewrite::checksum_is_right(t.frame, t.packet) {
            return Err(DropReason::BadChecksum);
        }
        let mut segments = match t.frame.offload.gso {
            Gso::None => None,
            _ => Some(segment::segments(t.frame, t.packet)?),
        };
        let mut whole = Some(t.frame.len());
        loop {
            let next = match &segments {
                Some(segments) => segments.next_len(),
                None => whole.take(),
            };
            let Some(len) = next else {
                return Ok(Verdict::SendOutbox);
            };
            let header = self.flows.header(id);
            let mut draft = t.out.draft(header.len() + len);
            let own = &mut draft.bytes_mut()[header.len()..];
            let (offload, packet) = match &mut segments {
                Some(segments) => segments.write(own),
                None => {
                    own.copy_from_slice(t.frame.bytes());
                    (t.frame.offload, *t.packet)
                }
            };
            draft.offload = offload;
            let packet = introduce::prefix(&mut draft, &packet, header);
            leg.path.ip_id = self.voice.next_ip_id();
            leg.rewrite(&mut draft, &packet)?;
            let made = exit.finish(draft);
            self.counters.segments += u64::from(segments.is_some());
            self.push_made(made, exit, t.out);
        }
    }

    /// Puts the numbers of the segment that an ICMP error quotes into the terms of the end that it goes to.
    pub(super) fn renumber_quote(
        &self,
        frame: &mut Frame<'_>,
        id: ConnId,
        quote: &Quote,
        to_client: bool,
    ) {
        if quote.flow.protocol == protocol::TCP
            && let Some(edits) = self.flows.edits_of(id)
        {
            let quoted = &mut frame.bytes_mut()[quote.ip..];
            introduce::renumber_quote(quoted, edits.splice, to_client);
        }
    }
}

/// The IP header of a packet that says of itself what the one in hand does, with `len` bytes after it.
fn ip_header(t: &Transit<'_, '_>, len: usize) -> Option<Header> {
    let (packet, bytes) = (t.packet, t.frame.bytes());
    let mut header = Header::new(protocol::TCP, packet.flow.src, packet.flow.dst, len)?;
    match &mut header {
        Header::V4(header) => {
            let own = packet.ipv4(bytes);
            (header.tos, header.id, header.ttl) = (own.tos(), own.id(), packet.ttl);
            header.dont_fragment = packet.dont_fragment;
        }
        Header::V6(header) => {
            let own = packet.ipv6(bytes);
            header.traffic_class = own.traffic_class();
            (header.flow_label, header.hop_limit) = (own.flow_label(), packet.ttl);
        }
    }
    Some(header)
}

/// What leaves by itself leaves by the outbox instead, behind what was in it.
fn queue(t: &mut Transit<'_, '_>, before: usize, verdict: Verdict) -> Verdict {
    let (egress, queued) = match verdict {
        Verdict::Send(egress) => (egress, Verdict::SendOutbox),
        Verdict::Local if t.out.len() == before => {
            let host = Egress {
                port: PortId::HOST,
                unresolved: None,
            };
            (host, Verdict::Local)
        }
        other => return other,
    };
    t.out.push_copy(t.frame.bytes(), t.frame.offload, egress);
    queued
}
