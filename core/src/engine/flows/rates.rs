//! How fast connections may be opened: by the clients of a service together, and by each of them.
//!
//! Asked where a packet belongs to no connection, so that a known connection's packets cost nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};

use super::Flows;
use super::pool::Pool;
use crate::crew::SharedBucket;
use crate::flow::Addr;
use crate::narrow;
use crate::rate::{Bucket, Clients, Limit};
use crate::service::{NewConnections, ServiceSpec};
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
    /// Services that limit their clients; [counted](Rates::count) where these are handed down.
    #[serde(skip)]
    limiting: u32,
}

impl Rates {
    pub(super) const fn new(keys: (u64, u64)) -> Self {
        Self {
            keys,
            clients: None,
            last: 0,
            limiting: 0,
        }
    }
}

impl Rate {
    /// Whether each client of the service has a limit.
    fn limits_clients(&self) -> bool {
        self.settings.per_client != 0
    }
}

impl Rates {
    /// Counts those of all services' limits that are their clients'.
    pub(super) fn count<'a>(&mut self, all: impl Iterator<Item = &'a Rate>) {
        self.limiting = narrow::to_u32(all.filter(|rate| rate.limits_clients()).count());
    }

    /// Takes a service's limits up; those of none where it goes. Whether they are others than before.
    pub(super) fn set(&mut self, rate: &mut Rate, wanted: NewConnections) -> bool {
        self.limiting -= u32::from(rate.limits_clients());
        let is_other = rate.settings != wanted;
        if is_other {
            self.last = self.last.wrapping_add(1);
            *rate = Rate {
                settings: wanted,
                all: Limit::new(wanted.per_second, wanted.burst),
                each: Limit::new(wanted.per_client, wanted.per_client_burst),
                bucket: Bucket::default(),
                number: self.last,
            };
        }
        self.limiting += u32::from(rate.limits_clients());
        if self.limiting == 0 {
            self.clients = None;
        } else if self.clients.is_none() {
            self.clients = Some(Clients::new(self.keys));
        }
        is_other
    }
}

impl Pool {
    /// The bucket that all workers have of a service's limit, full; `None` where it has none, or there is one worker.
    pub(super) fn shared_bucket(&self, spec: &ServiceSpec) -> Option<Arc<SharedBucket>> {
        let crew = self.crew.as_ref();
        let limited = crew.filter(|_| spec.new_connections.per_second != 0);
        limited.map(|crew| {
            let bucket = crew.board.bucket(spec.key);
            bucket.store(0, Relaxed);
            bucket
        })
    }
}

impl Flows {
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
