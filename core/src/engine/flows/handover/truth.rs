//! Making the table's copy of a taken connection true: its state, its time, its sequence numbers.
//!
//! A connection's deadline in the table says when to ask next. That is the true one, or an earlier time where
//! time-outs were lowered since its last packet: each packet from then on gives the new one.

use std::time::Duration;

use super::{Flows, Handover, Held, tracked};
use crate::conn::{self, Conn, ConnId, NONE};
use crate::engine::flows::event::Standing;
use crate::engine::flows::outcomes::Outcome;
use crate::flow::Protocol;
use crate::offload::{Seen, Tracked, Traffic};
use crate::ranks::Rank;
use crate::snapshot::Timeouts;
use crate::tcp::TcpState;
use crate::time::Instant;

/// A connection as it is shown.
pub(in crate::engine) struct Shown {
    /// What it truly is.
    pub(in crate::engine) conn: Conn,
    /// Whether the kernel forwards it.
    pub(in crate::engine) in_kernel: bool,
    /// How willingly it is given up.
    pub(in crate::engine) rank: Rank,
}

impl Handover {
    /// What the hook says of a taken connection.
    fn seen(&self, id: ConnId) -> Option<(Held, Seen)> {
        let (cell, held) = self.cells.of(id)?;
        held.terms?;
        let seen = self.hook.seen(cell, held.birth)?;
        Some((*held, seen))
    }
}

/// Seconds that a packet gives a connection in this state.
pub(super) fn timeout_of(c: &Conn, timeouts: &Timeouts) -> u32 {
    match c.protocol {
        Protocol::Tcp => TcpState::from_number(c.state).timeout(timeouts),
        Protocol::Udp | Protocol::Sctp => timeouts.udp,
    }
}

const fn seconds(n: u32) -> Duration {
    Duration::from_secs(n as u64)
}

/// Whether a packet was seen of a connection since it was taken in last. The clock alone does not say it: it is
/// read once a turn.
fn has_moved(c: &Conn, held: &Held, seen: &Seen) -> bool {
    seen.last > held.last
        || seen.client_packets != held.client_packets
        || c.protocol == Protocol::Tcp && seen.tracked != tracked(c)
}

/// What a connection has become by what was seen of it; and how willingly it is given up.
fn truth(c: &Conn, held: &Held, seen: &Seen, timeouts: &Timeouts) -> (Conn, Option<Rank>) {
    let moved = has_moved(c, held, seen);
    let mut c = *c;
    let Tracked {
        state,
        no_output,
        client_expects,
        server_expects,
    } = seen.tracked;
    if !no_output {
        c.flags &= !conn::NO_OUTPUT;
    }
    let packets = seen.client_packets.wrapping_sub(held.client_packets);
    let packets = u8::try_from(packets).unwrap_or(u8::MAX);
    c.in_packets = c.in_packets.saturating_add(packets);
    let rank = match c.protocol {
        Protocol::Tcp => {
            c.state = state;
            (c.client_expects, c.server_expects) = (client_expects, server_expects);
            let state = TcpState::from_number(state);
            if state.is_active() == c.has(conn::INACTIVE) {
                c.flags ^= conn::INACTIVE;
            }
            Some(state.rank())
        }
        Protocol::Udp if packets > 0 || seen.proven => Some(Rank::Protected),
        Protocol::Udp | Protocol::Sctp => None,
    };
    if moved {
        c.timeout = timeout_of(&c, timeouts);
    }
    c.deadline = held.last.max(seen.last) + seconds(c.timeout);
    (c, rank)
}

impl Flows {
    /// A connection as it truly is, wherever it is forwarded.
    pub(in crate::engine) fn current(&self, id: ConnId) -> Conn {
        self.shown(id).conn
    }

