//! Copies of the engine's state for whoever shows it. The control protocol carries [`ConnReport`] and the
//! [`numbers`](crate::numbers) as they are serialised here.

mod sum;

use std::collections::HashMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::Flows;
use super::handover::Shown;
use super::pool::Service;
use crate::backend::Backend;
use crate::conn::{self, ConnId};
use crate::counters::Stats;
use crate::flow::{Addr, Endpoint, Protocol};
use crate::narrow;
use crate::numbers::{ServerNumbers, ServiceNumbers};
use crate::sctp::SctpState;
use crate::service::ServiceKey;
use crate::tcp::TcpState;
use crate::time::Instant;

/// All services with their numbers, of one engine or of several that have applied the same snapshots: `+=`
/// counts another's in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// In no particular order.
    pub services: Vec<ServiceReport>,
    /// Traffic of services that were removed.
    pub retired: Stats,
}

/// A service, its servers and their numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceReport {
    /// The service.
    pub key: ServiceKey,
    /// Its own numbers.
    pub numbers: ServiceNumbers,
    /// Its local addresses, each with its ports in use towards the server that has most of them. Of several
    /// engines, each of which may have another such server, it is the most that there can be.
    pub local_ports: Vec<(Addr, u32)>,
    /// Its servers, newest first.
    pub servers: Vec<ServerReport>,
}

/// A server and its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServerReport {
    /// The server.
    pub endpoint: Endpoint,
    /// Its numbers.
    pub numbers: ServerNumbers,
}

/// A word of this program's. By this name, as serde would borrow a plain `&str` from what it reads.
type StateName = &'static str;

/// A connection or template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnReport {
    /// The service it was scheduled by.
    pub service: ServiceKey,
    /// The protocol; `None` for a firewall mark's template, which is for all of them.
    pub protocol: Option<Protocol>,
    /// The client; port 0 in a template.
    pub client: Endpoint,
    /// The VIP.
    pub vip: Endpoint,
    /// The real server.
    pub server: Endpoint,
    /// FULLNAT's local endpoint.
    pub local: Option<Endpoint>,
    /// The state's name: `NONE`, `SYN_RECV`, `ESTABLISHED`, … `UDP`.
    #[serde(deserialize_with = "known_state")]
    pub state: StateName,
    /// Seconds until it expires, rounded down.
    pub expires: u32,
    /// Nanoseconds since its last packet.
    pub idle_ns: u64,
    /// TCP: the sequence numbers that server and client expect next. What they grow by, modulo 2^32, is the
    /// bytes that were sent to each, also where replies do not pass the director.
    pub sequence: Option<(u32, u32)>,
    /// The Call-ID of the call that a template stands for, with the persistence engine sip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Box<str>>,
    /// Whether the kernel forwards it, by the hook.
    #[serde(default)]
    pub in_kernel: bool,
}

/// The one state of UDP's connections.
const UDP: StateName = "UDP";
/// That of a template of which a connection was established; others have [`TcpState::None`]'s.
const ASSURED: StateName = "ASSURED";

impl Report {
    /// Its services by their keys.
    pub fn by_key(&self) -> HashMap<ServiceKey, &ServiceReport> {
        self.services.iter().map(|s| (s.key, s)).collect()
    }
}

impl Flows {
    /// Copies all services' numbers.
    pub(in crate::engine) fn report(&self, now: Instant) -> Report {
        Report {
            services: self.report_services(now, 0, u32::MAX).0,
            retired: self.retired(),
        }
    }

    /// Traffic of services that were removed.
    pub(in crate::engine) const fn retired(&self) -> Stats {
        self.pool.retired
    }

    /// Copies the numbers of the services from slot `from` on, at most so many; with where to go on.
    pub(in crate::engine) fn report_services(
        &self,
        now: Instant,
        from: u32,
        max: u32,
    ) -> (Vec<ServiceReport>, Option<u32>) {
        let all = &self.pool.services;
        let from = (from as usize).min(all.len());
        let end = from.saturating_add(max as usize).min(all.len());
        let services = all[from..end].iter().map(|s| self.numbers_of(now, s));
        let rest = (end < all.len()).then(|| narrow::to_u32(end));
        (services.collect(), rest)
    }

    /// Copies the numbers of the service at a slot.
    pub(in crate::engine) fn report_service(&self, now: Instant, slot: u32) -> ServiceReport {
        self.numbers_of(now, &self.pool.services[slot as usize])
    }

    fn numbers_of(&self, now: Instant, service: &Service) -> ServiceReport {
        ServiceReport {
            key: service.spec.key,
            numbers: ServiceNumbers {
                stats: self.service_stats(service),
                failures: service.failures,
                plugin: service.scheduler.numbers(),
            },
            local_ports: self.local_ports(service),
            servers: self.report_servers(now, service),
        }
    }

    fn report_servers(&self, now: Instant, service: &Service) -> Vec<ServerReport> {
        let servers = service.servers.iter().zip(&service.backends);
        let report = servers.map(|(place, b)| {
            let server = self.pool.servers.get(*place);
            let (active, inactive) = self.pool.own(*place);
            let reduced = service.slow_start.reduced(now, b, &service.backends);
            ServerReport {
                endpoint: server.key.1,
                numbers: ServerNumbers {
                    active,
                    inactive,
                    effective_weight: reduced.unwrap_or_else(|| f64::from(b.weight)),
                    handshake: b.handshake,
                    handshakes: server.outcomes.numbers(now),
                    open: (active + inactive).saturating_sub(server.over),
                    draining: server.drain.map(|d| now.since(d.since).as_secs()),
                    overloaded: b.flags & Backend::OVERLOADED != 0,
                    stats: self.with_forwarded(server.numbers.stats, *place),
                    ..server.numbers
                },
            }
        });
        report.collect()
    }

