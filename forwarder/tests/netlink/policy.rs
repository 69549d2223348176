//! Rules, tables, types of routes, several next hops, rp_filter: as the kernel has them, and as they change.

use uvs_core::fib::{Fib, LOOPBACK, Query, Refusal, ReversePath, Unreachable};
use uvs_core::flow::{Addr, Endpoint};
use uvs_core::verdict::PortId;
use uvs_forwarder::netlink::{Event, Mirror};

use super::netns::Netns;
use super::{pair, until, v4};

const FAR: Addr = v4([192, 0, 2, 1]);

/// The director of [`pair`] with a second interface: d1, 10.0.1.1/24.
fn two_arms() -> (Netns, Netns) {
    let (director, peer) = pair();
    director.veth("d1", &peer, "p1");
    director.ip("address add 10.0.1.1/24 dev d1");
    peer.ip("address add 10.0.1.7/24 dev p1");
    (director, peer)
}

fn mirror() -> Mirror {
    let mut mirror = Mirror::new(&["d0".into(), "d1".into()]).unwrap();
    mirror.read_events().unwrap();
    mirror
}

/// The next hop to `dst`, of a packet from `src`.
fn via(fib: &Fib, dst: Addr, src: Addr) -> Result<Addr, Unreachable> {
    fib.lookup(Query::to(dst).from(src)).map(|hop| hop.via)
}

#[test]
fn a_rule_and_its_table_are_read_and_followed_as_they_change() {
    let (director, _peer) = two_arms();
    let vip = v4([10, 0, 1, 100]);
    director.ip("route add default via 10.0.0.254");
    director.ip("route add default via 10.0.1.254 table 1000");
    director.ip("rule add from 10.0.1.100 lookup 1000");
    director.enter(|| {
        let mut mirror = mirror();
        let at = |m: &Mirror, src| via(&m.fib(), FAR, src);
        assert_eq!(at(&mirror, vip), Ok(v4([10, 0, 1, 254])));
        assert_eq!(at(&mirror, Addr::UNSPECIFIED), Ok(v4([10, 0, 0, 254])));
        director.ip("route replace default via 10.0.1.253 table 1000");
        let moved = until(&mut mirror, |e| matches!(e, Event::RouteChanged { .. }));
        assert_eq!(
            moved.to_string(),
            "route moved: 0.0.0.0/0 via 10.0.1.253 dev d1 table 1000"
        );
        assert_eq!(at(&mirror, vip), Ok(v4([10, 0, 1, 253])));
        director.ip("rule del from 10.0.1.100 lookup 1000");
        until(&mut mirror, |e| *e == Event::RulesChanged);
        assert_eq!(at(&mirror, vip), Ok(v4([10, 0, 0, 254])));
        director.ip("rule add not to 198.51.100.0/24 iif d1 lookup 1000 priority 7");
        until(&mut mirror, |e| *e == Event::RulesChanged);
        let fib = mirror.fib();
        let d1 = fib.interface(PortId(1)).unwrap().ifindex;
        let by = |dst, iif| fib.lookup(Query::to(dst).by(iif)).map(|hop| hop.via);
        // `not` turns the rule round as a whole.
        assert_eq!(by(FAR, LOOPBACK), Ok(v4([10, 0, 1, 253])));
        let other = v4([198, 51, 100, 1]);
        assert_eq!(by(other, d1), Ok(v4([10, 0, 0, 254])));
        assert_eq!(by(other, LOOPBACK), Ok(v4([10, 0, 1, 253])));
        assert!(mirror.unfollowed().is_empty());
    });
}

