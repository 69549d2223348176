use super::*;
use crate::flow::Endpoint;
use crate::service::Forwarding;

fn a(b: [u8; 4]) -> Addr {
    Addr::v4(b)
}

fn route(dst: [u8; 4], prefix: u8, gateway: Option<[u8; 4]>, ifindex: u32) -> Route {
    let hop = Hop::by(ifindex, gateway.map(a));
    Route::new(a(dst), prefix, Target::Hop(hop))
}

fn to(b: [u8; 4]) -> Query {
    Query::to(a(b))
}

fn interface(ifindex: u32) -> Interface {
    Interface {
        port: PortId(u16::try_from(ifindex).unwrap() - 2),
        ifindex,
        mac: [2; 6],
        mtu: 1500,
        up: true,
        reverse_path: ReversePath::Off,
    }
}

fn fib() -> Fib {
    let mut f = Fib::new();
    f.set_interface(interface(2));
    f.add_local(2, a([10, 0, 1, 1]));
    f.add_route(route([10, 0, 1, 0], 24, None, 2));
    f.add_route(route([0, 0, 0, 0], 0, Some([10, 0, 1, 254]), 2));
    f.add_route(route([10, 9, 0, 0], 16, None, 7));
    f.set_neighbour(2, a([10, 0, 1, 254]), [9; 6]);
    f
}

#[test]
fn the_longest_prefix_wins() {
    let f = fib();
    let on_link = f.lookup(to([10, 0, 1, 7])).expect("a route");
    assert_eq!(
        (on_link.via, on_link.mac, on_link.source),
        (a([10, 0, 1, 7]), None, a([10, 0, 1, 1]))
    );
    let far = f.lookup(to([192, 0, 2, 1])).expect("a route");
    assert_eq!((far.via, far.mac), (a([10, 0, 1, 254]), Some([9; 6])));
}

#[test]
fn what_cannot_be_reached_says_why() {
    let f = fib();
    assert_eq!(f.lookup(to([10, 0, 1, 1])), Err(Unreachable::Local));
    assert_eq!(f.lookup(to([10, 9, 1, 1])), Err(Unreachable::NotAPort));
    assert_eq!(
        Fib::new().lookup(to([10, 0, 1, 1])),
        Err(Unreachable::NoRoute)
    );
}

#[test]
fn a_route_that_refuses_hides_the_wider_ones() {
    let mut f = fib();
    let target = Target::Refuse(Refusal::Prohibit);
    f.add_route(Route::new(a([10, 7, 0, 0]), 16, target));
    let refused = Unreachable::Refused(Refusal::Prohibit);
    assert_eq!(f.lookup(to([10, 7, 0, 1])), Err(refused));
    assert!(f.lookup(to([10, 6, 0, 1])).is_ok());
}

#[test]
fn a_local_prefix_makes_each_of_its_addresses_local() {
    let mut f = fib();
    f.add_local_prefix(a([127, 0, 0, 0]), 8);
    assert!(f.is_local(a([127, 3, 2, 1])) && !f.is_local(a([128, 0, 0, 1])));
    assert_eq!(f.lookup(to([127, 0, 0, 1])), Err(Unreachable::Local));
}

#[test]
fn the_lower_metric_stays() {
    let mut f = fib();
    f.add_route(Route {
        metric: 5,
        ..route([10, 8, 0, 0], 16, Some([10, 0, 1, 5]), 2)
    });
    f.add_route(Route {
        metric: 1,
        ..route([10, 8, 0, 0], 16, Some([10, 0, 1, 6]), 2)
    });
    assert_eq!(
        f.lookup(to([10, 8, 1, 1])).expect("a route").via,
        a([10, 0, 1, 6])
    );
}

/// Where a query leads, by the last byte of the gateway.
fn gateway(f: &Fib, q: Query) -> Result<u8, Unreachable> {
    f.lookup(q).map(|hop| hop.via.0[15])
}

