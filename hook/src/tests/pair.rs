//! Two test beds that must never differ: an engine alone, and one with the hook, to which goes only what the program in
//! the kernel does not forward.

use std::sync::Arc;
use std::time::Duration;

use uvs_core::offload::Reach;
use uvs_core::record::Event;
use uvs_core::service::{ConnectionLog, ServiceKey};
use uvs_core::shared::Set;
use uvs_core::snapshot::Limits;
use uvs_core::testing::bed::{Bed, CLIENTS, SERVERS};
use uvs_core::testing::packets::TestFrame;
use uvs_core::time::Instant;
use uvs_core::verdict::{PortId, Verdict};

use super::load::small;
use crate::hook::{Hook, Setup};
use crate::rules::Rules;
use crate::testing::net::Net;
use crate::testing::{Arrival, Outcome};

/// The beds.
pub(super) struct Pair {
    pub(super) alone: Bed,
    pub(super) hooked: Bed,
    pub(super) hook: Arc<Hook>,
    /// The interfaces that stand for the beds' ports.
    ports: [u32; 2],
}

/// Where a frame was forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    Kernel,
    Engine,
    Host,
}

impl Pair {
    pub(super) fn with(net: &Net, reach: Reach) -> Self {
        let setup = Setup {
            // The beds' time is not the kernel's.
            stale_after: Duration::MAX,
            reach,
            ..small()
        };
        let hook = Arc::new(Hook::load(&setup, Hook::clock()).unwrap());
        let limits = Limits {
            connections: 1000,
            ..Limits::default()
        };
        let mut pair = Self {
            alone: Bed::new(uvs_modes::BUILTIN, limits.clone()),
            hooked: Bed::new(uvs_modes::BUILTIN, limits),
            ports: [
                net.interface("c0", "02:00:00:00:01:01"),
                net.interface("s0", "02:00:00:00:02:01"),
            ],
            hook,
        };
        for ifindex in pair.ports {
            pair.hook.attach(ifindex).unwrap();
        }
        let worker = pair.hook.worker().unwrap();
        let engine = &mut pair.hooked.engine;
        engine.attach(Box::new(worker), pair.hook.reach(), pair.hook.room());
        pair
    }

    /// Does the same to both; all services are logged.
    pub(super) fn both(&mut self, change: impl Fn(&mut Bed)) {
        for bed in [&mut self.alone, &mut self.hooked] {
            change(bed);
            let services = bed.snapshot.services.iter_mut();
            let silent = services.filter(|s| !s.connection_log.is_on());
            let changed = silent.map(|s| Arc::make_mut(s).connection_log = ConnectionLog::Ends);
            if changed.count() > 0 {
                bed.apply();
            }
        }
        self.follow();
    }

    /// The services' addresses are ours from now on.
    pub(super) fn serve(&mut self) {
        let services = &self.hooked.snapshot.services;
        let to = services.iter().filter_map(|s| match s.key {
            ServiceKey::Address {
                protocol,
                addr,
                port,
            } => Some((protocol, addr, port)),
            ServiceKey::Mark { .. } => None,
        });
        let rules = Rules {
            to: [to.collect(), Set::new()],
            local: [
                uvs_core::testing::bed::VIP.addr,
                uvs_core::testing::bed::LOCAL,
            ]
            .into(),
            ..Rules::default()
        };
        self.hook.set_rules(&rules).unwrap();
    }

    /// What the worker does at a turn's end.
    fn follow(&mut self) {
        self.hooked.engine.catch_up();
        let now = self.hooked.now;
        self.hooked.engine.give_orders(now);
    }

    /// A frame from the client's side.
    pub(super) fn client_sends(&mut self, frame: &TestFrame) -> Where {
        self.receive(CLIENTS, frame)
    }

    /// A frame from the server's side.
    pub(super) fn server_sends(&mut self, frame: &TestFrame) -> Where {
        self.receive(SERVERS, frame)
    }

