//! VIPs that UVS was told to own: answered for while no interface has them, left to the host as soon as one
//! does, and yielded to another host that claims them for as long as that one has them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use uvs_lab::capture::Capture;
use uvs_lab::traffic::requests;
use uvs_lab::{Daemon, Families, Host, Lab, Mode, Options, Service, VipOwner};

use crate::arp::{advertise, announce, answers, from_director};
use crate::stand::{ask, eventually, fill, fill_in, lab, must_serve, run, serving, shares, uvs};

const OWNED: Options = Options {
    vip: VipOwner::Uvs,
    ..Options::TUTORIAL
};

#[test]
fn a_probe_for_an_owned_vip_hears_that_it_is_taken() {
    let (lab, shell) = lab(Mode::Dr, OWNED);
    let daemon = serving(&lab);
    let vip = *lab.plan.vip.ip();
    let answers = answers(&lab, vip);
    let mac = lab.director.mac("eth0").expect("a MAC address");
    assert!(
        !answers.is_empty() && answers.iter().all(|a| a.contains(&mac)),
        "{answers:?}"
    );
    let info = run(&lab, &shell, "uvs show info").stdout;
    assert!(
        info.contains(&format!("owned VIPs       {vip}\n")),
        "{info}"
    );
    must_serve(&lab, &daemon);
    daemon.stop().expect("it ends well");
}

/// In IPv6 by neighbour advertisements: clients find it, and nobody else may take it.
#[test]
fn an_owned_ipv6_vip_is_found_and_defended() {
    let (lab, shell) = lab(Mode::Dr, OWNED);
    let service = lab.plan.service(Families::V6);
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    daemon.ipvsadm(&service.add_service("rr")).expect("added");
    for server in 0..2 {
        daemon
            .ipvsadm(&service.add_server(server, 1))
            .expect("added");
    }
    let vip = service.vip.ip();
    let info = run(&lab, &shell, "uvs show info").stdout;
    assert!(
        info.contains(&format!("owned VIPs       {vip}\n")),
        "{info}"
    );
    let answers = requests(&lab.client, &service.url("/"), 40);
    let answers = answers.unwrap_or_else(|e| panic!("{e}\n{}", daemon.log()));
    assert_eq!(answers, shares(20, 20));
    // The cache of the client, a neighbour, has the director.
    let mac = lab.director.mac("eth0").expect("a MAC address");
    let shown = || lab.client.run(&format!("ip -6 neigh show {vip} dev eth0"));
    let known = shown().expect("the cache");
    assert!(known.contains(&format!("lladdr {mac} ")), "{known}");
    // Whoever would take it for itself hears that it is taken (RFC 4862 §5.4).
    let other = &lab.servers[2].host;
    for key in ["accept_dad", "dad_transmits"] {
        let name = format!("net.ipv6.conf.eth0.{key}");
        other.sysctl(&name, "1").expect("set");
    }
    other
        .ip(&format!("addr add {vip}/64 dev eth0"))
        .expect("tried");
    eventually("it is told", || {
        let shown = other.run("ip -6 address show dev eth0").expect("addresses");
        shown.contains("dadfailed")
    });
    let answers = requests(&lab.client, &service.url("/"), 40).expect("answers");
    assert_eq!(answers, shares(20, 20));
    daemon.stop().expect("it ends well");
}

