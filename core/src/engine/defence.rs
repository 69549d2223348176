//! What keeps the connection table usable when somebody fills it.
//!
//! At the limit a new connection takes the place of a template of which no connection was established, then
//! of the one that is half-open longest, and of its template with it, then of one that is over, then of an
//! unanswered datagram's (see [`Rank`]): always on, since the limit is ours. Before
//! that the kernel's own defences act where they are asked for: `drop_entry` ends half-open and idle
//! entries as it goes round the table, `drop_packet` drops a share of the new connections, `secure_tcp`
//! tracks strictly. Each is 0 = never, 1 or 2 = while places are scarce, 3 = always. After `update_defense_level` of
//! `net/netfilter/ipvs/ip_vs_ctl.c`, `ip_vs_random_dropentry` and `todrop_entry` of `ip_vs_conn.c`; where
//! the kernel counts free pages, free places count here.

use std::time::Duration;

use super::Engine;
use crate::conn::{self, Conn, ConnId};
use crate::flow::Protocol;
use crate::ranks::Rank;
use crate::sctp::SctpState;
use crate::snapshot::Sysctls;
use crate::tcp::TcpState;
use crate::time::Instant;
use crate::trace::Recorder;

/// How often the level is set and a share of the table looked at (DEFENSE_TIMER_PERIOD).
const PERIOD: Duration = Duration::from_secs(1);
/// One place in this many is looked at a period.
const SHARE: u32 = 32;
/// drop_entry spares an entry that had a packet within this time,
const YOUNG: Duration = Duration::from_secs(60);
/// and one that had more packets than this.
const FEW: u8 = 8;

/// The defences' state.
#[derive(Clone)]
pub(super) struct Defence {
    /// When the level is set next; `None` while nothing is asked for.
    next: Option<Instant>,
    /// Whether places are scarce.
    scarce: bool,
    /// One new connection in this many is dropped; 0 = none.
    drop_rate: u32,
    until_drop: u32,
    /// Places that are still to be looked at in this period.
    left: u32,
    /// The next place to be looked at: a clock's hand over the table.
    hand: u32,
    /// Until an idle entry with so many packets is dropped: one in as many.
    odds: [u32; FEW as usize + 1],
}

impl Defence {
    pub(super) const fn new() -> Self {
        Self {
            next: None,
            scarce: false,
            drop_rate: 0,
            until_drop: 0,
            left: 0,
            hand: 0,
            odds: [0; FEW as usize + 1],
        }
    }

    /// Takes changed sysctls up: a new period begins.
    pub(super) fn configure(&mut self, sysctls: &Sysctls) {
        let asked = sysctls.drop_entry != 0
            || sysctls.drop_packet != 0
            || matches!(sysctls.secure_tcp, 1 | 2);
        if !asked {
            let hand = self.hand;
            *self = Self {
                hand,
                ..Self::new()
            };
        } else if self.next.is_none() {
            self.next = Some(Instant::ZERO);
        }
    }

    /// When there is work.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.left > 0 {
            Some(Instant::ZERO)
        } else {
            self.next
        }
    }

    /// Whether a defence that is set to `mode` is in force.
    pub(super) fn is_on(&self, mode: i32) -> bool {
        mode == 3 || (mode != 0 && self.scarce)
    }

    /// Whether this new connection is one of those that drop_packet drops (`ip_vs_todrop`).
    pub(super) fn drops(&mut self) -> bool {
        if self.drop_rate == 0 {
            return false;
        }
        self.until_drop = self.until_drop.saturating_sub(1);
        if self.until_drop > 0 {
            return false;
        }
        self.until_drop = self.drop_rate;
        true
    }

    /// Sets the level for the period that begins.
    fn set_level(&mut self, now: Instant, sysctls: &Sysctls, free: u32, limit: u32) {
        self.next = Some(now + PERIOD);
        self.left = 0;
        // A small table must not be scarce from the start.
        let enough = sysctls
            .amemthresh
            .max(0)
            .unsigned_abs()
            .min(limit / 16)
            .max(1);
        self.scarce = free < enough;
        self.drop_rate = match sysctls.drop_packet {
            // The kernel's counter is never above a negative rate (`ip_vs_todrop`).
            3 if sysctls.am_droprate < 0 => 1,
            3 => sysctls.am_droprate.unsigned_abs(),
            1 | 2 if self.scarce => enough / (enough - free),
            _ => 0,
        };
        self.until_drop = self.until_drop.min(self.drop_rate);
    }

    /// Whether drop_entry ends this connection (`ip_vs_random_dropentry`).
    fn ends(&mut self, now: Instant, c: &Conn) -> bool {
        if c.controlled > 0 {
            return false;
        }
        if c.has(conn::TEMPLATE) {
            // One-packet scheduling's connections are never established: its datagrams count.
            let one_packet = c.in_packets > 0;
            return c.state != conn::ASSURED && (!one_packet || self.is_due(now, c));
        }
        match c.protocol {
            Protocol::Tcp => match TcpState::from_number(c.state) {
                state if state.rank() == Rank::HalfOpen => true,
                state => state == TcpState::Established && self.is_due(now, c),
            },
            Protocol::Sctp => match SctpState::from_number(c.state) {
                state if state.rank() == Rank::HalfOpen => true,
                state => state == SctpState::Established && self.is_due(now, c),
            },
            Protocol::Udp => self.is_due(now, c),
        }
    }

    /// Idle entries go by odds, those with the fewest packets first (`todrop_entry`).
    fn is_due(&mut self, now: Instant, c: &Conn) -> bool {
        let timeout = Duration::from_secs(u64::from(c.timeout));
        if now + timeout < c.deadline + YOUNG || c.in_packets == 0 || c.in_packets > FEW {
            return false;
        }
        let left = &mut self.odds[c.in_packets as usize];
        *left = left.saturating_sub(1);
        if *left > 0 {
            return false;
        }
        *left = u32::from(c.in_packets);
        true
    }
}

impl<R: Recorder> Engine<R> {
    /// Sets the level once a period and looks at the table's share, at most `budget` places a call;
    /// whether there is more to look at.
    pub(super) fn defend(&mut self, now: Instant, budget: u32) -> bool {
        if self.defence.next.is_some_and(|next| next <= now) {
            let free = self.conns.limit() - self.conns.len();
            let limit = self.conns.limit();
            self.defence
                .set_level(now, &self.snapshot.sysctls, free, limit);
            if self.defence.is_on(self.snapshot.sysctls.drop_entry) {
                self.defence.left = self.conns.places().div_ceil(SHARE);
            }
        }
        for _ in 0..self.defence.left.min(budget) {
            self.defence.left -= 1;
            let id = self.turn_hand();
            if let Some(c) = self.conns.at(id.0)
                && self.defence.ends(now, c)
            {
                self.counters.dropped_entries += 1;
                self.give_up(now, id);
            }
        }
        self.defence.left > 0
    }

    /// Evicts one connection or template for a new one; `false` where none may go.
    pub(super) fn make_room(&mut self, now: Instant) -> bool {
        let Some(id) = self.conns.most_willing() else {
            return false;
        };
        self.counters.evicted += 1;
        self.give_up(now, id);
        true
    }

    fn turn_hand(&mut self) -> ConnId {
        let id = self.defence.hand;
        let next = id + 1;
        self.defence.hand = if next < self.conns.places() { next } else { 0 };
        ConnId(id)
    }
}
