//! Connections whose servers are told of their clients: what each of them needs beside its entry, by its place.

use serde::{Deserialize, Serialize};

use super::Flows;
use super::introduced::{Due, Introduced};
use crate::conn::{Conn, ConnId};
use crate::flow::{Endpoint, Flow, Protocol};
use crate::frame::Frame;
use crate::introduce::{self, Edits, Stamps, Toa};
use crate::narrow;
use crate::packet::{Packet, Transport};
use crate::peer::Shifts;
use crate::ranks::Rank;
use crate::rewrite;
use crate::service::{ClientAddress, Introduction, Timestamps};
use crate::splice::Splice;
use crate::tcp::TcpState;
use crate::time::Instant;
use crate::wire::proxy::{Addresses, Parts, Repr, UNIQUE_ID};
use crate::wire::tcp::flag;

/// By the connection's place.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Introductions(Vec<Option<Box<Introduced>>>);

impl Introductions {
    fn get(&self, id: ConnId) -> Option<&Introduced> {
        self.0.get(id.0 as usize)?.as_deref()
    }

    fn get_mut(&mut self, id: ConnId) -> Option<&mut Introduced> {
        self.0.get_mut(id.0 as usize)?.as_deref_mut()
    }

    fn put(&mut self, id: ConnId, introduced: Introduced) {
        let place = id.0 as usize;
        if place >= self.0.len() {
            self.0.resize_with(place + 1, || None);
        }
        self.0[place] = Some(Box::new(introduced));
    }

    pub(super) fn remove(&mut self, id: ConnId) {
        if let Some(entry) = self.0.get_mut(id.0 as usize) {
            *entry = None;
        }
    }
}

