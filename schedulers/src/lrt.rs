//! lrt, least response time: the smallest `handshake · (256 · (active + 1) + inactive) / weight`.
//!
//! Twice as slow a server gets half the connections at a time. The time is that from SYN to SYN-ACK, as the
//! engine measures and smooths it, so that lrt needs TCP in a mode whose replies pass the director (NAT,
//! FULLNAT). A server not measured yet counts as the quickest of the others; where none is measured lrt is
//! wlc. Differences below a millisecond are the network's rather than a server's, and count for nothing.
//! Not in IPVS. Source: nginx's `least_time` (response time times connections for the weight) and Finagle's
//! `PeakEwma` (cost = latency · (pending + 1)).

use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::scheduler::{Fork, Scheduler, SchedulerDef};

use crate::load;

pub(crate) const DEF: SchedulerDef = SchedulerDef {
    name: "lrt",
    about: "least response time: wlc times the handshake's duration (not in IPVS)",
    new: |_| Box::new(LeastResponseTime),
};

/// Microseconds; quicker servers count as this quick.
const QUICK: u32 = 1000;
/// One active connection, the one to be opened.
const NEXT: u64 = 256;

#[derive(Clone)]
struct LeastResponseTime;

impl Scheduler for LeastResponseTime {
    fn pick(&mut self, _flow: &Flow, backends: &[Backend]) -> Option<usize> {
        let available = backends.iter().filter(|b| b.is_available());
        let measured = available.map(|b| b.handshake).filter(|&h| h != 0);
        let Some(quickest) = measured.min() else {
            return load::least(backends, Backend::overhead);
        };
        let time = |b: &Backend| match b.handshake {
            0 => quickest.max(QUICK),
            known => known.max(QUICK),
        };
        load::least(backends, |b| {
            (b.overhead() + NEXT).saturating_mul(u64::from(time(b)))
        })
    }

    fn weighs_handshakes(&self) -> bool {
        true
    }

    fn fork(&self) -> Fork {
        Fork::Exact(Box::new(self.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::testing::servers::{backends, ids_picked};

    fn opened(set: &mut [Backend], id: u64) {
        let server = set.iter_mut().find(|b| b.id == id);
        server.expect("of the set").active += 1;
    }

    /// Opens connections that stay, with servers of these handshakes in microseconds and weights.
    fn connections(servers: &[(u32, u32)], count: u32) -> Vec<u32> {
        let numbered: Vec<(u64, u32)> = (0..).zip(servers).map(|(id, s)| (id, s.1)).collect();
        let mut set = backends(&numbered);
        for (backend, server) in set.iter_mut().zip(servers) {
            backend.handshake = server.0;
        }
        for _ in 0..count {
            let id = ids_picked(&mut LeastResponseTime, &set, 1)[0];
            opened(&mut set, id);
        }
        set.iter().map(|b| b.active).collect()
    }

    #[test]
    fn connections_are_shared_by_weight_over_time() {
        assert_eq!(
            connections(&[(10_000, 1), (20_000, 1)], 300),
            [200, 100],
            "twice the time"
        );
        assert_eq!(
            connections(&[(10_000, 1), (20_000, 2)], 300),
            [150, 150],
            "and twice the weight"
        );
    }

    #[test]
    fn less_than_a_millisecond_is_no_difference() {
        assert_eq!(connections(&[(50, 1), (900, 1)], 100), [50, 50]);
    }

    #[test]
    fn a_server_not_measured_counts_as_the_quickest() {
        assert_eq!(
            connections(&[(0, 1), (30_000, 1), (10_000, 1)], 70),
            [30, 10, 30]
        );
    }

    #[test]
    fn without_any_measurement_it_is_wlc() {
        let mut set = backends(&[(1, 2), (2, 4), (3, 0)]);
        let mut wlc = (crate::find("wlc").expect("built in").new)(&Default::default());
        for _ in 0..100 {
            let id = ids_picked(&mut LeastResponseTime, &set, 1)[0];
            assert_eq!(ids_picked(&mut *wlc, &set, 1), [id]);
            opened(&mut set, id);
        }
    }
}
