//! Services as the control protocol has them: what the engine counts, beside what the daemon knows.

use uvs_control::protocol::{ServerState, ServerStatus, ServiceStatus};
use uvs_core::counters::Stats;
use uvs_core::engine::ServiceReport;
use uvs_core::fib::{Fib, Query};
use uvs_core::marks::{Destination, MarkRule, destinations};
use uvs_core::numbers::{ServerNumbers, ServiceNumbers};
use uvs_core::service::{ServerSpec, ServiceKey, ServiceSpec};

use super::rates::Rates;

/// A service as it is, its counters since it was added; `counted` is what the engine reports of it, `None` before it
/// has taken the service up.
pub(super) fn service_status(
    spec: &ServiceSpec,
    marks: &[MarkRule],
    counted: Option<&ServiceReport>,
    rates: &Rates,
    fib: &Fib,
) -> ServiceStatus {
    let server = |s: &ServerSpec| {
        let (numbers, local) = (server_numbers(counted, s), fib.is_local(s.endpoint.addr));
        let reachable = local || is_reachable(spec, s, fib);
        ServerStatus {
            spec: *s,
            local,
            state: ServerState::of(s, &numbers, reachable),
            numbers,
            rates: rates.rates(&(spec.key, Some(s.endpoint))),
        }
    };
    ServiceStatus {
        numbers: service_numbers(counted),
        rates: rates.rates(&(spec.key, None)),
        servers: spec.servers.iter().map(server).collect(),
        matches: matches(spec.key, marks),
        spec: ServiceSpec {
            servers: Vec::new(),
            ..spec.clone()
        },
    }
}

/// A service as ipvsadm lists it, its counters since they were zeroed.
pub fn listed(
    spec: &ServiceSpec,
    marks: &[MarkRule],
    counted: Option<&ServiceReport>,
    rates: &Rates,
    fib: &Fib,
) -> ServiceStatus {
    let totals = |server| -> Stats { rates.totals(&(spec.key, server)) };
    let mut status = service_status(spec, marks, counted, rates, fib);
    status.numbers.stats = totals(None);
    for server in &mut status.servers {
        server.numbers.stats = totals(Some(server.spec.endpoint));
    }
    status
}

/// A service's numbers.
pub(super) fn service_numbers(counted: Option<&ServiceReport>) -> ServiceNumbers {
    counted.map(|c| c.numbers).unwrap_or_default()
}

/// Whether the MAC address of a server's next hop is known.
pub(super) fn is_reachable(service: &ServiceSpec, server: &ServerSpec, fib: &Fib) -> bool {
    let local = service.local.first().copied();
    let query = Query::to_server(server.endpoint.addr, server.forwarding, local);
    fib.lookup(query).is_ok_and(|hop| hop.mac.is_some())
}

/// The numbers of one of its servers.
pub(super) fn server_numbers(counted: Option<&ServiceReport>, spec: &ServerSpec) -> ServerNumbers {
    let mut servers = counted.into_iter().flat_map(|c| &c.servers);
    let found = servers.find(|s| s.endpoint == spec.endpoint);
    found.map_or_else(
        || ServerNumbers {
            effective_weight: spec.weight.into(),
            ..ServerNumbers::default()
        },
        |s| s.numbers,
    )
}

fn matches(key: ServiceKey, marks: &[MarkRule]) -> Vec<Destination> {
    match key {
        ServiceKey::Mark { .. } => destinations(key, marks).collect(),
        ServiceKey::Address { .. } => Vec::new(),
    }
}
