//! A double of the flows, for a dry run.

use std::collections::HashSet;
use std::sync::Arc;

use super::Flows;
use super::calls::Calls;
use super::clients::Clients;
use super::introductions::Introductions;
use super::pool::{Pool, Service};
use super::syns::Syns;
use crate::backend::Backend;
use crate::conn::ConnId;
use crate::flow::{Endpoint, Flow, Protocol};
use crate::scheduler::{Fork, Scheduler};
use crate::service::ServiceKey;

/// Stands in for a scheduler of which there is no copy.
struct FirstAvailable;

impl Scheduler for FirstAvailable {
    fn pick(&mut self, _: &Flow, backends: &[Backend]) -> Option<usize> {
        backends.iter().position(|b| b.is_available())
    }
}

impl Flows {
    /// A copy without connections, which [`Flows::copy_in`] adds; and the services whose scheduler could not
    /// be copied.
    pub(in crate::engine) fn fork(&self) -> (Self, HashSet<ServiceKey>) {
        let mut examples = HashSet::new();
        let services = self.pool.services.iter().map(|service| {
            let (double, exact) = service.fork();
            if !exact {
                examples.insert(double.spec.key);
            }
            double
        });
        let pool = Pool {
            services: services.collect(),
            servers: self.pool.servers.clone(),
            retired: self.pool.retired,
            has_slow_start: self.pool.has_slow_start,
            unbound: self.pool.unbound.clone(),
            crew: None,
        };
        let double = Self {
            conns: self.conns.excerpt(self.room_of_all()),
            pool,
            ports: self.ports.clone(),
            clients: Clients::default(),
            syns: Syns::default(),
            introductions: Introductions::default(),
            calls: Calls::default(),
            rates: self.rates.clone(),
            replaced: None,
            stream: self.stream.fork(),
            telling: None,
            logging: None,
            scheduler_faults: self.scheduler_faults,
            handover: None,
        };
        (double, examples)
    }

    /// What a new connection of `flow`, with this data behind the transport's header, meets in the table: its template, and
    /// who has the tuple that its replies will have at one of the servers.
    pub(in crate::engine) fn met_by_new(&self, slot: u32, flow: &Flow, data: &[u8]) -> Vec<ConnId> {
        let Some(protocol) = Protocol::from_number(flow.protocol) else {
            return Vec::new();
        };
        let places = self.pool.service(slot).servers.iter();
        let replies = places.flat_map(|place| {
            let end = self.pool.servers.get(*place).spec.endpoint;
            [end.port, flow.dst_port].map(|port| {
                let from = Endpoint::new(end.addr, port);
                Flow::new(protocol, from, flow.source())
            })
        });
        let taken = replies.filter_map(|flow| self.find(&flow).map(|(id, _)| id));
        let template = self.template_of(slot, flow, data);
        let template = template.and_then(|wanted| self.find_template(&wanted));
        template.into_iter().chain(taken).collect()
    }
}

impl Service {
    /// A copy, and whether its scheduler picks as this one's.
    fn fork(&self) -> (Self, bool) {
        let (mut scheduler, exact): (Box<dyn Scheduler>, bool) = match self.scheduler.fork() {
            Fork::Exact(copy) => (copy, true),
            Fork::Example(new) => (new, false),
            Fork::None => (Box::new(FirstAvailable), false),
        };
        if !exact {
            scheduler.backends_changed(&self.backends);
        }
        let double = Self {
            spec: Arc::clone(&self.spec),
            scheduler,
            backends: self.backends.clone(),
            servers: self.servers.clone(),
            stats: self.stats,
            failures: self.failures,
            next_local: self.next_local,
            slow_start: self.slow_start.clone(),
            rate: self.rate,
            shared_bucket: None,
            read: self.read,
            begins: self.begins,
        };
        (double, exact)
    }
}
