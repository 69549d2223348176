//! The daemon's answers as rows for people and as JSON for programs.

use serde::Serialize;
use uvs_core::flow::Endpoint;
use uvs_core::service::{Forwarding, ServerSpec, ServiceKey, ServiceSpec, TunnelKind};

use super::{Format, What};
use crate::commands::output::{Column, number, table, text};
use crate::control::protocol::{
    ConnectionStatus, Data, Info, ServerStatus, ServiceStatus, Stats, Totals,
};

/// An answer that fits the question, in the order it is shown.
pub(super) enum View {
    Services(Vec<ServiceStatus>),
    Servers(Vec<Server>),
    Connections(Vec<ConnectionStatus>),
    Drops(Drops),
    Info(Box<Info>),
}

/// A real server and the service it is of.
#[derive(Serialize)]
pub(super) struct Server {
    service: ServiceKey,
    #[serde(flatten)]
    status: ServerStatus,
}

/// Where frames went.
#[derive(Serialize)]
pub(super) struct Drops {
    totals: Totals,
    drops: Vec<Drop>,
}

/// A reason and its counter.
#[derive(Serialize)]
pub(super) struct Drop {
    reason: String,
    count: u64,
}

/// The view that was asked for; `None` where the daemon answered something else.
pub(super) fn of(what: What, data: Data) -> Option<View> {
    Some(match (what, data) {
        (What::Services, Data::Services { services, .. }) => View::Services(sorted(services)),
        (What::Servers, Data::Services { services, .. }) => {
            let servers = |service: ServiceStatus| {
                let key = service.spec.key;
                service.servers.into_iter().map(move |status| Server {
                    service: key,
                    status,
                })
            };
            View::Servers(sorted(services).into_iter().flat_map(servers).collect())
        }
        (What::Conns, Data::Connections(connections)) => View::Connections(connections),
        (What::Drops, Data::Drops { totals, reasons }) => View::Drops(Drops {
            totals,
            drops: reasons
                .into_iter()
                .map(|(reason, count)| Drop { reason, count })
                .collect(),
        }),
        (What::Info, Data::Info(info)) => View::Info(Box::new(info)),
        _ => return None,
    })
}

/// Services by their keys, the servers of each by their endpoints: as ipvsadm sorts them.
fn sorted(mut services: Vec<ServiceStatus>) -> Vec<ServiceStatus> {
    services.sort_by_key(|service| service.spec.key);
    for service in &mut services {
        service.servers.sort_by_key(|server| server.spec.endpoint);
    }
    services
}

impl View {
    pub(super) fn render(&self, format: Format) -> String {
        let wide = format == Format::Wide;
        match self {
            _ if format == Format::Json => self.json(),
            Self::Services(all) => grid(SERVICES, all.iter().map(service_row), wide),
            Self::Servers(all) => grid(SERVERS, all.iter().map(server_row), wide),
            Self::Connections(all) => grid(CONNECTIONS, all.iter().map(connection_row), wide),
            Self::Drops(Drops { totals, drops }) => {
                let shown = drops.iter().filter(|drop| wide || drop.count > 0);
                let rows = shown.map(|drop| vec![drop.reason.clone(), drop.count.to_string()]);
                grid(DROPS, rows, wide) + &totals_line(totals)
            }
            Self::Info(info) => info_text(info),
        }
    }

    fn json(&self) -> String {
        let text = match self {
            Self::Services(all) => serde_json::to_string_pretty(all),
            Self::Servers(all) => serde_json::to_string_pretty(all),
            Self::Connections(all) => serde_json::to_string_pretty(all),
            Self::Drops(all) => serde_json::to_string_pretty(all),
            Self::Info(info) => serde_json::to_string_pretty(info),
        };
        text.expect("plain data with string keys is JSON") + "\n"
    }
}

/// Columns, and how many of them `-o table` shows.
type Columns = (&'static [Column], usize);

const SERVICES: Columns = (
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
        number("CONNS/S"),
        number("IN-PACKETS"),
        number("OUT-PACKETS"),
        number("IN-BYTES"),
        number("OUT-BYTES"),
    ],
    7,
);
const SERVERS: Columns = (
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
        number("CONNS/S"),
        number("IN-PACKETS"),
        number("OUT-PACKETS"),
        number("IN-BYTES"),
        number("OUT-BYTES"),
    ],
    7,
);
const CONNECTIONS: Columns = (
    &[
        text("PROTO"),
        text("CLIENT"),
        text("VIP"),
        text("SERVER"),
        text("STATE"),
        number("EXPIRES"),
        text("LOCAL"),
    ],
    6,
);
const DROPS: Columns = (&[text("REASON"), number("COUNT")], 2);

fn grid((columns, few): Columns, rows: impl Iterator<Item = Vec<String>>, wide: bool) -> String {
    let shown = if wide { columns.len() } else { few };
    let rows: Vec<Vec<String>> = rows
        .map(|mut row| {
            row.truncate(shown);
            row
        })
        .collect();
    table(&columns[..shown], &rows)
}

fn service_row(service: &ServiceStatus) -> Vec<String> {
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
    ];
    row.extend(traffic(&service.stats, &service.rates));
    row
}

fn server_row(server: &Server) -> Vec<String> {
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
    ];
    row.extend(traffic(&status.stats, &status.rates));
    row
}

fn connection_row(connection: &ConnectionStatus) -> Vec<String> {
    vec![
        connection
            .protocol
            .map_or("IP", |protocol| protocol.name())
            .to_owned(),
        connection.client.to_string(),
        connection.vip.to_string(),
        connection.server.to_string(),
        connection.state.clone(),
        connection.expires.to_string(),
        or_dash(
            connection
                .local
                .as_ref()
                .map(Endpoint::to_string)
                .unwrap_or_default(),
        ),
    ]
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

const fn mode(server: &ServerSpec, local: bool) -> &'static str {
    match (server.forwarding, server.tunnel.kind) {
        (Forwarding::Dr | Forwarding::Tunnel, _) if local => "local",
        (Forwarding::Dr, _) => "dr",
        (Forwarding::Nat, _) => "nat",
        (Forwarding::FullNat, _) => "fullnat",
        (Forwarding::Tunnel, TunnelKind::Ipip) => "ipip",
        (Forwarding::Tunnel, TunnelKind::Gue) => "gue",
        (Forwarding::Tunnel, TunnelKind::Gre) => "gre",
    }
}

fn persistence(spec: &ServiceSpec) -> String {
    or_dash(
        spec.persistence
            .map(|p| format!("{} s", p.timeout))
            .unwrap_or_default(),
    )
}

fn or_dash(cell: String) -> String {
    if cell.is_empty() {
        "-".to_owned()
    } else {
        cell
    }
}

fn totals_line(t: &Totals) -> String {
    format!(
        "received {} = sent {} + answered {} + held {} + passed {} + dropped {}\n",
        t.received, t.sent, t.answered, t.held, t.passed, t.dropped
    )
}

fn info_text(info: &Info) -> String {
    let vips: Vec<String> = info.owned_vips.iter().map(ToString::to_string).collect();
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
        ("answers ARP for", vips.join(", ")),
    ];
    lines
        .map(|(name, value)| format!("{name:<15}  {}\n", or_dash(value)))
        .concat()
}

#[cfg(test)]
mod tests;
