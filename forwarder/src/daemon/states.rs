//! What real servers are, from one look to the next: a change that clients may notice is a line of the log, which names
//! server and service.

use std::collections::HashMap;

use uvs_control::protocol::{ServerState, ServerStatus};
use uvs_core::counters::Stats;
use uvs_core::engine::Report;
use uvs_core::fib::Fib;
use uvs_core::flow::Endpoint;
use uvs_core::service::ServiceKey;
use uvs_core::services::Services;

use super::status::is_reachable;

/// A server of a service.
type Place = (ServiceKey, Endpoint);

/// The servers that were not up when this was asked last.
#[derive(Default)]
pub(super) struct States(HashMap<Place, ServerState>);

/// A server has become another than it was.
pub(super) struct Change {
    service: ServiceKey,
    was: ServerState,
    server: ServerStatus,
}

impl States {
    /// What has changed since this was asked last. A server that is new, or gone, has changed from up, or to nothing.
    pub(super) fn follow(
        &mut self,
        services: &Services,
        report: &Report,
        fib: &Fib,
    ) -> Vec<Change> {
        let reported: HashMap<_, _> = report.services.iter().map(|s| (s.key, s)).collect();
        let mut states = HashMap::new();
        let mut changes = Vec::new();
        for spec in services.iter() {
            let Some(reported) = reported.get(&spec.key) else {
                continue;
            };
            let numbers: HashMap<_, _> = reported
                .servers
                .iter()
                .map(|s| (s.endpoint, s.numbers))
                .collect();
            for server in &spec.servers {
                let Some(numbers) = numbers.get(&server.endpoint) else {
                    continue;
                };
                let local = fib.is_local(server.endpoint.addr);
                let state =
                    ServerState::of(server, numbers, local || is_reachable(spec, server, fib));
                let place = (spec.key, server.endpoint);
                let was = self.0.get(&place).copied().unwrap_or_default();
                if state != ServerState::Up {
                    states.insert(place, state);
                }
                if state != was {
                    changes.push(Change {
                        service: spec.key,
                        was,
                        server: ServerStatus {
                            spec: *server,
                            local,
                            state,
                            numbers: *numbers,
                            rates: Stats::default(),
                        },
                    });
                }
            }
        }
        self.0 = states;
        changes
    }
}

impl Change {
    /// Says it, where that is not said elsewhere: drains have lines of their own, and a slow start is nobody's trouble.
    pub(super) fn log(&self) {
        let (service, server) = (self.service, self.server.spec.endpoint);
        let (state, why) = (self.server.state, self.server.why());
        match state {
            ServerState::NoNeighbour | ServerState::NoAnswers => {
                tracing::warn!("{service}: server {server}: {}: {why}", state.name());
            }
            ServerState::Overloaded => {
                tracing::info!("{service}: server {server} is overloaded: {why}");
            }
            ServerState::Up | ServerState::SlowStart | ServerState::Draining => {
                if self.was.is_trouble() || self.was == ServerState::Overloaded {
                    let was = self.was.name();
                    tracing::info!(
                        "{service}: server {server} is {} again, after {was}",
                        state.name()
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use uvs_core::engine::{ServerReport, ServiceReport};
    use uvs_core::flow::Protocol;
    use uvs_core::numbers::{HandshakeNumbers, ServerNumbers, ServiceNumbers};

    use uvs_core::service::{Forwarding, ServerSpec, ServiceSpec};
    use uvs_core::testing::bed::{SERVER, VIP};
    use uvs_core::testing::net;

    use super::*;

    fn report(failed: u32) -> Report {
        let numbers = ServerNumbers {
            effective_weight: 1.0,
            handshakes: HandshakeNumbers {
                failed_in_a_row: failed,
                failed_ago: Some(0),
                ..HandshakeNumbers::default()
            },
            ..ServerNumbers::default()
        };
        let endpoint = Endpoint::new(SERVER, 80);
        let service = ServiceReport {
            key: ServiceKey::address(Protocol::Tcp, VIP),
            numbers: ServiceNumbers::default(),
            local_ports: Vec::new(),
            servers: vec![ServerReport { endpoint, numbers }],
        };
        Report {
            services: vec![service],
            ..Report::default()
        }
    }

    #[test]
    fn each_change_is_told_once_and_a_server_that_comes_back_was_gone() {
        let mut spec = ServiceSpec::new(ServiceKey::address(Protocol::Tcp, VIP), "rr");
        let server = ServerSpec::new(Endpoint::new(SERVER, 80), Forwarding::Nat);
        spec.servers = vec![server];
        let services: Services = [Arc::new(spec)].into_iter().collect();
        let fib = net::fib();
        let mut states = States::default();
        let mut told = |failed: u32, fib: &Fib| -> Vec<(&str, &str)> {
            let changes = states.follow(&services, &report(failed), fib);
            changes
                .iter()
                .map(|c| (c.was.name(), c.server.state.name()))
                .collect()
        };
        assert_eq!(told(0, &fib), []);
        assert_eq!(told(3, &fib), [("up", "no answers")]);
        assert_eq!(told(9, &fib), []);
        assert_eq!(told(9, &Fib::new()), [("no answers", "no neighbour")]);
        assert_eq!(told(0, &fib), [("no neighbour", "up")]);
        assert_eq!(told(0, &fib), []);
    }
}
