//! IPv4 fragments: cutting a packet that is too long, and putting datagrams together again.
//!
//! A service's fragments are put together before the look-up (only the first one has ports) and leave
//! cut at the size they came in. Memory and time are bounded; overlapping fragments end their datagram
//! (RFC 5722's rule, which Linux applies to IPv4 too).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::flow::{Addr, Family};
use crate::frame::Offload;
use crate::narrow;
use crate::outbox::Outbox;
use crate::packet::Packet;
use crate::time::Instant;
use crate::verdict::{DropReason, Egress};
use crate::wire::{ethernet, ipv4};

/// How long a datagram may be incomplete (Linux: net.ipv4.ipfrag_time).
const TIMEOUT: Duration = Duration::from_secs(30);
/// Fragments of one datagram: 64 KiB in pieces of 576 bytes.
const MAX_PARTS: usize = 128;
/// What a fragment costs beside its bytes, counted towards the limit.
const PART_COST: usize = 64;

/// Cuts the IPv4 packet in a whole frame into fragments of at most `limit` bytes each; DF stays where the
/// caller left it.
///
/// Options that are not to be copied become no-ops after the first fragment (RFC 791 §3.1).
pub fn cut(frame: &[u8], limit: usize, egress: Egress, out: &mut Outbox) {
    let ip = ethernet::LEN;
    let whole = ipv4::Header::new(&frame[ip..]);
    let header = whole.header_len();
    let (head, payload) = frame.split_at(ip + header);
    let step = ((limit - header) & !7).max(8);
    let mut at = 0;
    while at < payload.len() {
        let n = step.min(payload.len() - at);
        let last = at + n == payload.len();
        let mut draft = out.draft(head.len() + n);
        let b = draft.bytes_mut();
        b[..head.len()].copy_from_slice(head);
        b[head.len()..].copy_from_slice(&payload[at..at + n]);
        let fragment = &mut b[ip..head.len()];
        if at > 0 {
            ipv4::options::blank_uncopied(&mut fragment[ipv4::MIN_LEN..]);
        }
        let mut part = ipv4::Header::new_mut(fragment);
        part.set_total_len(narrow::to_u16(header + n));
        part.set_part(
            whole.fragment_offset() + at,
            !last || whole.more_fragments(),
        );
        ipv4::seal(fragment);
        let range = draft.range();
        out.push(range, Offload::default(), egress);
        at += n;
    }
}

/// What a datagram's fragments have in common (RFC 791 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    src: Addr,
    dst: Addr,
    id: u16,
    protocol: u8,
}

#[derive(Clone, Debug)]
struct Datagram {
    /// Ethernet and IP header of the first fragment.
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
}

/// Datagrams that are not whole yet.
#[derive(Clone, Debug)]
pub struct Reassembler {
    waiting: HashMap<Key, Datagram>,
    order: VecDeque<(Instant, Key)>,
    used: usize,
    limit: usize,
}

impl Reassembler {
    /// One that keeps at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            waiting: HashMap::new(),
            order: VecDeque::new(),
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
        if packet.family == Family::V6 {
            return Err(DropReason::UnsupportedProtocol);
        }
        let header = packet.ipv4(frame);
        let data = &frame[packet.l4()..];
        let (offset, more) = (header.fragment_offset(), header.more_fragments());
        if data.is_empty()
            || (more && !data.len().is_multiple_of(8))
            || offset + data.len() > usize::from(u16::MAX)
        {
            return Err(DropReason::BadFragmentLength);
        }
        let key = Key {
            src: packet.flow.src,
            dst: packet.flow.dst,
            id: header.id(),
            protocol: packet.protocol,
        };
        let cost = data.len() + PART_COST;
        if self.used + cost > self.limit {
            return Err(DropReason::FragmentLimit);
        }
        let datagram = self.waiting.entry(key).or_insert_with(|| {
            self.order.push_back((now + TIMEOUT, key));
            Datagram {
                head: Vec::new(),
                parts: Vec::new(),
                total: None,
                largest: 0,
                dont_fragment: false,
                cost: 0,
            }
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
        datagram.parts.insert(at, (offset, data.to_vec()));
        let len = (packet.ip_len & 0xffff) as u16;
        if len > datagram.largest {
            (datagram.largest, datagram.dont_fragment) = (len, packet.dont_fragment);
        } else if len == datagram.largest {
            datagram.dont_fragment |= packet.dont_fragment;
        }
        datagram.cost += cost;
        self.used += cost;
        if !more {
            datagram.total = Some(offset + data.len());
        }
        if offset == 0 {
            datagram.head = frame[..packet.l4()].to_vec();
        }
        if !datagram.is_whole() {
            return Ok(None);
        }
        Ok(self.forget(key).map(Datagram::into_reassembled))
    }

    /// Forgets datagrams whose time is over; returns how many fragments went.
    pub fn expire(&mut self, now: Instant) -> u64 {
        let mut gone = 0;
        while self
            .order
            .front()
            .is_some_and(|(deadline, _)| *deadline <= now)
        {
            if let Some((_, key)) = self.order.pop_front() {
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
        // Rarely long: datagrams become whole at once or expire in order.
        if let Some(i) = self.order.iter().rposition(|(_, k)| *k == key) {
            self.order.remove(i);
        }
        Some(datagram)
    }
}

impl Datagram {
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

    fn into_reassembled(self) -> Reassembled {
        let mut frame = self.head;
        let end = frame.len();
        for (_, data) in &self.parts {
            frame.extend_from_slice(data);
        }
        let total = frame.len() - ethernet::LEN;
        let bytes = &mut frame[ethernet::LEN..end];
        let mut header = ipv4::Header::new_mut(bytes);
        header.set_total_len(narrow::to_u16(total));
        // DF as the longest fragment had it (`ip_frag_reasm`).
        header.set_whole(self.dont_fragment);
        ipv4::seal(bytes);
        Reassembled {
            frame,
            largest: self.largest,
        }
    }
}
