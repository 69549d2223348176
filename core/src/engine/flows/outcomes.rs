//! How servers answer TCP handshakes, so that one that is dead is seen: by a SYN-ACK, by a RST, or not at all.
//!
//! Known only where replies pass the director (NAT, FULLNAT). Each connection that a client opens counts once. It is not
//! answered where its client's third SYN comes and nothing has come from the server (three seconds by most clients), or
//! where it ends by time before that; what is evicted or replaced meanwhile says nothing of its server.

use serde::{Deserialize, Serialize};

use super::Flows;
use super::event::{Cause, Standing};
use crate::conn::{self, Conn, ConnId};
use crate::flow::Protocol;
use crate::numbers::HandshakeNumbers;
use crate::packet::{Packet, Transport};
use crate::tcp::TcpState;
use crate::time::Instant;
use crate::wire::tcp::flag;

/// With this packet of its client's, where it is a SYN still, a connection's server counts as silent.
const SILENT_AT: u8 = 3;

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A SYN-ACK came.
    Answered,
    /// A RST came.
    Reset,
    /// Nothing came.
    Silent,
}

/// What is counted of a server's handshakes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Outcomes {
    ok: u64,
    reset: u64,
    timeout: u64,
    /// Failures since the last that was answered.
    failed_in_a_row: u32,
    last_ok: Option<Instant>,
    last_failure: Option<Instant>,
}

impl Outcomes {
    fn note(&mut self, now: Instant, outcome: Outcome) {
        let count = match outcome {
            Outcome::Answered => {
                self.ok += 1;
                self.failed_in_a_row = 0;
                self.last_ok = Some(now);
                return;
            }
            Outcome::Reset => &mut self.reset,
            Outcome::Silent => &mut self.timeout,
        };
        *count += 1;
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        self.last_failure = Some(now);
    }

    /// As it is told.
    pub(super) fn numbers(&self, now: Instant) -> HandshakeNumbers {
        let ago = |at: Option<Instant>| at.map(|at| now.since(at).as_secs());
        HandshakeNumbers {
            ok: self.ok,
            reset: self.reset,
            timeout: self.timeout,
            failed_in_a_row: self.failed_in_a_row,
            ok_ago: ago(self.last_ok),
            failed_ago: ago(self.last_failure),
        }
    }
}

/// Whether a connection's server is still to answer its client's SYN.
fn waits(c: &Conn) -> bool {
    c.protocol == Protocol::Tcp
        && c.state == TcpState::SynRecv as u8
        && !c.has(conn::MEASURED)
        && c.is_replied_to()
        && !c.is_told()
}

/// Whether a client's packet asks for a connection.
fn asks(packet: &Packet) -> bool {
    matches!(packet.transport, Transport::Tcp { flags, .. } if flags & flag::SYN != 0)
}

/// Whether a server's packet refuses one.
fn resets(packet: &Packet) -> bool {
    matches!(packet.transport, Transport::Tcp { flags, .. } if flags & flag::RST != 0)
}

impl Flows {
    /// A server's handshake has ended so.
    pub(super) fn note_outcome(&mut self, now: Instant, place: u32, outcome: Outcome) {
        let server = self.pool.servers.get_mut(place);
        server.outcomes.note(now, outcome);
    }

    /// A packet of a client's has been counted: where it asks for the third time in vain, its server is silent.
    #[inline(always)]
    pub(in crate::engine) fn note_asked(&mut self, now: Instant, id: ConnId, packet: &Packet) {
        if asks(packet) {
            self.note_asked_again(now, id);
        }
    }

    fn note_asked_again(&mut self, now: Instant, id: ConnId) {
        let c = self.conns.get_mut(id);
        if c.in_packets < SILENT_AT || !waits(c) {
            return;
        }
        // It counts no more, and its time says nothing anyway.
        c.flags |= conn::MEASURED;
        let place = c.backend;
        self.note_outcome(now, place, Outcome::Silent);
    }

    /// A packet of a server's has moved a connection on from what it was: where that is a RST, it may have refused it.
    pub(super) fn note_refused(
        &mut self,
        at: Instant,
        id: ConnId,
        packet: &Packet,
        before: Standing,
    ) {
        let c = self.conns.get_mut(id);
        let mut was = *c;
        was.state = before.state;
        if resets(packet) && waits(&was) {
            c.flags |= conn::MEASURED;
            let place = c.backend;
            self.note_outcome(at, place, Outcome::Reset);
        }
    }

    /// A connection ends: its server may never have answered.
    pub(super) fn note_unanswered(&mut self, now: Instant, id: ConnId, cause: Cause) {
        let c = self.conns.get(id);
        if cause == Cause::TimedOut && waits(c) {
            let place = c.backend;
            self.note_outcome(now, place, Outcome::Silent);
        }
    }
}
