//! How fast connections may be opened: by the clients of a service together, and by each of them.
//!
//! Asked where a packet belongs to no connection, so that a known connection's packets cost nothing.

use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};

use super::Flows;
use crate::flow::Addr;
use crate::rate::{Bucket, Clients, Limit};
use crate::service::NewConnections;
use crate::time::Instant;
use crate::verdict::DropReason;

/// A service's limits and its own bucket.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Rate {
    settings: NewConnections,
    all: Option<Limit>,
    each: Option<Limit>,
    bucket: Bucket,
    /// What its clients' buckets are known by; another after each change, so that they begin again.
    number: u32,
}

/// What all services' limits share.
#[derive(Clone, Serialize, Deserialize)]
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

impl Flows {
    /// Takes the services' limits up.
    pub(super) fn set_rates(&mut self) {
        let mut limits_clients = false;
        for service in &mut self.pool.services {
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
            let crew = self.pool.crew.as_ref();
            let limited = crew.filter(|_| settings.per_second != 0);
            service.shared_bucket = limited.map(|crew| {
                let bucket = crew.board.bucket(service.spec.key);
                bucket.store(0, Relaxed);
                bucket
            });
        }
        if !limits_clients {
            self.rates.clients = None;
        } else if self.rates.clients.is_none() {
            self.rates.clients = Some(Clients::new(self.rates.keys));
        }
    }

    /// Takes a token of the client's bucket and one of the service's, or none: a client that is too fast
    /// leaves the others theirs.
    pub(in crate::engine) fn admit(
        &mut self,
        now: Instant,
        slot: u32,
        client: Addr,
    ) -> Result<(), DropReason> {
        let service = self.pool.service_mut(slot);
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
            return Err(DropReason::ClientRate);
        }
        if let Some(limit) = rate.all {
            let admitted = match &service.shared_bucket {
                Some(shared) => limit.takes_of(shared, now),
                None => rate.bucket.takes(now, limit),
            };
            if !admitted {
                return Err(DropReason::ServiceRate);
            }
        }
        if let Some((limit, bucket)) = &mut own {
            bucket.take(now, *limit);
        }
        Ok(())
    }
}
