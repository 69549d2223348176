//! A host with two uplinks: rules that choose between them, a route that uses both, and a filter of sources.

use serde_json::Value;
use uvs_core::flow::{Addr, Endpoint};
use uvs_core::testing::packets::tcp;
use uvs_core::wire::tcp::flag::{ACK, RST};
use uvs_lab::probe::send_frames;
use uvs_lab::shell::Shell;
use uvs_lab::traffic::Download;
use uvs_lab::{Daemon, Host, Lab, Mode, Options};

use crate::stand::{eventually, lab, run, serving};

/// The client once more, behind both uplinks.
const FAR: &str = "10.9.0.1";

/// A NAT lab whose client has a far address too, and whose director has a second uplink, eth2, to `peer`.
fn two_uplinks(peer: fn(&Lab) -> &Host) -> (Lab, Shell) {
    let (mut lab, shell) = lab(Mode::Nat, Options::default());
    let there = peer(&lab).name().to_owned();
    let add = format!("link add eth2 type veth peer name up2 netns {there}");
    lab.director.ip(&add).expect("added");
    lab.director
        .ip("link set eth2 up\naddr add 10.3.0.1/24 dev eth2")
        .expect("addressed");
    peer(&lab)
        .ip("link set up2 up\naddr add 10.3.0.2/24 dev up2")
        .expect("addressed");
    lab.client
        .ip(&format!("addr add {FAR}/32 dev lo"))
        .expect("addressed");
    for (host, interfaces) in [
        (&lab.director, ["all", "eth0", "eth2"].as_slice()),
        (peer(&lab), &["all", "up2"]),
    ] {
        for interface in interfaces {
            set_filter(host, interface, 0);
        }
    }
    lab.plan.interfaces.push("eth2".to_owned());
    (lab, shell)
}

fn set_filter(host: &Host, interface: &str, mode: u8) {
    let name = format!("net.ipv4.conf.{interface}.rp_filter");
    host.sysctl(&name, &mode.to_string()).expect("set");
}

/// Whether a request from the far address is answered.
fn answers(lab: &Lab) -> bool {
    let url = lab.plan.url("/");
    let line = format!("curl -sS -o /dev/null -m 5 --interface {FAR} {url}");
    lab.client.run(&line).is_ok()
}

fn wait_log(daemon: &mut Daemon<'_>, text: &str) {
    daemon
        .wait_log(text)
        .unwrap_or_else(|e| panic!("{text:?} is not in the log: {e}"));
}

/// Frames dropped as `reverse_path`.
fn filtered(lab: &Lab, shell: &Shell) -> u64 {
    let shown = run(lab, shell, "uvs show drops -o json").stdout;
    let json: Value = serde_json::from_str(&shown).expect("JSON");
    let reasons = json["drops"].as_array().expect("a list");
    let ours = reasons.iter().find(|r| r["reason"] == "reverse_path");
    ours.and_then(|r| r["count"].as_u64()).unwrap_or(0)
}

#[test]
fn replies_leave_by_the_uplink_of_their_vip() {
    // Behind the second uplink nobody is at home.
    let (lab, shell) = two_uplinks(|lab| &lab.fabric);
    let (vip, client) = (lab.plan.vip.ip(), lab.plan.client);
    lab.director
        .ip(&format!(
            "route add default via 10.3.0.2 dev eth2\n\
             route add default via {client} dev eth0 table 100"
        ))
        .expect("routed");
    let mut daemon = serving(&lab);
    assert!(!answers(&lab), "the main table's default route");
    lab.director
        .ip(&format!("rule add from {vip} lookup 100"))
        .expect("a rule");
    eventually("the rule is followed", || answers(&lab));

    // The way back from the VIP is the uplink that clients come by.
    set_filter(&lab.director, "eth0", 1);
    wait_log(&mut daemon, "rp_filter of eth0 is now strict");
    assert!(answers(&lab), "{}", daemon.log());
    assert_eq!(filtered(&lab, &shell), 0);
    lab.director
        .ip(&format!("rule del from {vip} lookup 100"))
        .expect("no rule");
    eventually("the way back is another", || {
        !answers(&lab) && filtered(&lab, &shell) > 0
    });
    daemon.stop().expect("it ends well");
}

