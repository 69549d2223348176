//! The columns of a connection.

use serde::Serialize;
use uvs_core::engine::ConnReport;
use uvs_core::flow::Endpoint;

use super::column::{Column, Show, Value};

/// A connection.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Connection {
    #[serde(flatten)]
    pub(crate) report: ConnReport,
    /// Bits in a second since it was listed before, to the server and to the client.
    #[serde(skip)]
    pub(crate) bits: (Option<f64>, Option<f64>),
}

impl From<ConnReport> for Connection {
    fn from(report: ConnReport) -> Self {
        let bits = (None, None);
        Self { report, bits }
    }
}

const PROTO: Column<Connection> = Column::text("PROTO", |c| {
    Value::word(c.report.protocol.map_or("IP", |p| p.name()))
});
const CLIENT: Column<Connection> = Column::text("CLIENT", |c| Value::Endpoint(c.report.client));
const VIP: Column<Connection> = Column::text("VIP", |c| Value::Endpoint(c.report.vip));
const SERVER: Column<Connection> = Column::text("SERVER", |c| Value::Endpoint(c.report.server));
const STATE: Column<Connection> = Column::text("STATE", |c| Value::word(c.report.state));
const EXPIRES: Column<Connection> =
    Column::number("EXPIRES", |c| Value::Count(c.report.expires.into()));
const IDLE: Column<Connection> = Column::number("IDLE", |c| Value::Idle(c.report.idle_ns));
const LOCAL: Column<Connection> = Column::text("LOCAL", |c| {
    let local = c.report.local.as_ref().map(Endpoint::to_string);
    Value::or_dash(local.unwrap_or_default())
});
const SERVICE: Column<Connection> = Column::text("SERVICE", |c| Value::Service(c.report.service));
const PATH: Column<Connection> = Column::text("PATH", |c| {
    Value::word(if c.report.in_kernel { "kernel" } else { "user" })
});
const IN_BITS: Column<Connection> = Column::number("IN-BIT/S", |c| Value::Rate(c.bits.0));
const OUT_BITS: Column<Connection> = Column::number("OUT-BIT/S", |c| Value::Rate(c.bits.1));

/// Of `uvs show conns`.
pub(crate) const SHOW: Show<Connection> = (
    &[
        PROTO, CLIENT, VIP, SERVER, STATE, EXPIRES, PATH, IDLE, LOCAL, SERVICE,
    ],
    7,
);

/// Of the connections in `uvs top`.
pub(crate) const TOP: &[Column<Connection>] = &[
    CLIENT, SERVER, STATE, EXPIRES, IDLE, IN_BITS, OUT_BITS, VIP, PATH,
];
