//! What the engine does for schedulers, in virtual time: it measures handshakes, lets servers start slowly,
//! hands on a service's settings and tells the time.

mod common;
mod director;

use std::collections::BTreeMap;
use std::time::Duration;

use director::{Director, server};
use uvs_core::service::Forwarding::{Dr, Nat};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// One handshake, answered after `delay`; its server.
fn handshake(director: &mut Director, delay: impl Fn(u8) -> Duration) -> u8 {
    let (client, picked) = director.connect();
    let n = picked.expect("a server");
    director.pass(delay(n));
    director.syn_ack(n, client);
    director.close(client);
    n
}

#[test]
fn handshakes_are_measured_where_both_directions_are_seen() {
    let mut director = Director::new("rr", 0);
    director.add([0], Nat);
    assert_eq!(director.numbers(0).handshake, 0);
    handshake(&mut director, |_| 8 * MS);
    assert_eq!(director.numbers(0).handshake, 8000);
    handshake(&mut director, |_| 16 * MS);
    assert_eq!(director.numbers(0).handshake, 9000);

    director.add([1], Dr);
    for _ in 0..4 {
        director.visit();
    }
    assert_eq!(director.numbers(1).handshake, 0);
}

#[test]
fn what_was_sent_twice_is_not_measured() {
    let mut director = Director::new("rr", 0);
    director.add([0], Nat);
    let (client, _) = director.connect();
    director.pass(SECOND);
    director.syn(client);
    director.pass(2 * MS);
    director.syn_ack(0, client);
    assert_eq!(director.numbers(0).handshake, 0, "a SYN that came again");

    let (client, _) = director.connect();
    director.pass(3 * MS);
    director.syn_ack(0, client);
    director.pass(SECOND);
    director.syn_ack(0, client);
    assert_eq!(
        director.numbers(0).handshake,
        3000,
        "the first SYN-ACK counts"
    );
}

#[test]
fn a_server_that_was_slow_is_forgiven_and_tried_again() {
    let mut director = Director::new("lrt", 0);
    director.add([0, 1], Nat);
    let slow = |n| if n == 1 { 900 * MS } else { MS };
    let quick = |_| MS;
    while director.numbers(1).handshake == 0 {
        handshake(&mut director, slow);
    }
    let tried = |director: &mut Director, seconds| {
        let visits = (0..seconds).map(|_| {
            director.pass(SECOND);
            handshake(director, quick)
        });
        visits.filter(|n| *n == 1).count()
    };
    // From 900 ms to 1 ms by an eighth a second.
    assert_eq!(tried(&mut director, 45), 0);
    let later = tried(&mut director, 100);
    assert!((40..=60).contains(&later), "{later} of 100");
    assert_eq!(director.numbers(1).handshake, 1000);
}

#[test]
fn the_slow_one_of_three_gets_less() {
    let mut director = Director::new("lrt", 0);
    director.add([0, 1, 2], Nat);
    let mut open = Vec::new();
    let mut shares = BTreeMap::<u8, u32>::new();
    for _ in 0..3000 {
        let (client, picked) = director.connect();
        let n = picked.expect("a server");
        *shares.entry(n).or_default() += 1;
        director.pass(if n == 2 { 20 * MS } else { 5 * MS });
        director.syn_ack(n, client);
        open.push(client);
        if open.len() > 60 {
            director.close(open.remove(0));
        }
    }
    assert!(
        shares[&2] * 2 < shares[&0] && shares[&2] * 2 < shares[&1],
        "{shares:?}"
    );
    let spread = shares[&0].abs_diff(shares[&1]);
    assert!(spread < 100, "{shares:?}");
}

/// How many of 400 visits within a second a new server gets when `passed` of its slow start of 100 seconds
/// has passed, beside three others.
fn share(scheduler: &str, passed: u64) -> u32 {
    let mut director = Director::new(scheduler, 100);
    director.add([0, 1, 2], Dr);
    director.pass(200 * SECOND);
    director.add([3], Dr);
    for _ in 0..passed {
        (0..40).for_each(|_| assert!(director.visit() < 4));
        director.pass(SECOND);
    }
    (0..400).map(|_| u32::from(director.visit() == 3)).sum()
}

/// Those that would have given a new server a quarter, or more.
const SHARING: &[&str] = &[
    "rr", "wrr", "lc", "wlc", "sed", "nq", "twos", "swrr", "p2c", "lrt",
];

#[test]
fn a_new_server_starts_slowly_with_every_scheduler() {
    for def in uvs_schedulers::BUILTIN {
        if (def.new)(&Default::default()).is_consistent() || ["fo", "ovf"].contains(&def.name) {
            continue;
        }
        let [none, fifth, half] = [0, 20, 50].map(|passed| share(def.name, passed));
        // t / T of one weight beside three whole ones: 0, 0.2 / 3.2 and 0.5 / 3.5 of 400.
        assert_eq!(none, 0, "{}", def.name);
        assert!(fifth <= 26, "{}: {fifth} of 400", def.name);
        assert!(half <= 59, "{}: {half} of 400", def.name);
        if SHARING.contains(&def.name) {
            assert!(
                fifth >= 15 && half >= 40,
                "{}: {fifth}, {half} of 400",
                def.name
            );
        }
    }
}

