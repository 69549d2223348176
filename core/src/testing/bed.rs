//! A test bed: an engine between a client's and a server's side, in virtual time, with every counter
//! checked after every frame, and every decision dry-run before it is made.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::Backend;
use crate::engine::{DryRun, Engine, EngineConfig, SchedulerSource};
use crate::fib::Fib;
use crate::flow::{Endpoint, Family, Flow, Protocol};
use crate::frame::{Frame, Offload};
use crate::mode::ModeDef;
use crate::outbox::Outbox;
use crate::scheduler::{Fork, Scheduler};
use crate::service::{Forwarding, ServerSpec, ServiceKey, ServiceSpec, Tunnel};
use crate::snapshot::{Limits, Snapshot};
use crate::testing::net;
pub use crate::testing::net::{
    CLIENT, CLIENTS, LOCAL, SERVER, SERVER_PORT, SERVERS, SERVERS_MAC, VIP,
};
use crate::testing::packets::TestFrame;
use crate::time::Instant;
use crate::trace::{End, Trace, changes};
use crate::verdict::{PortId, Verdict};

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
    fib: Fib,
    outbox: Outbox,
}

impl Bed {
    /// A bed without services; every scheduler picks the first available server.
    pub fn new(modes: &'static [ModeDef], limits: Limits) -> Self {
        Self::with_schedulers(modes, limits, Box::new(|_, _| Some(Box::new(First))))
    }

    /// A bed without services, with schedulers from this source.
    pub fn with_schedulers(
        modes: &'static [ModeDef],
        limits: Limits,
        schedulers: SchedulerSource,
    ) -> Self {
        let engine = Engine::new(EngineConfig {
            limits,
            keys: (1, 2),
            seed: 3,
            modes,
            schedulers,
        });
        let mut bed = Self {
            engine,
            snapshot: Snapshot::default(),
            now: Instant::from_secs(1000),
            sent: Vec::new(),
            fib: net::fib(),
            outbox: Outbox::new(),
        };
        bed.change_fib(|_| {});
        bed
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
    }

    /// Changes what is known of interfaces, routes and neighbours.
    pub fn change_fib(&mut self, change: impl FnOnce(&mut Fib)) {
        change(&mut self.fib);
        self.engine.set_fib(Arc::new(self.fib.clone()));
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
        let verdict = self
            .engine
            .handle_frame(self.now, port, &mut frame, &mut self.outbox);
        let counters = self.engine.counters();
        assert_eq!(counters.accounted(), counters.received);
        let had = self.sent.len();
        if let Verdict::Send(egress) = verdict {
            self.sent.push(Sent {
                port: egress.port,
                bytes: frame.bytes().to_vec(),
                offload: frame.offload,
            });
        }
        if matches!(verdict, Verdict::SendOutbox | Verdict::Answered) {
            self.sent.extend(taken(&self.outbox));
        }
        if let Some(trace) = predicted {
            check_dry_run(&trace, verdict, &before, &self.sent[had..]);
        }
        verdict
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

/// What was dry-run is what happened, to the byte of every header.
fn check_dry_run(trace: &Trace, verdict: Verdict, before: &(Vec<u8>, Offload), sent: &[Sent]) {
    assert_eq!(trace.end, End::from(verdict), "dry-run: {:?}", trace.steps);
    let before = (before.0.as_slice(), before.1);
    for (leaving, sent) in trace.leaving.iter().zip(sent) {
        assert_eq!(leaving.port, sent.port.0);
        assert_eq!(leaving.bytes as usize, sent.bytes.len());
        assert_eq!(
            leaving.changes,
            changes(before, (&sent.bytes, sent.offload))
        );
    }
}

fn taken(out: &Outbox) -> impl Iterator<Item = Sent> {
    out.iter().map(|(bytes, offload, egress)| Sent {
        port: egress.port,
        bytes: bytes.to_vec(),
        offload,
    })
}
