//! What the model's program does with a frame.

use super::{Entry, Memory, Model};
use crate::conn::Side;
use crate::engine::passage::{self, Exit, Standpoint};
use crate::fib::{Fib, LOOPBACK};
use crate::flow::{Addr, Direction, Family};
use crate::frame::{Frame, Gso};
use crate::narrow;
use crate::offload::{Cell, Change, Event, Hop, Leg, Reply, Up, is_told};
use crate::outbox::Outbox;
use crate::packet::{self, Packet, Parsed, Transport};
use crate::rewrite;
use crate::segment;
use crate::sequence::{self, Numbers};
use crate::service::outer_header;
use crate::tcp::{self, TcpState};
use crate::testing::bed::Sent;
use crate::time::Instant;
use crate::verdict::{Egress, PortId};
use crate::wire::tcp::{controls, flag};
use crate::wire::{ethernet, ipv4, ipv6, protocol};

/// ECN's bits in the TOS (RFC 3168 §5).
const ECN: u8 = 0x03;
const CE: u8 = 0x03;
const ECT_0: u8 = 0x02;

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It was forwarded, as these.
    Forwarded(Vec<Sent>),
    /// It is of a connection that the hook knows, and comes up.
    Up(Up),
    /// It is of none.
    Other,
}

impl Model {
    /// Decides about a frame received through `port`, and forwards it where its connection is taken.
    pub fn frame(&self, now: Instant, fib: &Fib, port: PortId, frame: &mut Frame<'_>) -> Passage {
        self.memory()
            .frame(now, fib, port, frame)
            .unwrap_or(Passage::Other)
    }
}

impl Memory {
    fn frame(
        &mut self,
        now: Instant,
        fib: &Fib,
        port: PortId,
        frame: &mut Frame<'_>,
    ) -> Option<Passage> {
        let interface = fib.interface(port)?;
        let Parsed::Ip(packet) = packet::parse(frame) else {
            return None;
        };
        let for_us = ethernet::Header::new(frame.bytes()).dst() == interface.mac;
        let martian = packet.flow.src.is_martian() && interface.ifindex != LOOPBACK;
        if martian || !for_us && port != PortId::HOST {
            return None;
        }
        packet.balanced()?;
        let cell = *self.keys.get(&packet.flow)?;
        let entry = *self.cells.get(&cell)?;
        let side = match entry.taken.client_key() == Some(packet.flow) {
            true => Side::Client,
            false => Side::Server,
        };
        let Some((leg, hop)) = self.way(&entry, side) else {
            return Some(Passage::Up(Up::Known));
        };
        let at = self.standpoint(&entry, side, &leg, &hop);
        if let Some(why) = passage::comes_up(frame, &packet, interface.ifindex, &at) {
            return Some(Passage::Up(why));
        }
        self.forwarded += 1;
        self.count(cell, side, now, frame, &packet);
        Some(Passage::Forwarded(self.send(&leg, &hop, frame, &packet)))
    }

    fn way(&self, entry: &Entry, side: Side) -> Option<(Leg, Hop)> {
        let leg = match (side, entry.taken.reply) {
            (Side::Client, _) => entry.taken.forward?,
            (Side::Server, Reply::Taken(leg)) => leg,
            (Side::Server, Reply::Known(_) | Reply::Direct) => return None,
        };
        Some((leg, *self.hops.get(&leg.hop)?))
    }

    fn standpoint(&self, entry: &Entry, side: Side, leg: &Leg, hop: &Hop) -> Standpoint {
        let taken = &entry.taken;
        let server = self.servers.get(&taken.server);
        let current = server.is_some_and(|s| s.generation == taken.generation);
        let overhead = match leg.change {
            Change::Wrap { dst, .. } => outer_header(dst.family()),
            Change::Nothing | Change::Ends(_) => 0,
        };
        Standpoint {
            side,
            stale: !current || taken.ways != self.ways,
            asked: taken.up,
            stateless: self.stateless,
            strict: self.strict,
            tracked: entry.seen.tracked,
            has_local: taken.kept.local.port != 0,
            exit: Some(Exit {
                mac: hop.mac,
                mtu: hop.mtu,
                overhead: narrow::to_u8(overhead),
                arrival: leg.arrival,
                translates: matches!(leg.change, Change::Ends(_)),
            }),
        }
    }

    /// Takes a packet into its connection, and into what is counted of its server.
    fn count(&mut self, cell: Cell, side: Side, now: Instant, frame: &Frame<'_>, packet: &Packet) {
        let (output, strict) = (side == Side::Server, self.strict);
        let Some(entry) = self.cells.get_mut(&cell) else {
            return;
        };
        let taken = entry.taken;
        let traffic = self.traffic.entry(taken.server).or_default();
        traffic.count(output, u64::from(packet.ip_len));
        if taken.counts {
            entry.counted.count(output, u64::from(packet.ip_len));
        }
        let told = match packet.transport {
            Transport::Tcp { flags, header } => {
                let segment = Segment {
                    flags,
                    data: packet.l4_len() - usize::from(header),
                    output,
                };
                entry.follow(now, &segment, frame, packet, strict)
            }
            _ => {
                let first = output && !entry.seen.proven;
                entry.seen.proven |= output;
                entry.seen.tracked.no_output &= !output;
                first && taken.tells_proven
            }
        };
        entry.seen.client_packets += u32::from(!output);
        entry.seen.last = now;
        if told {
            self.events.push_back(Event {
                cell,
                birth: taken.birth,
            });
        }
    }

