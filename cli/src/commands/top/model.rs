//! From samples to rates: what the daemon counted at two moments becomes what happened in a second.
//!
//! A rate is the difference of two counters over the difference of the daemon's own times, so that neither
//! a late answer nor a busy terminal changes it. It is unknown where there is nothing to compare with: at
//! the first sample, for a service that is new, and after the daemon has been started again.

use std::collections::{HashMap, VecDeque};

use uvs_control::protocol::{Sample, ServerStatus, ServiceStatus, Stats};
use uvs_core::flow::Endpoint;
use uvs_core::service::{ServerSpec, ServiceKey};

/// Samples that a trend goes back.
pub(super) const TREND: usize = 120;

/// A service, or one of its servers.
type Id = (ServiceKey, Option<Endpoint>);

/// What happens in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) connections: f64,
    pub(super) in_packets: f64,
    pub(super) out_packets: f64,
    pub(super) in_bits: f64,
    pub(super) out_bits: f64,
}

/// A sample with its rates.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) services: Vec<ServiceReading>,
    /// Of all services.
    pub(super) total: Option<Rates>,
    pub(super) frames: Option<Frames>,
    pub(super) pid: u32,
    pub(super) uptime: u64,
    pub(super) connections: u32,
    pub(super) connection_limit: u32,
}

/// Frames in a second, and how much of it the worker worked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Frames {
    pub(super) received: f64,
    pub(super) sent: f64,
    pub(super) dropped: f64,
    pub(super) ring_drops: f64,
    /// 0 to 1.
    pub(super) busy: f64,
}

/// A service, its rates, its past.
#[derive(Clone, Debug)]
pub(super) struct ServiceReading {
    pub(super) key: ServiceKey,
    pub(super) scheduler: String,
    pub(super) load: Load,
    pub(super) servers: Vec<ServerReading>,
}

/// A real server, its rates, its past.
#[derive(Clone, Debug)]
pub(super) struct ServerReading {
    pub(super) spec: ServerSpec,
    pub(super) local: bool,
    pub(super) load: Load,
}

/// What services and servers have in common.
#[derive(Clone, Debug, Default)]
pub(super) struct Load {
    pub(super) active: u64,
    pub(super) inactive: u64,
    pub(super) rates: Option<Rates>,
    /// Whether replies pass the director, so that there is something to count.
    pub(super) replies: bool,
    /// Bits in a second in both directions, the oldest first.
    pub(super) trend: Vec<u64>,
}

/// Turns samples into readings.
#[derive(Default)]
pub(super) struct Meter {
    last: Option<Sample>,
    trends: HashMap<Id, VecDeque<u64>>,
}

impl Meter {
    /// The next sample.
    pub(super) fn read(&mut self, now: Sample) -> Reading {
        let last = self.last.take().filter(|last| last.pid == now.pid);
        if last.is_none() {
            self.trends.clear();
        }
        let span = last.as_ref().and_then(|last| Span::of(last, &now));
        let known = counters(last.as_ref().filter(|_| span.is_some()));
        let mut trends = HashMap::new();
        let mut load = |id: Id, stats: Stats| {
            let rates = known
                .get(&id)
                .zip(span)
                .and_then(|(old, span)| span.rates(old, &stats));
            let mut trend = self.trends.remove(&id).unwrap_or_default();
            trend.extend(rates.map(|r| (r.in_bits + r.out_bits) as u64));
            trend.drain(..trend.len().saturating_sub(TREND));
            let shown = trend.iter().copied().collect();
            trends.insert(id, trend);
            Load {
                rates,
                trend: shown,
                ..Load::default()
            }
        };
        let services: Vec<_> = now.services.iter().map(|s| service(s, &mut load)).collect();
        self.trends = trends;
        let reading = Reading {
            total: total(&services),
            services,
            frames: last.zip(span).map(|(last, span)| span.frames(&last, &now)),
            pid: now.pid,
            uptime: now.uptime,
            connections: now.connections,
            connection_limit: now.connection_limit,
        };
        self.last = Some(now);
        reading
    }
}

impl Reading {
    /// The service of this key.
    pub(super) fn service(&self, key: &ServiceKey) -> Option<&ServiceReading> {
        self.services.iter().find(|s| s.key == *key)
    }
}

fn service(status: &ServiceStatus, load: &mut impl FnMut(Id, Stats) -> Load) -> ServiceReading {
    let key = status.spec.key;
    let servers: Vec<_> = status
        .servers
        .iter()
        .map(|s| server(key, s, load))
        .collect();
    let sum = |of: fn(&Load) -> u64| servers.iter().map(|s| of(&s.load)).sum();
    ServiceReading {
        key,
        scheduler: status.spec.scheduler.clone(),
        load: Load {
            active: sum(|l| l.active),
            inactive: sum(|l| l.inactive),
            replies: servers.iter().any(|s| s.load.replies),
            ..load((key, None), status.stats)
        },
        servers,
    }
}

fn server(
    key: ServiceKey,
    status: &ServerStatus,
    load: &mut impl FnMut(Id, Stats) -> Load,
) -> ServerReading {
    ServerReading {
        spec: status.spec,
        local: status.local,
        load: Load {
            active: status.active.into(),
            inactive: status.inactive.into(),
            replies: status.spec.forwarding.passes_replies(),
            ..load((key, Some(status.spec.endpoint)), status.stats)
        },
    }
}

/// The counters of a sample, of everything it knows.
fn counters(sample: Option<&Sample>) -> HashMap<Id, Stats> {
    let services = sample.into_iter().flat_map(|s| &s.services);
    let all = services.flat_map(|s| {
        let key = s.spec.key;
        let servers = s.servers.iter();
        let servers = servers.map(move |r| ((key, Some(r.spec.endpoint)), r.stats));
        std::iter::once(((key, None), s.stats)).chain(servers)
    });
    all.collect()
}

fn total(services: &[ServiceReading]) -> Option<Rates> {
    let rates = services.iter().filter_map(|s| s.load.rates);
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
            busy: (rate(last.busy_ns, now.busy_ns) / 1e9).clamp(0.0, 1.0),
        }
    }
}

#[cfg(test)]
mod tests;
