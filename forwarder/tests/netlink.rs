//! The netlink mirror against a real kernel: every change is seen as an event and in the FIB.
//! Each test makes its own network namespaces and needs root.

#![allow(clippy::unwrap_used)]

#[path = "netlink/ipv6.rs"]
mod ipv6;
#[path = "../../cli/tests/netns/mod.rs"]
mod netns;
#[path = "netlink/policy.rs"]
mod policy;

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use ipv6::v6;
use netns::Netns;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use uvs_core::fib::{Query, Refusal, Unreachable};
use uvs_core::flow::{Addr, Family};
use uvs_core::time::Instant as Now;
use uvs_core::verdict::PortId;
use uvs_forwarder::netlink::{Event, Mirror};

/// How long a change that the kernel has made may take to be seen before the test gives up.
const PATIENCE: Duration = Duration::from_secs(10);

const PORT: PortId = PortId(0);

#[test]
fn an_interface_that_cannot_be_used_is_named_with_those_that_can() {
    let (director, _peer) = pair();
    let error = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|n| n.to_string()).collect();
        director.enter(|| Mirror::new(&names).err().unwrap().to_string())
    };
    assert_eq!(
        error(&["d0", "eth9"]),
        "no interface `eth9`; this host has: d0"
    );
    assert!(error(&["lo"]).contains("`lo` is not Ethernet"));
    assert!(error(&["d0", "d0"]).contains("`d0` is given twice"));
}

#[test]
fn the_first_reading_has_everything() {
    let (director, _peer) = pair();
    director.ip("link set d0 address 02:00:00:00:00:d0 mtu 1400");
    director.ip("address add 10.0.0.2/24 dev d0");
    director.ip("route add default via 10.0.0.254");
    director.ip("route add 10.9.0.0/16 via 10.0.0.253 src 10.0.0.2 mtu 1300");
    director.ip("route add blackhole 10.8.0.0/16");
    director.ip("route add local 10.7.0.0/24 dev lo");
    director.ip("neighbour add 10.0.0.254 lladdr 02:00:00:00:00:fe dev d0 nud permanent");
    director.enter(|| {
        let fib = mirror().fib();
        let hop = fib.lookup(Query::to(v4([192, 0, 2, 1]))).unwrap();
        assert_eq!(hop.port, PORT);
        assert_eq!(hop.source_mac, [2, 0, 0, 0, 0, 0xd0]);
        assert_eq!(hop.via, v4([10, 0, 0, 254]));
        assert_eq!(hop.mac, Some([2, 0, 0, 0, 0, 0xfe]));
        assert_eq!(hop.source, v4([10, 0, 0, 1]));
        assert_eq!(hop.mtu, 1400);
        let other = fib.lookup(Query::to(v4([10, 9, 0, 1]))).unwrap();
        assert_eq!(
            (other.source, other.mtu, other.mac),
            (v4([10, 0, 0, 2]), 1300, None)
        );
        assert_eq!(
            fib.lookup(Query::to(v4([10, 8, 0, 1]))),
            Err(Unreachable::Refused(Refusal::Blackhole))
        );
        assert!(fib.is_local(v4([10, 0, 0, 2])) && fib.is_local(v4([10, 7, 0, 9])));
        assert!(fib.is_local(v4([127, 0, 0, 1])) && !fib.is_local(v4([10, 0, 0, 3])));
        assert!(fib.is_broadcast(v4([10, 0, 0, 255])) && !fib.is_broadcast(v4([10, 0, 0, 3])));
        assert!(fib.interface(PORT).unwrap().up && !fib.forwarding);
    });
}

#[test]
fn addresses_come_and_go() {
    let (director, _peer) = pair();
    director.enter(|| {
        let mut mirror = mirror();
        let vip = v4([10, 0, 0, 100]);
        director.ip("address add 10.0.0.100/32 dev d0");
        until(&mut mirror, |e| {
            *e == Event::AddressAdded {
                addr: vip,
                dev: "d0".into(),
            }
        });
        assert!(mirror.fib().is_local(vip) && mirror.local_addresses().contains(&vip));
        director.ip("address del 10.0.0.100/32 dev d0");
        until(&mut mirror, |e| {
            *e == Event::AddressRemoved {
                addr: vip,
                dev: "d0".into(),
            }
        });
        assert!(!mirror.fib().is_local(vip));
    });
}

