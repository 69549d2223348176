//! The engine: frame, time and desired state in; verdicts and counters out.
//!
//! One engine per worker; it shares nothing. `apply` takes the desired state, `set_fib` the kernel's
//! routes and neighbours, `handle_frame` a frame, `handle_timeout` the time. Nothing here blocks or asks the
//! world for anything, and a packet of an established connection costs no allocation unless it is fragmented.
//!
//! Its parts have methods of their own: what is desired (`desired`), the connections and their servers
//! (`flows`), what UVS says itself (`voice`), what time asks for (`upkeep`), the way out (`routes`). The steps
//! of a frame's journey are the engine's, for they need several of these; `journey` says which step is whose.

use std::sync::Arc;

use crate::conn::ConnTable;
use crate::counters::{Counters, Stats};
use crate::crew::Crew;
use crate::fib::Fib;
use crate::flow::Endpoint;
use crate::fragment::{Reassembled, Reassembler};
use crate::frame::Frame;
use crate::mode::ModeDef;
use crate::outbox::Outbox;
use crate::record::Record;
use crate::service::ServiceKey;
use crate::snapshot::Limits;
use crate::time::Instant;
use crate::trace::{Off, Recorder, Step};
use crate::verdict::{DropReason, PortId, Verdict};

mod ahead;
mod answer;
mod apply;
mod between;
mod catalog;
mod claims;
mod describe;
mod desired;
mod elsewhere;
mod flows;
mod fork;
mod handover;
mod host;
mod input;
mod introduce;
mod journey;
mod kill;
mod leg;
mod martian;
mod options;
mod outer;
pub(crate) mod passage;
mod peers;
mod pmtu;
mod redirect;
mod related;
mod reopen;
mod replaced;
mod reply;
mod routes;
mod schedule;
mod sizes;
mod succession;
mod sweep;
mod teardown;
mod transit;
mod transmit;
mod unreachable;
mod upkeep;
mod voice;

pub use ahead::Seen;
use catalog::Catalog;
pub use catalog::SchedulerSource;
pub use claims::Claim;
use desired::Desired;
use elsewhere::Strays;
use flows::Flows;
pub use flows::{
    Adopted, ConnReport, Event, EventKind, Report, ServerReport, ServiceReport, Watch, state_names,
};
pub use fork::DryRun;
pub use kill::{Kill, Killed};
use routes::Routes;
pub use succession::{Estate, NotSucceeded};
use upkeep::Upkeep;
use voice::Voice;

/// What an engine is made from.
pub struct EngineConfig {
    /// Fixed sizes.
    pub limits: Limits,
    /// Key of the connection table's hash and of the order of FULLNAT's local ports: random and secret.
    pub keys: (u64, u64),
    /// Seed of the schedulers.
    pub seed: u64,
    /// The modes, bound to connections by their place.
    pub modes: &'static [ModeDef],
    /// Where schedulers come from.
    pub schedulers: SchedulerSource,
    /// Its place among several engines; `None` = it is the only one.
    pub crew: Option<Crew>,
}

/// The engine. Which recorder it has is decided when it is compiled: [`Off`] costs nothing.
pub struct Engine<R = Off> {
    recorder: R,
    /// As [`EngineConfig::keys`].
    keys: (u64, u64),
    catalog: Catalog,
    desired: Desired,
    flows: Flows,
    upkeep: Upkeep,
    routes: Routes,
    reassembler: Reassembler,
    /// Other hosts' claims to owned VIPs.
    claims: claims::Claims,
    /// What the director says itself.
    voice: Voice,
    /// But for what [`Flows`] counts.
    counters: Counters,
    /// Its place among several.
    crew: Option<Crew>,
    /// The count of connections that are not where their packets come to.
    strays: Strays,
    /// A datagram that is another worker's, until the shell takes it.
    elsewhere: Option<Reassembled>,
}

impl Engine {
    /// An engine without services.
    pub fn new(config: EngineConfig) -> Self {
        let limits = config.limits;
        Self {
            recorder: Off,
            keys: config.keys,
            catalog: Catalog {
                modes: config.modes,
                schedulers: config.schedulers,
                seed: config.seed,
            },
            desired: Desired::default(),
            flows: Flows::new(&limits, config.keys, config.crew.clone()),
            upkeep: Upkeep::new(),
            routes: Routes::new(),
            reassembler: Reassembler::new(limits.fragment_bytes as usize),
            claims: claims::Claims::default(),
            voice: Voice::new(config.keys.0, config.crew.as_ref()),
            counters: Counters::default(),
            crew: config.crew,
            strays: Strays::default(),
            elsewhere: None,
        }
    }

    /// Decides about a frame received through `port`. What the engine makes beside it is in `out`, which
    /// must be empty.
    ///
    /// Of this recorder alone, so that it is compiled here, beside all that it calls: what is generic is
    /// compiled by whoever uses it, and was 2 % slower.
    #[inline(never)]
    pub fn handle_frame(
        &mut self,
        now: Instant,
        port: PortId,
        frame: &mut Frame<'_>,
        out: &mut Outbox,
    ) -> Verdict {
        let seen = Seen::of(frame);
        self.handle_seen(now, port, (frame, &seen), out)
    }