#[test]
fn each_type_of_route_and_of_rule_does_what_it_says() {
    let (director, _peer) = two_arms();
    for route in [
        "default via 10.0.0.254",
        "default via 10.0.1.254 table 1000",
        "throw 192.0.2.0/24 table 1000",
        "unreachable 203.0.113.0/26 table 1000",
        "prohibit 203.0.113.64/26 table 1000",
        "blackhole 203.0.113.128/26 table 1000",
    ] {
        director.ip(&format!("route add {route}"));
    }
    director.ip("rule add to 198.18.0.0/15 blackhole priority 8");
    director.ip("rule add lookup main suppress_prefixlength 0 priority 9");
    director.ip("rule add lookup 1000 priority 10");
    director.enter(|| {
        let fib = mirror().fib();
        let at = |dst| via(&fib, v4(dst), Addr::UNSPECIFIED);
        let refused = |why| Err(Unreachable::Refused(why));
        assert_eq!(at([198, 51, 100, 1]), Ok(v4([10, 0, 1, 254])));
        assert_eq!(
            at([10, 0, 0, 9]),
            Ok(v4([10, 0, 0, 9])),
            "main, but for its default"
        );
        assert_eq!(at([192, 0, 2, 1]), Ok(v4([10, 0, 0, 254])), "thrown");
        assert_eq!(at([203, 0, 113, 1]), refused(Refusal::Unreachable));
        assert_eq!(at([203, 0, 113, 65]), refused(Refusal::Prohibit));
        assert_eq!(at([203, 0, 113, 129]), refused(Refusal::Blackhole));
        assert_eq!(at([198, 18, 0, 1]), refused(Refusal::Blackhole));
    });
}

#[test]
fn what_a_rule_asks_that_uvs_cannot_answer_is_named() {
    let (director, _peer) = two_arms();
    director.ip("rule add fwmark 1 lookup 1000 priority 11");
    director.ip("rule add tos 0x10 lookup 1000 priority 12");
    director.ip("rule add ipproto tcp dport 80 lookup 1000 priority 13");
    director.ip("rule add oif d1 lookup 1000 priority 14");
    director.ip("route add default via 10.0.1.254 table 1000");
    director.enter(|| {
        let mirror = mirror();
        assert_eq!(
            via(&mirror.fib(), FAR, Addr::UNSPECIFIED),
            Err(Unreachable::NoRoute)
        );
        let unfollowed = mirror.unfollowed();
        let named: Vec<_> = unfollowed.iter().map(|u| u.what.as_str()).collect();
        assert_eq!(
            named,
            [
                "rule 11: fwmark 0x1",
                "rule 12: tos 0x10",
                "rule 13: dport",
                "rule 13: ipproto 6"
            ]
        );
    });
}

/// How many of many connections leave by each port, as the kernel's routes have it.
fn shares(fib: &Fib) -> [usize; 2] {
    let mut shares = [0; 2];
    for port in 1..=4000 {
        let query = Query::to(FAR).of(Endpoint::new(FAR, port));
        shares[usize::from(fib.lookup(query).unwrap().port.0)] += 1;
    }
    shares
}

#[test]
fn of_several_next_hops_each_has_its_share_while_its_link_is_up() {
    let (director, peer) = two_arms();
    let hops = "nexthop via 10.0.0.7 dev d0 weight 1 nexthop via 10.0.1.7 dev d1 weight 3";
    director.ip(&format!("route add default {hops}"));
    director.enter(|| {
        let mut mirror = mirror();
        let [light, heavy] = shares(&mirror.fib());
        assert!((850..1150).contains(&light), "{light} and {heavy}");
        // The other end loses its carrier: the director's interface stays up.
        peer.ip("link set p1 down");
        until(&mut mirror, |e| matches!(e, Event::InterfaceDown { .. }));
        assert_eq!(shares(&mirror.fib()), [4000, 0]);
        peer.ip("link set p1 up");
        until(&mut mirror, |e| matches!(e, Event::InterfaceUp { .. }));
        assert_eq!(shares(&mirror.fib()), [light, heavy], "as before");
    });
}

