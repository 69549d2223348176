//! A test bed: an engine between a client's and a server's side, in virtual time, with every counter
//! checked after every frame, and every decision dry-run before it is made.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::Backend;
use crate::crew::Crew;
use crate::engine::{DryRun, Engine, EngineConfig, SchedulerSource};
use crate::fib::Fib;
use crate::flow::{Endpoint, Family, Flow, Protocol};
use crate::frame::{Frame, Offload};
use crate::mode::ModeDef;
use crate::offload::{Hook, Reach, Up};
use crate::outbox::Outbox;
use crate::scheduler::{Fork, Scheduler};
use crate::service::{Forwarding, ServerSpec, ServiceKey, ServiceSpec, Tunnel};
use crate::snapshot::{Limits, Snapshot};
use crate::testing::hook::{self, Model, Passage};
use crate::testing::net;
pub use crate::testing::net::{
    CLIENT, CLIENTS, LOCAL, SERVER, SERVER_PORT, SERVERS, SERVERS_MAC, VIP,
};
use crate::testing::packets::TestFrame;
use crate::time::Instant;
use crate::trace::{Change, End, Step, Trace, changes};
use crate::verdict::{Egress, PortId, Verdict};

/// A frame that left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// By which port.
    pub port: PortId,
    /// From the destination MAC on.
    pub bytes: Vec<u8>,
    /// What is unfinished in it.
    pub offload: Offload,
}

impl Sent {
    /// A frame that leaves.
    pub fn of(bytes: &[u8], offload: Offload, egress: Egress) -> Self {
        Self {
            port: egress.port,
            bytes: bytes.to_vec(),
            offload,
        }
    }

    /// The frame, for a receiver's view of it: a checksum left to an offload is finished.
    pub fn finished(&self) -> Vec<u8> {
        let mut t = TestFrame::new(&self.bytes, self.offload);
        let mut frame = t.frame();
        crate::rewrite::finish_checksum(&mut frame);
        frame.bytes().to_vec()
    }
}

/// Picks the first available server.
struct First;

impl Scheduler for First {
    fn pick(&mut self, _: &Flow, backends: &[Backend]) -> Option<usize> {
        backends.iter().position(Backend::is_available)
    }

    fn fork(&self) -> Fork {
        Fork::Exact(Box::new(Self))
    }
}

/// [`First`], whatever is asked for.
fn first() -> SchedulerSource {
    Box::new(|_, _| Some(Box::new(First)))
}

/// The test bed.
pub struct Bed {
    /// The engine.
    pub engine: Engine,
    /// What [`Bed::apply`] applies.
    pub snapshot: Snapshot,
    /// The time.
    pub now: Instant,
    /// What left since it was last taken.
    pub sent: Vec<Sent>,
    /// The hook, where there is one.
    pub hook: Option<Model>,
    fib: Fib,
    outbox: Outbox,
}

impl Bed {
    /// A bed without services; every scheduler picks the first available server.
    pub fn new(modes: &'static [ModeDef], limits: Limits) -> Self {
        Self::with_schedulers(modes, limits, first())
    }

    /// As [`Bed::hand_down_to`], with the schedulers of [`Bed::new`].
    pub fn hand_down(&mut self, modes: &'static [ModeDef], limits: Limits) {
        self.hand_down_to(EngineConfig {
            limits,
            keys: (0, 0),
            seed: 0,
            modes,
            crew: None,
            schedulers: first(),
        });
    }

    /// Has another engine go on, from bytes, as in another process. A hook goes on with the connections that it has.
    ///
    /// # Panics
    /// Where it cannot.
    pub fn hand_down_to(&mut self, config: EngineConfig) {
        let estate = self.engine.hand_down(self.now);
        let bytes = postcard::to_stdvec(&estate).expect("an estate can be written");
        let estate = postcard::from_bytes(&bytes).expect("and read");
        let hook = self.hook.clone();
        let hook = hook.map(|model| Box::new(model) as Box<dyn Hook>);
        self.engine = Engine::succeed(config, estate, hook).expect("all is known");
        self.change_fib(|_| {});
        self.apply();
    }