/// A default route in a table of its own.
fn uplink(f: &mut Fib, table: u32, gateway: u8) {
    f.add_route_to(table, route([0, 0, 0, 0], 0, Some([10, 0, 1, gateway]), 2));
}

fn rules(custom: &[Rule]) -> Vec<Rule> {
    let [local, main, default] = Rule::DEFAULT;
    let mut all = vec![local];
    all.extend(custom);
    all.extend([main, default]);
    all
}

const FAR: [u8; 4] = [192, 0, 2, 1];

#[test]
fn a_rule_is_followed_for_its_source_its_destination_and_its_interface() {
    let mut f = fib();
    for table in [10, 20, 30, 40] {
        uplink(&mut f, table.into(), table);
    }
    let from = |net, bits, table| Rule {
        from: (a(net), bits),
        ..Rule::lookup(100, table)
    };
    let by = Rule {
        iif: Some(3),
        ..Rule::lookup(102, 30)
    };
    let not = Rule {
        to: (a([192, 0, 2, 0]), 24),
        invert: true,
        ..Rule::lookup(103, 40)
    };
    let never = Rule {
        never: true,
        ..Rule::lookup(99, 40)
    };
    let to_net = Rule {
        to: (a([203, 0, 113, 0]), 24),
        ..Rule::lookup(101, 20)
    };
    f.set_rules(
        Family::V4,
        &rules(&[never, from([10, 0, 1, 100], 32, 10), to_net, by, not]),
    );
    let vip = a([10, 0, 1, 100]);
    assert_eq!(gateway(&f, to(FAR)), Ok(254), "the main table");
    assert_eq!(gateway(&f, to(FAR).from(vip)), Ok(10));
    assert_eq!(gateway(&f, to([203, 0, 113, 9])), Ok(20));
    assert_eq!(
        gateway(&f, to([203, 0, 113, 9]).from(vip)),
        Ok(10),
        "the first"
    );
    assert_eq!(gateway(&f, to(FAR).by(3)), Ok(30));
    assert_eq!(
        gateway(&f, to([198, 51, 100, 1])),
        Ok(40),
        "not to 192.0.2.0/24"
    );
    assert_eq!(
        f.lookup(to([10, 0, 1, 1]).from(vip)),
        Err(Unreachable::Local)
    );
}

#[test]
fn a_throw_an_empty_table_and_what_is_suppressed_leave_it_to_the_next_rule() {
    let mut f = fib();
    uplink(&mut f, 10, 10);
    f.add_route_to(10, Route::new(a([192, 0, 2, 0]), 24, Target::Throw));
    f.set_rules(
        Family::V4,
        &rules(&[Rule::lookup(1, 77), Rule::lookup(2, 10)]),
    );
    assert_eq!(gateway(&f, to([198, 51, 100, 1])), Ok(10));
    assert_eq!(gateway(&f, to(FAR)), Ok(254), "thrown");
    // As WireGuard has it: main without its default route, then a table of its own.
    let suppress = Rule::all(
        3,
        Action::Lookup {
            table: table::MAIN,
            suppress: Some(0),
        },
    );
    f.set_rules(Family::V4, &rules(&[suppress, Rule::lookup(4, 10)]));
    assert_eq!(gateway(&f, to([198, 51, 100, 1])), Ok(10));
    assert_eq!(gateway(&f, to([10, 0, 1, 7])), Ok(7), "longer than 0");
}

#[test]
fn a_rule_jumps_refuses_or_does_nothing() {
    let mut f = fib();
    uplink(&mut f, 10, 10);
    let goto = |priority, there| Rule::all(priority, Action::Goto(there));
    f.set_rules(
        Family::V4,
        &rules(&[
            Rule::all(1, Action::Nop),
            goto(2, 32766),
            Rule::lookup(3, 10),
        ]),
    );
    assert_eq!(gateway(&f, to(FAR)), Ok(254));
    f.set_rules(Family::V4, &rules(&[goto(2, 4), Rule::lookup(3, 10)]));
    assert_eq!(gateway(&f, to(FAR)), Ok(10), "nobody has the priority 4");
    let why = Unreachable::Refused(Refusal::Blackhole);
    f.set_rules(Family::V4, &rules(&[Rule::all(1, Action::Refuse(why))]));
    assert_eq!(f.lookup(to(FAR)), Err(why));
}

