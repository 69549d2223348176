//! The table against a model, and its limits.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::fib::{Fib, Query, RouteCache, Towards};
use crate::flow::Addr;

const LIMIT: u32 = 64;

fn conn(n: u16, timeout: u32) -> Conn {
    let at = |b, port| Endpoint::new(Addr::v4([10, 0, b, 1]), port);
    Conn {
        timeout,
        ..Conn::new(Protocol::Tcp, at(1, n), at(2, 80), at(3, 80))
    }
}

fn drain(t: &mut ConnTable, now: Instant) -> Vec<u16> {
    let mut out = Vec::new();
    while let Some(id) = t.expired(now, &mut 1000) {
        out.push(t.remove(id).ends.client.port);
    }
    out
}

#[test]
fn a_connection_costs_at_most_128_bytes_beside_the_index() {
    assert!(size_of::<Conn>() <= 128, "{} bytes", size_of::<Conn>());
}

#[test]
fn both_directions_find_it() {
    let mut t = ConnTable::new(LIMIT, (1, 2));
    let c = conn(7, 60);
    let id = t.insert(Instant::ZERO, c, true).expect("room");
    assert_eq!(t.find(&c.client_flow()), Some((id, Side::Client)));
    assert_eq!(t.find(&c.server_flow()), Some((id, Side::Server)));
    assert_eq!(t.find(&c.client_flow().reversed()), None);
    t.remove(id);
    assert_eq!(t.find(&c.client_flow()), None);
    assert_eq!(t.find(&c.server_flow()), None);
}

#[test]
fn a_new_connection_takes_no_ways_over_with_its_place() {
    let mut routes = RouteCache::new();
    let query = Query::to(Addr::v4([10, 0, 3, 1]));
    let mut t = ConnTable::new(LIMIT, (1, 2));
    let id = t.insert(Instant::ZERO, conn(7, 60), true).expect("room");
    let towards = (t.ways_mut(id), Towards::Server);
    let way = routes.lookup_for(towards, &Fib::new(), &query);
    assert_eq!(routes.kept(t.ways(id), Towards::Server), Some(way));
    t.remove(id);
    let next = t.insert(Instant::ZERO, conn(8, 60), true).expect("room");
    assert_eq!(next, id);
    assert_eq!(t.ways(next), Ways::NONE);
}

#[test]
fn a_template_is_no_connection() {
    let mut t = ConnTable::new(LIMIT, (1, 2));
    let mut c = conn(0, 60);
    c.flags |= TEMPLATE;
    t.insert(Instant::ZERO, c, false).expect("room");
    assert_eq!(
        t.find(&Flow::new(Protocol::Tcp, c.ends.client, c.ends.vip)),
        None
    );
    assert!(t.find(&c.client_flow()).is_some());
}

#[test]
fn the_limit_and_a_taken_key_are_refused() {
    let mut t = ConnTable::new(2, (1, 2));
    let first = t.insert(Instant::ZERO, conn(1, 60), true).expect("room");
    assert_eq!(
        t.insert(Instant::ZERO, conn(1, 60), true),
        Err(InsertError::Taken(first))
    );
    t.insert(Instant::ZERO, conn(2, 60), true).expect("room");
    assert_eq!(
        t.insert(Instant::ZERO, conn(3, 60), true),
        Err(InsertError::Full)
    );
    assert_eq!(t.len(), 2);
}

#[test]
fn an_earlier_deadline_is_not_missed() {
    let mut t = ConnTable::new(LIMIT, (1, 2));
    let id = t.insert(Instant::ZERO, conn(1, 900), false).expect("room");
    t.get_mut(id).timeout = 10;
    t.touch(Instant::from_secs(5), id);
    assert!(drain(&mut t, Instant::from_millis(14_900)).is_empty());
    assert_eq!(drain(&mut t, Instant::from_millis(15_300)), [1]);
}