    /// A service's traffic, what the kernel forwarded included.
    fn service_stats(&self, service: &Service) -> Stats {
        let servers = service.servers.iter();
        servers.fold(service.stats, |sum, place| self.with_forwarded(sum, *place))
    }

    fn local_ports(&self, service: &Service) -> Vec<(Addr, u32)> {
        let ServiceKey::Address { protocol, .. } = service.spec.key else {
            return Vec::new();
        };
        let towards = |local: Addr| {
            let servers = service
                .servers
                .iter()
                .map(|s| self.pool.servers.get(*s).key.1);
            servers.map(move |server| self.ports.in_use(local, server, protocol))
        };
        let local = service.spec.local.iter();
        local
            .map(|a| (*a, towards(*a).max().unwrap_or(0)))
            .collect()
    }

    /// How many connections a server has, also a removed one; `slot` is its service's, where that is there.
    pub(in crate::engine) fn connections_of(
        &self,
        slot: Option<u32>,
        service: ServiceKey,
        server: Endpoint,
    ) -> u32 {
        let removed = self.pool.servers.removed(&(service, server));
        let place = removed.or_else(|| {
            let mut places = self.pool.service(slot?).servers.iter().copied();
            places.find(|place| self.pool.servers.get(*place).key.1 == server)
        });
        place.map_or(0, |place| {
            let (active, inactive) = self.pool.own(place);
            active + inactive
        })
    }

    /// Copies connections from place `from` on, at most `max` places looked at; with where to go on.
    pub(in crate::engine) fn report_connections(
        &self,
        now: Instant,
        from: u32,
        max: u32,
    ) -> (Vec<ConnReport>, Option<u32>) {
        let end = from.saturating_add(max).min(self.conns.places());
        let there = (from..end).filter(|place| self.conns.at(*place).is_some());
        let report = |place| self.report_of(now, ConnId(place));
        let rest = (end < self.conns.places()).then_some(end);
        (there.map(report).collect(), rest)
    }

    /// A copy of one.
    pub(in crate::engine) fn report_of(&self, now: Instant, id: ConnId) -> ConnReport {
        let shown = self.shown(id);
        let service = self.server_of(&shown.conn).key.0;
        ConnReport {
            call: self.call_of(id).map(Into::into),
            ..conn_report(&shown, service, now)
        }
    }
}

/// The name of a state of a connection.
pub(in crate::engine) fn state_name(protocol: Protocol, state: u8) -> &'static str {
    match protocol {
        Protocol::Tcp => TcpState::from_number(state).name(),
        Protocol::Udp => UDP,
        Protocol::Sctp => SctpState::from_number(state).name(),
    }
}

/// The names of all states, of connections and templates.
pub fn state_names() -> impl Iterator<Item = StateName> {
    let tcp = TcpState::ALL.into_iter().map(TcpState::name);
    let sctp = SctpState::ALL.into_iter().map(SctpState::name);
    tcp.chain(sctp).chain([UDP, ASSURED])
}

/// Reads the name of a state; one of another release is unknown.
fn known_state<'de, D: Deserializer<'de>>(from: D) -> Result<StateName, D::Error> {
    let read = String::deserialize(from)?;
    let known = state_names().find(|name| *name == read);
    Ok(known.unwrap_or("UNKNOWN"))
}

fn conn_report(shown: &Shown, service: ServiceKey, now: Instant) -> ConnReport {
    let c = &shown.conn;
    let state = match c.state {
        conn::ASSURED if c.has(conn::TEMPLATE) => ASSURED,
        _ if c.has(conn::TEMPLATE) => TcpState::None.name(),
        state => state_name(c.protocol, state),
    };
    let idle = c.idle(now);
    ConnReport {
        service,
        protocol: (!c.has(conn::MARKED)).then_some(c.protocol),
        client: c.ends.client,
        vip: c.ends.vip,
        server: c.ends.server,
        local: c.ends.local_end(),
        state,
        expires: u32::try_from(c.deadline.since(now).as_secs()).unwrap_or(u32::MAX),
        idle_ns: u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX),
        sequence: (c.protocol == Protocol::Tcp && !c.has(conn::TEMPLATE))
            .then_some((c.server_expects, c.client_expects)),
        call: None,
        in_kernel: shown.in_kernel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_read_as_it_was_reported() {
        let at = |last, port| Endpoint::new(Addr::v4([10, 0, 0, last]), port);
        let service = ServiceKey::address(Protocol::Sctp, at(100, 80));
        let report = ConnReport {
            service,
            protocol: Some(Protocol::Sctp),
            client: at(9, 40_000),
            vip: at(100, 80),
            server: at(2, 8080),
            local: None,
            state: SctpState::Init.name(),
            expires: 61,
            idle_ns: 7,
            sequence: Some((u32::MAX, 0)),
            call: None,
            in_kernel: true,
        };
        let json = serde_json::to_string(&report).expect("JSON");
        assert_eq!(serde_json::from_str::<ConnReport>(&json).ok(), Some(report));
        let newer = json.replace(r#""INIT""#, r#""OF_ANOTHER_RELEASE""#);
        let read: ConnReport = serde_json::from_str(&newer).expect("JSON");
        assert_eq!(read.state, "UNKNOWN");
    }
}