impl Flows {
    /// A new connection of the service at a slot, with the packet that has opened it: whether and how its client is
    /// introduced.
    pub(in crate::engine) fn begin_introduction(
        &mut self,
        now: Instant,
        id: ConnId,
        slot: u32,
        (frame, packet): (&Frame<'_>, &Packet),
    ) {
        let how = &self.service(slot).introduction;
        let c = self.conns.get(id);
        if how.is_plain() || !c.is_replied_to() {
            return;
        }
        let introduced = match packet.transport {
            Transport::Tcp { flags, .. } if flags & flag::SYN != 0 => {
                let seq = packet.tcp(frame.bytes()).seq();
                let header = self.header_of(now, c, how, true);
                let splice = Splice::new(seq.wrapping_add(1), narrow::to_u32(header.len()));
                let stamps = match how.timestamps {
                    Timestamps::Keep => Stamps::Keep,
                    Timestamps::Strip => Stamps::Strip,
                    Timestamps::Offset => self.offset_of(now, c, frame, packet),
                };
                let toa = (how.client_address == ClientAddress::Toa).then_some(Toa {
                    kind: how.toa_kind,
                    client: c.ends.client,
                });
                Introduced::new(splice, stamps, toa, header)
            }
            Transport::Udp if how.client_address == ClientAddress::ProxyV2 => {
                let header = self.header_of(now, c, how, false);
                Introduced::new(Splice::new(0, 0), Stamps::Keep, None, header)
            }
            _ => return,
        };
        self.introductions.put(id, introduced);
        self.conns.get_mut(id).set_introduced(true);
    }

    /// The header of the PROXY protocol for a connection; empty where there is none.
    fn header_of(&self, now: Instant, c: &Conn, how: &Introduction, stream: bool) -> Vec<u8> {
        let addresses = match (c.ends.client.addr.as_v4(), c.ends.vip.addr.as_v4()) {
            (Some(src), Some(dst)) => Addresses::V4 { src, dst },
            _ => Addresses::V6 {
                src: c.ends.client.addr.v6_octets(),
                dst: c.ends.vip.addr.v6_octets(),
            },
        };
        let header = Repr {
            addresses,
            ports: (c.ends.client.port, c.ends.vip.port),
            stream,
        };
        match how.client_address {
            ClientAddress::Packet | ClientAddress::Toa => Vec::new(),
            ClientAddress::ProxyV1 => header.version_1(),
            ClientAddress::ProxyV2 => header.version_2(&Parts {
                authority: how.authority.as_bytes(),
                unique_id: self.unique_id(now, c),
            }),
        }
    }

    /// No other connection has the same ends at the same time.
    fn unique_id(&self, now: Instant, c: &Conn) -> [u8; UNIQUE_ID] {
        let hash = self.conns.hash_of(&c.client_flow());
        let mut id = [b'0'; UNIQUE_ID];
        let text = format!("{hash:016x}{:016x}", now.0);
        for (to, from) in id.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        id
    }

    /// How much later than the client's the timestamps are at the server: so that all from one address there are of one
    /// clock, a thousand times a second, that begins anywhere (RFC 7323 §5.4).
    fn offset_of(&self, now: Instant, c: &Conn, frame: &Frame<'_>, packet: &Packet) -> Stamps {
        /// Nanoseconds of the clock's step.
        const STEP: u64 = 1_000_000;
        let Some(stamp) = introduce::stamp(frame, packet) else {
            return Stamps::Keep;
        };
        let far = *c.ends.facing_server();
        let ends = Flow::new(c.protocol, c.ends.server, Endpoint::new(far.addr, 0));
        let clock = (now.0 / STEP).wrapping_add(self.conns.hash_of(&ends)) & 0xffff_ffff;
        let clock = u32::try_from(clock).unwrap_or_default();
        Stamps::Offset(clock.wrapping_sub(stamp))
    }

    /// Goes on with a connection as another director has told of it, unless it is known here.
    pub(super) fn take_up_introduction(&mut self, id: ConnId, shifts: &Shifts) {
        let c = self.conns.get(id);
        if *shifts == Shifts::default() || c.is_introduced() || !c.is_replied_to() {
            return;
        }
        let (start, len) = shifts.bytes.unwrap_or_default();
        let stamps = shifts.timestamps.map_or(Stamps::Keep, Stamps::Offset);
        let introduced = Introduced::taken_up(Splice::taken_up(start, len), stamps);
        self.introductions.put(id, introduced);
        self.conns.get_mut(id).set_introduced(true);
    }

    /// What another director has to know of a connection to go on with it.
    pub(super) fn shifts_of(&self, c: &Conn) -> Shifts {
        let known = c.is_introduced().then(|| self.find(&c.client_flow()));
        let introduced = known
            .flatten()
            .and_then(|(id, _)| self.introductions.get(id));
        let Some(Introduced { splice, stamps, .. }) = introduced else {
            return Shifts::default();
        };
        let spliced = splice.sent && splice.len > 0;
        Shifts {
            bytes: spliced.then_some((splice.start, splice.len)),
            timestamps: match stamps {
                Stamps::Offset(by) => Some(*by),
                Stamps::Keep | Stamps::Strip => None,
            },
        }
    }

    /// A client's SYN on a known connection: it may begin again with other numbers.
    pub(in crate::engine) fn begin_again(
        &mut self,
        now: Instant,
        id: ConnId,
        (frame, packet): (&Frame<'_>, &Packet),
    ) {
        let c = self.conns.get(id);
        let half_open = TcpState::from_number(c.state).rank() == Rank::HalfOpen;
        if !c.is_introduced() || c.protocol != Protocol::Tcp || !half_open {
            return;
        }
        let start = packet.tcp(frame.bytes()).seq().wrapping_add(1);
        let stamps = self.offset_of(now, c, frame, packet);
        if let Some(introduced) = self.introductions.get_mut(id) {
            introduced.begin_again(start, stamps);
        }
    }

    /// What a packet of an introduced connection's client asks for beside its own way.
    pub(in crate::engine) fn introduce(
        &mut self,
        id: ConnId,
        frame: &Frame<'_>,
        packet: &Packet,
    ) -> Due {
        let Some(introduced) = self.introductions.get_mut(id) else {
            return Due::Nothing;
        };
        match packet.transport {
            Transport::Tcp { flags, header } => {
                let data = packet.l4_len().saturating_sub(header.into());
                let seq = packet.tcp(frame.bytes()).seq();
                introduced.due(flags, seq, narrow::to_u32(data))
            }
            Transport::Udp => Due::Datagram,
            _ => Due::Nothing,
        }
    }

    /// The header that a connection's server is told of its client by; empty where it has that, or gets none.
    pub(in crate::engine) fn header(&self, id: ConnId) -> &[u8] {
        let introduced = self.introductions.get(id);
        introduced.map_or(&[], |introduced| &introduced.header)
    }

    /// The header of a connection was sent, in this packet, as if its client had sent it.
    pub(in crate::engine) fn header_sent(&mut self, now: Instant, id: ConnId, packet: &[u8]) {
        if let Some(introduced) = self.introductions.get_mut(id) {
            introduced.sent(now, packet);
        }
    }

    /// Takes in a segment of an introduced connection's server. The packet with the header, where it is to be sent again.
    pub(in crate::engine) fn answered(
        &mut self,
        now: Instant,
        id: ConnId,
        frame: &Frame<'_>,
        packet: &Packet,
    ) -> Option<&[u8]> {
        let introduced = self.introductions.get_mut(id)?;
        let Transport::Tcp { flags, header } = packet.transport else {
            return None;
        };
        let kind = flags & (flag::SYN | flag::ACK | flag::RST);
        let damaged = || !rewrite::checksum_is_right(frame, packet);
        if kind != flag::ACK || !introduced.settled && damaged() {
            return None;
        }
        let tcp = packet.tcp(frame.bytes());
        let data = packet.l4_len().saturating_sub(header.into());
        let again = introduced.answered(now, tcp.ack(), tcp.window(), narrow::to_u32(data));
        if introduced.is_over() {
            self.forget_introduction(id);
            self.offer_again(id);
            return None;
        }
        let introduced = self.introductions.get(id).filter(|_| again)?;
        Some(&introduced.packet)
    }

    /// What a connection's segments are changed by; `None` where they are not.
    pub(in crate::engine) fn edits_of(&self, id: ConnId) -> Option<Edits> {
        let introduced = self.conns.get(id).is_introduced();
        let introduced = introduced.then(|| self.introductions.get(id))??;
        Some(introduced.edits())
    }

    /// A number by which a connection's server means one of the client's, as the client has it.
    #[inline]
    pub(super) fn as_client_has_it(&self, id: ConnId, number: u32) -> u32 {
        match self.introductions.get(id) {
            Some(introduced) => introduced.splice.to_client(number),
            None => number,
        }
    }

    /// A connection is introduced no longer: its server has all, or it has ended.
    pub(super) fn forget_introduction(&mut self, id: ConnId) {
        self.introductions.remove(id);
        self.conns.get_mut(id).set_introduced(false);
    }

    /// What is known of an introduced connection, for a dry run.
    pub(in crate::engine) fn introduced(&self, id: ConnId) -> Option<Introduced> {
        self.introductions.get(id).cloned()
    }

    /// Takes in what another engine knows of the connection that is here at this place.
    pub(in crate::engine) fn copy_introduced(&mut self, id: ConnId, introduced: Introduced) {
        self.introductions.put(id, introduced);
    }
}
