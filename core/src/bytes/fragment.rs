//! Fragments: putting datagrams together, and cutting packets that are too long.
//!
//! A service's fragments are put together before the look-up (only the first one has ports) and leave
//! cut at the size they came in. Memory and time are bounded; overlapping fragments end their datagram
//! (RFC 5722's rule, which Linux applies to IPv4 too).

mod cut;

pub use cut::{Cut, Pieces, cut};

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::flow::{Addr, Family};
use crate::narrow;
use crate::packet::Packet;
use crate::time::Instant;
use crate::verdict::DropReason;
use crate::wire::{ethernet, ipv4, ipv6};

/// How long a datagram may be incomplete (Linux: net.ipv4.ipfrag_time, net.ipv6.ip6frag_time).
const fn timeout(family: Family) -> Duration {
    match family {
        Family::V4 => Duration::from_secs(30),
        Family::V6 => Duration::from_secs(60),
    }
}
/// Fragments of one datagram: 64 KiB in pieces of 576 bytes.
const MAX_PARTS: usize = 128;
/// What a fragment costs beside its bytes, counted towards the limit.
const PART_COST: usize = 64;

/// What a datagram's fragments have in common (RFC 791 §3.2, RFC 8200 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Key {
    family: Family,
    src: Addr,
    dst: Addr,
    id: u32,
    /// Of IPv4 alone: two of IPv6 with one identification are one datagram, whatever they say of this.
    protocol: u8,
}

/// Where in a datagram a fragment belongs.
struct Part<'a> {
    key: Key,
    /// Where its data begin, bytes.
    offset: usize,
    more: bool,
    data: &'a [u8],
}

impl<'a> Part<'a> {
    fn of(frame: &'a [u8], packet: &Packet) -> Self {
        let (offset, more, id) = match packet.family {
            Family::V4 => {
                let header = packet.ipv4(frame);
                let id = u32::from(header.id());
                (header.fragment_offset(), header.more_fragments(), id)
            }
            Family::V6 => {
                let header = packet.fragment_header(frame);
                (header.offset(), header.more_fragments(), header.id())
            }
        };
        let key = Key {
            family: packet.family,
            src: packet.flow.src,
            dst: packet.flow.dst,
            id,
            protocol: match packet.family {
                Family::V4 => packet.protocol,
                Family::V6 => 0,
            },
        };
        Self {
            key,
            offset,
            more,
            data: &frame[packet.l4()..],
        }
    }

    /// Whether it is a whole datagram, which RFC 6946 wants looked at alone.
    fn is_atomic(&self) -> bool {
        self.key.family == Family::V6 && self.offset == 0 && !self.more
    }

    /// Whether it is of a length that a fragment can have.
    fn is_sound(&self) -> bool {
        !self.data.is_empty()
            && (!self.more || self.data.len().is_multiple_of(8))
            && self.offset + self.data.len() <= usize::from(u16::MAX)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Datagram {
    /// Ethernet and IP header of the first fragment, of IPv6 without its Fragment header.
    head: Vec<u8>,
    /// Offset and bytes, in order of offset.
    parts: Vec<(usize, Vec<u8>)>,
    /// Payload bytes, known from the last fragment.
    total: Option<usize>,
    /// The longest fragment's IP length, and whether it carried DF.
    largest: u16,
    dont_fragment: bool,
    cost: usize,
}

/// A whole datagram.
#[derive(Debug)]
pub struct Reassembled {
    /// The frame, as if it had never been cut.
    pub frame: Vec<u8>,
    /// The longest fragment's IP length.
    pub largest: u16,
    /// The lengths of the fragments' data, in their order, and whose they were.
    sizes: Vec<u16>,
    id: u32,
}

impl Reassembled {
    /// What it came in.
    pub fn pieces(&self) -> Pieces<'_> {
        Pieces {
            sizes: &self.sizes,
            id: self.id,
        }
    }
}

/// Datagrams that are not whole yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reassembler {
    waiting: HashMap<Key, Datagram>,
    /// When each is given up: a queue a family, for their times differ.
    order: [VecDeque<(Instant, Key)>; 2],
    used: usize,
    limit: usize,
}