#[test]
fn an_address_that_appears_on_the_host_is_the_hosts_until_it_goes() {
    let (lab, shell) = lab(Mode::Dr, OWNED);
    let mut daemon = serving(&lab);
    must_serve(&lab, &daemon);
    let vip = *lab.plan.vip.ip();
    let heard = announcements(&lab);
    let add = format!("addr add {vip}/32 dev eth0");
    lab.director.ip(&add).expect("added");
    wait(&mut daemon, &format!("not owned any more: {vip}"));
    let info = run(&lab, &shell, "uvs show info").stdout;
    assert!(info.contains("owned VIPs       -\n"), "{info}");
    must_serve(&lab, &daemon);
    lab.director
        .ip(&format!("addr del {vip}/32 dev eth0"))
        .expect("removed");
    eventually("UVS has taken it up again", || {
        daemon.log().matches(&format!("owned: {vip}:")).count() == 2
    });
    must_serve(&lab, &daemon);
    // At the start and after the address went: twice each, two seconds apart. In between there is none.
    let heard = heard.finish(&lab.client).expect("tcpdump ends");
    let count = heard.with(&format!("tell {vip}")).len();
    assert!((1..=4).contains(&count), "{heard:?}");

    let service = fill_in(&lab, &daemon, Families::V6);
    let vip = service.vip.ip();
    let add = format!("addr add {vip}/128 dev eth0 nodad");
    lab.director.ip(&add).expect("added");
    wait(&mut daemon, &format!("not owned any more: {vip}"));
    let answers = requests(&lab.client, &service.url("/"), 40).expect("answers");
    assert_eq!(answers, shares(30, 10));
    lab.director
        .ip(&format!("addr del {vip}/128 dev eth0"))
        .expect("removed");
    eventually("UVS has taken it up again", || {
        daemon.log().matches(&format!("owned: {vip}:")).count() == 2
    });
    let answers = requests(&lab.client, &service.url("/"), 40).expect("answers");
    assert_eq!(answers, shares(30, 10));
    daemon.stop().expect("it ends well");
}

/// The host takes packets to what its local table has, whether or not an interface has the address.
#[test]
fn a_vip_in_a_prefix_that_the_host_takes_is_the_hosts_until_it_does_not() {
    let (lab, _) = lab(Mode::Dr, OWNED);
    let mut daemon = serving(&lab);
    for families in [Families::V4, Families::V6] {
        let vip = match families {
            Families::V4 => IpAddr::V4(*lab.plan.vip.ip()),
            _ => fill_in(&lab, &daemon, families).vip.ip(),
        };
        let prefix = match vip {
            IpAddr::V4(_) => format!("{vip}/31"),
            IpAddr::V6(_) => format!("{vip}/127"),
        };
        let route = |verb| {
            let line = format!("route {verb} local {prefix} dev lo");
            lab.director.ip(&line).expect("done");
        };
        route("add");
        wait(&mut daemon, &format!("not owned any more: {vip}"));
        route("del");
        eventually("UVS has taken it up again", || {
            daemon.log().matches(&format!("owned: {vip}:")).count() == 2
        });
    }
    must_serve(&lab, &daemon);
    daemon.stop().expect("it ends well");
}

#[test]
fn a_vip_that_another_host_has_is_yielded_for_as_long() {
    let (lab, shell) = lab(Mode::Dr, OWNED);
    let mut daemon = serving(&lab);
    must_serve(&lab, &daemon);
    let vip = *lab.plan.vip.ip();
    // Not one of the service's: the third real server, which answers ARP for what it has on eth0.
    let other = &lab.servers[2].host;
    let mac = other.mac("eth0").expect("a MAC address");
    let answers_arp = |answers: bool| {
        for interface in ["all", "eth0"] {
            let name = format!("net.ipv4.conf.{interface}.arp_ignore");
            let value = if answers { "0" } else { "1" };
            other.sysctl(&name, value).expect("set");
        }
    };
    answers_arp(true);
    other
        .ip(&format!("addr add {vip}/32 dev eth0"))
        .expect("added");
    announce(other, vip, 1);
    wait(
        &mut daemon,
        &format!("{mac} on eth0 claims the owned VIP {vip}"),
    );
    eventually("it is listed", || {
        let info = run(&lab, &shell, "uvs show info").stdout;
        info.contains(&format!("yielded VIPs     {vip} to {mac} on eth0\n"))
    });
    let heard = announcements(&lab);
    // A flood of claims is one line in the log.
    announce(other, vip, 200);
    let answers = answers(&lab, vip);
    assert!(
        !answers.is_empty() && answers.iter().all(|a| a.contains(&mac)),
        "{answers:?}"
    );
    assert_eq!(
        requests(&lab.client, &lab.plan.url("/"), 5).expect("answers")["rs3"],
        5
    );
    assert_eq!(daemon.log().matches("claims the owned VIP").count(), 1);

    // Whoever has the director's MAC address is served all the same.
    let own = lab.director.mac("eth0").expect("a MAC address");
    let entry = format!("neigh replace {vip} lladdr {own} dev eth0 nud permanent");
    lab.client.ip(&entry).expect("set");
    assert_eq!(ask(&lab).expect("answers"), shares(30, 10));
    lab.client
        .ip(&format!("neigh del {vip} dev eth0"))
        .expect("deleted");
    let heard = heard.finish(&lab.client).expect("tcpdump ends");
    assert_eq!(heard.with(&format!("tell {vip}")), Vec::<&str>::new());

    let (service, vip_v6) = claim_in_ipv6(&lab, &mut daemon, other);

    // It does not have them any more: nobody answers UVS's questions.
    for address in [format!("{vip}/32"), format!("{vip_v6}/128")] {
        let removed = other.ip(&format!("addr del {address} dev eth0"));
        removed.expect("removed");
    }
    answers_arp(false);
    for vip in [IpAddr::V4(vip), IpAddr::V6(vip_v6)] {
        let said = format!("nobody else has the owned VIP {vip} any more");
        eventually(&said, || daemon.log().contains(&said));
    }
    lab.client.ip("neigh flush dev eth0").expect("flushed");
    eventually("it serves again", || {
        ask(&lab).is_ok_and(|a| a == shares(30, 10))
    });
    let answers = requests(&lab.client, &service.url("/"), 40).expect("answers");
    assert_eq!(answers, shares(30, 10));
    daemon.stop().expect("it ends well");
}

