//! The mirror in IPv6: what every test of the other files asks of IPv4, as far as IPv6 tells it otherwise.

use std::net::Ipv6Addr;

use uvs_core::fib::{Query, Refusal, Unreachable};
use uvs_core::flow::{Addr, Endpoint, Family};
use uvs_core::time::Instant as Now;
use uvs_forwarder::netlink::Event;

use super::netns::Netns;
use super::{PORT, connect, mirror, until, v4};

pub(super) fn v6(text: &str) -> Addr {
    Addr::from(text.parse::<Ipv6Addr>().unwrap())
}

fn to(text: &str) -> Query {
    Query::to(v6(text))
}

/// As [`super::pair`], with 2001:db8::1/64 on d0 and 2001:db8::7/64 on p0.
fn pair() -> (Netns, Netns) {
    let (director, peer) = (Netns::new(), Netns::new());
    connect(&director, &peer);
    director.ip("address add 2001:db8::1/64 dev d0 nodad");
    peer.ip("address add 2001:db8::7/64 dev p0 nodad");
    (director, peer)
}

#[test]
fn the_first_reading_has_everything() {
    let (director, _peer) = pair();
    director.ip("address add 2001:db8::2/64 dev d0 nodad preferred_lft 0");
    director.ip("-6 route add default via fe80::fe dev d0");
    director.ip("-6 route add 2001:db8:9::/48 via 2001:db8::fd src 2001:db8::2 mtu 1300");
    for route in [
        "blackhole 2001:db8:a::/48",
        "prohibit 2001:db8:b::/48",
        "unreachable 2001:db8:c::/48",
        "local 2001:db8:d::/48 dev lo",
    ] {
        director.ip(&format!("-6 route add {route}"));
    }
    director.ip("neighbour add fe80::fe lladdr 02:00:00:00:00:fe dev d0 nud permanent");
    director.enter(|| {
        let mirror = mirror();
        let fib = mirror.fib();
        let hop = fib.lookup(to("2001:db8:f::1")).unwrap();
        assert_eq!((hop.port, hop.via), (PORT, v6("fe80::fe")));
        assert_eq!(hop.mac, Some([2, 0, 0, 0, 0, 0xfe]));
        assert_eq!(hop.source, v6("2001:db8::1"), "not the deprecated one");
        let hop = fib.lookup(to("2001:db8:9::1")).unwrap();
        assert_eq!((hop.source, hop.mtu), (v6("2001:db8::2"), 1300));
        for (dst, why) in [
            ("2001:db8:a::1", Refusal::Blackhole),
            ("2001:db8:b::1", Refusal::Prohibit),
            ("2001:db8:c::1", Refusal::Unreachable),
        ] {
            let refused = Err(Unreachable::Refused(why));
            assert_eq!(fib.lookup(to(dst)), refused, "{dst}");
        }
        for own in ["2001:db8::1", "2001:db8::2", "2001:db8:d::9", "::1"] {
            assert!(fib.is_local(v6(own)), "{own}");
        }
        assert!(!fib.is_local(v6("2001:db8::7")) && !fib.forwarding_ipv6);
        assert!(mirror.unfollowed().is_empty());
    });
}

#[test]
fn an_address_counts_when_nobody_else_has_it() {
    let (director, _peer) = pair();
    director.enter(|| {
        let mut mirror = mirror();
        let vip = v6("2001:db8::100");
        // Its solicitation waits up to a second, and a second for an answer (RFC 4862 §5.4.2).
        director.ip("address add 2001:db8::100/64 dev d0");
        mirror.read_events().unwrap();
        assert!(!mirror.fib().is_local(vip), "tentative");
        let added = Event::AddressAdded {
            addr: vip,
            dev: "d0".into(),
        };
        until(&mut mirror, |e| *e == added);
        // The kernel tells of the address first and takes packets to it after that.
        if !mirror.fib().is_local(vip) {
            until(&mut mirror, |e| *e == Event::LocalChanged);
        }
        assert!(mirror.fib().is_local(vip) && mirror.local_addresses().contains(&vip));
        director.ip("address del 2001:db8::100/64 dev d0");
        until(&mut mirror, |e| matches!(e, Event::AddressRemoved { .. }));
        assert!(!mirror.fib().is_local(vip));
    });
}

