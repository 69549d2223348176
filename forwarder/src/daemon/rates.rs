//! What `ipvsadm --stats` and `--rate` show: totals since the last `-Z`, and the kernel's estimator.
//!
//! The engine's counters are never reset; zeroing keeps an offset here. Totals move at the end of each
//! 2 s period and rates go a quarter of the way to the period's, as in `net/netfilter/ipvs/ip_vs_est.c`.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use uvs_core::counters::Stats;
use uvs_core::engine::Report;
use uvs_core::flow::Endpoint;
use uvs_core::service::ServiceKey;

/// A service, or one of its servers.
type Key = (ServiceKey, Option<Endpoint>);

/// Offsets and averages of everything that is counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Rates {
    known: HashMap<Key, Estimate>,
    /// Of everything, removed services included.
    all: Estimate,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Estimate {
    zero: Stats,
    last: Stats,
    /// Scaled: counts by 2^10, bytes by 2^5.
    average: [i64; 5],
}

impl Rates {
    /// A period is over.
    pub fn tick(&mut self, report: &Report) {
        let mut still = HashMap::with_capacity(self.known.len());
        for (key, stats) in counted(report) {
            let mut e = self.known.get(&key).copied().unwrap_or_default();
            // A server that was removed and added again counts from nothing.
            if stats.in_packets < e.last.in_packets || stats.connections < e.last.connections {
                e = Estimate::default();
            }
            e.period(stats);
            still.insert(key, e);
        }
        self.known = still;
        let mut all = report.retired;
        report.services.iter().for_each(|s| all += s.numbers.stats);
        self.all.period(all);
    }

    /// Zeroes one service with its servers, or everything.
    pub fn zero(&mut self, service: Option<ServiceKey>) {
        for (key, e) in &mut self.known {
            if service.is_none_or(|s| s == key.0) {
                e.zero();
            }
        }
        if service.is_none() {
            self.all.zero();
        }
    }

    /// Totals as of the last period's end, since the last zero.
    pub(crate) fn totals(&self, key: &Key) -> Stats {
        self.known
            .get(key)
            .map(Estimate::totals)
            .unwrap_or_default()
    }

    /// Per second.
    pub(crate) fn rates(&self, key: &Key) -> Stats {
        self.known.get(key).map(Estimate::rates).unwrap_or_default()
    }

    /// Totals and rates of everything.
    pub(crate) fn all(&self) -> (Stats, Stats) {
        (self.all.totals(), self.all.rates())
    }
}

impl Estimate {
    fn zero(&mut self) {
        *self = Self {
            zero: self.last,
            last: self.last,
            average: [0; 5],
        };
    }

    fn totals(&self) -> Stats {
        let (last, zero) = (array(self.last), array(self.zero));
        from_array(std::array::from_fn(|i| last[i].saturating_sub(zero[i])))
    }

    fn rates(&self) -> Stats {
        from_array(std::array::from_fn(|i| {
            let (round, shift) = if i < 3 { (0x1ff, 10) } else { (0xf, 5) };
            u64::try_from((self.average[i] + round) >> shift).unwrap_or(0)
        }))
    }

    fn period(&mut self, now: Stats) {
        let (new, old) = (array(now), array(self.last));
        for i in 0..5 {
            let shift = if i < 3 { 9 } else { 4 };
            let rate = i64::try_from(new[i].saturating_sub(old[i]) << shift).unwrap_or(i64::MAX);
            self.average[i] += (rate - self.average[i]) >> 2;
        }
        self.last = now;
    }
}

fn counted(report: &Report) -> impl Iterator<Item = (Key, Stats)> {
    report.services.iter().flat_map(|s| {
        std::iter::once(((s.key, None), s.numbers.stats)).chain(
            s.servers
                .iter()
                .map(move |r| ((s.key, Some(r.endpoint)), r.numbers.stats)),
        )
    })
}

fn array(s: Stats) -> [u64; 5] {
    [
        s.connections,
        s.in_packets,
        s.out_packets,
        s.in_bytes,
        s.out_bytes,
    ]
}

fn from_array([connections, in_packets, out_packets, in_bytes, out_bytes]: [u64; 5]) -> Stats {
    Stats {
        connections,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::engine::ServiceReport;
    use uvs_core::flow::{Addr, Protocol};
    use uvs_core::numbers::ServiceNumbers;

    const KEY: ServiceKey =
        ServiceKey::address(Protocol::Tcp, Endpoint::new(Addr::v4([10, 0, 0, 1]), 80));

    fn report(connections: u64, in_bytes: u64) -> Report {
        let stats = Stats {
            connections,
            in_bytes,
            ..Stats::default()
        };
        Report {
            services: vec![ServiceReport {
                key: KEY,
                numbers: ServiceNumbers {
                    stats,
                    ..ServiceNumbers::default()
                },
                local_ports: Vec::new(),
                servers: Vec::new(),
            }],
            retired: Stats::default(),
        }
    }

    #[test]
    fn a_steady_rate_is_approached_by_quarters() {
        let mut r = Rates::default();
        let mut seen = Vec::new();
        for i in 1..=20 {
            r.tick(&report(i * 200, i * 2_000_000));
            seen.push(r.rates(&(KEY, None)).connections);
        }
        assert_eq!(seen[..3], [25, 44, 58]);
        assert_eq!(seen[19], 100);
        assert!((990_000..=1_000_000).contains(&r.rates(&(KEY, None)).in_bytes));
    }

    #[test]
    fn zero_is_an_offset_and_totals_move_with_the_period() {
        let mut r = Rates::default();
        assert_eq!(r.totals(&(KEY, None)), Stats::default());
        r.tick(&report(7, 70));
        assert_eq!(r.totals(&(KEY, None)).connections, 7);
        r.zero(Some(KEY));
        assert_eq!(r.totals(&(KEY, None)), Stats::default());
        r.tick(&report(10, 100));
        assert_eq!(
            r.totals(&(KEY, None)),
            Stats {
                connections: 3,
                in_bytes: 30,
                ..Stats::default()
            }
        );
    }
    #[test]
    fn the_whole_keeps_what_a_removed_service_had() {
        let mut r = Rates::default();
        r.tick(&report(7, 70));
        r.zero(Some(KEY));
        assert_eq!(r.all().0.connections, 7);
        let removed = Report {
            services: Vec::new(),
            retired: report(8, 80).services[0].numbers.stats,
        };
        r.tick(&removed);
        assert_eq!((r.all().0.connections, r.all().0.in_bytes), (8, 80));
        r.zero(None);
        assert_eq!(r.all().0, Stats::default());
    }
}
