//! The records played through the hook's program in the kernel that is there (BPF_PROG_TEST_RUN): what it does not
//! forward, the engine gets. Needs root.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use uvs_core::engine::Engine;
use uvs_core::time::Instant;
use uvs_hook::testing::net::inside;
use uvs_hook::testing::{Arrival, Outcome};
use uvs_hook::{Hook, Limits, Setup};

use super::{packets, states};

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
}

impl Program {
    /// A program, where the test on this thread runs it.
    pub(super) fn wanted() -> Option<Self> {
        let ports = PORTS.get()?;
        let setup = Setup {
            limits: Limits {
                connections: 1024,
                servers: 64,
                hops: 64,
                rules: 64,
                ports: 4,
            },
            // The records' time is not the kernel's.
            stale_after: Duration::MAX,
            ..Setup::default()
        };
        let hook = Arc::new(Hook::load(&setup, Hook::clock()).unwrap());
        Some(Self { hook, ports })
    }

    /// Lets an engine hand its connections over.
    pub(super) fn attach(&self, engine: &mut Engine) {
        let worker = Box::new(self.hook.worker().unwrap());
        engine.attach(worker, self.hook.reach(), self.hook.room());
    }

    /// What the program has made of a frame, where it has forwarded it.
    pub(super) fn frame(&self, now: Instant, port: usize, frame: &[u8]) -> Option<Vec<u8>> {
        let arrival = Arrival {
            ifindex: self.ports[port],
            ..Arrival::default()
        };
        match self.hook.run_at(now, frame, arrival).unwrap() {
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
fn every_tcp_transition_is_the_kernels_by_the_program_too() {
    let forwarded = through_the_program(states::play_tables);
    assert!(forwarded > 300, "only {forwarded} frames were forwarded");
}