#[test]
fn the_preferred_server_comes_back_slowly_with_fo_and_ovf() {
    for scheduler in ["fo", "ovf"] {
        let mut director = Director::new(scheduler, 100);
        director.add([0, 1], Dr);
        director.change(|service| service.servers[1].weight = 30);
        director.change(|service| service.servers[0].weight = 0);
        director.pass(200 * SECOND);
        director.change(|service| service.servers[0].weight = 90);
        assert_eq!(director.visit(), 0, "{scheduler}");
        director.pass(50 * SECOND);
        // 45 beside 30.
        let preferred = (0..100).filter(|_| director.visit() == 1).count();
        assert!((58..=61).contains(&preferred), "{scheduler}: {preferred}");
        director.pass(50 * SECOND);
        let preferred = (0..100).filter(|_| director.visit() == 1).count();
        assert_eq!(preferred, 100, "{scheduler}");
    }
}

#[test]
fn the_effective_weight_grows_and_is_reported() {
    let mut director = Director::new("wlc", 30);
    director.add([0], Dr);
    assert_eq!(
        director.numbers(0).effective_weight,
        1.0,
        "nobody to lean on"
    );
    director.pass(60 * SECOND);
    director.add([1], Dr);
    director.change(|service| service.servers[0].weight = 10);
    for (passed, expected) in [(0, 0.0), (15, 5.0), (9, 8.0), (6, 10.0), (100, 10.0)] {
        director.pass(passed * SECOND);
        let effective = director.numbers(1).effective_weight;
        assert!((effective - expected).abs() < 1e-9, "{effective}");
    }
    // Recovered: weight 0 and back. An edit of a weight that was there already starts nothing.
    director.change(|service| service.servers[0].weight = 0);
    director.change(|service| service.servers[0].weight = 4);
    director.pass(15 * SECOND);
    director.change(|service| service.servers[0].weight = 8);
    assert!((director.numbers(1).effective_weight - 4.0).abs() < 1e-9);
    // Removed and added again.
    let spec = director.bed.snapshot.services[0].servers[0];
    director.change(|service| service.servers.retain(|s| s.endpoint != server(1)));
    director.change(|service| service.servers.insert(0, spec));
    assert_eq!(director.numbers(1).effective_weight, 0.0);
}

#[test]
fn no_connection_is_refused_for_the_sake_of_a_slow_start() {
    let mut director = Director::new("ovf", 100);
    director.add([0], Dr);
    director.pass(200 * SECOND);
    director.add([1], Dr);
    // Weight 1 holds two active connections; the newcomer has had no time at all.
    let picked: Vec<_> = (0..5).map(|_| director.connect().1).collect();
    assert_eq!(picked, [Some(0), Some(0), Some(1), Some(1), None]);
}

#[test]
fn hashing_schedulers_have_no_slow_start() {
    for scheduler in ["sh", "dh", "mh"] {
        let mut director = Director::new(scheduler, 100);
        director.add([0, 1], Dr);
        director.pass(200 * SECOND);
        director.add([2], Dr);
        assert_eq!(director.numbers(2).effective_weight, 1.0, "{scheduler}");
    }
}

#[test]
fn a_service_that_is_just_made_is_balanced_at_once() {
    let mut director = Director::new("rr", 100);
    director.add([0, 1, 2], Dr);
    let shares = (0..300).map(|_| director.visit());
    let mut counts = [0; 3];
    shares.for_each(|n| counts[usize::from(n)] += 1);
    assert_eq!(counts, [100; 3]);
}

#[test]
fn maglevs_table_has_the_size_that_the_service_asks_for() {
    // A client's server depends on the size: of 300 clients a third go elsewhere, and all return.
    let mut director = Director::new("mh", 0);
    director.add([0, 1, 2], Dr);
    director.change(|service| service.flags = uvs_core::scheduler::FLAG_2);
    let mut picks = |size| {
        director.change(|service| service.table_size = size);
        let clients =
            (0..300).map(|port| uvs_core::flow::Endpoint::new(server(90).addr, 1000 + port));
        let picks: Vec<_> = clients
            .map(|client| {
                let picked = director.syn(client);
                director.close(client);
                picked
            })
            .collect();
        director.pass(1000 * SECOND);
        picks
    };
    let small = picks(0);
    let large = picks(65_537);
    assert_ne!(small, large);
    assert_eq!(small, picks(4093), "the default");
    assert_eq!(large, picks(65_537));
    assert_ne!(large, picks(655_373));
}

#[test]
fn lblc_forgets_a_destination_after_a_day() {
    for scheduler in ["lblc", "lblcr"] {
        let mut director = Director::new(scheduler, 0);
        director.add([0], Dr);
        director.change(|service| service.servers[0].weight = 50);
        assert_eq!(director.visit(), 0, "{scheduler}");
        director.add([1], Dr);
        let minutes = |director: &mut Director, n| (0..n).for_each(|_| director.pass(60 * SECOND));
        minutes(&mut director, 24 * 60 - 5);
        assert_eq!(director.visit(), 0, "{scheduler}: remembered");
        minutes(&mut director, 24 * 60 + 1);
        assert_eq!(director.visit(), 1, "{scheduler}: forgotten");
    }
}

/// What each of so many clients gets who come one by one, and stay.
fn picks(director: &mut Director, clients: usize) -> Vec<u8> {
    (0..clients)
        .map(|_| director.connect().1.expect("a server"))
        .collect()
}

#[test]
fn a_round_goes_on_in_the_next_process() {
    for scheduler in ["rr", "wrr", "swrr", "p2c", "twos", "wlc", "mh"] {
        let director = || {
            let mut director = Director::new(scheduler, 0);
            director.add(0..5, Dr);
            director.change(|service| {
                for (weight, server) in (1..).zip(&mut service.servers) {
                    server.weight = weight;
                }
            });
            picks(&mut director, 7);
            director
        };
        let (mut one, mut two) = (director(), director());
        two.hand_down();
        assert_eq!(picks(&mut two, 40), picks(&mut one, 40), "{scheduler}");
    }
}