    /// A bed without services, with schedulers from this source.
    pub fn with_schedulers(
        modes: &'static [ModeDef],
        limits: Limits,
        schedulers: SchedulerSource,
    ) -> Self {
        Self::in_crew(modes, limits, schedulers, None)
    }

    /// As [`Bed::with_schedulers`], as one of several.
    pub fn in_crew(
        modes: &'static [ModeDef],
        limits: Limits,
        schedulers: SchedulerSource,
        crew: Option<Crew>,
    ) -> Self {
        let engine = Engine::new(EngineConfig {
            limits,
            keys: (1, 2),
            seed: 3,
            modes,
            crew,
            schedulers,
        });
        let mut bed = Self {
            engine,
            snapshot: Snapshot::default(),
            now: Instant::from_secs(1000),
            sent: Vec::new(),
            hook: None,
            fib: net::fib(),
            outbox: Outbox::new(),
        };
        bed.change_fib(|_| {});
        if let Some(reach) = hook::wanted() {
            bed.hand_over(reach);
        }
        bed
    }

    /// Hands connections over to a model of the hook from now on.
    pub fn hand_over(&mut self, reach: Reach) -> Model {
        self.hand_over_to(Model::default(), reach)
    }

    /// As [`Bed::hand_over`], to a model that may have connections already.
    pub fn hand_over_to(&mut self, model: Model, reach: Reach) -> Model {
        model.memory().stateless = reach != Reach::Everything;
        self.engine
            .attach(Box::new(model.clone()), reach, hook::room());
        self.hook = Some(model.clone());
        model
    }

    /// A bed with one service of [`VIP`] on [`SERVER`].
    pub fn with_service(
        modes: &'static [ModeDef],
        protocol: Protocol,
        forwarding: Forwarding,
        tunnel: Tunnel,
    ) -> Self {
        Self::between(
            modes,
            protocol,
            forwarding,
            tunnel,
            (Family::V4, Family::V4),
        )
    }

    /// A bed with one service, of the first family, on a server of the second.
    pub fn between(
        modes: &'static [ModeDef],
        protocol: Protocol,
        forwarding: Forwarding,
        tunnel: Tunnel,
        families: (Family, Family),
    ) -> Self {
        let limits = Limits {
            connections: 4096,
            ..Limits::default()
        };
        let mut bed = Self::new(modes, limits);
        bed.add_service_between(protocol, forwarding, tunnel, families);
        bed
    }

    /// Takes connections back from the hook, where there is one.
    pub fn take_back(&mut self) {
        self.engine.detach();
        self.hook = None;
    }

    /// Adds a service of [`VIP`] on [`SERVER`].
    pub fn add_service(&mut self, protocol: Protocol, forwarding: Forwarding, tunnel: Tunnel) {
        self.add_service_between(protocol, forwarding, tunnel, (Family::V4, Family::V4));
    }

    /// Adds a service of the first family on a server of the second.
    pub fn add_service_between(
        &mut self,
        protocol: Protocol,
        forwarding: Forwarding,
        tunnel: Tunnel,
        (clients, servers): (Family, Family),
    ) {
        let vip = net::vip(clients);
        let mut service = ServiceSpec::new(ServiceKey::address(protocol, vip), "first");
        let port = if forwarding.def().maps_port {
            SERVER_PORT
        } else {
            VIP.port
        };
        service.local = Family::ALL.map(net::local).into();
        service.servers = vec![ServerSpec {
            tunnel,
            ..ServerSpec::new(Endpoint::new(net::server(servers), port), forwarding)
        }];
        self.snapshot.services.push(Arc::new(service));
        self.apply();
    }

    /// Sets a sysctl.
    pub fn sysctl(&mut self, name: &str, value: i32) {
        self.snapshot
            .sysctls
            .set(name, &value.to_string())
            .expect("a sysctl and its range");
        self.apply();
    }

    /// Applies the snapshot.
    pub fn apply(&mut self) {
        let applied = self.engine.apply(Arc::new(self.snapshot.clone()));
        applied.expect("a sound snapshot");
        self.engine.give_orders(self.now);
    }

