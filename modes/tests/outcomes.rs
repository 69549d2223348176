//! How servers' answers to handshakes are counted, in virtual time: each connection once, whether the engine or the
//! kernel's program forwards the answer.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use uvs_core::flow::{Endpoint, Protocol};
use uvs_core::numbers::HandshakeNumbers;
use uvs_core::offload::Reach;
use uvs_core::service::{Forwarding, Tunnel};
use uvs_core::snapshot::Limits;
use uvs_core::testing::bed::{
    Bed, CLIENT, CLIENTS, LOCAL, SERVER, SERVER_PORT, SERVERS, SERVERS_MAC, VIP,
};
use uvs_core::testing::packets::{ACK, SYN, TestFrame, tcp};
use uvs_core::wire::tcp::flag::RST;

/// FULLNAT's only local port.
const LOCAL_PORT: u16 = 1024;

/// A director and how it reaches its server.
struct Director {
    bed: Bed,
    forwarding: Forwarding,
}

impl Director {
    fn syn(&mut self, client: Endpoint) {
        let syn = tcp(client, VIP, SYN).seq(100, 0);
        self.bed.receive(CLIENTS, TestFrame::finished(&syn.frame()));
    }

    fn answer(&mut self, client: Endpoint, flags: u8) {
        let to = match self.forwarding {
            Forwarding::FullNat => Endpoint::new(LOCAL, LOCAL_PORT),
            _ => client,
        };
        let from = Endpoint::new(SERVER, SERVER_PORT);
        let answer = tcp(from, to, flags).seq(5000, 101).to_mac(SERVERS_MAC);
        self.bed
            .receive(SERVERS, TestFrame::finished(&answer.frame()));
    }

    fn wait(&mut self, seconds: u64) {
        self.bed.wait(Duration::from_secs(seconds));
    }

    fn numbers(&self) -> HandshakeNumbers {
        let report = self.bed.engine.report(self.bed.now);
        report.services[0].servers[0].numbers.handshakes
    }

    /// Answered, reset, silent, and failures in a row.
    fn counts(&self) -> (u64, u64, u64, u32) {
        let n = self.numbers();
        (n.ok, n.reset, n.timeout, n.failed_in_a_row)
    }
}

/// A client's `n`th port.
fn client(n: u16) -> Endpoint {
    Endpoint::new(CLIENT.addr, CLIENT.port + n)
}

/// In each mode whose replies pass, by the engine alone and with the model of the kernel's program.
fn everywhere(check: impl Fn(Director)) {
    for forwarding in [Forwarding::Nat, Forwarding::FullNat] {
        for hooked in [false, true] {
            let limits = Limits {
                local_ports: (LOCAL_PORT, LOCAL_PORT),
                ..Limits::default()
            };
            let mut bed = Bed::new(uvs_modes::BUILTIN, limits);
            bed.add_service(Protocol::Tcp, forwarding, Tunnel::default());
            if hooked {
                bed.hand_over(Reach::Everything);
            }
            check(Director { bed, forwarding });
        }
    }
}

#[test]
fn an_answer_counts_once_and_ends_a_row_of_failures() {
    everywhere(|mut d| {
        d.syn(client(0));
        d.answer(client(0), SYN | ACK);
        d.answer(client(0), SYN | ACK);
        d.wait(2);
        assert_eq!(d.counts(), (1, 0, 0, 0), "{:?}", d.forwarding);
        // A client that never comes back is none of the server's faults.
        d.wait(200);
        assert_eq!(d.counts(), (1, 0, 0, 0));
        assert_eq!(d.numbers().ok_ago.map(|s| s > 190), Some(true));
    });
}

#[test]
fn a_reset_counts_at_once() {
    everywhere(|mut d| {
        for n in 0..3 {
            d.syn(client(n));
            d.answer(client(n), RST | ACK);
            d.wait(20);
        }
        assert_eq!(d.counts(), (0, 3, 0, 3), "{:?}", d.forwarding);
        assert!(d.numbers().is_dead());
        d.syn(client(9));
        d.answer(client(9), SYN | ACK);
        d.wait(2);
        assert_eq!(d.counts(), (1, 3, 0, 0));
        assert!(!d.numbers().is_dead());
        // What breaks off later was answered.
        d.answer(client(9), RST | ACK);
        d.wait(20);
        assert_eq!(d.counts(), (1, 3, 0, 0));
    });
}

#[test]
fn silence_counts_with_the_third_syn_or_when_the_time_is_over() {
    everywhere(|mut d| {
        d.syn(client(0));
        d.wait(1);
        d.syn(client(0));
        d.wait(2);
        assert_eq!(d.counts(), (0, 0, 0, 0), "a SYN may be lost");
        d.syn(client(0));
        assert_eq!(d.counts(), (0, 0, 1, 1), "{:?}", d.forwarding);
        d.wait(4);
        d.syn(client(0));
        d.wait(100);
        assert_eq!(d.counts(), (0, 0, 1, 1), "once");
        d.syn(client(1));
        d.wait(100);
        assert_eq!(d.counts(), (0, 0, 2, 2));
        assert!(!d.numbers().is_dead(), "two may be an accident");
    });
}

#[test]
fn where_replies_do_not_pass_nothing_is_known() {
    let mut bed = Bed::new(uvs_modes::BUILTIN, Limits::default());
    bed.add_service(Protocol::Tcp, Forwarding::Dr, Tunnel::default());
    let forwarding = Forwarding::Dr;
    let mut d = Director { bed, forwarding };
    (0..4).for_each(|_| d.syn(client(0)));
    d.wait(200);
    assert_eq!(d.numbers(), HandshakeNumbers::default());
}

#[test]
fn what_was_counted_goes_on_with_the_engine_that_takes_over() {
    everywhere(|mut d| {
        d.syn(client(0));
        d.answer(client(0), RST | ACK);
        d.wait(20);
        d.bed.hand_down(uvs_modes::BUILTIN, Limits::default());
        assert_eq!(d.counts(), (0, 1, 0, 1));
        let services = &mut d.bed.snapshot.services;
        Arc::make_mut(&mut services[0]).servers[0].weight = 5;
        d.bed.apply();
        assert_eq!(d.counts(), (0, 1, 0, 1));
    });
}
