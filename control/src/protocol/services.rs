//! Services and their servers: what is counted, as the engine reports it, beside what the daemon alone knows, which
//! is settings, rates and names.

use serde::{Deserialize, Serialize};
use uvs_core::counters::Stats;
use uvs_core::marks::Destination;
use uvs_core::numbers::{ServerNumbers, ServiceNumbers};
use uvs_core::service::{ServerSpec, ServiceSpec};

/// Services with their counters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Services {
    /// Slots of the connection table (the `size=` of ipvsadm's first line).
    pub table_size: u32,
    /// The services, in no particular order.
    pub services: Vec<ServiceStatus>,
}

/// Traffic of all services.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Traffic {
    /// Totals.
    pub stats: Stats,
    /// Per second, by the kernel's estimator.
    pub rates: Stats,
}

/// A service with its numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// The service as asked for; the servers are in `servers`, its own list is empty.
    pub spec: ServiceSpec,
    /// What is counted of it; in a listing, its `stats` are ipvsadm's: since they were zeroed, and of the
    /// estimator's last period.
    #[serde(flatten)]
    pub numbers: ServiceNumbers,
    /// Per second, by the kernel's estimator.
    pub rates: Stats,
    /// The servers, newest first.
    pub servers: Vec<ServerStatus>,
    /// What is marked for it, where it is a service of a firewall mark.
    #[serde(default)]
    pub matches: Vec<Destination>,
}

/// A real server with its numbers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ServerStatus {
    /// The server as asked for.
    pub spec: ServerSpec,
    /// Whether the address is the director's own (shown as `Local`).
    pub local: bool,
    /// What is counted of it; `stats` as its service's.
    #[serde(flatten)]
    pub numbers: ServerNumbers,
    /// Per second, by the kernel's estimator.
    pub rates: Stats,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use uvs_core::counters::ScheduleFailure;
    use uvs_core::flow::{Addr, Endpoint, Protocol};
    use uvs_core::service::{Forwarding, ServiceKey};

    fn status() -> ServiceStatus {
        let at = |last| Endpoint::new(Addr::v4([10, 0, 0, last]), 80);
        let mut numbers = ServiceNumbers::default();
        numbers.failures[ScheduleFailure::Denied as usize] = 4;
        ServiceStatus {
            spec: ServiceSpec::new(ServiceKey::address(Protocol::Tcp, at(100)), "wrr"),
            numbers,
            rates: Stats::default(),
            servers: vec![ServerStatus {
                spec: ServerSpec::new(at(2), Forwarding::Nat),
                local: false,
                numbers: ServerNumbers {
                    active: 3,
                    effective_weight: 0.25,
                    draining: Some(34),
                    ..ServerNumbers::default()
                },
                rates: Stats::default(),
            }],
            matches: Vec::new(),
        }
    }

    #[test]
    fn numbers_stand_beside_what_the_daemon_knows() {
        let json = serde_json::to_value(status()).expect("JSON");
        assert_eq!(json["failures"], json!([["denied", 4]]));
        let server = &json["servers"][0];
        assert_eq!(
            [
                &server["active"],
                &server["draining"],
                &server["spec"]["weight"]
            ],
            [3, 34, 1]
        );
        let read: ServiceStatus = serde_json::from_value(json).expect("a status");
        assert_eq!(read.numbers, status().numbers);
        assert_eq!(read.servers[0].numbers, status().servers[0].numbers);
    }

    #[test]
    fn a_number_that_an_older_daemon_does_not_know_is_0() {
        let mut json = serde_json::to_value(status()).expect("JSON");
        let server = json["servers"][0].as_object_mut().expect("an object");
        server.remove("handshake").expect("it was there");
        let read: ServiceStatus = serde_json::from_value(json).expect("a status");
        assert_eq!(read.servers[0].numbers.handshake, 0);
    }
}
