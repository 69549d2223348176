//! Services and their servers: what is counted, as the engine reports it, beside what the daemon alone knows, which
//! is settings, rates and names.

mod flat;

use serde::{Deserialize, Serialize};
use uvs_core::counters::Stats;
use uvs_core::marks::Destination;
use uvs_core::numbers::{ServerNumbers, ServiceNumbers};
use uvs_core::service::{ServerSpec, ServiceSpec};

use super::question::Parts;

/// Slots of IPVS's connection table by default: the `size=` that `ipvsadm -L` prints.
pub const TABLE_SIZE: u32 = 4096;

/// Services with their counters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Services {
    /// Slots of the connection table (the `size=` of ipvsadm's first line).
    pub table_size: u32,
    /// The services.
    pub services: Vec<ServiceStatus>,
}

impl Parts for Services {
    fn append(&mut self, part: Self) {
        self.services.extend(part.services);
    }
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
#[serde(from = "flat::Service")]
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
    pub matches: Vec<Destination>,
}

/// A real server with its numbers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(from = "flat::Server")]
pub struct ServerStatus {
    /// The server as asked for.
    pub spec: ServerSpec,
    /// Whether the address is the director's own (shown as `Local`).
    pub local: bool,
    /// What it is, in a word.
    pub state: ServerState,
    /// What is counted of it; `stats` as its service's.
    #[serde(flatten)]
    pub numbers: ServerNumbers,
    /// Per second, by the kernel's estimator.
    pub rates: Stats,
}

/// What a real server is, in a word: of several that it is, what excludes it most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerState {
    /// The MAC address of its next hop is not known.
    NoNeighbour,
    /// Its weight is 0.
    Draining,
    /// It answers no handshake ([`HandshakeNumbers::is_dead`](uvs_core::numbers::HandshakeNumbers::is_dead)).
    NoAnswers,
    /// It is over its upper threshold.
    Overloaded,
    /// It counts for less than its weight.
    SlowStart,
    /// None of these.
    #[default]
    Up,
}

impl ServerState {
    /// What a server is; `reachable` says whether packets can be sent to it.
    pub fn of(spec: &ServerSpec, numbers: &ServerNumbers, reachable: bool) -> Self {
        if !reachable {
            Self::NoNeighbour
        } else if spec.weight == 0 {
            Self::Draining
        } else if numbers.handshakes.is_dead() {
            Self::NoAnswers
        } else if numbers.overloaded {
            Self::Overloaded
        } else if numbers.effective_weight < f64::from(spec.weight) {
            Self::SlowStart
        } else {
            Self::Up
        }
    }

    /// As it is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoNeighbour => "no neighbour",
            Self::Draining => "draining",
            Self::NoAnswers => "no answers",
            Self::Overloaded => "overloaded",
            Self::SlowStart => "slow start",
            Self::Up => "up",
        }
    }

    /// Whether clients fail because of it, who were sent there all the same.
    pub const fn is_trouble(self) -> bool {
        matches!(self, Self::NoNeighbour | Self::NoAnswers)
    }
}

impl ServerStatus {
    /// Why it is in its state; empty where there is nothing to say.
    pub fn why(&self) -> String {
        let (spec, n) = (&self.spec, &self.numbers);
        match self.state {
            ServerState::Up => String::new(),
            ServerState::NoNeighbour => "nobody answers for its next hop's address".to_owned(),
            ServerState::Draining => self.drain().unwrap_or_default(),
            ServerState::NoAnswers => n.handshakes.failures(),
            ServerState::Overloaded => format!("{} connections or more", spec.upper),
            ServerState::SlowStart => {
                format!("counts for {:.2} of {}", n.effective_weight, spec.weight)
            }
        }
    }

    /// What a server of weight 0 still has; `None` where it has another weight.
    pub fn drain(&self) -> Option<String> {
        let seconds = self.numbers.draining?;
        Some(match self.numbers.open {
            0 => "drained".to_owned(),
            open => format!("{open} open after {seconds} s"),
        })
    }
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
                state: ServerState::Up,
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
    fn what_excludes_a_server_most_is_its_state_and_it_says_why() {
        let of = |change: &dyn Fn(&mut ServerStatus), reachable| {
            let mut server = status().servers[0];
            server.numbers = ServerNumbers {
                effective_weight: server.spec.weight.into(),
                ..ServerNumbers::default()
            };
            change(&mut server);
            server.state = ServerState::of(&server.spec, &server.numbers, reachable);
            (server.state.name(), server.why())
        };
        let is = |state, why: &str| (state, why.to_owned());
        assert_eq!(of(&|_| {}, true), is("up", ""));
        let silent = |s: &mut ServerStatus| {
            let h = &mut s.numbers.handshakes;
            (h.reset, h.timeout, h.failed_in_a_row) = (2, 3, 4);
            (h.ok_ago, h.failed_ago) = (Some(9), Some(1));
        };
        let why = "4 handshakes in a row failed, the last 1 s ago; in all 2 reset, 3 timed out";
        assert_eq!(of(&silent, true), is("no answers", why));
        let quiesced = |s: &mut ServerStatus| {
            silent(s);
            s.spec.weight = 0;
            (s.numbers.open, s.numbers.draining) = (2, Some(30));
        };
        assert_eq!(of(&quiesced, true), is("draining", "2 open after 30 s"));
        let why = "nobody answers for its next hop's address";
        assert_eq!(of(&quiesced, false), is("no neighbour", why));
        let full = |s: &mut ServerStatus| (s.numbers.overloaded, s.spec.upper) = (true, 50);
        assert_eq!(of(&full, true), is("overloaded", "50 connections or more"));
        let new = |s: &mut ServerStatus| {
            (s.spec.weight, s.numbers.effective_weight) = (4, 0.5);
        };
        assert_eq!(of(&new, true), is("slow start", "counts for 0.50 of 4"));
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
