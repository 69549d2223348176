//! Services and their real servers.

use uvs_core::counters::ScheduleFailure;
use uvs_core::numbers::ServerNumbers;
use uvs_core::plugins::{PickTimes, PluginNumbers};
use uvs_core::service::ServiceKey;

use crate::catalog::{self as c, Definition};
use crate::text::Text;
use crate::{BackendMetrics, Histogram, MetricSnapshot, ServiceMetrics, State};

/// Label values in the order of their names; the names of a firewall mark's service differ.
#[derive(Clone)]
struct Labels(Vec<(&'static str, String)>);

pub(super) fn collect(snapshot: &MetricSnapshot, to: &mut Text) {
    let backends: usize = snapshot.services.iter().map(|s| s.backends.len()).sum();
    let truncated = backends > snapshot.max_backends;
    to.add(&c::TRUNCATED, &[], f64::from(u8::from(truncated)));
    for s in &snapshot.services {
        let labels = Labels::of(s.key);
        service(s, &labels, to);
        if !truncated {
            for b in &s.backends {
                backend(b, &labels.of_backend(b), to);
            }
        }
    }
}

fn service(s: &ServiceMetrics, labels: &Labels, to: &mut Text) {
    let persistent = if s.persistent { "true" } else { "false" };
    let info = [
        ("scheduler", s.scheduler.as_str()),
        ("persistent", persistent),
    ];
    labels.add(to, &c::SERVICE_INFO, &info, 1.0);
    let stats = s.numbers.stats;
    labels.add(
        to,
        &c::SERVICE_CONNECTIONS_TOTAL,
        &[],
        stats.connections as f64,
    );
    for (definition, direction, value) in [
        (&c::SERVICE_PACKETS, "in", stats.in_packets),
        (&c::SERVICE_PACKETS, "out", stats.out_packets),
        (&c::SERVICE_BYTES, "in", stats.in_bytes),
        (&c::SERVICE_BYTES, "out", stats.out_bytes),
    ] {
        labels.add(to, definition, &[("direction", direction)], value as f64);
    }
    let sum = |of: fn(&ServerNumbers) -> u32| -> u64 {
        let servers = s.backends.iter();
        servers.map(|b| u64::from(of(&b.numbers))).sum()
    };
    for (state, count) in [
        ("active", sum(|n| n.active)),
        ("inactive", sum(|n| n.inactive)),
        ("persistent", sum(|n| n.persistent)),
    ] {
        let label = [("state", state)];
        labels.add(to, &c::SERVICE_CONNECTIONS, &label, count as f64);
    }
    for state in State::ALL {
        let count = s.backends.iter().filter(|b| b.state() == state).count();
        let label = [("state", state.label())];
        labels.add(to, &c::SERVICE_BACKENDS, &label, count as f64);
    }
    for failure in ScheduleFailure::ALL {
        let label = [("reason", failure.label())];
        let count = s.numbers.failures[*failure as usize];
        labels.add(to, &c::SCHEDULE_FAILURES, &label, count as f64);
    }
    if let Some(numbers) = &s.numbers.plugin {
        plugin(numbers, &s.scheduler, labels, to);
    }
}

/// Of a service whose scheduler is one; `scheduler` is its name.
fn plugin(numbers: &PluginNumbers, scheduler: &str, labels: &Labels, to: &mut Text) {
    let label = [("scheduler", scheduler)];
    let picks = times(&numbers.picks);
    let all = labels.pairs().chain(label);
    to.histogram_with(&c::SCHEDULER_PICK, all, &picks);
    let over = numbers.over_budget as f64;
    labels.add(to, &c::SCHEDULER_OVER_BUDGET, &label, over);
    let fell_back = f64::from(u8::from(numbers.fallback.is_some()));
    labels.add(to, &c::SCHEDULER_FALLBACK, &label, fell_back);
}

fn times(picks: &PickTimes) -> Histogram {
    Histogram {
        bounds: PickTimes::BOUNDS_NS.map(|ns| ns as f64 / 1e9).to_vec(),
        counts: picks.counts.to_vec(),
        count: picks.count,
        sum: picks.sum_ns as f64 / 1e9,
    }
}

fn backend(b: &BackendMetrics, labels: &Labels, to: &mut Text) {
    for series in c::BACKEND_SERIES {
        let Some(value) = (series.value)(b) else {
            continue;
        };
        let more = series.of.labels.last().copied().zip(series.by);
        labels.add(to, series.of, more.as_slice(), value);
    }
}

impl Labels {
    fn of(key: ServiceKey) -> Self {
        Self(match key {
            ServiceKey::Address {
                protocol,
                addr,
                port,
            } => vec![
                ("vip", addr.to_string()),
                ("port", port.to_string()),
                ("proto", protocol.to_string().to_lowercase()),
            ],
            // A mark can have a service of each family.
            ServiceKey::Mark { mark, ipv6 } => {
                let family = if ipv6 { " IPv6" } else { "" };
                vec![("fwmark", format!("{mark}{family}"))]
            }
        })
    }

    fn of_backend(&self, b: &BackendMetrics) -> Self {
        let mut labels = self.0.clone();
        labels.push(("rip", b.spec.endpoint.addr.to_string()));
        labels.push(("rport", b.spec.endpoint.port.to_string()));
        labels.push(("mode", b.spec.mode().to_owned()));
        Self(labels)
    }

    fn add(
        &self,
        to: &mut Text,
        definition: &'static Definition,
        more: &[(&'static str, &str)],
        value: f64,
    ) {
        let all = self.pairs().chain(more.iter().copied());
        to.add_with(definition, all, value);
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }
}
