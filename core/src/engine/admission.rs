//! Who may open a connection, and how fast: deny and allow lists, and rates of new connections.
//!
//! Both are asked where a packet belongs to no connection, so that a known connection's packets cost
//! nothing. Where the lists change, the table is swept: what a denied client has open ends.

use std::sync::Arc;

use super::Engine;
use super::schedule::Refused;
use crate::access::AccessList;
use crate::conn::{self, Conn};
use crate::flow::Addr;
use crate::rate::{Bucket, Clients, Limit};
use crate::service::NewConnections;
use crate::snapshot::Snapshot;
use crate::time::Instant;
use crate::trace::{Recorder, Step};
use crate::verdict::DropReason;

/// A service's limits and its own bucket.
#[derive(Clone, Copy, Default)]
pub(super) struct Rate {
    settings: NewConnections,
    all: Option<Limit>,
    each: Option<Limit>,
    bucket: Bucket,
    /// What its clients' buckets are known by; another after each change, so that they begin again.
    number: u32,
}

/// What all services' limits share.
#[derive(Clone)]
pub(super) struct Rates {
    keys: (u64, u64),
    /// There while a service limits its clients.
    clients: Option<Clients>,
    /// The number that was given last.
    last: u32,
}

impl Rates {
    pub(super) const fn new(keys: (u64, u64)) -> Self {
        Self {
            keys,
            clients: None,
            last: 0,
        }
    }
}

impl<R: Recorder> Engine<R> {
    /// Takes lists and limits up; `before` is the state that was.
    pub(super) fn note_access(&mut self, before: &Snapshot) {
        if !Arc::ptr_eq(&before.access, &self.snapshot.access) {
            self.sweep.begin(self.conns.places());
        }
        let mut limits_clients = false;
        for service in self.services.iter_mut().flatten() {
            let settings = service.spec.new_connections;
            limits_clients |= settings.per_client != 0;
            if service.rate.settings == settings {
                continue;
            }
            self.rates.last = self.rates.last.wrapping_add(1);
            service.rate = Rate {
                settings,
                all: Limit::new(settings.per_second, settings.burst),
                each: Limit::new(settings.per_client, settings.per_client_burst),
                bucket: Bucket::default(),
                number: self.rates.last,
            };
        }
        if !limits_clients {
            self.rates.clients = None;
        } else if self.rates.clients.is_none() {
            self.rates.clients = Some(Clients::new(self.rates.keys));
        }
    }

    /// Whether a client is kept out of a service.
    pub(super) fn denies(&mut self, slot: u32, client: Addr) -> bool {
        if R::ON {
            self.record_access(slot, client);
        }
        let everywhere = &self.snapshot.access.everywhere;
        everywhere.denies(client) || self.list_of(slot).is_some_and(|list| list.denies(client))
    }

    /// Whether a client is kept out of every service, and gets no answer of UVS's own either.
    pub(super) fn denies_everywhere(&self, client: Addr) -> bool {
        self.snapshot.access.everywhere.denies(client)
    }

    /// Whether a running connection's client is kept out. A template is no connection: it may stand for a
    /// whole network.
    pub(super) fn is_denied(&self, c: &Conn) -> bool {
        if c.has(conn::TEMPLATE) {
            return false;
        }
        // A list outlives its service, as a connection does.
        let (service, _) = self.servers.get(c.backend).key;
        let own = self.snapshot.access.services.get(&service);
        self.denies_everywhere(c.client.addr) || own.is_some_and(|l| l.denies(c.client.addr))
    }

    fn list_of(&self, slot: u32) -> Option<&AccessList> {
        let services = &self.snapshot.access.services;
        if services.is_empty() {
            return None;
        }
        let service = self.services[slot as usize].as_ref()?;
        services.get(&service.spec.key).map(Arc::as_ref)
    }

    /// Notes what the lists have of a client.
    fn record_access(&mut self, slot: u32, client: Addr) {
        let everywhere = self.snapshot.access.everywhere.decides(client);
        let own = self.list_of(slot).and_then(|list| list.decides(client));
        let key = self.services[slot as usize].as_ref().map(|s| s.spec.key);
        for (service, rule) in [(None, everywhere), (key, own)] {
            if let Some(rule) = rule {
                self.recorder.note(Step::Access {
                    client,
                    service,
                    rule,
                });
            }
        }
    }

    /// Takes a token of the client's bucket and one of the service's, or none: a client that is too fast
    /// leaves the others theirs.
    pub(super) fn admit(&mut self, now: Instant, slot: u32, client: Addr) -> Result<(), Refused> {
        let Some(service) = self.services[slot as usize].as_mut() else {
            return Ok(());
        };
        let rate = &mut service.rate;
        let clients = self.rates.clients.as_mut();
        let mut own = rate.each.zip(clients).map(|(limit, clients)| {
            let who = rate.settings.client(client);
            (limit, clients.bucket(rate.number, who))
        });
        if own
            .as_ref()
            .is_some_and(|(l, bucket)| !bucket.has_token(now, *l))
        {
            return Err(Refused::Drop(DropReason::ClientRate));
        }
        if let Some(limit) = rate.all {
            if !rate.bucket.has_token(now, limit) {
                return Err(Refused::Drop(DropReason::ServiceRate));
            }
            rate.bucket.take(now, limit);
        }
        if let Some((limit, bucket)) = &mut own {
            bucket.take(now, *limit);
        }
        Ok(())
    }
}