#[test]
fn a_group_of_next_hop_objects_is_followed_as_its_members_change() {
    let (director, _peer) = two_arms();
    director.ip("nexthop add id 1 via 10.0.0.7 dev d0");
    director.ip("nexthop add id 2 via 10.0.1.7 dev d1");
    director.ip("nexthop add id 9 group 1/2");
    director.ip("route add default nhid 9");
    director.enter(|| {
        let mut mirror = mirror();
        let [one, two] = shares(&mirror.fib());
        assert!((1800..2200).contains(&one), "{one} and {two}");
        director.ip("nexthop replace id 9 group 2");
        until(&mut mirror, |e| matches!(e, Event::RouteChanged { .. }));
        assert_eq!(shares(&mirror.fib()), [0, 4000]);
        director.ip("nexthop del id 2");
        until(&mut mirror, |e| matches!(e, Event::RouteRemoved { .. }));
        assert!(mirror.fib().lookup(Query::to(FAR)).is_err());
    });
}

#[test]
fn every_next_hop_is_kept_resolved_and_one_that_does_not_answer_is_avoided() {
    let (director, peer) = two_arms();
    let hops = "nexthop via 10.0.0.7 dev d0 nexthop via 10.0.1.7 dev d1";
    director.ip(&format!("route add 10.9.0.0/16 {hops}"));
    director.ip(&format!("route add default {hops}"));
    peer.ip("address del 10.0.1.7/24 dev p1");
    director.enter(|| {
        let mut mirror = mirror();
        let server = Query::to(v4([10, 9, 0, 1]));
        mirror.keep(&[server].into()).unwrap();
        for gateway in ["10.0.0.7", "10.0.1.7"] {
            let shown = director.ip(&format!("-d neighbour show {gateway}"));
            assert!(shown.contains("managed"), "{gateway}: {shown}");
        }
        let silent = v4([10, 0, 1, 7]);
        until(
            &mut mirror,
            |e| matches!(e, Event::NeighbourLost { addr, failed: true, .. } if *addr == silent),
        );
        assert_eq!(shares(&mirror.fib()), [4000, 0]);
        mirror.keep(&[].into()).unwrap();
        let shown = director.ip("-d neighbour show 10.0.0.7");
        assert!(!shown.contains("managed"), "{shown}");
    });
}

#[test]
fn what_is_kept_is_what_the_rules_choose() {
    let (director, _peer) = two_arms();
    director.ip("route add default via 10.0.0.7");
    director.ip("route add default via 10.0.1.7 table 1000");
    director.enter(|| {
        let mut mirror = mirror();
        let local = v4([10, 0, 1, 1]);
        mirror.keep(&[Query::to(FAR).from(local)].into()).unwrap();
        let managed = |gateway| {
            let shown = director.ip(&format!("-d neighbour show {gateway}"));
            shown.contains("managed")
        };
        assert!(managed("10.0.0.7"));
        director.ip("rule add from 10.0.1.1 lookup 1000");
        until(&mut mirror, |e| *e == Event::RulesChanged);
        assert!(managed("10.0.1.7") && !managed("10.0.0.7"));
    });
}

#[test]
fn rp_filter_is_the_larger_of_two_and_followed() {
    let (director, _peer) = two_arms();
    for interface in ["all", "d0", "d1"] {
        director.sysctl(&format!("conf/{interface}/rp_filter"), "0");
    }
    director.sysctl("conf/d1/rp_filter", "1");
    director.enter(|| {
        let mut mirror = mirror();
        let modes = |m: &Mirror| {
            let fib = m.fib();
            [0, 1].map(|port| fib.interface(PortId(port)).unwrap().reverse_path)
        };
        assert_eq!(modes(&mirror), [ReversePath::Off, ReversePath::Strict]);
        director.sysctl("conf/all/rp_filter", "2");
        let now = until(&mut mirror, |e| {
            matches!(e, Event::ReversePathChanged { .. })
        });
        assert_eq!(now.to_string(), "rp_filter of d0 is now loose");
        assert_eq!(modes(&mirror), [ReversePath::Loose; 2]);
        director.sysctl("conf/all/rp_filter", "0");
        director.sysctl("conf/d1/rp_filter", "0");
        while modes(&mirror) != [ReversePath::Off; 2] {
            until(&mut mirror, |e| {
                matches!(e, Event::ReversePathChanged { .. })
            });
        }
    });
}