#[test]
fn what_the_host_takes_without_having_an_address_is_followed() {
    let (director, _peer) = pair();
    director.enter(|| {
        let mut mirror = mirror();
        for (prefix, inside) in [
            ("10.77.0.0/16", v4([10, 77, 1, 1])),
            ("2001:db8:77::/48", v6("2001:db8:77::1")),
        ] {
            assert!(!mirror.fib().is_local(inside));
            director.ip(&format!("route add local {prefix} dev lo"));
            until(&mut mirror, |e| *e == Event::LocalChanged);
            assert!(mirror.fib().is_local(inside), "{prefix}");
            director.ip(&format!("route del local {prefix} dev lo"));
            until(&mut mirror, |e| *e == Event::LocalChanged);
            assert!(!mirror.fib().is_local(inside), "{prefix}");
        }
    });
}

#[test]
fn a_route_that_moves_is_followed() {
    let (director, _peer) = pair();
    director.ip("route add 10.9.0.0/16 via 10.0.0.253");
    director.enter(|| {
        let mut mirror = mirror();
        let via = |m: &Mirror| m.fib().lookup(Query::to(v4([10, 9, 0, 1]))).map(|h| h.via);
        assert_eq!(via(&mirror), Ok(v4([10, 0, 0, 253])));
        director.ip("route replace 10.9.0.0/16 via 10.0.0.252");
        let moved = until(&mut mirror, |e| matches!(e, Event::RouteChanged { .. }));
        assert_eq!(
            moved.to_string(),
            "route moved: 10.9.0.0/16 via 10.0.0.252 dev d0"
        );
        assert_eq!(via(&mirror), Ok(v4([10, 0, 0, 252])));
        director.ip("route del 10.9.0.0/16");
        until(&mut mirror, |e| matches!(e, Event::RouteRemoved { .. }));
        assert_eq!(via(&mirror), Err(Unreachable::NoRoute));
    });
}

#[test]
fn a_kept_neighbour_is_resolved_and_its_new_mac_followed() {
    let (director, peer) = pair();
    peer.ip("link set p0 address 02:00:00:00:00:07");
    peer.sysctl("conf/all/arp_notify", "1");
    director.ip("route add 10.9.0.0/16 via 10.0.0.7");
    let server = v4([10, 9, 0, 1]);
    director.enter(|| {
        let mut mirror = mirror();
        mirror.keep(&[Query::to(server)].into()).unwrap();
        until(&mut mirror, |e| {
            matches!(e, Event::NeighbourKnown { before: None, .. })
        });
        assert_eq!(
            mirror.fib().lookup(Query::to(server)).unwrap().mac,
            Some([2, 0, 0, 0, 0, 7])
        );
        assert!(
            director
                .ip("-d neighbour show 10.0.0.7")
                .contains("managed")
        );
        // The kernel takes a new MAC at most once a second (locktime).
        std::thread::sleep(Duration::from_millis(1100));
        peer.ip("link set p0 address 02:00:00:00:00:08");
        let moved = until(&mut mirror, |e| matches!(e, Event::NeighbourKnown { .. }));
        let expected = "neighbour 10.0.0.7 moved from 02:00:00:00:00:07 to 02:00:00:00:00:08";
        assert_eq!(moved.to_string(), expected);
        assert_eq!(
            mirror.fib().lookup(Query::to(server)).unwrap().mac,
            Some([2, 0, 0, 0, 0, 8])
        );
    });
}

#[test]
fn keeping_follows_the_servers_and_their_routes() {
    let (director, peer) = pair();
    peer.ip("address add 10.0.0.8/24 dev p0");
    director.ip("route add 10.9.0.0/16 via 10.0.0.7");
    director.enter(|| {
        let managed = |addr| {
            director
                .ip(&format!("-d neighbour show {addr}"))
                .contains("managed")
        };
        let mut mirror = mirror();
        mirror.keep(&[Query::to(v4([10, 9, 0, 1]))].into()).unwrap();
        assert!(managed("10.0.0.7"));
        director.ip("route replace 10.9.0.0/16 via 10.0.0.8");
        until(&mut mirror, |e| matches!(e, Event::RouteChanged { .. }));
        assert!(managed("10.0.0.8") && !managed("10.0.0.7"));
        director.ip("neighbour flush dev d0");
        until(&mut mirror, |e| matches!(e, Event::NeighbourLost { .. }));
        mirror.renew().unwrap();
        assert!(managed("10.0.0.8"), "flushed, and asked for again");
        mirror.keep(&[].into()).unwrap();
        assert!(!managed("10.0.0.8"));
    });
}

