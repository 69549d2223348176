use uvs_core::fib::{Query, Rule, Unreachable};

use super::*;

fn a(b: [u8; 4]) -> Addr {
    Addr::v4(b)
}

fn to(b: [u8; 4]) -> Query {
    Query::to(a(b))
}

fn link(ifindex: u32, name: &str) -> Link {
    Link {
        ifindex,
        name: name.into(),
        mac: Some([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        up: true,
        port_of: None,
    }
}

fn address(ifindex: u32, addr: [u8; 4], prefix: u8) -> Address {
    let subnet = (a(addr).masked(prefix), prefix);
    Address {
        ifindex,
        addr: a(addr),
        subnet,
        secondary: false,
        narrow: false,
    }
}

fn way(table: u32, dst: [u8; 4], prefix: u8, gateway: Option<[u8; 4]>) -> TableRoute {
    let target = Target::Hop(Hop::by(2, gateway.map(a)));
    let route = Route::new(a(dst), prefix, target);
    TableRoute { table, route }
}

fn local(dst: [u8; 4], prefix: u8) -> TableRoute {
    let route = Route::new(a(dst), prefix, Target::Local);
    let table = table::LOCAL;
    TableRoute { table, route }
}

fn tables() -> Tables {
    let own = PerFamily {
        rules: Rule::DEFAULT.map(HostRule::from).into(),
        forwarding: false,
    };
    Tables {
        links: vec![link(2, "eth0")],
        addresses: vec![address(2, [10, 0, 1, 1], 24), address(2, [10, 0, 2, 1], 24)],
        routes: vec![
            local([10, 0, 1, 1], 32),
            way(table::MAIN, [10, 0, 1, 0], 24, None),
            way(table::MAIN, [10, 0, 2, 0], 24, None),
            way(table::MAIN, [10, 5, 0, 0], 16, Some([10, 0, 2, 9])),
        ],
        per_family: BTreeMap::from([(Family::V4, own)]),
        ..Tables::default()
    }
}

fn ports() -> Vec<String> {
    vec!["eth0".into()]
}

#[test]
fn the_source_is_the_primary_address_nearest_to_the_gateway() {
    let fib = tables().fib(&ports());
    assert_eq!(
        fib.lookup(to([10, 5, 0, 1])).unwrap().source,
        a([10, 0, 2, 1])
    );
    assert_eq!(
        fib.lookup(to([10, 0, 1, 9])).unwrap().source,
        a([10, 0, 1, 1])
    );
    let mut t = tables();
    t.addresses[1].secondary = true;
    let fib = t.fib(&ports());
    assert_eq!(
        fib.lookup(to([10, 5, 0, 1])).unwrap().source,
        a([10, 0, 1, 1])
    );
}

#[test]
fn only_what_the_kernel_accepts_is_local() {
    let mut t = tables();
    t.routes.push(local([127, 0, 0, 0], 8));
    let fib = t.fib(&ports());
    assert!(fib.is_local(a([10, 0, 1, 1])));
    assert!(fib.is_local(a([127, 0, 0, 53])));
    assert!(!fib.is_local(a([10, 0, 2, 1])), "no local route");
}

#[test]
fn a_local_route_that_comes_after_its_address_is_a_change() {
    let (old, mut first) = (tables(), tables());
    first.addresses.push(address(2, [10, 0, 1, 9], 32));
    let added = [Event::AddressAdded {
        addr: a([10, 0, 1, 9]),
        dev: "eth0".into(),
    }];
    assert_eq!(first.changes_since(&old, &ports()), added);
    let mut then = first.clone();
    then.routes.push(local([10, 0, 1, 9], 32));
    let changed = [Event::LocalChanged];
    assert_eq!(then.changes_since(&first, &ports()), changed);
    assert_eq!(first.changes_since(&then, &ports()), changed);
}

#[test]
fn the_default_table_is_asked_after_main() {
    let mut t = tables();
    t.routes
        .push(way(table::DEFAULT, [10, 5, 1, 0], 24, Some([10, 0, 1, 8])));
    t.routes
        .push(way(table::DEFAULT, [0, 0, 0, 0], 0, Some([10, 0, 1, 254])));
    let fib = t.fib(&ports());
    assert_eq!(fib.lookup(to([10, 5, 1, 1])).unwrap().via, a([10, 0, 2, 9]));
    assert_eq!(
        fib.lookup(to([192, 0, 2, 1])).unwrap().via,
        a([10, 0, 1, 254])
    );
}

#[test]
fn a_moved_route_is_one_event() {
    let (old, mut new) = (tables(), tables());
    new.routes[3] = way(table::MAIN, [10, 5, 0, 0], 16, Some([10, 0, 1, 7]));
    let expected = [Event::RouteChanged {
        route: "10.5.0.0/16 via 10.0.1.7 dev eth0".into(),
    }];
    assert_eq!(new.changes_since(&old, &ports()), expected);
    assert_eq!(new.changes_since(&new.clone(), &ports()), []);
}

#[test]
fn a_route_is_described_as_ip_route_does() {
    let t = tables();
    let hop = |gateway, dead| Hop {
        weight: 2,
        dead,
        ..Hop::by(2, Some(a([10, 0, 1, gateway])))
    };
    let hops = [hop(7, false), hop(8, true)];
    let describe = |target| {
        let mut route = Route::new(a([10, 5, 0, 0]), 16, target);
        route.metric = 20;
        t.describe(&TableRoute { table: 100, route })
    };
    assert_eq!(
        describe(Target::Hops(hops.into())),
        "10.5.0.0/16 nexthop via 10.0.1.7 dev eth0 weight 2 \
         nexthop via 10.0.1.8 dev eth0 weight 2 dead metric 20 table 100"
    );
    let prohibit = Target::Refuse(Refusal::Prohibit);
    assert_eq!(
        describe(prohibit),
        "prohibit 10.5.0.0/16 metric 20 table 100"
    );
}

#[test]
fn a_local_route_of_another_table_makes_nothing_the_hosts_own() {
    let mut t = tables();
    t.routes.push(TableRoute {
        table: 100,
        ..local([0, 0, 0, 0], 0)
    });
    assert!(!t.fib(&ports()).is_local(a([192, 0, 2, 1])));
}

#[test]
fn an_interface_that_came_back_between_two_readings_is_gone_and_back() {
    let (old, mut new) = (tables(), tables());
    new.links = vec![link(9, "eth0")];
    new.addresses.clear();
    new.routes.clear();
    let name = String::from("eth0");
    let port = PortId(0);
    let events = new.changes_since(&old, &ports());
    assert_eq!(
        events[..3],
        [
            Event::InterfaceGone {
                port,
                name: name.clone()
            },
            Event::InterfaceBack {
                port,
                name: name.clone(),
                ifindex: 9
            },
            Event::InterfaceUp { port, name },
        ]
    );
}

#[test]
fn an_interface_set_down_with_a_new_mac_says_both() {
    let (old, mut new) = (tables(), tables());
    let mac = [2, 0, 0, 0, 0, 9];
    (new.links[0].mac, new.links[0].up) = (Some(mac), false);
    let (port, name) = (PortId(0), String::from("eth0"));
    let expected = [
        Event::InterfaceChanged {
            port,
            name: name.clone(),
            mac,
            mtu: 1500,
        },
        Event::InterfaceDown { port, name },
    ];
    assert_eq!(new.changes_since(&old, &ports()), expected);
}

#[test]
fn routes_that_lead_nowhere_are_named_once() {
    let mut t = tables();
    assert!(t.unfollowed().is_empty());
    for dst in [[10, 6, 0, 0], [10, 7, 0, 0]] {
        let route = Route::new(a(dst), 16, Target::Hops([].into()));
        let table = table::MAIN;
        t.routes.push(TableRoute { table, route });
    }
    t.by_tos = true;
    let named: Vec<_> = t.unfollowed().into_iter().map(|u| u.what).collect();
    assert_eq!(named.len(), 2, "{named:?}");
    assert_eq!(named[0], "route for one TOS");
    let fib = t.fib(&ports());
    assert_eq!(fib.lookup(to([10, 6, 0, 1])), Err(Unreachable::NoRoute));
}

#[test]
fn the_gateways_of_routes_with_several_next_hops_are_listed() {
    let mut t = tables();
    let hops = [7, 8].map(|n| Hop::by(2, Some(a([10, 0, 1, n]))));
    let on_link = [Hop::by(2, None), Hop::by(3, None)];
    for (dst, hops) in [([10, 6, 0, 0], hops), ([10, 7, 0, 0], on_link)] {
        let route = Route::new(a(dst), 16, Target::Hops(hops.into()));
        t.routes.push(TableRoute { table: 100, route });
    }
    let gateways = [(2, a([10, 0, 1, 7])), (2, a([10, 0, 1, 8]))];
    assert!(t.alternatives().eq(gateways));
}
