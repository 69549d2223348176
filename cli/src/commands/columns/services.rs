//! The columns of a service.

use serde::Serialize;
use uvs_control::plugins::FALLBACK;
use uvs_control::protocol::ServiceStatus;
use uvs_core::counters::{ScheduleFailure, Stats};
use uvs_core::numbers::ServerNumbers;
use uvs_core::plugins::Fallback;
use uvs_core::service::{ConnectionLog, OnExpiry, OnRemoval, ServiceKey};

use super::column::{Column, Show, Value};
use super::traffic::{self, Counted, Rates};

/// A service.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Service {
    #[serde(flatten)]
    pub(crate) status: ServiceStatus,
    #[serde(skip)]
    pub(crate) rates: Option<Rates>,
}

impl Counted for Service {
    fn stats(&self) -> &Stats {
        &self.status.numbers.stats
    }

    fn estimated(&self) -> &Stats {
        &self.status.rates
    }

    fn rates(&self) -> Option<&Rates> {
        self.rates.as_ref()
    }

    fn replies(&self) -> bool {
        let mut servers = self.status.servers.iter();
        servers.any(|s| s.spec.forwarding.passes_replies())
    }
}

impl Service {
    /// The sum over its servers.
    fn sum(&self, of: fn(&ServerNumbers) -> u32) -> Value {
        let servers = self.status.servers.iter();
        Value::Count(servers.map(|s| u64::from(of(&s.numbers))).sum())
    }

    /// Whether another scheduler is at work in its plugin's place.
    pub(crate) fn fallback(&self) -> Option<Fallback> {
        self.status.numbers.plugin?.fallback
    }

    /// That in words, where it is so.
    pub(crate) fn fell_back(&self) -> Option<String> {
        let Fallback {
            ago,
            fault,
            workers,
        } = self.fallback()?;
        let key = self.status.spec.key;
        let name = &self.status.spec.scheduler;
        let workers = match workers {
            0 | 1 => String::new(),
            workers => format!(" in {workers} workers"),
        };
        let fault = fault.label();
        Some(format!(
            "{key}: {name} fell back to {FALLBACK}{workers} {ago} s ago, its last fault: {fault}; uvs plugin retry {name} tries it again"
        ))
    }

    /// New connections that it refused for these reasons.
    fn refused(&self, why: &[ScheduleFailure]) -> Value {
        let failures = &self.status.numbers.failures;
        Value::Count(why.iter().map(|reason| failures[*reason as usize]).sum())
    }
}

const SERVICE: Column<Service> = Column::text("SERVICE", |s| Value::Service(s.status.spec.key));
const PROTO: Column<Service> = Column::text("PROTO", |s| {
    Value::word(match s.status.spec.key {
        ServiceKey::Address { protocol, .. } => protocol.name(),
        ServiceKey::Mark { .. } => "FWM",
    })
});
const VIP: Column<Service> = Column::text("VIP", |s| match s.status.spec.key {
    ServiceKey::Mark { mark, ipv6: false } => Value::Word(mark.to_string()),
    ServiceKey::Mark { mark, ipv6: true } => Value::Word(format!("{mark} IPv6")),
    key @ ServiceKey::Address { .. } => Value::Endpoint(key.vip()),
});
const SCHEDULER: Column<Service> = Column::text("SCHEDULER", |s| {
    let scheduler = &s.status.spec.scheduler;
    match s.fallback() {
        None => Value::word(scheduler),
        Some(_) => Value::Word(format!("{scheduler}→{FALLBACK}")),
    }
});
const SERVERS: Column<Service> =
    Column::number("SERVERS", |s| Value::Count(s.status.servers.len() as u64));
const ACTIVE: Column<Service> = Column::number("ACTIVE", |s| s.sum(|n| n.active));
const INACTIVE: Column<Service> = Column::number("INACTIVE", |s| s.sum(|n| n.inactive));
const PERSISTENT: Column<Service> = Column::text("PERSISTENT", |s| {
    let persistence = s.status.spec.persistence;
    Value::or_dash(persistence.map_or_else(String::new, |p| format!("{} s", p.timeout)))
});
const LOCAL: Column<Service> = Column::text("LOCAL", |s| Value::list(&s.status.spec.local, ","));
const MATCH: Column<Service> = Column::text("MATCH", |s| Value::list(&s.status.matches, ", "));
const ON_REMOVAL: Column<Service> = Column::text("ON-REMOVAL", |s| {
    Value::word(match s.status.spec.teardown.on_removal {
        OnRemoval::Keep => "keep",
        OnRemoval::Drop => "drop",
        OnRemoval::Tell => "tell",
    })
});
const ON_EXPIRY: Column<Service> = Column::text("ON-EXPIRY", |s| {
    Value::word(match s.status.spec.teardown.on_expiry {
        OnExpiry::Drop => "drop",
        OnExpiry::Tell => "tell",
    })
});
const DRAIN_TIMEOUT: Column<Service> = Column::text("DRAIN-TIMEOUT", |s| {
    match s.status.spec.teardown.drain_timeout {
        0 => Value::word("-"),
        seconds => Value::Word(format!("{seconds} s")),
    }
});
const LOGGED: Column<Service> = Column::text("LOGGED", |s| {
    Value::word(match s.status.spec.connection_log {
        ConnectionLog::Off => "-",
        ConnectionLog::Ends => "ends",
        ConnectionLog::StartsAndEnds => "starts+ends",
    })
});
const CLIENT_ADDRESS: Column<Service> = Column::text("CLIENT-ADDRESS", |s| {
    let how = &s.status.spec.introduction;
    Value::word(how.client_address.word())
});
const TIMESTAMPS: Column<Service> = Column::text("TIMESTAMPS", |s| {
    Value::word(s.status.spec.introduction.timestamps.word())
});
const DENIED: Column<Service> = Column::number("DENIED", |s| s.refused(&[ScheduleFailure::Denied]));
const TOO_FAST: Column<Service> = Column::number("TOO-FAST", |s| {
    s.refused(&[ScheduleFailure::ClientRate, ScheduleFailure::ServiceRate])
});

/// Of `uvs show services`.
pub(crate) const SHOW: Show<Service> = (
    &[
        PROTO,
        VIP,
        SCHEDULER,
        SERVERS,
        ACTIVE,
        INACTIVE,
        traffic::connections(),
        PERSISTENT,
        LOCAL,
        MATCH,
        ON_REMOVAL,
        ON_EXPIRY,
        DRAIN_TIMEOUT,
        LOGGED,
        CLIENT_ADDRESS,
        TIMESTAMPS,
        DENIED,
        TOO_FAST,
        traffic::estimated(),
        traffic::in_packets(),
        traffic::out_packets(),
        traffic::in_bytes(),
        traffic::out_bytes(),
    ],
    7,
);

/// Of the services in `uvs top`, in line with those of their servers.
pub(crate) const TOP: &[Column<Service>] = &[
    SERVICE,
    ACTIVE,
    INACTIVE.titled("INACT"),
    traffic::connection_rate(),
    traffic::in_bits(),
    traffic::out_bits(),
    traffic::in_packet_rate(),
    traffic::out_packet_rate(),
    SCHEDULER,
    SERVERS,
];