    fn send(&mut self, leg: &Leg, hop: &Hop, frame: &mut Frame<'_>, packet: &Packet) -> Vec<Sent> {
        rewrite::decrement_ttl(frame, packet);
        let wraps = matches!(leg.change, Change::Wrap { .. });
        if !wraps || frame.offload.gso == Gso::None {
            return vec![self.send_one(leg, hop, frame, packet)];
        }
        // What the interface, or the kernel before it, makes of a super-frame with an outer header.
        let mut segments = segment::segments(frame, packet).expect("it was looked at");
        let (mut out, mut sent) = (Outbox::new(), Vec::new());
        while let Some(len) = segments.next_len() {
            let mut draft = out.draft(len);
            let (offload, packet) = segments.write(draft.bytes_mut());
            draft.offload = offload;
            sent.push(self.send_one(leg, hop, &mut draft, &packet));
        }
        sent
    }

    fn send_one(&mut self, leg: &Leg, hop: &Hop, frame: &mut Frame<'_>, packet: &Packet) -> Sent {
        match leg.change {
            Change::Nothing => {}
            Change::Ends(ends) => rewrite::set_ends(frame, packet, ends),
            Change::Wrap { src, dst, copy_df } => self.wrap(frame, packet, (src, dst), copy_df),
        }
        let mac = hop.mac.unwrap_or_default();
        rewrite::set_macs(frame, &mac, &hop.source_mac);
        let egress = Egress {
            port: hop.port,
            unresolved: None,
        };
        Sent::of(frame.bytes(), frame.offload, egress)
    }

    fn wrap(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        (src, dst): (Addr, Addr),
        copy_df: bool,
    ) {
        let (class, ttl, inner_df, protocol) = match packet.family {
            Family::V4 => {
                let inner = packet.ipv4(frame.bytes());
                let df = inner.dont_fragment();
                (inner.tos(), inner.ttl(), df, protocol::IPIP)
            }
            Family::V6 => {
                let inner = packet.ipv6(frame.bytes());
                let class = inner.traffic_class();
                (class, inner.hop_limit(), false, protocol::IPV6)
            }
        };
        let class = match class & ECN {
            CE => class & !ECN | ECT_0,
            _ => class,
        };
        let payload_len = narrow::to_u16(frame.len() - ethernet::LEN);
        let room = outer_header(dst.family());
        frame.open_gap(room).expect("headroom");
        let mut eth = ethernet::Header::new_mut(frame.bytes_mut());
        eth.set_ethertype(ethernet::ethertype::of(!dst.is_v4()));
        let outer = &mut frame.bytes_mut()[ethernet::LEN..][..room];
        let (Some(src_v4), Some(dst_v4)) = (src.as_v4(), dst.as_v4()) else {
            let header = ipv6::Repr {
                traffic_class: class,
                flow_label: 0,
                payload_len,
                next_header: protocol,
                hop_limit: ttl,
                src: src.v6_octets(),
                dst: dst.v6_octets(),
            };
            return header.emit(outer);
        };
        let dont_fragment = copy_df && inner_df;
        self.ip_id = self.ip_id.wrapping_add(1);
        let header = ipv4::Repr {
            tos: class,
            total_len: payload_len + narrow::to_u16(room),
            id: if dont_fragment { 0 } else { self.ip_id },
            dont_fragment,
            ttl,
            protocol,
            src: src_v4,
            dst: dst_v4,
        };
        header.emit(outer);
    }
}

/// A segment's part in its connection.
struct Segment {
    flags: u8,
    /// Bytes of data.
    data: usize,
    output: bool,
}

impl Entry {
    /// Takes a segment into the connection's state and numbers; whether the engine is told.
    fn follow(
        &mut self,
        now: Instant,
        segment: &Segment,
        frame: &Frame<'_>,
        packet: &Packet,
        strict: bool,
    ) -> bool {
        let Segment {
            flags,
            data,
            output,
        } = *segment;
        let seen = &mut self.seen;
        let tracked = &mut seen.tracked;
        let before = TcpState::from_number(tracked.state);
        let asked = flags & (flag::SYN | flag::ACK | flag::RST | flag::FIN);
        let answers = output && before == TcpState::SynRecv && asked == flag::SYN | flag::ACK;
        if answers && seen.answered.is_none() {
            seen.answered = Some(now);
        }
        tracked.no_output &= !output;
        let direction = match (output, tracked.no_output) {
            (true, _) => Direction::Output,
            (false, true) => Direction::InputOnly,
            (false, false) => Direction::Input,
        };
        let state = tcp::next(before, direction, flags, strict);
        tracked.state = state as u8;
        let proven = state == TcpState::Established && before != state;
        seen.proven |= proven;
        let tcp = packet.tcp(frame.bytes());
        let data = narrow::to_u32(data);
        let numbers = Numbers {
            flags,
            seq: tcp.seq(),
            end: tcp.seq().wrapping_add(data + controls(flags)),
            ack: (flags & flag::ACK != 0).then(|| tcp.ack()),
        };
        let ends = match output {
            true => (&mut tracked.client_expects, &mut tracked.server_expects),
            false => (&mut tracked.server_expects, &mut tracked.client_expects),
        };
        sequence::note(tracked.state, output, &numbers, ends);
        is_told(before as u8, state as u8) || proven && self.taken.tells_proven
    }
}
