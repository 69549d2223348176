//! `-L`: the tables of services and servers, column for column as ipvsadm prints them.

use std::io::Write;

use uvs_control::protocol::{ServerStatus, ServiceStatus};
use uvs_core::counters::Stats;
use uvs_core::flow::Endpoint;
use uvs_core::numbers::ServerNumbers;
use uvs_core::service::{Forwarding, ServiceKey, ServiceSpec, TunnelChecksum};

use super::format::{Style, exact_number, mask, protocol, sched_flags, short_number};
use super::options::{Kind, Kinds};
use super::order;
use super::stop::Stop;

/// IPv4 names are cut to their column.
const NAME_WIDTH: usize = 28;

/// What is shown of each server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Columns {
    Connections,
    Stats,
    Rate,
    Thresholds,
    Persistent,
    Tunnels,
}

impl Columns {
    /// The first of these that is asked for wins.
    fn asked(given: Kinds) -> Self {
        let choices = [
            (Kind::Stats, Self::Stats),
            (Kind::Rate, Self::Rate),
            (Kind::Thresholds, Self::Thresholds),
            (Kind::PersistentConn, Self::Persistent),
            (Kind::TunInfo, Self::Tunnels),
        ];
        let found = choices.iter().find(|(kind, _)| given.has(*kind));
        found.map_or(Self::Connections, |&(_, columns)| columns)
    }

    fn titles(self) -> [&'static str; 2] {
        match self {
            Self::Connections => [
                "Prot LocalAddress:Port Scheduler Flags",
                "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
            ],
            Self::Tunnels => [
                "Prot LocalAddress:Port Scheduler Flags",
                "  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn",
            ],
            Self::Stats => [
                "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes",
                "  -> RemoteAddress:Port",
            ],
            Self::Rate => [
                "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS",
                "  -> RemoteAddress:Port",
            ],
            Self::Thresholds => [
                "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn ",
                "  -> RemoteAddress:Port",
            ],
            Self::Persistent => [
                "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn ",
                "  -> RemoteAddress:Port",
            ],
        }
    }
}

/// Prints services under their titles.
pub(super) fn services(
    services: Vec<ServiceStatus>,
    given: Kinds,
    style: &Style<'_>,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    let list = List {
        columns: Columns::asked(given),
        exact: given.has(Kind::Exact),
        style,
    };
    for title in list.columns.titles() {
        writeln!(out, "{title}")?;
    }
    let services = if given.has(Kind::NoSort) {
        services
    } else {
        order::table(services)
    };
    for service in services {
        writeln!(out, "{}", list.service(&service))?;
        for server in service.servers {
            writeln!(out, "{}", list.server(&service.spec.key, &server))?;
        }
    }
    Ok(())
}

struct List<'a> {
    columns: Columns,
    exact: bool,
    style: &'a Style<'a>,
}

impl List<'_> {
    fn service(&self, status: &ServiceStatus) -> String {
        let spec = &status.spec;
        let name = match &spec.key {
            // ipvsadm shows a mark as the signed number it keeps it in.
            ServiceKey::Mark { mark, ipv6: false } => format!("FWM  {}", mark.cast_signed()),
            ServiceKey::Mark { mark, ipv6: true } => format!("FWM  {} IPv6", mark.cast_signed()),
            key @ ServiceKey::Address { protocol, .. } => {
                format!("{:<4} {}", protocol.name(), self.name(key.vip(), key))
            }
        };
        match self.columns {
            Columns::Stats => format!("{name:<33}{}", self.numbers(&status.numbers.stats)),
            Columns::Rate => format!("{name:<33}{}", self.numbers(&status.rates)),
            _ => format!("{name} {}{}", spec.scheduler, list_options(spec)),
        }
    }

    fn server(&self, key: &ServiceKey, status: &ServerStatus) -> String {
        let spec = &status.spec;
        let ServerNumbers {
            active,
            inactive,
            persistent,
            stats,
            ..
        } = &status.numbers;
        let name = self.name(spec.endpoint, key);
        let row = match self.columns {
            Columns::Stats => return format!("  -> {name:<28}{}", self.numbers(stats)),
            Columns::Rate => return format!("  -> {name:<28}{}", self.server_rates(&status.rates)),
            Columns::Connections => {
                format!("{:<7} {:<6}", spec.forwarding.def().listed, spec.weight)
            }
            Columns::Tunnels => {
                let tunnel = tunnel_info(status);
                format!(
                    "{:<7} {tunnel:<13} {:<6}",
                    spec.forwarding.def().listed,
                    spec.weight
                )
            }
            Columns::Thresholds => format!("{:<10} {:<10}", spec.upper, spec.lower),
            Columns::Persistent => format!("{:<9} {persistent:<11}", spec.weight),
        };
        format!("  -> {name:<28} {row} {active:<10} {inactive:<10}")
    }

    fn name(&self, endpoint: Endpoint, key: &ServiceKey) -> String {
        let name = self.style.endpoint(endpoint, protocol(key));
        if endpoint.addr.is_v4() {
            name.chars().take(NAME_WIDTH).collect()
        } else {
            name
        }
    }

    fn numbers(&self, stats: &Stats) -> String {
        let number = if self.exact {
            exact_number
        } else {
            short_number
        };
        totals(stats).map(number).concat()
    }

    /// Only the bytes of a server's rates are ever shortened.
    fn server_rates(&self, rates: &Stats) -> String {
        let [connections, packets @ .., in_bytes, out_bytes] = totals(rates);
        let bytes = if self.exact {
            exact_number
        } else {
            short_number
        };
        let whole = [connections].into_iter().chain(packets).map(exact_number);
        whole.chain([in_bytes, out_bytes].map(bytes)).collect()
    }
}

fn totals(stats: &Stats) -> [u64; 5] {
    [
        stats.connections,
        stats.in_packets,
        stats.out_packets,
        stats.in_bytes,
        stats.out_bytes,
    ]
}

fn tunnel_info(status: &ServerStatus) -> String {
    let tunnel = status.spec.tunnel;
    let checksum = match tunnel.checksum {
        TunnelChecksum::None => "-c",
        TunnelChecksum::Full => "+c",
        TunnelChecksum::Remote => "r+c",
    };
    if status.spec.forwarding != Forwarding::Tunnel {
        return "n/a".to_owned();
    }
    let def = tunnel.kind.def();
    let mut text = def.word.to_owned();
    if def.has_port {
        text += &format!(":{}", tunnel.port);
    }
    if !def.checksums.is_empty() {
        text += &format!(":{checksum}");
    }
    text
}

fn list_options(spec: &ServiceSpec) -> String {
    let mut text = String::new();
    if let Some(flags) = sched_flags(spec) {
        text += &format!(" ({flags})");
    }
    if let Some(persistence) = spec.persistence {
        text += &format!(" persistent {}", persistence.timeout);
        text += &mask(spec).map_or_else(String::new, |m| format!(" mask {m}"));
        text += &spec
            .engine
            .as_ref()
            .map_or_else(String::new, |e| format!(" pe {e}"));
    }
    if spec.one_packet {
        text += " ops";
    }
    text
}