#[test]
fn a_deadline_beyond_the_wheel_waits() {
    let mut t = ConnTable::new(LIMIT, (1, 2));
    t.insert(Instant::ZERO, conn(1, 5000), false).expect("room");
    for s in 0..5000 {
        assert!(drain(&mut t, Instant::from_secs(s)).is_empty(), "at {s} s");
    }
    assert_eq!(drain(&mut t, Instant::from_secs(5001)), [1]);
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u16, u32),
    Touch(u16, u32),
    Wait(u32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0u16..20, 1u32..2000).prop_map(|(n, t)| Op::Insert(n, t)),
        (0u16..20, 1u32..2000).prop_map(|(n, t)| Op::Touch(n, t)),
        (1u32..400_000).prop_map(Op::Wait),
    ]
}

proptest! {
    /// Against a map from client port to deadline: nothing expires early, nothing late by more than a tick, and each in its
    /// tick's turn.
    #[test]
    fn it_expires_as_the_model_does(ops in proptest::collection::vec(op(), 1..120)) {
        let mut t = ConnTable::new(LIMIT, (3, 4));
        let mut model: BTreeMap<u16, Instant> = BTreeMap::new();
        let mut now = Instant::from_secs(1000);
        for op in ops {
            match op {
                Op::Insert(n, s) => {
                    let fresh = t.insert(now, conn(n, s), true).is_ok();
                    prop_assert_eq!(fresh, !model.contains_key(&n));
                    if fresh {
                        model.insert(n, now + std::time::Duration::from_secs(u64::from(s)));
                    }
                }
                Op::Touch(n, s) => if let Some((id, _)) = t.find(&conn(n, 0).client_flow()) {
                    t.get_mut(id).timeout = s;
                    t.touch(now, id);
                    model.insert(n, now + std::time::Duration::from_secs(u64::from(s)));
                },
                Op::Wait(ms) => now = Instant(now.0 + u64::from(ms) * 1_000_000),
            }
            let mut turn = 0;
            for gone in drain(&mut t, now) {
                let deadline = model.remove(&gone).expect("only known ones expire");
                prop_assert!(deadline <= now);
                let tick = deadline.0 / Wheel::TICK_NS;
                prop_assert!(tick >= turn, "{} is before its turn", gone);
                turn = tick;
            }
            for (n, deadline) in &model {
                prop_assert!(deadline.0 + 2 * Wheel::TICK_NS > now.0, "{} is late", n);
            }
            prop_assert_eq!(t.len() as usize, model.len());
        }
    }
}

const RANKS: [Rank; 5] = [
    Rank::Unproven,
    Rank::HalfOpen,
    Rank::Over,
    Rank::Single,
    Rank::Protected,
];

proptest! {
    /// Against lists of ids: who goes first is who has the lowest rank for longest.
    #[test]
    fn the_first_to_go_is_the_models(ops in proptest::collection::vec((0u16..12, 0usize..6), 1..200)) {
        let mut table = ConnTable::new(64, (1, 2));
        let mut model: [Vec<u16>; 4] = Default::default();
        let mut ids = std::collections::BTreeMap::<u16, ConnId>::new();
        for (n, op) in ops {
            let known = model.iter().position(|m| m.contains(&n));
            let id = *ids
                .entry(n)
                .or_insert_with(|| table.insert(Instant::ZERO, conn(n, 60), false).expect("room"));
            if op == RANKS.len() {
                table.remove(id);
                ids.remove(&n);
            } else {
                table.set_rank(id, RANKS[op]);
            }
            if known != Some(op) {
                model.iter_mut().for_each(|m| m.retain(|x| *x != n));
                if let Some(list) = model.get_mut(op) {
                    list.push(n);
                }
            }
            let eviction_order: Vec<u16> = table.eviction_order().map(|id| table.get(id).ends.client.port).collect();
            prop_assert_eq!(eviction_order, model.concat());
        }
    }
}
