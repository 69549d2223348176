//! The connections, and the servers that have them: opened, tracked, counted, ended.
//!
//! What becomes of a connection leaves here as one stream of events, and what is seen of it elsewhere comes
//! in by [`Flows::seen`]; a copy of a connection, for a dry run, comes in by [`Flows::copy_in`]. What the kernel
//! forwards is in `handover`.

mod apply;
#[cfg(feature = "testing")]
mod audit;
mod calls;
mod clients;
mod crew;
mod drain;
mod event;
mod fork;
mod handover;
mod handshake;
mod introduced;
mod introductions;
mod lifetime;
mod logged;
mod outcomes;
mod pool;
mod rates;
mod report;
mod room;
mod schedule;
mod sequence;
mod servers;
mod settled;
mod slow_start;
mod stream;
mod succession;
mod syns;
mod take_up;
mod templates;
mod told;
mod track;

use std::sync::Arc;

use crate::conn::{Conn, ConnId, ConnTable, Hint, Side};
use crate::counters::{Counters, ScheduleFailure};
use crate::crew::Crew;
use crate::fib::Ways;
use crate::flow::{Endpoint, Flow};
use crate::introduce::Edits;
use crate::ports::{LocalPorts, Share};
use crate::service::ServiceSpec;
use crate::snapshot::Limits;
use crate::time::Instant;

use super::catalog::Catalog;
use super::desired::{Desired, SlotChanges};
pub(super) use apply::{NewSchedulers, Touched};
use calls::Calls;
use clients::Clients;
pub use drain::{Event, EventKind};
pub(super) use event::Cause;
use handover::Handover;
pub use handover::{Adopted, Watch};
pub(super) use handover::{Draft, Drafts, Shown};
pub(super) use introduced::Due;
use introductions::Introductions;
use logged::Logging;
use pool::Pool;
use rates::Rates;
pub(super) use report::state_name;
pub use report::{ConnReport, Report, ServerReport, ServiceReport, state_names};
pub(super) use schedule::{Refused, Scheduling};
pub(super) use sequence::OutOfWindow;
pub(super) use servers::Server;
use stream::Stream;
pub(super) use succession::Estate;
use syns::Syns;
pub(super) use syns::{MAX_SYN, Syn};
pub(super) use take_up::Destination;
use told::Telling;
pub(super) use track::{Tracking, misread};

/// All connections with their services and servers.
pub(super) struct Flows {
    conns: ConnTable,
    pool: Pool,
    ports: LocalPorts,
    /// NAT's clients.
    clients: Clients,
    /// FULLNAT clients' SYNs, until their servers have answered.
    syns: Syns,
    /// Connections whose servers are told of their clients.
    introductions: Introductions,
    /// Templates that stand for one call of SIP each.
    calls: Calls,
    rates: Rates,
    /// A connection that gave way to the one just made, where its ends are to be told, and what its segments were changed
    /// by.
    replaced: Option<(Conn, Option<Edits>)>,
    stream: Stream,
    /// Where other directors are told of connections.
    telling: Option<Box<Telling>>,
    /// Where connections are logged.
    logging: Option<Box<Logging>>,
    scheduler_faults: u64,
    /// What the kernel forwards, where the host has the hook.
    handover: Option<Box<Handover>>,
}

impl Flows {
    /// None, with room for as many as `limits` says.
    pub(super) fn new(limits: &Limits, keys: (u64, u64), crew: Option<Crew>) -> Self {
        let mut conns = ConnTable::new(limits.connections, keys);
        if crew.is_some() {
            conns.set_limit(0);
        }
        Self {
            conns,
            ports: LocalPorts::new(limits.local_ports, keys, Share::of(crew.as_ref())),
            pool: Pool {
                crew,
                ..Pool::default()
            },
            clients: Clients::default(),
            syns: Syns::default(),
            introductions: Introductions::default(),
            calls: Calls::default(),
            rates: Rates::new(keys),
            replaced: None,
            stream: Stream::default(),
            telling: None,
            logging: None,
            scheduler_faults: 0,
            handover: None,
        }
    }

    /// Takes the services up that are new or another than before, with the schedulers made for them; what happened
    /// to servers by that.
    pub(super) fn apply(
        &mut self,
        desired: &Desired,
        catalog: &Catalog,
        (slots, schedulers): (&SlotChanges, NewSchedulers),
    ) -> Touched {
        let mut change = apply::Change {
            pool: &mut self.pool,
            rates: &mut self.rates,
            handover: self.handover.as_deref_mut(),
            desired,
            catalog,
            entered: Vec::new(),
            touched: Touched::default(),
        };
        change.services(slots, schedulers);
        let touched = change.touched;
        self.set_logging(desired.logs());
        self.renew_servers(&touched.servers);
        touched
    }