#[test]
fn rules_and_forwarding_are_followed() {
    let (director, _peer) = pair();
    director.ip("-6 route add default via 2001:db8::fe");
    director.ip("-6 route add default via 2001:db8::fd table 1000");
    director.enter(|| {
        let mut mirror = mirror();
        let (vip, far) = (v6("2001:db8::100"), to("2001:db8:f::1"));
        assert!(!mirror.fib().has_rules(Family::V6));
        director.ip("-6 rule add from 2001:db8::100 lookup 1000");
        until(&mut mirror, |e| *e == Event::RulesChanged);
        let fib = mirror.fib();
        let via = |query| fib.lookup(query).map(|hop| hop.via);
        assert_eq!(via(far.from(vip)), Ok(v6("2001:db8::fd")));
        assert_eq!(via(far), Ok(v6("2001:db8::fe")));
        assert!(!fib.has_rules(Family::V4));
        director.ip("-6 rule add fwmark 1 lookup 1000 priority 7");
        until(&mut mirror, |e| *e == Event::RulesChanged);
        let unfollowed = mirror.unfollowed();
        assert_eq!(unfollowed[0].what, "IPv6 rule 7: fwmark 0x1");
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        until(&mut mirror, |e| *e == Event::Forwarding(Family::V6, true));
        assert!(mirror.fib().forwarding_ipv6 && !mirror.fib().forwarding);
    });
}

#[test]
fn several_next_hops_and_gateways_of_the_other_family_are_known() {
    let (director, _peer) = pair();
    let one = "nexthop via 2001:db8::7 dev d0 weight 3";
    director.ip(&format!(
        "-6 route add 2001:db8:a::/48 {one} nexthop via 2001:db8::8 dev d0"
    ));
    director.ip("nexthop add id 1 via fe80::7 dev d0");
    director.ip("nexthop add id 2 via fe80::8 dev d0");
    director.ip("nexthop add id 3 group 1/2");
    director.ip("-6 route add 2001:db8:b::/48 nhid 3");
    director.ip("route add 192.0.2.0/24 via inet6 fe80::7 dev d0");
    director.ip("neighbour add fe80::7 lladdr 02:00:00:00:00:07 dev d0 nud permanent");
    director.enter(|| {
        let fib = mirror().fib();
        let hops = |dst| -> Vec<String> {
            let hops = fib.neighbours_of(to(dst)).into_iter();
            hops.map(|(_, via)| via.to_string()).collect()
        };
        assert_eq!(hops("2001:db8:a::1"), ["2001:db8::7", "2001:db8::8"]);
        assert_eq!(hops("2001:db8:b::1"), ["fe80::7", "fe80::8"]);
        let seven = v6("2001:db8::7");
        let by_seven = (0..1000).filter(|&port| {
            let client = Endpoint::new(v6("2001:db8:f::1"), port);
            let hop = fib.lookup(to("2001:db8:a::1").of(client)).unwrap();
            hop.via == seven
        });
        let by_seven = by_seven.count();
        assert!((650..850).contains(&by_seven), "{by_seven} of 1000, by 3:1");
        let hop = fib.lookup(Query::to(v4([192, 0, 2, 1]))).unwrap();
        assert_eq!(hop.via, v6("fe80::7"));
        assert_eq!(hop.mac, Some([2, 0, 0, 0, 0, 7]));
        assert_eq!(hop.source, v4([10, 0, 0, 1]));
    });
}

#[test]
fn who_does_not_answer_is_asked_again_by_packets_only() {
    let (director, peer) = pair();
    director.enter(|| {
        let managed = || {
            let shown = director.ip("-d neighbour show 2001:db8::99");
            shown.contains("managed")
        };
        let mut mirror = mirror();
        let server = v6("2001:db8::99");
        mirror.keep(&[Query::to(server)].into()).unwrap();
        assert!(managed());
        let lost = Event::NeighbourLost {
            port: PORT,
            addr: server,
            failed: true,
        };
        until(&mut mirror, |e| *e == lost);
        mirror.renew().unwrap();
        assert!(!managed(), "the kernel does not go on to ask");
        peer.ip("address add 2001:db8::99/64 dev p0 nodad");
        mirror.solicit(PORT, server, Now::from_secs(9)).unwrap();
        until(&mut mirror, |e| matches!(e, Event::NeighbourKnown { .. }));
        mirror.renew().unwrap();
        assert!(managed());
    });
}

#[test]
fn a_kept_neighbour_is_resolved_and_released() {
    let (director, peer) = pair();
    peer.ip("link set p0 address 02:00:00:00:00:07");
    director.ip("-6 route add 2001:db8:9::/48 via 2001:db8::7");
    director.enter(|| {
        let managed = || {
            let shown = director.ip("-d neighbour show 2001:db8::7");
            shown.contains("managed")
        };
        let mut mirror = mirror();
        let server = to("2001:db8:9::1");
        mirror.keep(&[server].into()).unwrap();
        until(&mut mirror, |e| matches!(e, Event::NeighbourKnown { .. }));
        let hop = mirror.fib().lookup(server).unwrap();
        assert_eq!(hop.mac, Some([2, 0, 0, 0, 0, 7]));
        assert!(managed());
        mirror.keep(&[].into()).unwrap();
        assert!(!managed());
        let nobody = v6("2001:db8::99");
        mirror.solicit(PORT, nobody, Now::ZERO).unwrap();
        let lost = Event::NeighbourLost {
            port: PORT,
            addr: nobody,
            failed: true,
        };
        until(&mut mirror, |e| *e == lost);
    });
}