#[test]
fn a_tunnels_outer_packet_is_looked_up_again_with_the_source_that_was_chosen() {
    let mut f = fib();
    uplink(&mut f, 10, 10);
    let own = Rule {
        from: (a([10, 0, 1, 1]), 32),
        ..Rule::lookup(1, 10)
    };
    f.set_rules(Family::V4, &rules(&[own]));
    assert_eq!(gateway(&f, to(FAR)), Ok(254));
    let outer = Query::to_server(a(FAR), Forwarding::Tunnel, None);
    assert_eq!(gateway(&f, outer), Ok(10));
    assert_eq!(f.neighbours_of(outer), [(2, a([10, 0, 1, 10]))]);
}

/// A default route by two ports, the second three times as heavy, and a third that is dead.
fn multipath() -> Fib {
    let mut f = fib();
    f.set_interface(interface(3));
    let hop = |ifindex, gateway, weight| Hop {
        weight,
        ..Hop::by(ifindex, Some(a([10, 0, 1, gateway])))
    };
    let dead = Hop {
        dead: true,
        ..hop(2, 52, 4)
    };
    let hops = [hop(2, 50, 1), hop(3, 51, 3), dead];
    let target = Target::Hops(hops.into());
    f.remove_route(Addr::UNSPECIFIED, 0);
    f.add_route(Route::new(Addr::UNSPECIFIED, 0, target));
    f
}

/// The gateways of many clients' connections.
fn taken(f: &Fib) -> Vec<u8> {
    let client = |n: u32| Endpoint::new(a(n.to_be_bytes()), 1024 + (n % 7) as u16);
    let clients = (0..20_000).map(|n| client(0xc633_6400 + n));
    clients
        .map(|c| gateway(f, Query::to(c.addr).of(c)).expect("a way"))
        .collect()
}

fn shares(taken: &[u8], gateway: u8) -> f64 {
    taken.iter().filter(|g| **g == gateway).count() as f64 / taken.len() as f64
}

#[test]
fn connections_are_spread_by_weight_over_the_hops_that_live() {
    let taken = taken(&multipath());
    for (gateway, share) in [(50, 0.25), (51, 0.75), (52, 0.0)] {
        let got = shares(&taken, gateway);
        assert!((got - share).abs() < 0.02, "{gateway}: {got}");
    }
}

#[test]
fn one_client_has_several_ways_and_one_connection_has_one() {
    let f = multipath();
    let q = |port| to(FAR).of(Endpoint::new(a(FAR), port));
    let gateways: HashSet<_> = (0..100).filter_map(|p| gateway(&f, q(p)).ok()).collect();
    assert_eq!(gateways.len(), 2);
    assert!((0..100).all(|port| gateway(&f, q(port)) == gateway(&f, q(port))));
}

#[test]
fn the_death_of_one_hop_moves_its_own_connections_only() {
    let mut f = multipath();
    f.remove_route(Addr::UNSPECIFIED, 0);
    let hop = |gateway| Hop::by(2, Some(a([10, 0, 1, gateway])));
    let hops = [hop(60), hop(61), hop(62)];
    f.add_route(Route::new(Addr::UNSPECIFIED, 0, Target::Hops(hops.into())));
    let before = taken(&f);
    let failed = a([10, 0, 1, 61]);
    f.set_failed(2, failed);
    let after = taken(&f);
    let moved = before.iter().zip(&after).filter(|(b, a)| b != a);
    assert!(moved.clone().all(|(before, _)| *before == 61));
    assert_eq!(shares(&after, 61), 0.0);
    assert!(
        (shares(&after, 60) - 0.5).abs() < 0.02,
        "the rest share alike"
    );
    f.set_neighbour(2, failed, [7; 6]);
    assert_eq!(taken(&f), before, "back, and as before");
}

