//! The daemon's answers as rows for people and as JSON for programs.

use serde::Serialize;
use uvs_core::service::ServiceKey;

use super::rows::{self, grid};
use super::{Format, What};
use crate::control::protocol::{
    ConnectionStatus, Data, Ended, Info, ServerStatus, ServiceStatus, Totals,
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
    pub(super) service: ServiceKey,
    #[serde(flatten)]
    pub(super) status: ServerStatus,
}

/// Where frames went.
#[derive(Serialize)]
pub(super) struct Drops {
    totals: Totals,
    drops: Vec<Drop>,
    ended: Ended,
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
        (
            What::Drops,
            Data::Drops {
                totals,
                reasons,
                ended,
            },
        ) => View::Drops(Drops {
            totals,
            ended,
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
            Self::Services(all) => grid(rows::SERVICES, all.iter().map(rows::service), wide),
            Self::Servers(all) => grid(rows::SERVERS, all.iter().map(rows::server), wide),
            Self::Connections(all) => {
                grid(rows::CONNECTIONS, all.iter().map(rows::connection), wide)
            }
            Self::Drops(Drops {
                totals,
                drops,
                ended,
            }) => {
                let shown = drops.iter().filter(|drop| wide || drop.count > 0);
                let rows = shown.map(|drop| vec![drop.reason.clone(), drop.count.to_string()]);
                grid(rows::DROPS, rows, wide)
                    + &rows::totals_line(totals)
                    + &rows::ended_line(ended)
            }
            Self::Info(info) => rows::info_text(info),
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

#[cfg(test)]
mod tests;
