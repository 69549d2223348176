//! What each topology must be before anything balances in it: who reaches whom, by which way, and with
//! which settings.

use std::net::{IpAddr, SocketAddr};

use uvs_lab::traffic::requests;
use uvs_lab::udp::{UdpServer, ask};
use uvs_lab::{Families, Host, Lab, Mode, Offloads, Options, VipOwner, twin};

#[test]
fn dr_is_one_broadcast_domain() {
    let lab = checked(Mode::Dr, Options::default());
    let route = lab
        .client
        .run("ip route get 192.168.0.38")
        .expect("a route");
    assert!(!route.contains("via"), "{route}");
    assert_eq!(default_gateway(&lab.servers[0].host), None);
}

#[test]
fn dr_with_the_client_behind_a_router() {
    let lab = checked(
        Mode::Dr,
        Options {
            client_behind_router: true,
            ..Options::default()
        },
    );
    assert_eq!(default_gateway(&lab.client).as_deref(), Some("10.0.0.1"));
    for server in &lab.servers {
        assert_eq!(
            default_gateway(&server.host).as_deref(),
            Some("192.168.0.1")
        );
    }
}

#[test]
fn nat_servers_go_out_through_the_director() {
    let lab = checked(Mode::Nat, Options::default());
    for server in &lab.servers {
        assert_eq!(
            default_gateway(&server.host).as_deref(),
            Some("192.168.0.1")
        );
    }
}

#[test]
fn fullnat_servers_know_no_way_to_the_client() {
    let lab = checked(Mode::FullNat, Options::default());
    let local = lab.plan.local.expect("FULLNAT has a local address");
    for server in &lab.servers {
        assert_eq!(default_gateway(&server.host), None);
        let route = server
            .host
            .run(&format!("ip route get {local}"))
            .expect("a route to the local address");
        assert!(!route.contains("via"), "{route}");
    }
}

#[test]
fn ipip_servers_are_behind_a_router() {
    let lab = checked(Mode::Ipip, Options::default());
    let route = lab
        .director
        .run("ip route get 192.168.80.135")
        .expect("a route");
    assert!(route.contains("via 192.168.80.1 "), "{route}");
    assert_eq!(
        requests(&lab.client, "http://192.168.80.137:8080/", 1).expect("answers")["rs3"],
        1
    );
}

#[test]
fn options_reach_every_host() {
    let options = Options {
        offloads: Offloads::Off,
        vip: VipOwner::Uvs,
        ip_forward: false,
        ..Options::default()
    };
    let lab = checked(Mode::Nat, options);
    let shown = lab.director.run("ip -brief address").expect("addresses");
    for vip in ["172.16.254.200", "2001:db8:172:254::200"] {
        assert!(!shown.contains(vip), "{shown}");
    }
    assert_eq!(
        lab.director
            .read_sysctl("net.ipv4.ip_forward")
            .expect("a value"),
        "0"
    );
    let forwards = lab.director.read_sysctl("net.ipv6.conf.all.forwarding");
    assert_eq!(forwards.expect("a value"), "0");
    for (host, interface) in [
        (&lab.client, "eth0"),
        (&lab.director, "eth1"),
        (&lab.fabric, "rs2"),
    ] {
        let features = host
            .run(&format!("ethtool -k {interface}"))
            .expect("features");
        for off in [
            "tx-checksumming: off",
            "tcp-segmentation-offload: off",
            "generic-segmentation-offload: off",
        ] {
            assert!(
                features.contains(off),
                "{} {interface}: {features}",
                host.role()
            );
        }
    }
}

#[test]
fn the_vip_is_the_hosts_unless_asked_otherwise() {
    let lab = checked(Mode::Dr, Options::default());
    let shown = lab.director.run("ip -brief address").expect("addresses");
    for vip in ["192.168.0.38/32", "2001:db8:192::38/128"] {
        assert!(shown.contains(vip), "{shown}");
    }
    assert_eq!(
        lab.director
            .read_sysctl("net.ipv4.ip_forward")
            .expect("a value"),
        "1"
    );
}

/// Builds a lab in which the real servers answer the director by their names, and the director the client.
fn checked(mode: Mode, options: Options) -> Lab {
    let lab = Lab::build(mode, options).expect("the lab is built");
    for families in [Families::V4, Families::V6] {
        let service = lab.plan.service(families);
        for (server, address) in lab.servers.iter().zip(service.servers) {
            let url = format!("http://{address}/");
            let answers = requests(&lab.director, &url, 2).expect("answers");
            assert_eq!(
                answers.into_iter().collect::<Vec<_>>(),
                [(server.name().to_owned(), 2)]
            );
        }
    }
    let director = lab.plan.director;
    for address in [IpAddr::V4(director), IpAddr::V6(twin(director))] {
        let echo = SocketAddr::new(address, 7);
        let _server = UdpServer::start(&lab.director, echo).expect("it listens");
        assert_eq!(
            ask(&lab.client, echo, b"hello").expect("an answer"),
            b"director hello"
        );
    }
    lab
}

fn default_gateway(host: &Host) -> Option<String> {
    let routes = host.run("ip route show default").expect("routes");
    routes
        .split_whitespace()
        .skip_while(|word| *word != "via")
        .nth(1)
        .map(str::to_owned)
}
