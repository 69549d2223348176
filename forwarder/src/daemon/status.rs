//! The engine's numbers as the control protocol has them: services with their servers, connections, totals.

use uvs_control::protocol::{ConnectionStatus, ServerStatus, ServiceStatus, Totals};
use uvs_core::counters::{Counters, ScheduleFailure};
use uvs_core::engine::{ConnReport, Report, ServiceReport};
use uvs_core::fib::Fib;
use uvs_core::flow::Endpoint;
use uvs_core::marks::{Destination, MarkRule, destinations};
use uvs_core::service::{ServerSpec, ServiceKey, ServiceSpec};

use super::rates::Rates;
use crate::worker;

/// The counters as the protocol has them.
pub(super) fn totals(counters: &Counters) -> Totals {
    Totals {
        received: counters.received,
        sent: counters.sent,
        answered: counters.answered,
        held: counters.held,
        passed: counters.passed,
        local: counters.local,
        dropped: counters.drops.iter().sum(),
        lost: counters.lost.iter().sum(),
    }
}

/// A service as it is listed.
pub fn service_status(
    spec: &ServiceSpec,
    marks: &[MarkRule],
    report: &Report,
    rates: &Rates,
    fib: &Fib,
) -> ServiceStatus {
    let counted = report.services.iter().find(|s| s.key == spec.key);
    let server = |s: &ServerSpec| {
        let counted = counted.and_then(|c| c.servers.iter().find(|r| r.endpoint == s.endpoint));
        let own = (spec.key, Some(s.endpoint));
        ServerStatus {
            spec: *s,
            local: fib.is_local(s.endpoint.addr),
            active: counted.map_or(0, |c| c.active),
            inactive: counted.map_or(0, |c| c.inactive),
            persistent: counted.map_or(0, |c| c.persistent),
            effective_weight: counted.map_or_else(|| f64::from(s.weight), |c| c.effective_weight),
            handshake: counted.map_or(0, |c| c.handshake),
            open: counted.map_or(0, |c| c.open),
            draining: counted
                .and_then(|c| c.draining)
                .map(|since| worker::monotonic().since(since).as_secs()),
            stats: rates.totals(&own),
            rates: rates.rates(&own),
        }
    };
    ServiceStatus {
        stats: rates.totals(&(spec.key, None)),
        rates: rates.rates(&(spec.key, None)),
        servers: spec.servers.iter().map(server).collect(),
        failures: counted.map(failures).unwrap_or_default(),
        matches: matches(spec.key, marks),
        spec: ServiceSpec {
            servers: Vec::new(),
            ..spec.clone()
        },
    }
}

fn failures(counted: &ServiceReport) -> Vec<(String, u64)> {
    let all = ScheduleFailure::ALL.iter().zip(counted.failures);
    let some = all.filter(|(_, count)| *count > 0);
    some.map(|(why, count)| (why.label().to_owned(), count))
        .collect()
}

fn matches(key: ServiceKey, marks: &[MarkRule]) -> Vec<Destination> {
    match key {
        ServiceKey::Mark { .. } => destinations(key, marks).collect(),
        ServiceKey::Address { .. } => Vec::new(),
    }
}

/// A connection as it is listed.
pub fn connection_status(c: &ConnReport) -> ConnectionStatus {
    ConnectionStatus {
        protocol: c.protocol,
        client: c.client,
        vip: c.vip,
        server: c.server,
        local: c.local.filter(|l| *l != Endpoint::NONE),
        state: c.state.to_owned(),
        expires: c.expires,
    }
}