#[test]
fn only_the_addresses_named_are_owned() {
    let options = Options {
        vip: VipOwner::Nobody,
        ..Options::default()
    };
    let (lab, shell) = lab(Mode::Dr, options);
    let vip = *lab.plan.vip.ip();
    let line = "run --interface eth0 --own-vip 192.168.0.40 --own-vip 192.168.0.39";
    let daemon = Daemon::start_with(&lab, uvs(), line).expect("uvs runs");
    fill(&lab, &daemon);
    daemon
        .ipvsadm("-A -t 192.168.0.39:80 -s rr")
        .expect("added");
    let owned = Ipv4Addr::new(192, 168, 0, 39);
    eventually("it is answered for", || !answers(&lab, owned).is_empty());
    assert_eq!(answers(&lab, vip), Vec::<String>::new());
    let info = run(&lab, &shell, "uvs show info").stdout;
    assert!(info.contains("owned VIPs       192.168.0.39\n"), "{info}");
    assert!(info.contains("absent VIPs      192.168.0.38\n"), "{info}");
    for (wrong, said) in [
        ("ff02::1", "not one host's address"),
        ("224.0.0.1", "not one host's address"),
        ("none", "or all"),
    ] {
        let refused = run(
            &lab,
            &shell,
            &format!("uvs run --interface eth0 --own-vip {wrong}"),
        );
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains(said), "{refused:?}");
    }
    daemon.stop().expect("it ends well");
}

/// Another host claims the VIP of an IPv6 service as well, by a neighbour advertisement, and has it then.
fn claim_in_ipv6(lab: &Lab, daemon: &mut Daemon<'_>, other: &Host) -> (Service, Ipv6Addr) {
    let service = fill_in(lab, daemon, Families::V6);
    let IpAddr::V6(vip) = service.vip.ip() else {
        panic!("{service:?} is of IPv6");
    };
    let address = format!("addr add {vip}/128 dev eth0 nodad");
    other.ip(&address).expect("added");
    advertise(other, vip);
    let mac = other.mac("eth0").expect("a MAC address");
    wait(daemon, &format!("{mac} on eth0 claims the owned VIP {vip}"));
    lab.client.ip("neigh flush dev eth0").expect("flushed");
    eventually("the other host has it", || {
        let answers = requests(&lab.client, &service.url("/"), 5);
        answers.is_ok_and(|answers| answers.get("rs3") == Some(&5))
    });
    (service, vip)
}

/// What the client hears of the director's ARP from now on.
fn announcements(lab: &Lab) -> Capture {
    let filter = from_director(lab, "arp");
    Capture::start(&lab.client, "eth0", &filter, lab.dir()).expect("tcpdump listens")
}

fn wait(daemon: &mut Daemon<'_>, text: &str) {
    daemon
        .wait_log(text)
        .unwrap_or_else(|e| panic!("{text:?} is not in the log: {e}"));
}
