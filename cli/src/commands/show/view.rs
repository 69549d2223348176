//! The daemon's answers as rows for people and as JSON for programs.

use serde::Serialize;
use uvs_control::protocol::{
    self, HookStatus, Info, InterfaceFrames, NeighbourStatus, Plugins, ServiceStatus, Setting,
    SyncStatus, ToldChange,
};
use uvs_core::numbers::{Ended, Totals};
use uvs_core::verdict::DropReason;

use super::tables::{self, Drop};
use super::{Format, What, hook, text};
use crate::commands::columns::connections::{self, Connection};
use crate::commands::columns::servers::{self, Server};
use crate::commands::columns::services::{self, Service};
use crate::commands::columns::{Show, table};
use crate::commands::output;
use crate::commands::plugin;

/// An answer that fits the question, in the order it is shown.
pub(super) enum View {
    Services(Vec<Service>),
    Servers(Vec<Server>),
    Connections(Vec<Connection>),
    Drops(Drops),
    Neighbours(Vec<NeighbourStatus>),
    Plugins(Plugins),
    Settings(Vec<Setting>),
    Hook(Box<HookStatus>),
    Sync(Vec<SyncStatus>),
    Changes(Vec<ToldChange>),
    Info(Box<Info>),
}

/// Where frames went.
#[derive(Serialize)]
pub(super) struct Drops {
    totals: Totals,
    drops: Vec<Drop>,
    ended: Ended,
    interfaces: Vec<InterfaceFrames>,
}

impl From<protocol::Drops> for Drops {
    fn from(drops: protocol::Drops) -> Self {
        Self {
            totals: drops.totals,
            drops: drops.reasons.into_iter().map(explained).collect(),
            ended: drops.ended,
            interfaces: drops.interfaces,
        }
    }
}

fn explained((reason, count): (String, u64)) -> Drop {
    let known = DropReason::ALL.iter().find(|r| r.label() == reason);
    Drop {
        meaning: known.map_or("", |r| r.meaning()),
        advice: known.map_or("", |r| r.advice()),
        reason,
        count,
    }
}

/// The first columns, or all.
fn grid<'a, T: 'a>(
    (columns, few): Show<T>,
    lines: impl IntoIterator<Item = &'a T>,
    wide: bool,
) -> String {
    let shown = if wide { columns.len() } else { few };
    table(&columns[..shown], lines)
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
    /// Services, or the servers of them all.
    pub(super) fn of_services(what: What, services: Vec<ServiceStatus>) -> Self {
        let services = sorted(services);
        if what == What::Services {
            let rates = None;
            let shown = services.into_iter().map(|status| Service { status, rates });
            return Self::Services(shown.collect());
        }
        let servers = |service: ServiceStatus| {
            let key = service.spec.key;
            service.servers.into_iter().map(move |status| Server {
                service: key,
                status,
                rates: None,
            })
        };
        Self::Servers(services.into_iter().flat_map(servers).collect())
    }

    pub(super) fn render(&self, format: Format) -> String {
        let wide = format == Format::Wide;
        match self {
            _ if format == Format::Json => self.json(),
            Self::Services(all) => {
                let fell_back = all.iter().filter_map(Service::fell_back);
                let lines = fell_back.map(|line| line + "\n");
                grid(services::SHOW, all, wide) + &lines.collect::<String>()
            }
            Self::Servers(all) => grid(servers::SHOW, all, wide),
            Self::Connections(all) => grid(connections::SHOW, all, wide),
            Self::Drops(Drops {
                totals,
                drops,
                ended,
                interfaces,
            }) => {
                let shown = drops.iter().filter(|drop| wide || drop.count > 0);
                let frames = grid(tables::INTERFACES, interfaces, wide);
                let frames = if interfaces.is_empty() { "" } else { &frames };
                grid(tables::DROPS, shown, wide)
                    + &text::totals_line(totals)
                    + &text::ended_line(ended)
                    + frames
            }
            Self::Neighbours(all) => grid(tables::NEIGHBOURS, all, wide),
            Self::Plugins(plugins) => plugin::render(plugins),
            Self::Settings(all) => {
                let changed = |s: &&Setting| wide || !is_sysctl(s) || s.value != s.default;
                let shown = all.iter().filter(changed);
                grid(tables::SETTINGS, shown, wide)
            }
            Self::Hook(hook) => {
                let ports = grid(tables::HOOKED, &hook.ports, wide);
                let ports = if hook.ports.is_empty() { "" } else { &ports };
                hook::text(hook) + ports
            }
            Self::Sync(all) => grid(tables::SYNC, all, wide),
            Self::Changes(all) => grid(tables::CHANGES, all, wide),
            Self::Info(info) => text::info_text(info),
        }
    }

    fn json(&self) -> String {
        match self {
            Self::Services(all) => output::json(all),
            Self::Servers(all) => output::json(all),
            Self::Connections(all) => output::json(all),
            Self::Drops(all) => output::json(all),
            Self::Neighbours(all) => output::json(all),
            Self::Plugins(plugins) => output::json(plugins),
            Self::Settings(all) => output::json(all),
            Self::Hook(hook) => output::json(hook),
            Self::Sync(all) => output::json(all),
            Self::Changes(all) => output::json(all),
            Self::Info(info) => output::json(info),
        }
    }
}

/// There are many, and few have ever been set.
fn is_sysctl(setting: &Setting) -> bool {
    setting.key.starts_with("sysctl.")
}

#[cfg(test)]
mod tests;