    /// Changes what is known of interfaces, routes and neighbours.
    pub fn change_fib(&mut self, change: impl FnOnce(&mut Fib)) {
        change(&mut self.fib);
        self.engine.set_fib(Arc::new(self.fib.clone()));
        self.engine.give_orders(self.now);
    }

    /// What is known of interfaces, routes and neighbours.
    pub const fn fib(&self) -> &Fib {
        &self.fib
    }

    /// Lets time pass, in steps no longer than the shell's.
    pub fn wait(&mut self, d: Duration) {
        let end = self.now + d;
        while self.now < end {
            self.now = end.min(self.now + Duration::from_millis(500));
            self.expire();
        }
    }

    /// Lets time pass at once, as after a long sleep.
    pub fn jump(&mut self, d: Duration) {
        self.now = self.now + d;
        self.expire();
    }

    /// Lets the engine do what is due; what leaves is added to [`Bed::sent`].
    pub fn expire(&mut self) {
        loop {
            self.outbox.clear();
            let more = self.engine.handle_timeout(self.now, 1024, &mut self.outbox);
            self.engine.give_orders(self.now);
            self.sent.extend(taken(&self.outbox));
            if !more {
                return;
            }
        }
    }

    /// Hands a frame to the engine; what leaves is added to [`Bed::sent`].
    pub fn receive(&mut self, port: PortId, mut frame: TestFrame) -> Verdict {
        let mut frame = frame.frame();
        self.outbox.clear();
        let before = (frame.bytes().to_vec(), frame.offload);
        let predicted = self.dry_run(port, &frame);
        if let Some(verdict) = self.pass(port, &mut frame, predicted.as_ref(), &before) {
            return verdict;
        }
        // What was predicted of the frame alone happens after a look ahead.
        let mut seen = [self.engine.look(&mut frame)];
        self.engine.fetch(&mut seen);
        let verdict =
            self.engine
                .handle_seen(self.now, port, (&mut frame, &seen[0]), &mut self.outbox);
        self.engine.give_orders(self.now);
        let counters = self.engine.counters();
        assert_eq!(counters.accounted(), counters.received);
        let had = self.sent.len();
        if let Verdict::Send(egress) = verdict {
            let sent = Sent::of(frame.bytes(), frame.offload, egress);
            self.sent.push(sent);
        }
        match verdict {
            Verdict::SendOutbox | Verdict::Answered => self.sent.extend(taken(&self.outbox)),
            // What goes to the host does not leave.
            Verdict::Local => {
                let others = taken(&self.outbox).filter(|sent| sent.port != PortId::HOST);
                self.sent.extend(others);
            }
            _ => {}
        }
        if let Some(trace) = predicted {
            check_dry_run(&trace, verdict, &before, &self.sent[had..], &[]);
        }
        verdict
    }

    /// Has the hook look at a frame first; its end, where that has forwarded it.
    fn pass(
        &mut self,
        port: PortId,
        frame: &mut Frame<'_>,
        predicted: Option<&Trace>,
        before: &(Vec<u8>, Offload),
    ) -> Option<Verdict> {
        let model = self.hook.as_ref()?;
        let passage = model.frame(self.now, &self.fib, port, frame);
        if let Some(trace) = predicted {
            check_passage(trace, &passage);
        }
        let Passage::Forwarded(sent) = passage else {
            return None;
        };
        let verdict = match sent.as_slice() {
            [one] if one.offload.gso == before.1.gso => Verdict::Send(Egress {
                port: one.port,
                unresolved: None,
            }),
            _ => Verdict::SendOutbox,
        };
        if let Some(trace) = predicted {
            check_dry_run(trace, verdict, before, &sent, &OF_IDS);
        }
        self.sent.extend(sent);
        self.engine.catch_up();
        Some(verdict)
    }