    /// As [`Flows::current`], with where it is forwarded.
    pub(in crate::engine) fn shown(&self, id: ConnId) -> Shown {
        let c = self.conns.get(id);
        let seen = |h: &Handover| {
            let (held, seen) = h.seen(id)?;
            Some(truth(c, &held, &seen, &h.timeouts))
        };
        let in_kernel = c.is_taken();
        let handover = self.handover.as_ref().filter(|_| in_kernel);
        let (conn, rank) = handover.and_then(|h| seen(h)).unwrap_or((*c, None));
        Shown {
            conn,
            in_kernel,
            rank: rank.unwrap_or_else(|| c.link.rank()),
        }
    }

    /// What the kernel has forwarded of a connection whose packets are counted.
    pub(in crate::engine::flows) fn counted_in_kernel(&self, id: ConnId) -> Traffic {
        let handover = self.handover.as_ref().filter(|_| self.counts(id));
        let counted = handover.and_then(|h| {
            let (cell, held) = h.cells.of(id)?;
            Some(h.hook.counted(cell, held.birth))
        });
        counted.unwrap_or_default()
    }

    /// What was forwarded of logged connections belongs to them, for their cells go.
    pub(super) fn log_forwarded(&mut self) {
        let cells = self.handover.iter().flat_map(|h| h.cells.iter());
        let ids: Vec<ConnId> = cells.map(|(_, held)| held.conn).collect();
        for id in ids {
            let forwarded = self.counted_in_kernel(id);
            self.log_settled(id, forwarded);
        }
    }

    /// Makes the table's copy of a connection true.
    pub(in crate::engine) fn catch_up_with(&mut self, id: ConnId) {
        if !self.conns.get(id).is_taken() {
            return;
        }
        let Some(handover) = &mut self.handover else {
            return;
        };
        let Some((held, seen)) = handover.seen(id) else {
            return;
        };
        let (now, rank) = truth(self.conns.get(id), &held, &seen, &handover.timeouts);
        if let Some(held) = handover.cells.of_conn_mut(id) {
            held.last = held.last.max(seen.last);
            held.client_packets = seen.client_packets;
        }
        self.measure_answered(id, &held, &seen);
        let c = self.conns.get_mut(id);
        let moved = has_moved(c, &held, &seen);
        let before = Standing::of(c);
        c.state = now.state;
        c.flags = now.flags | c.flags & conn::MEASURED;
        c.in_packets = now.in_packets;
        (c.client_expects, c.server_expects) = (now.client_expects, now.server_expects);
        c.timeout = now.timeout;
        let control = c.control;
        if moved {
            self.conns.touch(seen.last.max(held.last), id);
        }
        if let Some(rank) = rank {
            self.conns.set_rank(id, rank);
        }
        if Standing::of(self.conns.get(id)) != before {
            self.changed(id, before);
        }
        if seen.proven && control != NONE {
            self.assure_template(ConnId(control));
        }
    }

    /// The server has answered a connection's SYN in the kernel.
    fn measure_answered(&mut self, id: ConnId, held: &Held, seen: &Seen) {
        let c = self.conns.get_mut(id);
        let Some(at) = seen.answered.filter(|_| !c.has(conn::MEASURED)) else {
            return;
        };
        c.flags |= conn::MEASURED;
        let (place, first) = (c.backend, c.in_packets == 1);
        self.note_outcome(at, place, Outcome::Answered);
        // A SYN that came again came up, and nobody can say which one was answered.
        if first {
            self.measured(at, place, at.since(held.last));
        }
    }

    /// Takes in what the kernel has told since this was asked last.
    pub(in crate::engine) fn catch_up(&mut self) {
        let Some(handover) = &mut self.handover else {
            return;
        };
        let lost = handover.hook.events_lost();
        if lost != handover.events_lost {
            handover.events_lost = lost;
            while handover.hook.next_event().is_some() {}
            return self.catch_up_with_all();
        }
        while let Some(handover) = &mut self.handover
            && let Some(event) = handover.hook.next_event()
        {
            handover.numbers.events += 1;
            let held = handover.cells.get(event.cell);
            if let Some(id) = held.filter(|h| h.birth == event.birth).map(|h| h.conn) {
                self.catch_up_with(id);
            }
        }
    }