#[test]
fn what_a_killed_run_kept_is_released() {
    let (director, _peer) = pair();
    director.enter(|| {
        let managed = || {
            director
                .ip("-d neighbour show 10.0.0.7")
                .contains("managed")
        };
        mirror()
            .keep(&[Query::to(v4([10, 0, 0, 7]))].into())
            .unwrap();
        assert!(managed(), "as after kill -9");
        mirror().keep(&[].into()).unwrap();
        assert!(!managed());
    });
}

#[test]
fn an_administrators_neighbour_is_left_as_it_is() {
    let (director, _peer) = pair();
    director.ip("neighbour add 10.0.0.7 lladdr 02:00:00:00:00:aa dev d0 nud permanent");
    director.enter(|| {
        let mut mirror = mirror();
        mirror.keep(&[Query::to(v4([10, 0, 0, 7]))].into()).unwrap();
        mirror.solicit(PORT, v4([10, 0, 0, 7]), Now::ZERO).unwrap();
        mirror.keep(&[].into()).unwrap();
        let shown = director.ip("-d neighbour show 10.0.0.7");
        assert!(shown.contains("02:00:00:00:00:aa PERMANENT"), "{shown}");
    });
}

#[test]
fn a_solicited_neighbour_answers_or_is_lost() {
    let (director, peer) = pair();
    peer.ip("link set p0 address 02:00:00:00:00:07");
    director.enter(|| {
        let mut mirror = mirror();
        mirror.solicit(PORT, v4([10, 0, 0, 7]), Now::ZERO).unwrap();
        until(&mut mirror, |e| matches!(e, Event::NeighbourKnown { .. }));
        let hop = mirror.fib().lookup(Query::to(v4([10, 0, 0, 7]))).unwrap();
        assert_eq!(hop.mac, Some([2, 0, 0, 0, 0, 7]));
        mirror.solicit(PORT, v4([10, 0, 0, 99]), Now::ZERO).unwrap();
        let lost = Event::NeighbourLost {
            port: PORT,
            addr: v4([10, 0, 0, 99]),
            failed: true,
        };
        until(&mut mirror, |e| *e == lost);
    });
}

#[test]
fn an_interface_that_is_deleted_and_made_again_keeps_its_port() {
    let (director, peer) = pair();
    director.ip("route add 10.9.0.0/16 via 10.0.0.7");
    director.enter(|| {
        let mut mirror = mirror();
        mirror.keep(&[Query::to(v4([10, 9, 0, 1]))].into()).unwrap();
        let before = mirror.fib().interface(PORT).unwrap().ifindex;
        director.ip("link del d0");
        until(&mut mirror, |e| {
            matches!(e, Event::InterfaceGone { port: PORT, .. })
        });
        assert!(mirror.fib().interface(PORT).is_none());
        assert_eq!(
            mirror.fib().lookup(Query::to(v4([10, 9, 0, 1]))),
            Err(Unreachable::NoRoute)
        );
        connect(&director, &peer);
        director.ip("route add 10.9.0.0/16 via 10.0.0.7");
        let mut seen = Vec::new();
        while mirror.fib().lookup(Query::to(v4([10, 9, 0, 1]))).is_err() {
            seen.push(until(&mut mirror, |_| true));
        }
        let back = |e: &Event| matches!(e, Event::InterfaceBack { port: PORT, .. });
        assert!(seen.iter().any(back), "{seen:?}");
        assert_ne!(mirror.fib().interface(PORT).unwrap().ifindex, before);
        until(&mut mirror, |e| matches!(e, Event::NeighbourKnown { .. }));
    });
}