    /// What a dry run says of a frame: of the first ones, and then of one in many, as floods are long.
    fn dry_run(&mut self, port: PortId, frame: &Frame<'_>) -> Option<Trace> {
        const ALL_OF: u64 = 500;
        const THEN_ONE_IN: u64 = 997;
        let n = self.engine.counters().received;
        let chosen = n < ALL_OF || n.is_multiple_of(THEN_ONE_IN);
        chosen.then(|| {
            self.start_dry_run()
                .frame(&self.engine, self.now, port, frame)
        })
    }

    /// The engine's double as it is now.
    pub fn start_dry_run(&self) -> DryRun {
        DryRun::of(&self.engine)
    }

    /// Hands a frame from the client's side to the engine and returns what left for it.
    pub fn from_client(&mut self, frame: TestFrame) -> Vec<Sent> {
        self.exchange(CLIENTS, frame)
    }

    /// Hands a frame from the server's side to the engine and returns what left for it.
    pub fn from_server(&mut self, frame: TestFrame) -> Vec<Sent> {
        self.exchange(SERVERS, frame)
    }

    /// Hands a frame from the director's own stack to the engine and returns what left for it.
    pub fn exchange_with_host(&mut self, frame: TestFrame) -> Vec<Sent> {
        self.exchange(PortId::HOST, frame)
    }

    fn exchange(&mut self, port: PortId, frame: TestFrame) -> Vec<Sent> {
        self.sent.clear();
        self.receive(port, frame);
        std::mem::take(&mut self.sent)
    }

    /// A frame as if its next hop's MAC address had not been resolved in time; what its sender is told.
    pub fn unreachable(&mut self, frame: &Sent) -> Vec<Sent> {
        let mut t = TestFrame::new(&frame.bytes, frame.offload);
        self.outbox.clear();
        self.engine
            .handle_unreachable(self.now, &mut t.frame(), &mut self.outbox);
        taken(&self.outbox).collect()
    }
}

/// A dry run says which frames the kernel forwards, and why the others come up.
fn check_passage(trace: &Trace, passage: &Passage) {
    let mut said = trace.steps.iter().filter_map(|step| match step {
        Step::Taken { up } => Some(up.clone()),
        _ => None,
    });
    let said = said.next();
    match passage {
        Passage::Forwarded(_) => assert_eq!(said, Some(None), "{:?}", trace.steps),
        Passage::Up(Up::Known) | Passage::Other => assert_eq!(said, None, "{:?}", trace.steps),
        // What is refused for its source is not looked up.
        Passage::Up(why) => {
            let looked_up = |step: &Step| matches!(step, Step::Lookup { .. });
            let why = trace.steps.iter().any(looked_up).then(|| why.meaning());
            let why = why.map(|why| Some(why.to_owned()));
            assert_eq!(said, why, "{:?}", trace.steps);
        }
    }
}

/// What depends on the identification of outer headers, which the kernel and the engine each count by themselves:
/// a segment in one is not told from a packet of its own.
const OF_IDS: [&str; 2] = ["outer checksum", "IP checksum"];

/// What was dry-run is what happened, to the byte of every header; but for the fields `except`.
fn check_dry_run(
    trace: &Trace,
    verdict: Verdict,
    before: &(Vec<u8>, Offload),
    sent: &[Sent],
    except: &[&str],
) {
    assert_eq!(trace.end, End::from(verdict), "dry-run: {:?}", trace.steps);
    let before = (before.0.as_slice(), before.1);
    let looked_at = |changes: &[Change]| {
        let changes = changes
            .iter()
            .filter(|c| !except.contains(&c.field.as_str()));
        changes.cloned().collect::<Vec<_>>()
    };
    for (leaving, sent) in trace.leaving.iter().zip(sent) {
        assert_eq!(leaving.port, sent.port.0);
        assert_eq!(leaving.bytes as usize, sent.bytes.len());
        let after = changes(before, (&sent.bytes, sent.offload));
        assert_eq!(looked_at(&leaving.changes), looked_at(&after));
    }
}

fn taken(out: &Outbox) -> impl Iterator<Item = Sent> {
    let sent =
        |(bytes, offload, egress): (&[u8], Offload, Egress)| Sent::of(bytes, offload, egress);
    out.iter().map(sent)
}