/// Packets that an interface of the director's has sent.
fn sent(lab: &Lab, interface: &str) -> u64 {
    let shown = lab.director.run(&format!("ip -j -s link show {interface}"));
    let json: Value = serde_json::from_str(&shown.expect("it is shown")).expect("JSON");
    json[0]["stats64"]["tx"]["packets"]
        .as_u64()
        .expect("a count")
}

#[test]
fn a_route_with_two_next_hops_uses_both_and_then_the_one_that_lives() {
    const REQUESTS: usize = 30;
    let (lab, _shell) = two_uplinks(|lab| &lab.client);
    let hops = format!(
        "nexthop via {} dev eth0 nexthop via 10.3.0.2 dev eth2",
        lab.plan.client
    );
    lab.director
        .ip(&format!("route add 10.9.0.0/24 {hops}"))
        .expect("routed");
    let mut daemon = serving(&lab);
    let all = || (0..REQUESTS).all(|_| answers(&lab));
    let by_each = || ["eth0", "eth2"].map(|interface| sent(&lab, interface));
    let before = by_each();
    eventually("all are answered", all);
    let after = by_each();
    // Each connection has some five packets towards its client, and of 30 a few take each way.
    let used = before
        .iter()
        .zip(&after)
        .all(|(before, after)| after - before >= 10);
    assert!(used, "{before:?}, then {after:?}");

    lab.client.ip("link set up2 down").expect("set");
    wait_log(&mut daemon, "interface eth2 is down");
    eventually("all by the first", all);
    lab.client.ip("link set up2 up").expect("set");
    wait_log(&mut daemon, "interface eth2 is up");

    // The link is up, but nobody answers there.
    lab.client.ip("addr del 10.3.0.2/24 dev up2").expect("gone");
    lab.director.ip("neigh flush dev eth2").expect("forgotten");
    wait_log(&mut daemon, "neighbour 10.3.0.2 does not answer ARP");
    eventually("all by the first again", all);
    daemon.stop().expect("it ends well");
}

#[test]
fn a_servers_source_on_the_clients_side_ends_no_connection() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    set_filter(&lab.director, "eth0", 1);
    let content = lab.content("4M", 4 << 20).expect("a file");
    let daemon = serving(&lab);
    let url = lab.plan.url("/4M?rate=1m");
    let download = Download::start(&lab.client, &url, &lab.dir().join("download")).expect("curl");
    let carrier = download.server().expect("it runs");
    let at = lab.servers.iter().position(|s| s.name() == carrier);
    let server = lab.plan.servers[at.expect("one of the real servers")];

    let listed = daemon.ipvsadm("-Lnc").expect("listed");
    let client = lab.plan.client.to_string();
    let words = listed.lines().find(|l| l.contains("ESTABLISHED"));
    let port = words.and_then(|l| {
        let mut words = l.split_whitespace();
        let of_client = words.find(|w| w.starts_with(&client))?;
        of_client.split_once(':')?.1.parse().ok()
    });
    let port: u16 = port.unwrap_or_else(|| panic!("{listed}"));
    let forged = tcp(
        Endpoint::new(Addr::from(*server.ip()), server.port()),
        Endpoint::new(Addr::from(lab.plan.client), port),
        RST | ACK,
    );
    let mac = lab.director.mac("eth0").expect("a MAC address");
    let mac: Vec<u8> = mac
        .split(':')
        .map(|hex| u8::from_str_radix(hex, 16).expect("hexadecimal"))
        .collect();
    let forged = forged.to_mac(mac.try_into().expect("six bytes"));
    let frames = vec![forged.frame(); 20];
    send_frames(&lab.client, "eth0", &frames).expect("they are sent");
    eventually("they are dropped", || filtered(&lab, &shell) == 20);
    let listed = daemon.ipvsadm("-Lnc").expect("listed");
    assert!(listed.contains("ESTABLISHED"), "{listed}");
    let received = download.finish().expect("it arrives");
    received.must_equal(&content).expect("every byte");
    daemon.stop().expect("it ends well");
}
