//! The columns of a real server.

use serde::Serialize;
use uvs_control::protocol::ServerStatus;
use uvs_core::counters::Stats;
use uvs_core::service::ServiceKey;

use super::column::{Column, Show, Value};
use super::traffic::{self, Counted, Rates};

/// A real server, and the service it is of.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Server {
    pub(crate) service: ServiceKey,
    #[serde(flatten)]
    pub(crate) status: ServerStatus,
    #[serde(skip)]
    pub(crate) rates: Option<Rates>,
}

impl Counted for Server {
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
        self.status.spec.forwarding.passes_replies()
    }
}

const SERVICE: Column<Server> = Column::text("SERVICE", |s| Value::Service(s.service));
const SERVER: Column<Server> = Column::text("SERVER", |s| Value::Endpoint(s.status.spec.endpoint));
const MODE: Column<Server> = Column::text("MODE", |s| Value::word(mode(&s.status)));
const WEIGHT: Column<Server> =
    Column::number("WEIGHT", |s| Value::Count(s.status.spec.weight.into()));
const ACTIVE: Column<Server> =
    Column::number("ACTIVE", |s| Value::Count(s.status.numbers.active.into()));
const INACTIVE: Column<Server> = Column::number("INACTIVE", |s| {
    Value::Count(s.status.numbers.inactive.into())
});
const TEMPLATES: Column<Server> = Column::number("TEMPLATES", |s| {
    Value::Count(s.status.numbers.persistent.into())
});
const UPPER: Column<Server> = Column::number("UPPER", |s| Value::Count(s.status.spec.upper.into()));
const LOWER: Column<Server> = Column::number("LOWER", |s| Value::Count(s.status.spec.lower.into()));
const EFFECTIVE: Column<Server> = Column::number("EFFECTIVE", |s| {
    Value::Weight(s.status.numbers.effective_weight)
});
const HANDSHAKE: Column<Server> = Column::number("HANDSHAKE", |s| {
    Value::Handshake(s.status.numbers.handshake)
});
const DRAIN: Column<Server> = Column::text("DRAIN", |s| {
    Value::or_dash(s.status.drain().unwrap_or_default())
});
const STATE: Column<Server> = Column::text("STATE", |s| Value::word(s.status.state.name()));
const WHY: Column<Server> = Column::text("WHY", |s| Value::or_dash(s.status.why()));
const RESET: Column<Server> =
    Column::number("RESET", |s| Value::Count(s.status.numbers.handshakes.reset));
const TIMED_OUT: Column<Server> = Column::number("TIMED-OUT", |s| {
    Value::Count(s.status.numbers.handshakes.timeout)
});

/// Of `uvs show servers`.
pub(crate) const SHOW: Show<Server> = (
    &[
        SERVICE,
        SERVER,
        MODE,
        WEIGHT,
        ACTIVE,
        INACTIVE,
        traffic::connections(),
        STATE,
        WHY,
        TEMPLATES,
        UPPER,
        LOWER,
        EFFECTIVE,
        HANDSHAKE,
        RESET,
        TIMED_OUT,
        DRAIN,
        traffic::estimated(),
        traffic::in_packets(),
        traffic::out_packets(),
        traffic::in_bytes(),
        traffic::out_bytes(),
    ],
    9,
);

/// Of a service's servers in `uvs top`.
pub(crate) const TOP: &[Column<Server>] = &[
    SERVER,
    ACTIVE,
    INACTIVE.titled("INACT"),
    traffic::connection_rate(),
    traffic::in_bits(),
    traffic::out_bits(),
    traffic::in_packet_rate(),
    traffic::out_packet_rate(),
    MODE,
    WEIGHT,
    STATE,
    WHY,
];

/// How packets reach a server, in a word.
const fn mode(server: &ServerStatus) -> &'static str {
    if server.local && !server.spec.forwarding.passes_replies() {
        "local"
    } else {
        server.spec.mode()
    }
}
