//! From samples to rates: what the daemon counted at two moments becomes what happened in a second.
//!
//! A rate is the difference of two counters over the difference of the daemon's own times, so that neither
//! a late answer nor a busy terminal changes it. It is unknown where there is nothing to compare with: at
//! the first sample, for a service that is new, and after the daemon has been started again.

use std::collections::HashMap;

use uvs_control::protocol::Sample;
use uvs_core::counters::Stats;
use uvs_core::flow::Endpoint;
use uvs_core::service::ServiceKey;

use crate::commands::columns::Rates;
use crate::commands::columns::servers::Server;
use crate::commands::columns::services::Service;

/// Samples that a trend goes back.
pub(super) const TREND: usize = 120;

/// A service, or one of its servers.
type Id = (ServiceKey, Option<Endpoint>);

/// A sample with its rates.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) services: Vec<Service>,
    /// Of their servers.
    rates: HashMap<Id, Rates>,
    /// Bits in a second in both directions, the oldest first.
    trends: HashMap<Id, Vec<u64>>,
    /// Of all services.
    pub(super) total: Option<Rates>,
    pub(super) frames: Option<Frames>,
    pub(super) pid: u32,
    pub(super) uptime: u64,
    pub(super) connections: u32,
    pub(super) connection_limit: u32,
}

/// Frames in a second, and how much of it each worker worked.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Frames {
    pub(super) received: f64,
    pub(super) sent: f64,
    pub(super) dropped: f64,
    pub(super) ring_drops: f64,
    /// 0 to 1.
    pub(super) busy: Vec<f64>,
}

/// Turns samples into readings.
#[derive(Default)]
pub(super) struct Meter {
    last: Option<Sample>,
    trends: HashMap<Id, Vec<u64>>,
}

impl Meter {
    /// The next sample.
    pub(super) fn read(&mut self, now: Sample) -> Reading {
        let last = self.last.take().filter(|last| last.pid == now.pid);
        if last.is_none() {
            self.trends.clear();
        }
        let since = last
            .as_ref()
            .and_then(|last| Some((last, Span::of(last, &now)?)));
        let rates = since.map_or_else(HashMap::new, |(last, span)| span.all(last, &now));
        self.follow(&now, &rates);
        let services = now.services.iter().map(|status| Service {
            rates: rates.get(&(status.spec.key, None)).copied(),
            status: status.clone(),
        });
        let services: Vec<_> = services.collect();
        let reading = Reading {
            total: total(&services),
            services,
            rates,
            trends: self.trends.clone(),
            frames: since.map(|(last, span)| span.frames(last, &now)),
            pid: now.pid,
            uptime: now.uptime,
            connections: now.connections,
            connection_limit: now.connection_limit,
        };
        self.last = Some(now);
        reading
    }

    /// Goes on with the trends of what there is still.
    fn follow(&mut self, now: &Sample, rates: &HashMap<Id, Rates>) {
        let mut old = std::mem::take(&mut self.trends);
        for id in counters(now).into_keys() {
            let mut trend = old.remove(&id).unwrap_or_default();
            let rates = rates.get(&id);
            trend.extend(rates.map(|r| whole(r.in_bits + r.out_bits)));
            trend.drain(..trend.len().saturating_sub(TREND));
            self.trends.insert(id, trend);
        }
    }
}

impl Reading {
    /// The service of this key.
    pub(super) fn service(&self, key: &ServiceKey) -> Option<&Service> {
        self.services.iter().find(|s| s.status.spec.key == *key)
    }

    /// A service's servers.
    pub(super) fn servers(&self, service: &Service) -> impl Iterator<Item = Server> {
        let key = service.status.spec.key;
        service.status.servers.iter().map(move |status| Server {
            service: key,
            status: *status,
            rates: self.rates.get(&(key, Some(status.spec.endpoint))).copied(),
        })
    }

    /// The past of a service, or of one of its servers.
    pub(super) fn trend(&self, service: ServiceKey, server: Option<Endpoint>) -> &[u64] {
        self.trends
            .get(&(service, server))
            .map_or(&[], Vec::as_slice)
    }
}

/// The counters of a sample, of everything it knows.
fn counters(sample: &Sample) -> HashMap<Id, Stats> {
    let all = sample.services.iter().flat_map(|s| {
        let key = s.spec.key;
        let servers = s.servers.iter();
        let servers = servers.map(move |r| ((key, Some(r.spec.endpoint)), r.numbers.stats));
        std::iter::once(((key, None), s.numbers.stats)).chain(servers)
    });
    all.collect()
}

/// A rate without its fraction, as trends are drawn.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the fraction is to go, and a rate is not negative"
)]
fn whole(rate: f64) -> u64 {
    rate as u64
}

fn total(services: &[Service]) -> Option<Rates> {
    let rates = services.iter().filter_map(|s| s.rates);
    rates.reduce(|a, b| Rates {
        connections: a.connections + b.connections,
        in_packets: a.in_packets + b.in_packets,
        out_packets: a.out_packets + b.out_packets,
        in_bits: a.in_bits + b.in_bits,
        out_bits: a.out_bits + b.out_bits,
    })
}

/// The time between two samples.
#[derive(Clone, Copy)]
struct Span {
    seconds: f64,
}

impl Span {
    fn of(last: &Sample, now: &Sample) -> Option<Self> {
        let ns = now
            .taken_ns
            .checked_sub(last.taken_ns)
            .filter(|ns| *ns > 0)?;
        Some(Self {
            seconds: ns as f64 / 1e9,
        })
    }

    /// `None` where a counter went back: what is called so now is not what it was.
    fn rate(self, old: u64, new: u64) -> Option<f64> {
        new.checked_sub(old).map(|n| n as f64 / self.seconds)
    }

    /// Of all that both samples know.
    fn all(self, last: &Sample, now: &Sample) -> HashMap<Id, Rates> {
        let old = counters(last);
        let new = counters(now).into_iter();
        let rates = new.filter_map(|(id, new)| Some((id, self.rates(old.get(&id)?, &new)?)));
        rates.collect()
    }

    fn rates(self, old: &Stats, new: &Stats) -> Option<Rates> {
        Some(Rates {
            connections: self.rate(old.connections, new.connections)?,
            in_packets: self.rate(old.in_packets, new.in_packets)?,
            out_packets: self.rate(old.out_packets, new.out_packets)?,
            in_bits: 8.0 * self.rate(old.in_bytes, new.in_bytes)?,
            out_bits: 8.0 * self.rate(old.out_bytes, new.out_bytes)?,
        })
    }

    fn frames(self, last: &Sample, now: &Sample) -> Frames {
        let rate = |old, new| self.rate(old, new).unwrap_or(0.0);
        let (old, new) = (&last.totals, &now.totals);
        Frames {
            received: rate(old.received, new.received),
            sent: rate(old.sent, new.sent),
            dropped: rate(old.dropped + old.lost, new.dropped + new.lost),
            ring_drops: rate(last.ring_drops, now.ring_drops),
            busy: busy(last)
                .zip(busy(now))
                .map(|(last, now)| (rate(last, now) / 1e9).clamp(0.0, 1.0))
                .collect(),
        }
    }
}

/// How long each worker has worked; of a daemon that does not say it, all of them together.
fn busy(sample: &Sample) -> impl Iterator<Item = u64> + '_ {
    let together = sample.each_busy_ns.is_empty().then_some(sample.busy_ns);
    sample.each_busy_ns.iter().copied().chain(together)
}

#[cfg(test)]
mod tests;