#[test]
fn a_hop_whose_port_is_down_or_none_of_ours_is_avoided() {
    let mut f = multipath();
    let up = |up| Interface { up, ..interface(3) };
    f.set_interface(up(false));
    assert_eq!(shares(&taken(&f), 50), 1.0);
    // Where none lives, one is tried all the same.
    f.set_failed(2, a([10, 0, 1, 50]));
    assert!(shares(&taken(&f), 51) > 0.2);
    assert_eq!(f.neighbours_of(to(FAR)).len(), 3);
}

fn filtered(mode: ReversePath) -> Fib {
    let mut f = fib();
    for ifindex in [2, 3] {
        f.set_interface(Interface {
            reverse_path: mode,
            ..interface(ifindex)
        });
    }
    f.add_local(3, a([10, 0, 2, 1]));
    f.add_route(route([10, 0, 2, 0], 24, None, 3));
    f.add_route(Route::new(
        a([10, 7, 0, 0]),
        16,
        Target::Refuse(Refusal::Blackhole),
    ));
    f
}

#[test]
fn the_reverse_path_is_strict_loose_or_not_looked_at() {
    let vip = a([10, 0, 1, 100]);
    // Source and arrival; whether strict and loose refuse it.
    let table = [
        (FAR, 2, false, false),
        (FAR, 3, true, false),
        ([10, 0, 2, 9], 3, false, false),
        ([10, 0, 2, 9], 2, true, false),
        ([10, 7, 0, 1], 2, true, true),
        ([10, 0, 1, 1], 3, false, false),
    ];
    for (src, arrival, strict, loose) in table {
        let spoofed = |mode| filtered(mode).is_spoofed(a(src), vip, arrival);
        assert!(!spoofed(ReversePath::Off), "{src:?} by {arrival}");
        assert_eq!(spoofed(ReversePath::Strict), strict, "{src:?} by {arrival}");
        assert_eq!(spoofed(ReversePath::Loose), loose, "{src:?} by {arrival}");
    }
    assert!(filtered(ReversePath::Loose).filters() && !filtered(ReversePath::Off).filters());
}

#[test]
fn the_reverse_path_follows_the_rules_and_each_of_several_next_hops() {
    let vip = a([10, 0, 1, 100]);
    let mut f = filtered(ReversePath::Strict);
    f.add_route_to(10, route([0, 0, 0, 0], 0, Some([10, 0, 2, 254]), 3));
    let from_vip = Rule {
        from: (vip, 32),
        ..Rule::lookup(1, 10)
    };
    f.set_rules(Family::V4, &rules(&[from_vip]));
    assert!(!f.is_spoofed(a(FAR), vip, 3), "the VIP's own uplink");
    assert!(f.is_spoofed(a(FAR), vip, 2));
    // A packet that goes through is judged as if its answer came from where it leaves.
    let from_port = Rule {
        iif: Some(2),
        ..Rule::lookup(1, 10)
    };
    f.set_rules(Family::V4, &rules(&[from_port]));
    assert!(!f.is_spoofed(a([198, 51, 100, 1]), a(FAR), 3));
    f.set_rules(Family::V4, &Rule::DEFAULT);
    let hops = [Hop::by(2, None), Hop::by(3, None)];
    f.add_route(Route::new(a([192, 0, 2, 0]), 24, Target::Hops(hops.into())));
    assert!(!f.is_spoofed(a(FAR), vip, 2) && !f.is_spoofed(a(FAR), vip, 3));
}

#[test]
fn an_interface_without_an_address_is_never_loose() {
    let mut f = fib();
    f.set_interface(Interface {
        reverse_path: ReversePath::Loose,
        ..interface(3)
    });
    assert!(f.is_spoofed(a(FAR), a([10, 0, 1, 100]), 3));
}
