//! The records played through the hook's program in the kernel that is there (BPF_PROG_TEST_RUN): what it does not
//! forward, the engine gets. Needs root.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use uvs_control::config::OwnVips;
use uvs_core::engine::Engine;
use uvs_core::fib::Fib;
use uvs_core::flow::Addr;
use uvs_core::frame::{Frame, Offload};
use uvs_core::shared::Set;
use uvs_core::snapshot::Snapshot;
use uvs_core::time::Instant;
use uvs_core::verdict::{DropReason, Verdict};
use uvs_hook::testing::net::inside;
use uvs_hook::testing::{Arrival, Outcome};
use uvs_hook::{Hook, Limits, Setup};

use super::director::DEVICES;
use super::{addr, list, packets, states, text};
use crate::daemon::derive;
use crate::daemon::derived::{Derived, Ground};
use crate::guard::GuardSpec;
use crate::hook::rules;

thread_local! {
    /// The interfaces that stand for the director's, on the thread of a test that runs the program.
    static PORTS: Cell<Option<[u32; 2]>> = const { Cell::new(None) };
    /// Frames that the program has forwarded.
    static FORWARDED: Cell<u32> = const { Cell::new(0) };
}

/// The program, and what it shares with one engine.
pub(super) struct Program {
    hook: Arc<Hook>,
    ports: [u32; 2],
    /// The director's own addresses.
    local: Vec<Addr>,
    /// Whether the last frame was left to the host.
    left: Cell<bool>,
}

impl Program {
    /// A program, where the test on this thread runs it.
    pub(super) fn wanted(topology: &Value) -> Option<Self> {
        let ports = PORTS.get()?;
        let setup = Setup {
            limits: Limits {
                connections: 1024,
                servers: 64,
                hops: 64,
                rules: 256,
                ports: 4,
            },
            // The records' time is not the kernel's.
            stale_after: Duration::MAX,
            ..Setup::default()
        };
        let hook = Arc::new(Hook::load(&setup, Hook::clock()).unwrap());
        let addresses = DEVICES.iter().flat_map(|dev| list(&topology[*dev]["addr"]));
        let address = |a: &Value| addr(text(a).split('/').next().unwrap());
        Some(Self {
            hook,
            ports,
            local: addresses.map(address).collect(),
            left: Cell::new(false),
        })
    }

    /// Lets an engine hand its connections over.
    pub(super) fn attach(&self, engine: &mut Engine) {
        let worker = Box::new(self.hook.worker().unwrap());
        engine.attach(worker, self.hook.reach(), self.hook.room());
    }

    /// Tells the program whose frames of no connection are, as the daemon does.
    pub(super) fn set_rules(&self, snapshot: &Snapshot) {
        let (services, marks) = (&snapshot.services, &snapshot.marks);
        let repliers = derive::repliers(services, marks);
        let surroundings = GuardSpec {
            nat: derive::nat(snapshot.timeouts, &snapshot.sysctls),
            local: self.local.clone().into(),
            ..GuardSpec::default()
        };
        let mut derived = Derived::default();
        let ground = Ground {
            marks: marks.clone(),
            own_vips: OwnVips::None,
            fib: Arc::new(Fib::new()),
            local: self.local.clone(),
        };
        derived.follow(services, [&repliers, &Set::new()], ground);
        let spec = derived.guard(surroundings);
        self.hook.set_rules(&rules::of(&spec)).unwrap();
    }

    /// What was left to the host must be what the engine, which would never have seen it, gives to it as it came.
    pub(super) fn compare(&self, verdict: Verdict, is_as_it_came: bool) {
        let is_the_hosts = match verdict {
            Verdict::Pass | Verdict::Local => is_as_it_came,
            // ipv6_rcv drops it as well.
            Verdict::Drop(reason) => reason == DropReason::BadIpHeader,
            _ => false,
        };
        assert!(
            is_the_hosts || !self.left.get(),
            "left to the host, but the engine says {verdict:?}"
        );
    }

    /// What the program has made of a frame, where it has forwarded it.
    pub(super) fn frame(&self, now: Instant, port: usize, frame: &Frame<'_>) -> Option<Vec<u8>> {
        self.left.set(false);
        if frame.offload != Offload::default() {
            // A test run cannot say that a checksum is unfinished.
            return None;
        }
        let arrival = Arrival {
            ifindex: self.ports[port],
            ..Arrival::default()
        };
        let outcome = self.hook.run_at(now, frame.bytes(), arrival).unwrap();
        self.left.set(matches!(outcome, Outcome::NotOurs(_)));
        match outcome {
            Outcome::Taken(sent) => {
                FORWARDED.set(FORWARDED.get() + 1);
                Some(sent)
            }
            Outcome::Ours | Outcome::NotOurs(_) => None,
            Outcome::Dropped => panic!("dropped"),
        }
    }
}

/// Plays something through the program; how many frames that has forwarded.
fn through_the_program(play: fn()) -> u32 {
    let mut forwarded = 0;
    inside(|net| {
        let ports = [("c0", "02:00:00:00:01:01"), ("s0", "02:00:00:00:02:01")];
        PORTS.set(Some(ports.map(|(name, mac)| net.interface(name, mac))));
        play();
        forwarded = FORWARDED.get();
    });
    forwarded
}

#[test]
fn packets_go_as_in_the_kernel_by_the_program_too() {
    let forwarded = through_the_program(packets::play_book);
    assert!(forwarded > 50, "only {forwarded} frames were forwarded");
}

#[test]
fn so_do_packets_of_ipv6_by_the_program() {
    let forwarded = through_the_program(packets::play_book_of_ipv6);
    assert!(forwarded > 50, "only {forwarded} frames were forwarded");
}

#[test]
fn every_tcp_transition_is_the_kernels_by_the_program_too() {
    let forwarded = through_the_program(states::play_tables);
    assert!(forwarded > 300, "only {forwarded} frames were forwarded");
}