    /// Hands a frame to both; what leaves, and what is known afterwards, is the same.
    pub(super) fn receive(&mut self, port: PortId, frame: &TestFrame) -> Where {
        let step = Duration::from_millis(1);
        (self.alone.now, self.hooked.now) = (self.alone.now + step, self.hooked.now + step);
        self.alone.sent.clear();
        let verdict = self.alone.receive(port, frame.clone());
        let expected: Vec<_> = self
            .alone
            .sent
            .iter()
            .map(|s| (s.port, s.finished()))
            .collect();
        let arrival = Arrival {
            ifindex: self.ports[usize::from(port.0)],
            gso_size: frame.offload.gso_size.into(),
            mark: 0,
        };
        let now = self.hooked.now;
        let outcome = self.hook.run_at(now, frame.bytes(), arrival).unwrap();
        let went = match outcome {
            Outcome::Taken(bytes) => {
                let [(_, expected)] = &expected[..] else {
                    panic!("the engine sends {} frames ({verdict:?})", expected.len());
                };
                // Padding, which the engine cuts off, may stay.
                let cut = &bytes[..bytes.len().min(expected.len())];
                assert_eq!(hex(cut), hex(expected));
                Where::Kernel
            }
            Outcome::Ours => {
                self.hooked.sent.clear();
                let verdict_here = self.hooked.receive(port, frame.clone());
                let here: Vec<_> = self
                    .hooked
                    .sent
                    .iter()
                    .map(|s| (s.port, s.finished()))
                    .collect();
                assert_eq!(here, expected, "{verdict_here:?}, {verdict:?}");
                Where::Engine
            }
            Outcome::NotOurs(mark) => {
                assert_eq!((mark, verdict), (0, Verdict::Pass));
                Where::Host
            }
            Outcome::Dropped => panic!("dropped; alone: {verdict:?}"),
        };
        self.follow();
        self.compare();
        went
    }

    /// Connections, servers and figures are the same.
    pub(super) fn compare(&mut self) {
        let list = |bed: &Bed| {
            let (list, _) = bed.engine.report_connections(bed.now, 0, 100_000);
            let show = |c: &uvs_core::engine::ConnReport| {
                let (ends, state) = ((c.client, c.vip, c.server, c.local), (c.state, c.expires));
                format!("{:?} {ends:?} {state:?}", c.protocol)
            };
            let mut lines: Vec<String> = list.iter().map(show).collect();
            lines.sort();
            lines
        };
        assert_eq!(list(&self.hooked), list(&self.alone));
        let numbers = |bed: &Bed| {
            let services = bed.engine.report(bed.now).services;
            let of = |s: &uvs_core::engine::ServiceReport| {
                let servers = s.servers.iter().map(|r| {
                    let n = &r.numbers;
                    format!("{} {} {} {:?}", r.endpoint, n.active, n.inactive, n.stats)
                });
                (
                    format!("{:?}", s.numbers.stats),
                    servers.collect::<Vec<_>>(),
                )
            };
            services.iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(numbers(&self.hooked), numbers(&self.alone));
        assert_eq!(records(&mut self.hooked), records(&mut self.alone));
    }

    /// Lets time pass for both.
    pub(super) fn wait(&mut self, d: Duration) {
        let end = self.alone.now + d;
        while self.alone.now < end {
            let now: Instant = end.min(self.alone.now + Duration::from_millis(500));
            self.both(|bed| {
                bed.now = now;
                bed.expire();
            });
        }
        self.compare();
    }
}

/// What the connection log says of connections that have ended since, whatever it was that forwarded them.
fn records(bed: &mut Bed) -> Vec<String> {
    let mut records = Vec::new();
    let lost = bed.engine.take_records(|r| {
        let Event::Ended(ended) = r.event else {
            return;
        };
        let ends = (r.client, r.vip, r.local, r.server);
        records.push(format!(
            "{ends:?} {} {:?} {:?}",
            ended.state, ended.why, ended.traffic
        ));
    });
    assert_eq!(lost, 0);
    records.sort();
    records
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