    /// The connection table.
    pub(super) fn table(&self) -> &ConnTable {
        &self.conns
    }

    /// The connection that a packet with this flow belongs to, and in which direction it goes.
    #[inline]
    pub(super) fn find(&self, flow: &Flow) -> Option<(ConnId, Side)> {
        self.conns.find(flow)
    }

    /// As [`Flows::find`], for a packet whose frame has a hint.
    #[inline(always)]
    pub(super) fn find_at(&self, hint: Hint, flow: &Flow) -> Option<(ConnId, Side)> {
        self.conns.find_at(hint, flow)
    }

    #[inline]
    pub(super) fn conn(&self, id: ConnId) -> &Conn {
        self.conns.get(id)
    }

    /// Where a connection's packets went last.
    #[inline(always)]
    pub(super) fn ways(&self, id: ConnId) -> Ways {
        self.conns.ways(id)
    }

    /// Where a connection's packets went last, to be noted.
    pub(super) fn ways_mut(&mut self, id: ConnId) -> &mut Ways {
        self.conns.ways_mut(id)
    }

    /// The server of a connection or template.
    #[inline(always)]
    pub(super) fn server_of(&self, c: &Conn) -> &Server {
        self.pool.servers.get(c.backend)
    }

    /// The place of a server of the service at a slot.
    pub(super) fn server_in(&self, slot: u32, end: Endpoint) -> Option<u32> {
        let mut places = self.pool.service(slot).servers.iter().copied();
        places.find(|place| self.pool.servers.get(*place).key.1 == end)
    }

    /// What a service is, as it was asked for.
    pub(super) fn service(&self, slot: u32) -> &Arc<ServiceSpec> {
        &self.pool.service(slot).spec
    }

    /// Whether FULLNAT's local ports include this one.
    pub(super) fn is_local_port(&self, port: u16) -> bool {
        self.ports.contains(port)
    }

    /// Counts a packet at its connection, where that is logged, and at its server and service: from the server
    /// (`out`) or the client.
    #[inline(always)]
    pub(super) fn count_packet(&mut self, id: ConnId, out: bool, bytes: u64) {
        self.log_packet(id, out, bytes);
        let place = self.conns.get(id).backend;
        self.pool.count_packet(place, out, bytes);
    }

    /// Counts a connection that a service wanted and could not make; as what.
    pub(super) fn count_failure(
        &mut self,
        slot: u32,
        refused: &Refused,
    ) -> Option<ScheduleFailure> {
        let service = self.pool.service_mut(slot);
        let failure = refused.failure(&service.backends)?;
        service.failures[failure as usize] += 1;
        Some(failure)
    }

    /// The connection that has given way since this was asked last, where its ends are to be told.
    pub(super) fn take_replaced(&mut self) -> Option<(Conn, Option<Edits>)> {
        self.replaced.take()
    }

    /// What happened to servers since this was asked last.
    pub(super) fn take_events(&mut self) -> Vec<Event> {
        self.stream.take_events()
    }

    /// Tells schedulers the time.
    pub(super) fn tick_schedulers(&mut self, now: Instant) {
        for service in &mut self.pool.services {
            service.scheduler.tick(now);
        }
    }

    /// Servers in their slow start come nearer to their weight.
    pub(super) fn advance_slow_starts(&mut self, now: Instant) {
        if !self.pool.has_slow_start {
            return;
        }
        let services = &mut self.pool.services;
        self.pool.has_slow_start = services.iter_mut().fold(false, |any, service| {
            service.slow_start.advance(now);
            any || service.slow_start.is_under_way()
        });
    }

    /// Enters what is counted of connections.
    pub(super) fn fill(&self, counters: &mut Counters) {
        let ends = &self.stream.ends;
        counters.expired = ends.all();
        counters.evicted = ends.of(Cause::Evicted);
        counters.dropped_entries = ends.of(Cause::DropEntry);
        counters.replaced_over = ends.of(Cause::ReplacedOver);
        counters.replaced_live = ends.of(Cause::ReplacedLive);
        counters.scheduler_faults = self.scheduler_faults;
    }
}
