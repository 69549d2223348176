//! Weights as they are changed while the daemon runs: by health checkers, drains and people. A drained server's weight is
//! remembered, so that it can be had back; and what was changed since the configuration was read outlives a reload that says
//! of the server what it said before.

use std::collections::BTreeMap;
use std::sync::Arc;

use uvs_core::flow::Endpoint;
use uvs_core::service::{ServerSpec, ServiceKey, ServiceSpec};

use super::{Table, refuse, server_position};
use crate::difference::{self, Edit};
use crate::protocol::{Errno, Refusal};

/// A server of a service.
pub type Server = (ServiceKey, Endpoint);

/// What servers of weight 0 had before they were drained. Copies share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Drained(Arc<BTreeMap<Server, u32>>);

impl Drained {
    pub(super) fn of(all: Vec<(Server, u32)>) -> Self {
        Self(Arc::new(all.into_iter().collect()))
    }

    pub(super) fn all(&self) -> Vec<(Server, u32)> {
        self.0
            .iter()
            .map(|(server, weight)| (*server, *weight))
            .collect()
    }

    /// A server's weight has changed.
    pub(super) fn note(&mut self, server: Server, before: u32, after: u32) {
        match (before, after) {
            (0, 0) => {}
            (before, 0) => {
                Arc::make_mut(&mut self.0).insert(server, before);
            }
            _ => self.forget(server),
        }
    }

    pub(super) fn forget(&mut self, server: Server) {
        if self.0.contains_key(&server) {
            Arc::make_mut(&mut self.0).remove(&server);
        }
    }

    pub(super) fn forget_service(&mut self, key: &ServiceKey) {
        if self.0.keys().any(|(of, _)| of == key) {
            Arc::make_mut(&mut self.0).retain(|(of, _), _| of != key);
        }
    }
}

impl Table {
    /// Sets a server's weight; all else of it stays.
    pub(super) fn set_weight(
        &mut self,
        key: &ServiceKey,
        at: Endpoint,
        weight: u32,
    ) -> Result<(), Refusal> {
        let service = self.find(key)?;
        let server = service.servers[server_position(service, at)?];
        self.edit_server(key, ServerSpec { weight, ..server })
    }

    /// Gives a drained server its weight back.
    pub(super) fn undrain(&mut self, key: &ServiceKey, at: Endpoint) -> Result<(), Refusal> {
        let service = self.find(key)?;
        let server = service.servers[server_position(service, at)?];
        if server.weight != 0 {
            return Ok(());
        }
        let Some(weight) = self.weight_before(key, at) else {
            let message = format!(
                "{key}: nobody knows what weight {at} had, for it had 0 from the start; say it: uvs weight {at} NUMBER"
            );
            return Err(refuse(Errno::Invalid, message));
        };
        self.set_weight(key, at, weight)
    }

    /// What a server of weight 0 had before, where that is known.
    pub fn weight_before(&self, key: &ServiceKey, at: Endpoint) -> Option<u32> {
        self.drained.0.get(&(*key, at)).copied()
    }

    /// Lets weights survive that have changed from `read` to `live`, where this table says of the server what `read` did.
    /// What is kept, from this table's weight to the live one.
    pub fn keep_weights(&mut self, read: &Self, live: &Self) -> Vec<Edit> {
        let mut kept = Vec::new();
        for changed in live.services.since(&read.services).new {
            let key = changed.key;
            let (Some(old), Some(new)) = (read.service(&key), self.service(&key)) else {
                continue;
            };
            let (old, new) = (Arc::clone(old), Arc::clone(new));
            for server in &changed.servers {
                let at = server.endpoint;
                let (Some(was), Some(is)) = (server_of(&old, at), server_of(&new, at)) else {
                    continue;
                };
                if was.weight != is.weight || is.weight == server.weight {
                    continue;
                }
                if self.set_weight(&key, at, server.weight).is_ok() {
                    kept.push(difference::weight(key, is, is.weight, server.weight));
                    if let Some(before) = live.weight_before(&key, at) {
                        self.drained.note((key, at), before, server.weight);
                    }
                }
            }
        }
        kept
    }

    /// The servers whose weight differs from that in `read`, and what it is there.
    pub fn live_weights(&self, read: &Self) -> Vec<(Server, u32)> {
        let changed = self.services.since(&read.services).new.into_iter();
        let of_service = |service: &Arc<ServiceSpec>| {
            let key = service.key;
            let Some(old) = read.service(&key) else {
                return Vec::new();
            };
            let servers = service.servers.iter().filter_map(|now| {
                let was = server_of(old, now.endpoint)?;
                (was.weight != now.weight).then_some(((key, now.endpoint), was.weight))
            });
            servers.collect()
        };
        changed.flat_map(of_service).collect()
    }

    /// Makes this, which is what a file says, what was read before `running` became what it is: there only these servers'
    /// weights, which are given as they were read, have been changed since.
    pub fn as_read(&mut self, running: &Self, live: &[(Server, u32)]) {
        let live: BTreeMap<&Server, u32> = live
            .iter()
            .map(|(server, weight)| (server, *weight))
            .collect();
        for service in running.services.iter() {
            let key = service.key;
            for server in &service.servers {
                let weight = live.get(&(key, server.endpoint)).copied();
                let weight = weight.unwrap_or(server.weight);
                let known = self
                    .service(&key)
                    .and_then(|s| server_of(s, server.endpoint));
                if known.is_some_and(|known| known.weight != weight) {
                    // It is there, so that it is not refused.
                    let _ = self.set_weight(&key, server.endpoint, weight);
                }
            }
        }
    }

    /// Takes from another all that a configuration can say, the entries of lists apart; what commands have added to those
    /// stays, and the sync daemons.
    pub fn take_from(&mut self, other: &Self) {
        self.services = other.services.clone();
        self.places = other.places.clone();
        self.drained = other.drained.clone();
        self.marks.clone_from(&other.marks);
        self.sysctls = other.sysctls.clone();
        self.timeouts = other.timeouts;
        self.own_vips = other.own_vips.clone();
    }

    /// Forgets what commands have added to lists, which no configuration says.
    pub fn forget_live_entries(&mut self) {
        self.lists.forget_live();
    }
}

fn server_of(service: &ServiceSpec, at: Endpoint) -> Option<&ServerSpec> {
    service.servers.iter().find(|s| s.endpoint == at)
}
