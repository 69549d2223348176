//! How long each server's TCP handshakes take, for schedulers that prefer the quick.
//!
//! Measured from a client's SYN to the server's SYN-ACK, so only where replies pass the director (NAT,
//! FULLNAT). A connection whose SYN came again is not measured: nobody can say which one was answered
//! (Karn's algorithm, RFC 6298 §3). Smoothed as RFC 6298 §2 does it: SRTT ← 7/8 · SRTT + 1/8 · R.
//!
//! A server that was slow gets no connections, and so no measurement that could say otherwise. Where one
//! was not measured for some seconds while another was, it therefore comes an eighth nearer to zero each
//! second, though no nearer than the quickest, and its next measurement counts whole. (Finagle's `PeakEwma`
//! lets latencies decay likewise.) After a minute it is unknown.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Flows;
use super::outcomes::Outcome;
use crate::conn::{self, ConnId};
use crate::packet::{Packet, Transport};
use crate::tcp::TcpState;
use crate::time::Instant;
use crate::wire::tcp::flag;

/// What is remembered of a server's handshakes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Handshakes {
    /// Nanoseconds, 0 = not known.
    smoothed: u64,
    last: Instant,
}

/// The share of a new measurement is one in this many.
const SHARE: u64 = 8;
/// A measurement older than this says little.
const FRESH: Duration = Duration::from_secs(5);
/// How long a server is known after its last measurement.
const MEMORY: Duration = Duration::from_secs(60);

impl Handshakes {
    fn measure(&mut self, now: Instant, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.smoothed = if self.is_fresh(now) {
            self.smoothed - self.smoothed / SHARE + took / SHARE
        } else {
            took
        };
        self.last = now;
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.smoothed != 0 && now.since(self.last) <= FRESH
    }

    /// A second has passed, and this is the quickest of the service's servers that were measured lately.
    fn decay(&mut self, now: Instant, quickest: u64) {
        if now.since(self.last) > MEMORY {
            *self = Self::default();
        } else if !self.is_fresh(now) && self.smoothed > quickest {
            self.smoothed = quickest.max(self.smoothed - self.smoothed / SHARE);
        }
    }

    /// As [`Backend::handshake`](crate::backend::Backend::handshake) says it: what is known is never 0.
    fn micros(&self) -> u32 {
        u32::try_from(self.smoothed.div_ceil(1000)).unwrap_or(u32::MAX)
    }
}

impl Flows {
    /// Measures a handshake where this packet, from the server, ends one. To be called before anything else
    /// takes note of the packet: until then the connection's deadline tells when the SYN came.
    #[inline(always)]
    pub(in crate::engine) fn measure_handshake(
        &mut self,
        now: Instant,
        id: ConnId,
        packet: &Packet,
    ) {
        if is_syn_ack(packet) {
            self.measure_syn_ack(now, id);
        }
    }

    fn measure_syn_ack(&mut self, now: Instant, id: ConnId) {
        let c = self.conns.get_mut(id);
        let waits = c.state == TcpState::SynRecv as u8 && !c.has(conn::MEASURED);
        if !waits {
            return;
        }
        c.flags |= conn::MEASURED;
        let (syn, place, first) = (c.last_packet(), c.backend, c.in_packets == 1);
        self.note_outcome(now, place, Outcome::Answered);
        if first {
            self.measured(now, place, now.since(syn));
        }
    }

    /// A handshake of a server's has taken so long.
    pub(super) fn measured(&mut self, now: Instant, place: u32, took: Duration) {
        let server = self.pool.servers.get_mut(place);
        server.handshakes.measure(now, took);
        let micros = server.handshakes.micros();
        self.pool.load_mut(place).handshake = micros;
    }

    /// A second has passed: what was not measured for long means less and less.
    pub(in crate::engine) fn decay_handshakes(&mut self, now: Instant) {
        self.measure_opened();
        let servers = &mut self.pool.servers;
        for service in &mut self.pool.services {
            let known = service.servers.iter().map(|p| servers.get(*p));
            let fresh = known.map(|s| s.handshakes).filter(|h| h.is_fresh(now));
            let quickest = fresh.map(|h| h.smoothed).min().unwrap_or(u64::MAX);
            for (place, backend) in service.servers.iter().zip(&mut service.backends) {
                let handshakes = &mut servers.get_mut(*place).handshakes;
                handshakes.decay(now, quickest);
                backend.handshake = handshakes.micros();
            }
        }
    }
}

fn is_syn_ack(packet: &Packet) -> bool {
    const SYN_ACK: u8 = flag::SYN | flag::ACK;
    const ASKED: u8 = SYN_ACK | flag::RST | flag::FIN;
    matches!(packet.transport, Transport::Tcp { flags, .. } if flags & ASKED == SYN_ACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_measurement_counts_whole_and_later_ones_an_eighth() {
        let mut h = Handshakes::default();
        assert_eq!(h.micros(), 0);
        h.measure(Instant::from_secs(1), Duration::from_micros(800));
        assert_eq!(h.micros(), 800);
        h.measure(Instant::from_secs(2), Duration::from_micros(1600));
        assert_eq!(h.micros(), 900);
    }

    #[test]
    fn a_slow_server_decays_down_to_the_quickest_and_then_forgotten() {
        let mut h = Handshakes::default();
        let second = Instant::from_secs;
        h.measure(second(1), Duration::from_micros(800));
        h.decay(second(6), 600_000);
        assert_eq!(h.micros(), 800, "fresh");
        h.decay(second(7), u64::MAX);
        assert_eq!(h.micros(), 800, "nobody else was measured");
        h.decay(second(7), 600_000);
        assert_eq!(h.micros(), 700);
        h.decay(second(8), 650_000);
        assert_eq!(h.micros(), 650);
        h.decay(second(61), 600_000);
        assert_eq!(h.micros(), 600);
        h.measure(second(61), Duration::from_micros(900));
        assert_eq!(h.micros(), 900, "counts whole");
        h.decay(second(122), 600_000);
        assert_eq!(h.micros(), 0);
    }

    #[test]
    fn what_is_known_is_never_rounded_to_unknown() {
        let mut h = Handshakes::default();
        h.measure(Instant::from_secs(1), Duration::ZERO);
        assert_eq!(h.micros(), 1);
    }
}
