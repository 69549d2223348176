//! One connection whose server is told of its client: what is known of it, and what each segment asks for.
//!
//! The header of the PROXY protocol goes to a TCP server in a segment of its own, before the client's first segment
//! behind its SYN. Who would send it again where it is lost does not know of it: so it goes again before whatever the
//! client sends again, and, where the server has room again or does not get on, with a segment of the server's. The
//! engine has no timer for it: a server that has nothing sends its SYN-ACK again, and the client answers that (ADR 0035).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::introduce::{Edits, Stamps, Toa};
use crate::narrow;
use crate::splice::Splice;
use crate::time::Instant;
use crate::wire::tcp::{controls, flag};

/// How long the header waits for the server's answer before a segment of the server's that does not acknowledge it has
/// it sent again: TCP's shortest time-out (`TCP_RTO_MIN`).
const PATIENCE: Duration = Duration::from_millis(200);

/// What is known of an introduced connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::engine) struct Introduced {
    pub(super) splice: Splice,
    pub(super) stamps: Stamps,
    toa: Option<Toa>,
    /// Whether the server has all that is to be told.
    pub(super) settled: bool,
    /// The highest number that the client has sent so far, as the client has it.
    highest: u32,
    /// When the header was sent last.
    last: Instant,
    /// The header, until the server has it; over UDP, for good.
    pub(super) header: Vec<u8>,
    /// The packet in which the header was sent last, as if the client had sent it; from the IP header on.
    pub(super) packet: Vec<u8>,
}

/// What a client's packet asks for beside its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Due {
    /// Nothing.
    Nothing,
    /// The header is to be sent before it.
    Header {
        /// Not for the first time.
        again: bool,
        /// The packet says nothing that the header's segment does not say as well, and stays behind.
        instead: bool,
    },
    /// The header is to be put into it.
    Datagram,
    /// It carries data with its SYN, which are to be taken out.
    CutData,
}

impl Introduced {
    /// Of a connection whose server was told nothing yet.
    pub(super) fn new(splice: Splice, stamps: Stamps, toa: Option<Toa>, header: Vec<u8>) -> Self {
        Self {
            splice,
            stamps,
            toa,
            settled: false,
            highest: splice.start,
            last: Instant::ZERO,
            header,
            packet: Vec::new(),
        }
    }

    /// Of a connection that another director has begun.
    pub(super) fn taken_up(splice: Splice, stamps: Stamps) -> Self {
        Self {
            settled: true,
            ..Self::new(splice, stamps, None, Vec::new())
        }
    }

    /// What its segments are changed by now.
    pub(super) fn edits(&self) -> Edits {
        let toa = self.toa.filter(|_| !self.settled);
        Edits {
            splice: self.splice,
            stamps: self.stamps,
            toa,
            growth: self.toa.map_or(0, |toa| narrow::to_u8(toa.len())),
        }
    }

    /// What a segment of the client's with this number and so many bytes of data asks for.
    pub(super) fn due(&mut self, flags: u8, seq: u32, data: u32) -> Due {
        if flags & flag::SYN != 0 {
            return match data {
                0 => Due::Nothing,
                _ if self.splice.len > 0 => Due::CutData,
                _ => Due::Nothing,
            };
        }
        if self.settled || self.splice.len == 0 || flags & flag::ACK == 0 {
            return Due::Nothing;
        }
        let resets = flags & flag::RST != 0;
        if resets && !self.splice.sent {
            return Due::Nothing;
        }
        let end = seq.wrapping_add(data + controls(flags));
        let new = is_after(end, self.highest);
        if new {
            self.highest = end;
        }
        if self.splice.sent && new && !resets {
            return Due::Nothing;
        }
        // A probe from before the start may hold a byte that was never sent (RFC 1122 §4.2.3.6).
        let first = !is_after(seq, self.splice.start);
        let empty = data == 0 || seq != self.splice.start;
        Due::Header {
            again: self.splice.sent,
            instead: first && empty && flags & (flag::FIN | flag::RST) == 0,
        }
    }

    /// The client begins again with this first number.
    pub(super) fn begin_again(&mut self, start: u32, stamps: Stamps) {
        if self.splice.start == start {
            return;
        }
        self.splice = Splice::new(start, self.splice.len);
        self.highest = start;
        self.packet.clear();
        if matches!(self.stamps, Stamps::Offset(_)) {
            self.stamps = stamps;
        }
    }

    /// The header was sent in this packet.
    pub(super) fn sent(&mut self, now: Instant, packet: &[u8]) {
        self.splice.sent = true;
        self.last = now;
        self.packet.clear();
        self.packet.extend_from_slice(packet);
    }

    /// Whether its packets change no more.
    pub(super) const fn is_over(&self) -> bool {
        let offset = matches!(self.stamps, Stamps::Offset(_));
        self.settled && self.splice.len == 0 && !offset
    }

    /// Takes in a segment of the server's; whether the header is to be sent again.
    pub(super) fn answered(&mut self, now: Instant, ack: u32, window: u16, data: u32) -> bool {
        self.splice.note(ack);
        if self.settled {
            return false;
        }
        let start = self.splice.start;
        if self.splice.len == 0 {
            self.settled = data > 0 || is_after(ack, start);
            return false;
        }
        if !self.splice.sent {
            return false;
        }
        let (len, sent) = (self.splice.len, self.highest.wrapping_sub(start));
        // No more than was sent, FIN included.
        let acked = ack.wrapping_sub(start);
        if (len..=len + sent).contains(&acked) {
            self.settled = true;
            (self.header, self.packet) = (Vec::new(), Vec::new());
            return false;
        }
        let due = window > 0 && acked < len && now.since(self.last) >= PATIENCE;
        if due {
            self.last = now;
        }
        due
    }
}

const fn is_after(number: u32, other: u32) -> bool {
    number != other && number.wrapping_sub(other) < 1 << 31
}
