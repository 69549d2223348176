//! Copies of the engine's state for whoever shows it.

mod sum;

use std::time::Duration;

use super::{Engine, Service};
use crate::conn::{self, Conn};
use crate::counters::{ScheduleFailure, Stats};
use crate::flow::{Addr, Endpoint, Protocol};
use crate::sctp::SctpState;
use crate::service::ServiceKey;
use crate::tcp::TcpState;
use crate::time::Instant;
use crate::trace::Recorder;

/// All services with their counters, of one engine or of several that have applied the same snapshots: `+=`
/// counts another's in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// In no particular order.
    pub services: Vec<ServiceReport>,
    /// Traffic of services that were removed.
    pub retired: Stats,
}

/// A service's counters.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceReport {
    /// The service.
    pub key: ServiceKey,
    /// Totals since it was added.
    pub stats: Stats,
    /// New connections that got no server.
    pub failures: [u64; ScheduleFailure::COUNT],
    /// Its local addresses, each with its ports in use towards the server that has most of them. Of several
    /// engines, each of which may have another such server, it is the most that there can be.
    pub local_ports: Vec<(Addr, u32)>,
    /// Its servers, newest first.
    pub servers: Vec<ServerReport>,
}

/// A server's counters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServerReport {
    /// The server.
    pub endpoint: Endpoint,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// Connections that are not over: neither closed by both sides nor reset.
    pub open: u32,
    /// Since when its weight has been 0, while it is.
    pub draining: Option<Instant>,
    /// Whether it is over its threshold.
    pub overloaded: bool,
    /// What it counts for during its slow start; its weight otherwise.
    pub effective_weight: f64,
    /// Smoothed time of its TCP handshakes in microseconds, 0 = not known.
    pub handshake: u32,
    /// Totals since it was added.
    pub stats: Stats,
}

/// A connection or template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnReport {
    /// The protocol; `None` for a firewall mark's template, which is for all of them.
    pub protocol: Option<Protocol>,
    /// The client.
    pub client: Endpoint,
    /// The VIP.
    pub vip: Endpoint,
    /// The real server.
    pub server: Endpoint,
    /// FULLNAT's local endpoint.
    pub local: Option<Endpoint>,
    /// The state's name.
    pub state: &'static str,
    /// Seconds until it expires, rounded down.
    pub expires: u32,
    /// The service it was scheduled by.
    pub service: ServiceKey,
    /// The time since its last packet.
    pub idle: Duration,
    /// TCP: the sequence numbers that server and client expect next. What they grow by is the bytes that
    /// were sent to each.
    pub sequence: Option<(u32, u32)>,
}

impl<R: Recorder> Engine<R> {
    /// Copies all services' counters.
    pub fn report(&self) -> Report {
        let services = self.services.iter().flatten().map(|s| ServiceReport {
            key: s.spec.key,
            stats: s.stats,
            failures: s.failures,
            local_ports: self.local_ports(s),
            servers: s
                .servers
                .iter()
                .zip(&s.backends)
                .map(|(place, b)| {
                    let server = self.servers.get(*place);
                    ServerReport {
                        endpoint: server.key.1,
                        active: b.active,
                        inactive: b.inactive,
                        persistent: server.persistent,
                        effective_weight: s
                            .slow_start
                            .reduced(self.now, b, &s.backends)
                            .unwrap_or_else(|| f64::from(b.weight)),
                        handshake: b.handshake,
                        open: (b.active + b.inactive).saturating_sub(server.over),
                        draining: server.drain.map(|d| d.since),
                        overloaded: b.flags & crate::backend::Backend::OVERLOADED != 0,
                        stats: server.stats,
                    }
                })
                .collect(),
        });
        Report {
            services: services.collect(),
            retired: self.retired,
        }
    }

    fn local_ports(&self, service: &Service) -> Vec<(Addr, u32)> {
        let ServiceKey::Address { protocol, .. } = service.spec.key else {
            return Vec::new();
        };
        let towards = |local: Addr| {
            let servers = service.servers.iter().map(|s| self.servers.get(*s).key.1);
            servers.map(move |server| self.ports.in_use(local, server, protocol))
        };
        let local = service.spec.local.iter();
        local
            .map(|a| (*a, towards(*a).max().unwrap_or(0)))
            .collect()
    }

    /// How many connections a server has, also a removed one.
    pub fn connections_of(&self, service: ServiceKey, server: Endpoint) -> u32 {
        let load = self.servers.removed_load(&(service, server)).or_else(|| {
            let slot = *self.lookup.get(&service)?;
            let service = self.services[slot as usize].as_ref()?;
            let mut backends = service.servers.iter().zip(&service.backends);
            let of_server = |(place, _): &(&u32, _)| self.servers.get(**place).key.1 == server;
            backends.find(of_server).map(|(_, load)| *load)
        });
        load.map_or(0, |load| load.active + load.inactive)
    }

    /// Copies connections from place `from` on, at most `max` places looked at; with where to go on.
    pub fn report_connections(
        &self,
        now: Instant,
        from: u32,
        max: u32,
    ) -> (Vec<ConnReport>, Option<u32>) {
        let (page, rest) = self.conns.page(from, max);
        let report = |c: &Conn| conn_report(c, self.servers.get(c.backend).key.0, now);
        (page.map(report).collect(), rest)
    }
}

/// The name of a state of a connection.
pub(super) fn state_name(protocol: Protocol, state: u8) -> &'static str {
    match protocol {
        Protocol::Tcp => TcpState::from_number(state).name(),
        Protocol::Udp => "UDP",
        Protocol::Sctp => SctpState::from_number(state).name(),
    }
}

fn conn_report(c: &Conn, service: ServiceKey, now: Instant) -> ConnReport {
    let state = match c.state {
        conn::ASSURED if c.has(conn::TEMPLATE) => "ASSURED",
        _ if c.has(conn::TEMPLATE) => "NONE",
        state => state_name(c.protocol, state),
    };
    ConnReport {
        protocol: (!c.has(conn::MARKED)).then_some(c.protocol),
        client: c.client,
        vip: c.vip,
        server: c.server,
        local: (c.local.port != 0).then_some(c.local),
        state,
        expires: u32::try_from(c.deadline.since(now).as_secs()).unwrap_or(u32::MAX),
        service,
        idle: (now + Duration::from_secs(c.timeout.into())).since(c.deadline),
        sequence: (c.protocol == Protocol::Tcp && !c.has(conn::TEMPLATE))
            .then_some((c.server_expects, c.client_expects)),
    }
}