impl Reassembler {
    /// With another limit.
    pub(crate) fn limited(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// One that keeps at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            waiting: HashMap::new(),
            order: [VecDeque::new(), VecDeque::new()],
            used: 0,
            limit,
        }
    }

    /// Bytes it keeps.
    pub const fn used(&self) -> usize {
        self.used
    }

    /// Adds the fragment in `frame`; returns its datagram when that is whole.
    ///
    /// # Errors
    /// The fragment's length cannot be, or the limit is reached, or the fragment overlaps another: then the
    /// whole datagram goes.
    pub fn add(
        &mut self,
        now: Instant,
        frame: &[u8],
        packet: &Packet,
    ) -> Result<Option<Reassembled>, DropReason> {
        let part = Part::of(frame, packet);
        let Part {
            key,
            offset,
            more,
            data,
        } = part;
        if !part.is_sound() {
            return Err(DropReason::BadFragmentLength);
        }
        if part.is_atomic() {
            let mut alone = Datagram::new();
            alone.put(0, &part, frame, packet);
            return alone.into_reassembled(key).map(Some);
        }
        let cost = data.len() + PART_COST;
        if self.used + cost > self.limit {
            return Err(DropReason::FragmentLimit);
        }
        let order = &mut self.order[key.family as usize];
        let datagram = self.waiting.entry(key).or_insert_with(|| {
            order.push_back((now + timeout(key.family), key));
            Datagram::new()
        });
        let at = datagram.parts.partition_point(|(o, _)| *o < offset);
        if datagram
            .parts
            .get(at)
            .is_some_and(|(o, d)| *o == offset && d.as_slice() == data)
        {
            return Ok(None);
        }
        if datagram.overlaps(at, offset, data.len(), more) || datagram.parts.len() >= MAX_PARTS {
            self.forget(key);
            return Err(DropReason::FragmentLimit);
        }
        datagram.put(at, &part, frame, packet);
        datagram.cost += cost;
        self.used += cost;
        if !datagram.is_whole() {
            return Ok(None);
        }
        let whole = self
            .forget(key)
            .map(|datagram| datagram.into_reassembled(key));
        whole.transpose()
    }

    /// Forgets datagrams whose time is over; returns how many fragments went.
    pub fn expire(&mut self, now: Instant) -> u64 {
        let mut gone = 0;
        for order in &mut self.order {
            while let Some((_, key)) = order.pop_front_if(|(deadline, _)| *deadline <= now) {
                gone += self.waiting.remove(&key).map_or(0, |d| {
                    self.used -= d.cost;
                    d.parts.len() as u64
                });
            }
        }
        gone
    }

    fn forget(&mut self, key: Key) -> Option<Datagram> {
        let datagram = self.waiting.remove(&key)?;
        self.used -= datagram.cost;
        let order = &mut self.order[key.family as usize];
        // Rarely long: datagrams become whole at once or expire in order.
        if let Some(i) = order.iter().rposition(|(_, k)| *k == key) {
            order.remove(i);
        }
        Some(datagram)
    }
}

impl Datagram {
    const fn new() -> Self {
        Self {
            head: Vec::new(),
            parts: Vec::new(),
            total: None,
            largest: 0,
            dont_fragment: false,
            cost: 0,
        }
    }

    /// Puts a fragment, which overlaps none, to its place among the parts.
    fn put(&mut self, at: usize, part: &Part<'_>, frame: &[u8], packet: &Packet) {
        self.parts.insert(at, (part.offset, part.data.to_vec()));
        let len = (packet.ip_len & 0xffff) as u16;
        if len > self.largest {
            (self.largest, self.dont_fragment) = (len, packet.dont_fragment);
        } else if len == self.largest {
            self.dont_fragment |= packet.dont_fragment;
        }
        if !part.more {
            self.total = Some(part.offset + part.data.len());
        }
        if part.offset == 0 {
            self.head = head(frame, packet);
        }
    }

    fn overlaps(&self, at: usize, offset: usize, len: usize, more: bool) -> bool {
        let before = at.checked_sub(1).and_then(|i| self.parts.get(i));
        let after = self.parts.get(at);
        before.is_some_and(|(o, d)| o + d.len() > offset)
            || after.is_some_and(|(o, _)| offset + len > *o)
            || self.total.is_some_and(|t| offset + len > t || !more)
    }

    fn is_whole(&self) -> bool {
        let mut at = 0;
        for (offset, data) in &self.parts {
            if *offset != at {
                return false;
            }
            at += data.len();
        }
        self.total == Some(at) && !self.head.is_empty()
    }

    /// # Errors
    /// It is longer than an IPv6 packet may be, with its extension headers.
    fn into_reassembled(self, key: Key) -> Result<Reassembled, DropReason> {
        let mut frame = self.head;
        let end = frame.len();
        for (_, data) in &self.parts {
            frame.extend_from_slice(data);
        }
        let total = frame.len() - ethernet::LEN;
        let bytes = &mut frame[ethernet::LEN..end];
        match key.family {
            Family::V4 => {
                let mut header = ipv4::Header::new_mut(bytes);
                header.set_total_len(narrow::to_u16(total));
                // DF as the longest fragment had it (`ip_frag_reasm`).
                header.set_whole(self.dont_fragment);
                ipv4::seal(bytes);
            }
            Family::V6 => {
                let len = u16::try_from(total - ipv6::LEN);
                let len = len.map_err(|_| DropReason::BadFragmentLength)?;
                ipv6::Header::new_mut(bytes).set_payload_len(len);
            }
        }
        let lengths = self
            .parts
            .iter()
            .map(|(_, data)| narrow::to_u16(data.len()));
        Ok(Reassembled {
            frame,
            largest: self.largest,
            sizes: lengths.collect(),
            id: key.id,
        })
    }
}

/// What of a first fragment stands before the datagram's data. What names the Fragment header in it names what lies
/// behind that instead.
fn head(frame: &[u8], packet: &Packet) -> Vec<u8> {
    match packet.family {
        Family::V4 => frame[..packet.l4()].to_vec(),
        Family::V6 => {
            let ip = usize::from(packet.ip);
            let mut head = frame[..ip + usize::from(packet.fragment)].to_vec();
            if let Ok(chain) = ipv6::walk(&frame[ip..]) {
                head[ip + chain.named_at] = chain.protocol;
            }
            head
        }
    }
}
