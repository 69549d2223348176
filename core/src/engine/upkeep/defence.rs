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

use serde::{Deserialize, Serialize};

use super::{Timer, Upkeep};
use crate::conn::{self, Conn, ConnId};
use crate::engine::flows::{Cause, Flows};
use crate::flow::Protocol;
use crate::ranks::Rank;
use crate::sctp::SctpState;
use crate::snapshot::Sysctls;
use crate::tcp::TcpState;
use crate::time::Instant;

/// How often the level is set and a share of the table looked at (DEFENSE_TIMER_PERIOD).
const PERIOD: Duration = Duration::from_secs(1);
/// One place in this many is looked at a period.
const SHARE: u32 = 32;
/// drop_entry spares an entry that had a packet within this time,
const YOUNG: Duration = Duration::from_secs(60);
/// and one that had more packets than this.
const FEW: u8 = 8;

/// The defences' state.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Defence {
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
            scarce: false,
            drop_rate: 0,
            until_drop: 0,
            left: 0,
            hand: 0,
            odds: [0; FEW as usize + 1],
        }
    }

    /// Takes changed sysctls up; whether a defence is asked for.
    pub(super) fn configure(&mut self, sysctls: &Sysctls) -> bool {
        let asked = sysctls.drop_entry != 0
            || sysctls.drop_packet != 0
            || matches!(sysctls.secure_tcp, 1 | 2);
        if !asked {
            let hand = self.hand;
            *self = Self {
                hand,
                ..Self::new()
            };
        }
        asked
    }

    /// Whether places are still to be looked at in this period.
    pub(super) fn is_at_work(&self) -> bool {
        self.left > 0
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
    fn set_level(&mut self, sysctls: &Sysctls, free: u32, limit: u32) {
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

    fn turn_hand(&mut self, places: u32) -> ConnId {
        let id = self.hand;
        self.hand = if id + 1 < places { id + 1 } else { 0 };
        ConnId(id)
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
        if c.idle(now) < YOUNG || c.in_packets == 0 || c.in_packets > FEW {
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

impl Upkeep {
    /// Sets the level once a period and looks at the table's share, at most `budget` places a call;
    /// whether there is more to look at.
    pub(in crate::engine) fn defend(
        &mut self,
        now: Instant,
        budget: u32,
        sysctls: &Sysctls,
        flows: &mut Flows,
    ) -> bool {
        let defence = &mut self.defence;
        if self.timers.is_due(Timer::Defence, now, PERIOD) {
            let (limit, free) = flows.room();
            defence.set_level(sysctls, free, limit);
            if defence.is_on(sysctls.drop_entry) {
                defence.left = flows.table().places().div_ceil(SHARE);
            }
        }
        for _ in 0..defence.left.min(budget) {
            defence.left -= 1;
            let id = defence.turn_hand(flows.table().places());
            if flows.table().at(id.0).is_some() && defence.ends(now, &flows.current(id)) {
                flows.evict(now, id, Cause::DropEntry);
            }
        }
        defence.is_at_work()
    }
}