    /// As [`Engine::handle_frame`], for a frame that [`Engine::look`] has read and that nobody has changed since.
    #[inline(never)]
    pub fn handle_seen(
        &mut self,
        now: Instant,
        port: PortId,
        frame: (&mut Frame<'_>, &Seen),
        out: &mut Outbox,
    ) -> Verdict {
        self.take(now, port, frame, out)
    }

    /// Decides about a datagram that another worker has put together and handed over, with the mark of its fragments and
    /// the workers that do not know its connection; as [`Engine::handle_frame`] of its last fragment.
    pub fn handle_reassembled(
        &mut self,
        now: Instant,
        port: PortId,
        whole: Reassembled,
        rest: (u32, u64),
        out: &mut Outbox,
    ) -> Verdict {
        self.take_datagram(now, port, whole, rest, out)
    }

    /// After [`Verdict::Elsewhere`], the datagram that the frame has made whole and that goes in its stead, where it was
    /// a fragment.
    pub const fn take_elsewhere(&mut self) -> Option<Reassembled> {
        self.elsewhere.take()
    }
}

impl<R: Recorder> Engine<R> {
    /// Replaces what is known of interfaces, routes and neighbours.
    pub fn set_fib(&mut self, fib: Arc<Fib>) {
        let same_ways = self.flows.has_hook() && fib.has_ways_of(&self.routes.fib);
        self.routes.set(fib);
        self.flows.take_up_fib(&self.routes.fib, same_ways);
    }

    /// A copy of the engine's totals; frames that the kernel forwarded are the shell's to add.
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters.clone();
        self.flows.fill(&mut counters);
        counters
    }

    /// The connection table.
    pub fn connections(&self) -> &ConnTable {
        self.flows.table()
    }

    /// Copies all services' counters.
    pub fn report(&self, now: Instant) -> Report {
        self.flows.report(now)
    }

    /// Copies the counters of the services from slot `from` on, at most `max` of them; with where to go on. The slots
    /// are the same until other services are [applied](Self::apply).
    pub fn report_services(
        &self,
        now: Instant,
        from: u32,
        max: u32,
    ) -> (Vec<ServiceReport>, Option<u32>) {
        self.flows.report_services(now, from, max)
    }

    /// Copies the counters of one service; `None` where it is not there.
    pub fn report_service(&self, now: Instant, key: &ServiceKey) -> Option<ServiceReport> {
        let slot = self.desired.slot(key)?;
        Some(self.flows.report_service(now, slot))
    }

    /// Traffic of services that were removed.
    pub fn retired(&self) -> Stats {
        self.flows.retired()
    }

    /// Copies connections from place `from` on, at most `max` places looked at; with where to go on.
    pub fn report_connections(
        &self,
        now: Instant,
        from: u32,
        max: u32,
    ) -> (Vec<ConnReport>, Option<u32>) {
        self.flows.report_connections(now, from, max)
    }

    /// How many connections a server has, also a removed one.
    pub fn connections_of(&self, service: ServiceKey, server: Endpoint) -> u32 {
        let slot = self.desired.slot(&service);
        self.flows.connections_of(slot, service, server)
    }

    /// What happened to servers since this was asked last.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.flows.take_events()
    }

    /// Hands over what the connection log is to say since this was called last, in the order in which it happened; how
    /// much of it was lost, as it was not taken in time.
    pub fn take_records(&mut self, take: impl FnMut(Record)) -> u64 {
        self.flows.take_records(take)
    }

    /// Hands over what the connection log is to say of all connections that are still there when the daemon stops.
    /// They stay as they are.
    pub fn log_stop(&self, now: Instant, take: impl FnMut(Record)) {
        self.flows.log_stop(now, take);
    }

    /// Compares what is counted of servers with what the connection table has, for tests.
    ///
    /// # Panics
    /// Where they differ.
    #[cfg(feature = "testing")]
    pub fn audit(&self) {
        self.flows.audit();
    }

    /// Takes a drop into account that the shell met: a frame that never reached the engine whole.
    pub fn count_unhandled(&mut self, reason: DropReason) {
        self.counters.count(Verdict::Drop(reason));
    }

    /// A frame that the engine has said is another worker's could not be handed over.
    pub fn count_not_handed(&mut self, reason: DropReason) {
        self.counters.refuse_handing(reason);
    }

    /// Takes a frame into account that the shell left to the kernel unseen.
    pub fn count_passed(&mut self) {
        self.counters.count(Verdict::Pass);
    }

    /// `n` frames that were handed over to leave did not, whatever they were.
    pub fn count_lost(&mut self, n: u64, reason: DropReason) {
        self.counters.lost[reason as usize] += n;
    }

    /// Lets connections and fragments expire, servers drain and the defences act, at most `budget`
    /// connections each; call again at once where it returns `true`. What the ends of connections are told
    /// is in `out`, which must be empty.
    pub fn handle_timeout(&mut self, now: Instant, budget: u32, out: &mut Outbox) -> bool {
        self.counters.fragments_expired += self.reassembler.expire(now);
        self.flows.catch_up();
        self.flows.hasten(now);
        let mut left = budget;
        while let Some(id) = self.flows.expired(now, &mut left) {
            self.time_out(now, id, out);
        }
        self.upkeep.pass(now, &mut self.flows);
        let sweeping = self.sweep(now, budget, out);
        let sysctls = self.desired.sysctls();
        let defending = self.upkeep.defend(now, budget, sysctls, &mut self.flows);
        let counting = self.find_strays(now, budget);
        left == 0 || sweeping || defending || counting
    }

    /// When [`Engine::handle_timeout`] has work, `None` while there is nothing to wait for.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let times = [
            self.flows.next_expiry(),
            self.upkeep.next(),
            self.strays.next(),
        ];
        times.into_iter().flatten().min()
    }

    /// Notes a decision, where this engine has a recorder that does.
    fn record(&mut self, step: impl FnOnce(&Self) -> Step) {
        if R::ON {
            let step = step(self);
            self.recorder.note(step);
        }
    }
}
