//! What the director says itself: ICMP errors, resets, echo replies, ARP replies and neighbour advertisements, and
//! how much of it.
//!
//! The formats are those of Linux (`icmp_send`, `icmp6_send`, `tcp_v4_send_reset`), and so are the limits: ICMP errors
//! have one, resets have none. A reset is no longer than the segment it answers and there is one at most, so that
//! it amplifies nothing; one that is held back leaves a client to its time-outs, which after a restart of a busy
//! director is every client at once. Notices to the ends of connections that time out or are ended have a
//! limit of their own.
//!
//! The voice sees routes, the frame in hand and the outbox. Which connection something is about, and how it is
//! counted, is the business of whoever speaks by it.

use serde::{Deserialize, Serialize};

use crate::crew::Crew;
use crate::fib::{Fib, NextHop, Query, Unreachable};
use crate::flow::Addr;
use crate::frame::Offload;
use crate::outbox::Outbox;
use crate::random::Random;
use crate::time::Instant;
use crate::verdict::{DropReason, Verdict};
use crate::wire::ethernet;

mod error;
mod header;
mod limiter;
mod reply;
mod reset;

pub(super) use error::{Error, Notice};
pub(super) use header::Header;
use limiter::Limiter;
pub(super) use reply::{answer_arp, answer_discovery, echo};
pub(super) use reset::Reset;

/// TTL of the director's own packets (net.ipv4.ip_default_ttl, net.ipv6.conf.*.hop_limit).
const TTL: u8 = 64;
/// ICMP errors in answer to packets of both families, per second and at once (net.ipv4.icmp_msgs_per_sec,
/// icmp_msgs_burst).
const ERRORS: (u64, u32) = (1000, 50);
/// Connections whose ends are told that they are over, per second and at once: a million take 20 s, and a turn
/// of the worker sends no more than twice the burst.
const TEARDOWNS: (u64, u32) = (50_000, 128);

/// The part of the engine that speaks.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Voice {
    /// Limits ICMP errors.
    error_limit: Limiter,
    /// Limits the notices to the ends of connections. Whoever sends them asks it first, once a connection.
    pub(super) teardown_limit: Limiter,
    /// Identification of the last packet of our own.
    ip_id: u16,
    /// Identifications of IPv6 datagrams that we cut (RFC 7739 §5.3).
    fragment_ids: Random,
}

/// A packet of the director's own, on its way out.
struct Letter {
    /// [`Addr::UNSPECIFIED`] = the director's own address towards `to`.
    from: Addr,
    to: Addr,
    /// The interface that it answers a packet from, by the kernel's index; 0 where it answers none. A link-local
    /// address is of use with that alone.
    by: u32,
    protocol: u8,
    /// Bytes after the IP header.
    len: usize,
}

impl Voice {
    /// One whose packets' identifications depend on this secret key. Of several workers each has its share of what
    /// may be said.
    pub(super) fn new(key: u64, crew: Option<&Crew>) -> Self {
        let (number, of) = crew.map_or((0, 1), |crew| (crew.number, crew.fan.workers()));
        let key = key ^ u64::from(number) << 32;
        let share = |(per_second, burst): (u64, u32)| {
            Limiter::new((per_second / u64::from(of)).max(1), (burst / of).max(1))
        };
        Self {
            error_limit: share(ERRORS),
            teardown_limit: share(TEARDOWNS),
            ip_id: ((key ^ key >> 32) & 0xffff) as u16,
            fragment_ids: Random::new(key),
        }
    }

    /// The identification that was given out last.
    pub(super) const fn ip_id(&self) -> u16 {
        self.ip_id
    }

    /// An identification for a packet or an outer header.
    pub(super) fn next_ip_id(&mut self) -> u16 {
        self.ip_id = self.ip_id.wrapping_add(1);
        self.ip_id
    }

    /// Whether one more redirect is allowed; it then counts, among ICMP's errors.
    pub(super) fn may_redirect(&mut self, now: Instant) -> bool {
        self.error_limit.allows(now)
    }

    /// An identification for an IPv6 datagram that is cut here.
    pub(super) const fn next_fragment_id(&mut self) -> u32 {
        (self.fragment_ids.next_u64() >> 32) as u32
    }

    /// Puts a packet into the outbox, on the way to whom it is for. `fill` writes what follows the IP header,
    /// and may change that, but for its length and addresses.
    fn send(
        &mut self,
        fib: &Fib,
        letter: &Letter,
        out: &mut Outbox,
        fill: impl FnOnce(&mut Self, &mut Header, &mut [u8]),
    ) -> Verdict {
        let hop = match fib.lookup(Query::to(letter.to).from(letter.from).back(letter.by)) {
            Ok(hop) => hop,
            Err(Unreachable::Local) => NextHop::host(letter.to),
            Err(_) => return Verdict::Drop(DropReason::NoRoute),
        };
        let from = if letter.from.is_unspecified() {
            hop.source
        } else {
            letter.from
        };
        let Some(mut header) = Header::new(letter.protocol, from, letter.to, letter.len) else {
            return Verdict::Drop(DropReason::NoRoute);
        };
        let mut draft = out.draft(ethernet::LEN + header.len() + letter.len);
        let (head, body) = draft.bytes_mut().split_at_mut(ethernet::LEN + header.len());
        fill(self, &mut header, body);
        header.emit(&mut head[ethernet::LEN..]);
        let header = ethernet::Repr {
            dst: *hop.destination_mac(),
            src: hop.source_mac,
            ethertype: header.ethertype(),
        };
        header.emit(head);
        let range = draft.range();
        out.push(range, Offload::default(), hop.egress());
        Verdict::Answered
    }
}