#[test]
fn an_interface_set_down_takes_its_routes_along() {
    let (director, _peer) = pair();
    director.ip("route add 10.9.0.0/16 via 10.0.0.7");
    director.enter(|| {
        let mut mirror = mirror();
        director.ip("link set d0 down");
        until(&mut mirror, |e| matches!(e, Event::InterfaceDown { .. }));
        assert!(!mirror.fib().interface(PORT).unwrap().up);
        assert_eq!(
            mirror.fib().lookup(Query::to(v4([10, 9, 0, 1]))),
            Err(Unreachable::NoRoute)
        );
        // The address stays the host's on its other interfaces (RFC 1122 §3.3.4.2, weak host).
        assert!(mirror.fib().is_local(v4([10, 0, 0, 1])));
        director.ip("link set d0 up");
        until(&mut mirror, |e| matches!(e, Event::InterfaceUp { .. }));
        assert!(mirror.fib().interface(PORT).unwrap().up);
    });
}

#[test]
fn mac_mtu_and_forwarding_are_followed() {
    let (director, _peer) = pair();
    director.enter(|| {
        let mut mirror = mirror();
        director.ip("link set d0 address 02:00:00:00:00:d9 mtu 9000");
        until(&mut mirror, |e| {
            matches!(e, Event::InterfaceChanged { mtu: 9000, .. })
        });
        let hop = mirror.fib().lookup(Query::to(v4([10, 0, 0, 9]))).unwrap();
        assert_eq!((hop.source_mac, hop.mtu), ([2, 0, 0, 0, 0, 0xd9], 9000));
        director.sysctl("ip_forward", "1");
        until(&mut mirror, |e| *e == Event::Forwarding(Family::V4, true));
        assert!(mirror.fib().forwarding);
    });
}

#[test]
fn after_an_overrun_everything_is_read_again() {
    const ROUTES: u32 = 20_000;
    let (director, _peer) = pair();
    let batch = tempfile::NamedTempFile::new().unwrap();
    let line = |i: u32| {
        format!(
            "route add 10.{}.{}.{} via 10.0.0.7\n",
            64 + (i >> 16),
            i >> 8 & 255,
            i & 255
        )
    };
    std::fs::write(&batch, (0..ROUTES).map(line).collect::<String>()).unwrap();
    director.enter(|| {
        let mut mirror = mirror();
        director.ip(&format!("-batch {}", batch.path().display()));
        until(&mut mirror, |e| *e == Event::Overrun);
        assert_eq!(mirror.overruns(), 1);
        let [.., high, low] = (ROUTES - 1).to_be_bytes();
        let dst = v4([10, 64, high, low]);
        assert_eq!(
            mirror.fib().lookup(Query::to(dst)).unwrap().via,
            v4([10, 0, 0, 7])
        );
    });
}

const fn v4(b: [u8; 4]) -> Addr {
    Addr::v4(b)
}

/// A director with d0 (10.0.0.1/24) and a peer with p0 (10.0.0.7/24).
fn pair() -> (Netns, Netns) {
    let (director, peer) = (Netns::new(), Netns::new());
    connect(&director, &peer);
    (director, peer)
}

fn connect(director: &Netns, peer: &Netns) {
    director.veth("d0", peer, "p0");
    director.ip("address add 10.0.0.1/24 dev d0");
    peer.ip("address add 10.0.0.7/24 dev p0");
}

/// A mirror of the thread's namespace.
fn mirror() -> Mirror {
    let mut mirror = Mirror::new(&["d0".into()]).unwrap();
    // What the set-up still has to say is no part of the test.
    mirror.read_events().unwrap();
    mirror
}

/// Reads events until one fits and returns it.
fn until(mirror: &mut Mirror, fits: impl Fn(&Event) -> bool) -> Event {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    loop {
        let events = mirror.read_events().unwrap();
        seen.extend(events.iter().map(ToString::to_string));
        if let Some(event) = events.into_iter().find(|e| fits(e)) {
            return event;
        }
        assert!(Instant::now() < deadline, "not seen; but: {seen:#?}");
        wait(mirror);
    }
}

fn wait(mirror: &Mirror) {
    // SAFETY: the mirror owns the descriptor and is borrowed for longer than it is used.
    let fd = unsafe { BorrowedFd::borrow_raw(mirror.fd()) };
    let timeout = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap();
}
