//! Services and their real servers.

use uvs_core::counters::{ScheduleFailure, Stats};
use uvs_core::service::ServiceKey;

use crate::catalog::{self as c, Definition};
use crate::family::Families;
use crate::{BackendMetrics, MetricSnapshot, ServiceMetrics, State};

/// Label values in the order of their names; the names of a firewall mark's service differ.
#[derive(Clone)]
struct Labels(Vec<(&'static str, String)>);

pub(super) fn collect(snapshot: &MetricSnapshot, to: &mut Families) {
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

fn service(s: &ServiceMetrics, labels: &Labels, to: &mut Families) {
    let persistent = if s.persistent { "true" } else { "false" };
    let info = [
        ("scheduler", s.scheduler.as_str()),
        ("persistent", persistent),
    ];
    labels.add(to, &c::SERVICE_INFO, &info, 1.0);
    labels.add(
        to,
        &c::SERVICE_CONNECTIONS_TOTAL,
        &[],
        s.stats.connections as f64,
    );
    traffic(
        labels,
        &s.stats,
        [&c::SERVICE_PACKETS, &c::SERVICE_BYTES],
        to,
    );
    let sum = |of: fn(&BackendMetrics) -> u32| s.backends.iter().map(|b| u64::from(of(b))).sum();
    let load: [u64; 3] = [
        sum(|b| b.active),
        sum(|b| b.inactive),
        sum(|b| b.persistent),
    ];
    connections(labels, load, &c::SERVICE_CONNECTIONS, to);
    for state in State::ALL {
        let count = s.backends.iter().filter(|b| b.state() == state).count();
        let label = [("state", state.label())];
        labels.add(to, &c::SERVICE_BACKENDS, &label, count as f64);
    }
    for failure in ScheduleFailure::ALL {
        let label = [("reason", failure.label())];
        let count = s.failures[*failure as usize];
        labels.add(to, &c::SCHEDULE_FAILURES, &label, count as f64);
    }
}

fn backend(b: &BackendMetrics, labels: &Labels, to: &mut Families) {
    let flag = |set: bool| f64::from(u8::from(set));
    let load = [b.active, b.inactive, b.persistent].map(u64::from);
    labels.add(
        to,
        &c::BACKEND_CONNECTIONS_TOTAL,
        &[],
        b.stats.connections as f64,
    );
    traffic(
        labels,
        &b.stats,
        [&c::BACKEND_PACKETS, &c::BACKEND_BYTES],
        to,
    );
    connections(labels, load, &c::BACKEND_CONNECTIONS, to);
    labels.add(to, &c::BACKEND_OPEN, &[], f64::from(b.open));
    labels.add(to, &c::BACKEND_WEIGHT, &[], f64::from(b.weight));
    labels.add(to, &c::BACKEND_EFFECTIVE_WEIGHT, &[], b.effective_weight);
    if b.handshake > 0 {
        labels.add(to, &c::BACKEND_HANDSHAKE, &[], f64::from(b.handshake) / 1e6);
    }
    labels.add(to, &c::BACKEND_UP, &[], flag(b.reachable));
    labels.add(to, &c::BACKEND_OVERLOADED, &[], flag(b.overloaded));
}

fn traffic(
    labels: &Labels,
    stats: &Stats,
    [packets, bytes]: [&'static Definition; 2],
    to: &mut Families,
) {
    for (definition, value, direction) in [
        (packets, stats.in_packets, "in"),
        (packets, stats.out_packets, "out"),
        (bytes, stats.in_bytes, "in"),
        (bytes, stats.out_bytes, "out"),
    ] {
        labels.add(to, definition, &[("direction", direction)], value as f64);
    }
}

fn connections(
    labels: &Labels,
    load: [u64; 3],
    definition: &'static Definition,
    to: &mut Families,
) {
    for (state, count) in ["active", "inactive", "persistent"].into_iter().zip(load) {
        labels.add(to, definition, &[("state", state)], count as f64);
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
            ServiceKey::Mark { mark, .. } => vec![("fwmark", mark.to_string())],
        })
    }

    fn of_backend(&self, b: &BackendMetrics) -> Self {
        let mut labels = self.0.clone();
        labels.push(("rip", b.endpoint.addr.to_string()));
        labels.push(("rport", b.endpoint.port.to_string()));
        labels.push(("mode", b.mode().to_owned()));
        Self(labels)
    }

    fn add(
        &self,
        to: &mut Families,
        definition: &'static Definition,
        more: &[(&'static str, &str)],
        value: f64,
    ) {
        let own = self.0.iter().map(|(name, value)| (*name, value.as_str()));
        to.add_with(definition, own.chain(more.iter().copied()), value);
    }
}
