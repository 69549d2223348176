//! A real server behind a router: what the router says of packets to it, ICMP errors from an address that is
//! none of the service's, reaches the client as from the VIP. Needs root, or `make test`.
//!
//! client — director — rs3, here a router — rs1, whose second address the service has.

#[path = "support/stand.rs"]
mod stand;

use std::io::ErrorKind;
use std::net::SocketAddrV4;

use socket2::{Domain, Socket, Type};
use uvs_lab::traffic::upload;
use uvs_lab::{Daemon, Lab, Mode, Options};

use stand::{PATIENCE, lab, uvs};

/// What the way from the router to the server carries.
const MTU: u32 = 1400;

/// The routers' network with rs1 in it, and a service on that.
fn routed(lab: &Lab) -> Daemon<'_> {
    let (server, router) = (&lab.servers[0].host, &lab.servers[2].host);
    let via = lab.plan.servers[2].ip();
    let link = format!(
        "link add far type veth peer name far netns {}\n\
         link set far mtu {MTU} up\naddr add 10.77.0.1/24 dev far",
        server.name()
    );
    router.ip(&link).expect("a link");
    router.sysctl("net.ipv4.ip_forward", "1").expect("set");
    let far = "link set far up\naddr add 10.77.0.2/24 dev far";
    server.ip(far).expect("an address");
    let route = format!("route add 10.77.0.0/24 via {via}");
    lab.director.ip(&route).expect("a route");
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let (plan, port) = (&lab.plan, lab.plan.servers[0].port());
    let server = format!(
        "-a -t {} -r 10.77.0.2:{port} {}",
        plan.vip,
        plan.mode.flag()
    );
    for command in [plan.add_service("rr"), server] {
        daemon.ipvsadm(&command).expect("it is carried out");
    }
    daemon
}

/// How a connection of the client's fails whose packets have this TTL; `None` where it does not.
fn failure(lab: &Lab, ttl: u32) -> Option<ErrorKind> {
    let connect = |vip: SocketAddrV4| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_ttl_v4(ttl).expect("set");
        // The kernel waits itself, and says what it waited for: a poll may find the socket closed and no error at it.
        socket.set_write_timeout(Some(PATIENCE)).expect("set");
        socket.connect(&vip.into()).err()
    };
    let failed = lab.client.enter(|| connect(lab.plan.vip)).expect("entered");
    failed.map(|e| e.kind())
}

#[test]
fn what_a_router_says_of_the_way_to_a_server_reaches_the_client() {
    for mode in [Mode::Nat, Mode::FullNat] {
        let (lab, _) = lab(mode, Options::default());
        let daemon = routed(&lab);
        assert_eq!(failure(&lab, 64), None, "{mode}");
        // The director takes one, the router would take the last.
        assert_eq!(
            failure(&lab, 2),
            Some(ErrorKind::HostUnreachable),
            "{mode}: TTL"
        );
        let content = lab.content("2M", 2 << 20).expect("a file");
        let url = lab.plan.url("/upload/2M");
        let stored = upload(&lab, &lab.client, &url, &content).expect("it arrives");
        stored.must_equal(&content).expect("whole");
        let route = format!("ip route get {}", lab.plan.vip.ip());
        let learnt = lab.client.run(&route).expect("shown");
        assert!(learnt.contains(&format!("mtu {MTU}")), "{mode}: {learnt}");
        let router = &lab.servers[2].host;
        let gone = router.ip("route replace unreachable 10.77.0.2/32");
        gone.expect("no route any more");
        assert_eq!(
            failure(&lab, 64),
            Some(ErrorKind::HostUnreachable),
            "{mode}: route"
        );
        daemon.stop().expect("it ends well");
    }
}
