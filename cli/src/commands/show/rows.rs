//! The columns of `uvs show`, and how a service, a server and a connection fill them.

use serde::Serialize;
use uvs_control::protocol::{
    Connection, Ended, GuardStatus, Info, InterfaceFrames, LogLosses, NeighbourStatus,
    ServerStatus, ServiceStatus, Setting, Stats, Totals,
};
use uvs_core::counters::ScheduleFailure;
use uvs_core::flow::{Addr, Endpoint};
use uvs_core::service::{Care, OnExpiry, OnRemoval, ServiceKey, ServiceSpec};

use crate::commands::output::{Column, number, table, text};
use crate::commands::units;
use crate::commands::words::mode;

/// A real server and the service it is of.
#[derive(Serialize)]
pub(super) struct Server {
    pub(super) service: ServiceKey,
    #[serde(flatten)]
    pub(super) status: ServerStatus,
}

/// A reason and its counter.
#[derive(Serialize)]
pub(super) struct Drop {
    pub(super) reason: String,
    pub(super) count: u64,
    /// Empty where the daemon knows a reason that this program does not.
    pub(super) meaning: &'static str,
    pub(super) advice: &'static str,
}

/// Columns, and how many of them `-o table` shows.
pub(super) type Columns = (&'static [Column], usize);

pub(super) const SERVICES: Columns = (
    &[
        text("PROTO"),
        text("VIP"),
        text("SCHEDULER"),
        number("SERVERS"),
        number("ACTIVE"),
        number("INACTIVE"),
        number("CONNECTIONS"),
        text("PERSISTENT"),
        text("LOCAL"),
        text("MATCH"),
        text("ON-REMOVAL"),
        text("ON-EXPIRY"),
        text("DRAIN-TIMEOUT"),
        number("DENIED"),
        number("TOO-FAST"),
        number("CONNS/S"),
        number("IN-PACKETS"),
        number("OUT-PACKETS"),
        number("IN-BYTES"),
        number("OUT-BYTES"),
    ],
    7,
);
pub(super) const SERVERS: Columns = (
    &[
        text("SERVICE"),
        text("SERVER"),
        text("MODE"),
        number("WEIGHT"),
        number("ACTIVE"),
        number("INACTIVE"),
        number("CONNECTIONS"),
        number("TEMPLATES"),
        number("UPPER"),
        number("LOWER"),
        number("EFFECTIVE"),
        number("HANDSHAKE"),
        text("DRAIN"),
        number("CONNS/S"),
        number("IN-PACKETS"),
        number("OUT-PACKETS"),
        number("IN-BYTES"),
        number("OUT-BYTES"),
    ],
    7,
);
pub(super) const CONNECTIONS: Columns = (
    &[
        text("PROTO"),
        text("CLIENT"),
        text("VIP"),
        text("SERVER"),
        text("STATE"),
        number("EXPIRES"),
        number("IDLE"),
        text("LOCAL"),
        text("SERVICE"),
    ],
    6,
);
pub(super) const INTERFACES: Columns = (
    &[
        text("INTERFACE"),
        number("RING-FULL"),
        number("RECEIVED"),
        number("SENT"),
        number("ANSWERED"),
        number("HELD"),
        number("PASSED"),
        number("LOCAL"),
        number("DROPPED"),
        number("UNACCOUNTED"),
        number("TO-SEND"),
        number("LEFT"),
        number("WAITING"),
        number("LOST"),
        number("UNSENT"),
    ],
    10,
);
pub(super) const DROPS: Columns = (
    &[
        text("REASON"),
        number("COUNT"),
        text("MEANING"),
        text("WHAT TO DO"),
    ],
    2,
);
pub(super) const NEIGHBOURS: Columns = (
    &[
        text("ADDRESS"),
        text("INTERFACE"),
        text("MAC"),
        text("STATE"),
        text("SERVERS"),
        text("KEPT BY"),
    ],
    5,
);
pub(super) const SETTINGS: Columns = (&[text("KEY"), text("VALUE"), text("DEFAULT")], 3);

/// The rows under their titles, the first columns of them or all.
pub(super) fn grid(
    (columns, few): Columns,
    rows: impl Iterator<Item = Vec<String>>,
    wide: bool,
) -> String {
    let shown = if wide { columns.len() } else { few };
    let rows: Vec<Vec<String>> = rows
        .map(|mut row| {
            row.truncate(shown);
            row
        })
        .collect();
    table(&columns[..shown], &rows)
}

pub(super) fn service(service: &ServiceStatus) -> Vec<String> {
    let (protocol, vip) = name(&service.spec.key);
    let sum = |of: fn(&ServerStatus) -> u32| {
        service
            .servers
            .iter()
            .map(|server| u64::from(of(server)))
            .sum::<u64>()
            .to_string()
    };
    let local: Vec<String> = service.spec.local.iter().map(ToString::to_string).collect();
    let matches: Vec<String> = service.matches.iter().map(ToString::to_string).collect();
    let mut row = vec![
        protocol,
        vip,
        service.spec.scheduler.clone(),
        service.servers.len().to_string(),
        sum(|server| server.active),
        sum(|server| server.inactive),
        service.stats.connections.to_string(),
        persistence(&service.spec),
        or_dash(local.join(",")),
        or_dash(matches.join(", ")),
    ];
    row.extend(care(&service.spec.care));
    row.extend([
        refused(service, &[ScheduleFailure::Denied]),
        refused(
            service,
            &[ScheduleFailure::ClientRate, ScheduleFailure::ServiceRate],
        ),
    ]);
    row.extend(traffic(&service.stats, &service.rates));
    row
}

/// New connections that a service refused for these reasons.
fn refused(service: &ServiceStatus, why: &[ScheduleFailure]) -> String {
    let counted = |label: &String| why.iter().any(|f| f.label() == label);
    let failures = service.failures.iter().filter(|(label, _)| counted(label));
    failures.map(|(_, count)| count).sum::<u64>().to_string()
}

pub(super) fn server(server: &Server) -> Vec<String> {
    let (protocol, vip) = name(&server.service);
    let status = &server.status;
    let mut row = vec![
        format!("{protocol} {vip}"),
        status.spec.endpoint.to_string(),
        mode(&status.spec, status.local).to_owned(),
        status.spec.weight.to_string(),
        status.active.to_string(),
        status.inactive.to_string(),
        status.stats.connections.to_string(),
        status.persistent.to_string(),
        status.spec.upper.to_string(),
        status.spec.lower.to_string(),
        format!("{:.2}", status.effective_weight)
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned(),
        handshake(status.handshake),
        drain(status),
    ];
    row.extend(traffic(&status.stats, &status.rates));
    row
}

pub(super) fn connection(connection: &Connection) -> Vec<String> {
    let c = &connection.status;
    let local = c.local.as_ref().map(Endpoint::to_string);
    vec![
        c.protocol.map_or("IP", |p| p.name()).to_owned(),
        c.client.to_string(),
        c.vip.to_string(),
        c.server.to_string(),
        c.state.clone(),
        c.expires.to_string(),
        units::nanoseconds(connection.idle_ns),
        or_dash(local.unwrap_or_default()),
        connection.service.to_string(),
    ]
}

pub(super) fn drop(drop: &Drop) -> Vec<String> {
    vec![
        drop.reason.clone(),
        drop.count.to_string(),
        or_dash(drop.meaning.to_owned()),
        or_dash(drop.advice.to_owned()),
    ]
}

pub(super) fn neighbour(neighbour: &NeighbourStatus) -> Vec<String> {
    let servers: Vec<String> = neighbour.servers.iter().map(ToString::to_string).collect();
    vec![
        neighbour.addr.to_string(),
        neighbour.interface.clone(),
        or_dash(neighbour.mac.clone().unwrap_or_default()),
        neighbour.state.clone(),
        or_dash(servers.join(",")),
        or_dash(neighbour.kept_by.clone().unwrap_or_default()),
    ]
}

pub(super) fn setting(setting: &Setting) -> Vec<String> {
    vec![
        setting.key.clone(),
        setting.value.clone(),
        setting.default.clone(),
    ]
}

pub(super) fn interface(of: &InterfaceFrames) -> Vec<String> {
    let came = &of.came;
    let counts = [
        of.ring_full,
        came.received,
        came.sent,
        came.answered,
        came.held,
        came.passed,
        came.local,
        came.dropped,
    ];
    let mut row = vec![of.interface.clone()];
    row.extend(counts.map(|n| n.to_string()));
    row.push(of.unaccounted.to_string());
    row.extend([of.handed, of.left, of.waiting, came.lost].map(|n| n.to_string()));
    row.push(of.unsent.to_string());
    row
}

fn traffic(stats: &Stats, rates: &Stats) -> [String; 5] {
    [
        rates.connections,
        stats.in_packets,
        stats.out_packets,
        stats.in_bytes,
        stats.out_bytes,
    ]
    .map(|n| n.to_string())
}

fn name(key: &ServiceKey) -> (String, String) {
    match key {
        ServiceKey::Address { protocol, .. } => (protocol.to_string(), key.vip().to_string()),
        ServiceKey::Mark { mark, .. } => ("FWM".to_owned(), mark.to_string()),
    }
}

fn persistence(spec: &ServiceSpec) -> String {
    or_dash(
        spec.persistence
            .map(|p| format!("{} s", p.timeout))
            .unwrap_or_default(),
    )
}

fn handshake(micros: u32) -> String {
    match micros {
        0 => "-".to_owned(),
        known => format!("{:.2} ms", f64::from(known) / 1000.0),
    }
}

fn care(care: &Care) -> [String; 3] {
    let on_removal = match care.on_removal {
        OnRemoval::Keep => "keep",
        OnRemoval::Drop => "drop",
        OnRemoval::Tell => "tell",
    };
    let on_expiry = match care.on_expiry {
        OnExpiry::Drop => "drop",
        OnExpiry::Tell => "tell",
    };
    let timeout = match care.drain_timeout {
        0 => "-".to_owned(),
        seconds => format!("{seconds} s"),
    };
    [on_removal.to_owned(), on_expiry.to_owned(), timeout]
}

/// What a server of weight 0 still has.
fn drain(server: &ServerStatus) -> String {
    match (server.draining, server.open) {
        (None, _) => "-".to_owned(),
        (Some(_), 0) => "drained".to_owned(),
        (Some(seconds), open) => format!("{open} open after {seconds} s"),
    }
}

fn or_dash(cell: String) -> String {
    if cell.is_empty() {
        "-".to_owned()
    } else {
        cell
    }
}

pub(super) fn totals_line(t: &Totals) -> String {
    format!(
        "received {} = sent {} + answered {} + held {} + passed {} + local {} + dropped {}; lost on the way out {}\n",
        t.received, t.sent, t.answered, t.held, t.passed, t.local, t.dropped, t.lost
    )
}

pub(super) fn ended_line(e: &Ended) -> String {
    format!(
        "connections ended {}, of these evicted {}, dropped by drop_entry {}, replaced: over {}, live {}; \
         told: clients {}, servers {}\n",
        e.ended,
        e.evicted,
        e.dropped_entries,
        e.replaced_over,
        e.replaced_live,
        e.told_clients,
        e.told_servers
    )
}

fn log_losses(log: LogLosses) -> String {
    format!(
        "{} not written in time, {} not written at all; {} left out as repetitions",
        log.queue_full, log.write_failed, log.suppressed
    )
}

/// Whether it is as it must be, and how often it was not.
fn guard(status: &GuardStatus) -> String {
    let now = status.wrong.as_deref().unwrap_or("as it must be");
    let (removed, damaged) = (status.removed, status.damaged);
    match &status.last {
        Some((ago, what)) => format!(
            "{now}; removed by others {removed} times, damaged {damaged}, last {ago} s ago: {what}"
        ),
        None => now.to_owned(),
    }
}

pub(super) fn info_text(info: &Info) -> String {
    let vips = |of: &[Addr]| {
        of.iter()
            .map(Addr::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let yielded: Vec<String> = info.yielded_vips.iter().map(ToString::to_string).collect();
    let lines = [
        ("version", info.version.clone()),
        ("pid", info.pid.to_string()),
        ("uptime", format!("{} s", info.uptime)),
        ("interfaces", info.interfaces.join(", ")),
        ("configuration", info.config.clone().unwrap_or_default()),
        ("schedulers", info.schedulers.join(", ")),
        (
            "connections",
            format!("{} of {}", info.connections, info.connection_limit),
        ),
        ("owned VIPs", vips(&info.owned_vips)),
        ("yielded VIPs", yielded.join(", ")),
        ("absent VIPs", vips(&info.absent_vips)),
        ("log lines lost", log_losses(info.log)),
        ("guard", info.guard.as_ref().map(guard).unwrap_or_default()),
    ];
    lines
        .map(|(name, value)| format!("{name:<15}  {}\n", or_dash(value)))
        .concat()
}
