//! A client opens its connection again while the one before it is taken out, and frames of both go through the program
//! on another thread: the calls of an engine against BPF_PROG_TEST_RUN, at the same time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use uvs_core::flow::{Endpoint, Protocol};
use uvs_core::offload::{Hook as _, Orders, ServerCell, Taken};
use uvs_core::shared::Set;
use uvs_core::testing::packets::tcp;
use uvs_core::wire::tcp::flag::ACK;

use super::direct::{Direct, HOP, MAC, addr, end, end_of, nat};
use crate::hook::Hook;
use crate::rules::Rules;
use crate::testing::net::inside;
use crate::testing::{Arrival, Outcome};

/// How often the connection is opened again.
const ROUNDS: u64 = 10_000;
/// Cells that are used in turn: as in the engine, one is not used again at once.
const CELLS: u64 = 16;

fn ends(birth: u64) -> [Endpoint; 3] {
    [
        end("192.0.2.7", 40_000),
        end("10.0.1.100", 80),
        // Each other one goes to another server, at another port.
        match birth % 2 {
            0 => end("10.0.2.11", 8080),
            _ => end("10.0.2.12", 9090),
        },
    ]
}

fn connection(birth: u64) -> Taken {
    let cell = u32::try_from(birth % CELLS).unwrap();
    nat(cell, birth, Protocol::Tcp, ends(birth))
}

/// What a segment of the client's becomes on its way to the server of this connection.
fn forwarded(birth: u64) -> Vec<u8> {
    let [client, _, server] = ends(birth);
    let mut frame = tcp(client, server, ACK).seq(100, 200).ttl(63).frame();
    frame[..6].copy_from_slice(&HOP);
    frame[6..12].copy_from_slice(&MAC);
    frame
}

/// Says that a race is over, even where a test panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a frame until the race is over; how often it was forwarded.
fn run_until(over: &AtomicBool, hook: &Hook, frame: &[u8], arrival: Arrival) -> u64 {
    let whole = [forwarded(0), forwarded(1)];
    let mut times = 0;
    while !over.load(Ordering::Relaxed) {
        match hook.run(frame, arrival).unwrap() {
            Outcome::Taken(sent) => {
                assert!(whole.contains(&sent), "of two connections: {sent:02x?}");
                times += 1;
            }
            Outcome::Ours => {}
            other => panic!("it is a service's: {other:?}"),
        }
    }
    times
}

#[test]
fn no_connection_is_lost_to_the_end_of_the_one_before_it_on_its_flow() {
    inside(|net| {
        let mut d = Direct::new(net);
        let rules = Rules {
            to: [[(Protocol::Tcp, addr("10.0.1.100"), 80)].into(), Set::new()],
            ..Rules::default()
        };
        d.hook.set_rules(&rules).unwrap();
        let [client, vip, _] = ends(0);
        let frame = tcp(client, vip, ACK).seq(100, 200).frame();
        let arrival = Arrival {
            ifindex: d.ifindex,
            ..Arrival::default()
        };
        let (hook, is_over) = (d.hook.clone(), AtomicBool::new(false));
        let others = thread::scope(|scope| {
            let other = scope.spawn(|| run_until(&is_over, &hook, &frame, arrival));
            let over = Over(&is_over);
            d.take(connection(1));
            for birth in 2..=ROUNDS {
                let (old, new) = (connection(birth - 1), connection(birth));
                let end = end_of(&old);
                match birth % 3 {
                    // One ends and the next is taken in the same turn,
                    0 => d.order(Orders {
                        taken: vec![new],
                        ..end
                    }),
                    // or in two,
                    1 => {
                        d.order(end);
                        d.take(new);
                    }
                    // or the end comes late.
                    _ => {
                        d.take(new);
                        d.order(end);
                    }
                }
                assert_eq!(d.worker.seen(old.cell, old.birth), None);
                let sent = d.run(&frame);
                assert_eq!(sent, Outcome::Taken(forwarded(birth)), "{birth} is lost");
                let seen = d.worker.seen(new.cell, new.birth).unwrap();
                assert!(seen.client_packets > 0, "{birth} was not counted");
            }
            drop(over);
            other.join().unwrap()
        });
        assert!(others > 0, "no frame came between");
        let sent = d.worker.traffic(ServerCell(0)).in_packets;
        assert_eq!(sent, others + ROUNDS - 1, "each frame is counted once");
    });
}