    /// Makes all copies true.
    pub(super) fn catch_up_with_all(&mut self) {
        let Some(handover) = &self.handover else {
            return;
        };
        let all: Vec<ConnId> = handover.cells.iter().map(|(_, held)| held.conn).collect();
        for id in all {
            self.catch_up_with(id);
        }
    }

    /// Looks at connections whose handshakes may have been answered, so that the next pick knows.
    pub(in crate::engine::flows) fn measure_opened(&mut self) {
        let Some(handover) = &mut self.handover else {
            return;
        };
        for (cell, birth) in std::mem::take(&mut handover.unmeasured) {
            let Some(handover) = &mut self.handover else {
                return;
            };
            let held = handover.cells.get(cell).filter(|h| h.birth == birth);
            let Some(id) = held.map(|h| h.conn) else {
                continue;
            };
            self.catch_up_with(id);
            let c = self.conns.get(id);
            let waits = c.state == TcpState::SynRecv as u8 && !c.has(conn::MEASURED);
            if waits && let Some(handover) = &mut self.handover {
                handover.unmeasured.push((cell, birth));
            }
        }
    }

    /// Whether a taken connection whose time seemed to be over is not over; it is then asked again in time.
    pub(in crate::engine::flows) fn lives_on(&mut self, now: Instant, id: ConnId) -> bool {
        self.catch_up_with(id);
        let true_deadline = self.current(id).deadline;
        let Some(handover) = &self.handover else {
            return false;
        };
        let c = self.conns.get(id);
        let next = now + seconds(timeout_of(c, &handover.timeouts));
        self.conns.put_off(id, true_deadline.min(next))
    }

    /// Other time-outs hold from now on. What was seen until now had the old ones.
    pub(in crate::engine) fn change_timeouts(&mut self, timeouts: &Timeouts) {
        if self
            .handover
            .as_ref()
            .is_none_or(|h| h.timeouts == *timeouts)
        {
            return;
        }
        self.catch_up_with_all();
        if let Some(handover) = &mut self.handover {
            handover.timeouts = *timeouts;
            handover.hasten = true;
        }
    }

    /// Has connections asked as early as the time-outs in force may end them.
    pub(in crate::engine) fn hasten(&mut self, now: Instant) {
        let Some(handover) = &mut self.handover else {
            return;
        };
        if !std::mem::take(&mut handover.hasten) {
            return;
        }
        for (_, held) in handover.cells.iter().filter(|(_, h)| h.terms.is_some()) {
            let c = self.conns.get(held.conn);
            let next = now + seconds(timeout_of(c, &handover.timeouts));
            self.conns.hasten(now, held.conn, next);
        }
    }

    /// Hands a connection back that a packet which came up has moved on from `before`; `false` where it has
    /// moved in the kernel at the same time, and is to be looked at again.
    pub(in crate::engine) fn put(&mut self, id: ConnId, before: &Conn) -> bool {
        let c = *self.conns.get(id);
        let Some(handover) = &mut self.handover else {
            return true;
        };
        let Some((cell, held)) = handover.cells.of(id) else {
            return true;
        };
        let (birth, last) = (held.birth, c.last_packet().max(held.last));
        let (before, after) = (tracked(before), tracked(&c));
        let done = handover.hook.put(cell, birth, &before, &after, last);
        if done && let Some(held) = handover.cells.of_conn_mut(id) {
            held.last = last;
        }
        done
    }

    /// Compares what is remembered of cells with the table.
    ///
    /// # Panics
    /// Where they differ.
    #[cfg(feature = "testing")]
    pub(in crate::engine) fn audit_handover(&self) {
        let Some(handover) = &self.handover else {
            return;
        };
        let mut taken = 0;
        for (cell, held) in handover.cells.iter() {
            let c = self.conns.at(held.conn.0).expect("a cell's connection");
            assert!(super::is_offered(c), "{cell:?}");
            assert_eq!(c.is_taken(), held.terms.is_some(), "{cell:?}");
            let leads_back = handover.cells.of(held.conn).map(|(cell, _)| cell);
            assert_eq!(leads_back, Some(cell));
            taken += u32::from(held.terms.is_some());
        }
        assert_eq!(taken, handover.taken);
    }
}
