//! The host's network changes while traffic runs: it is followed, the log says so, and a download that ran
//! all the while arrives whole.

use uvs_lab::capture::Capture;
use uvs_lab::probe::{Connect, connect, echoes};
use uvs_lab::shell::Shell;
use uvs_lab::traffic::Download;
use uvs_lab::{Daemon, Lab, Mode, Options, VipOwner};

use crate::stand::{PATIENCE, ask, eventually, fill, lab, run, serving, shares, uvs};

/// New connections are answered again, by all servers.
fn serves_again(lab: &Lab, what: &str) {
    eventually(what, || ask(lab).is_ok());
    assert_eq!(ask(lab).expect("answers"), shares(30, 10), "{what}");
}

fn wait_log(daemon: &mut Daemon<'_>, text: &str) {
    daemon
        .wait_log(text)
        .unwrap_or_else(|e| panic!("{text:?} is not in the log: {e}"));
}

#[test]
fn an_interface_and_a_neighbour_on_the_servers_side() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let content = lab.content("12M", 12 << 20).expect("a file");
    let mut daemon = serving(&lab);
    let url = lab.plan.url("/12M?rate=1m");
    let download = Download::start(&lab.client, &url, &lab.dir().join("download")).expect("curl");
    let carrier = download.server().expect("it runs");

    lab.director.ip("link set eth1 down").expect("set");
    wait_log(&mut daemon, "interface eth1 is down");
    lab.director.ip("link set eth1 up").expect("set");
    wait_log(&mut daemon, "interface eth1 is up");
    serves_again(&lab, "after a link that was down");

    lab.director.ip("link del eth1").expect("deleted");
    wait_log(&mut daemon, "interface eth1 is gone");
    let peer = lab.fabric.name();
    let add = format!("link add eth1 type veth peer name director netns {peer}");
    lab.director.ip(&add).expect("added");
    lab.fabric
        .ip("link set director master br0\nlink set director up")
        .expect("plugged");
    lab.director
        .ip("link set eth1 up\naddr add 192.168.0.1/24 dev eth1")
        .expect("addressed");
    wait_log(&mut daemon, "interface eth1 is back");
    serves_again(&lab, "after an interface that was deleted and made again");
    // By a chain of the guard's, or by the hook's program.
    let shown = run(&lab, &shell, "uvs guard show --terse; uvs show hook");
    let mut lines = shown.stdout.lines();
    let is_kept = |l: &str| l.contains("\"eth1\"") || l.starts_with("eth1") && !l.contains(" - ");
    assert!(lines.any(is_kept), "{shown:?}");

    // As when a machine is replaced: the new one announces itself. It carries the download.
    let at = lab.servers.iter().position(|s| s.name() == carrier);
    let at = at.expect("one of the real servers");
    let (server, address) = (&lab.servers[at].host, lab.plan.servers[at].ip());
    server
        .sysctl("net.ipv4.conf.eth0.arp_notify", "1")
        .expect("set");
    server
        .ip("link set eth0 address 02:00:5e:00:00:18")
        .expect("set");
    wait_log(&mut daemon, &format!("neighbour {address} moved from"));
    assert!(daemon.log().contains("to 02:00:5e:00:00:18"));
    serves_again(&lab, "after a neighbour's new MAC address");

    let received = download
        .finish()
        .unwrap_or_else(|e| panic!("{e}\n{}", daemon.log()));
    received.must_equal(&content).expect("every byte");
    daemon.stop().expect("it ends well");
}

#[test]
fn an_owned_vip_leaves_the_host_and_comes_back() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    let content = lab.content("6M", 6 << 20).expect("a file");
    let line = "run --interface eth0 --own-vip all";
    let mut daemon = Daemon::start_with(&lab, uvs(), line).expect("uvs runs");
    fill(&lab, &daemon);
    let url = lab.plan.url("/6M?rate=1m");
    let download = Download::start(&lab.client, &url, &lab.dir().join("download")).expect("curl");
    download.server().expect("it runs");
    let vip = *lab.plan.vip.ip();
    let owns = |shell: &_| {
        let info = run(&lab, shell, "uvs show info").stdout;
        info.contains(&format!("owned VIPs       {vip}\n"))
    };
    assert!(!owns(&shell));

    lab.director
        .ip(&format!("addr del {vip}/32 dev eth0"))
        .expect("removed");
    wait_log(&mut daemon, &format!("address {vip} removed from eth0"));
    eventually("UVS owns the VIP", || owns(&shell));
    lab.client.ip("neigh flush dev eth0").expect("flushed");
    serves_again(&lab, "with the VIP on no interface");
    assert!(echoes(&lab.client, vip).expect("a ping"));

    lab.director
        .ip(&format!("addr add {vip}/32 dev eth0"))
        .expect("added");
    wait_log(&mut daemon, &format!("address {vip} added to eth0"));
    eventually("the host owns the VIP", || !owns(&shell));
    lab.client.ip("neigh flush dev eth0").expect("flushed");
    serves_again(&lab, "with the VIP on the host again");
    let other = std::net::SocketAddrV4::new(vip, 81);
    let other = connect(&lab.client, other, PATIENCE).expect("an answer");
    assert_eq!(other, Connect::Refused, "by the host's own stack");

    let received = download
        .finish()
        .unwrap_or_else(|e| panic!("{e}\n{}", daemon.log()));
    received.must_equal(&content).expect("every byte");
    daemon.stop().expect("it ends well");
}

/// Clients must not wait for their ARP entries to age when the interface with the VIP is another one.
#[test]
fn an_owned_vip_is_announced_from_where_it_is_now() {
    let options = Options {
        vip: VipOwner::Uvs,
        ..Options::default()
    };
    let (lab, _) = lab(Mode::Nat, options);
    let mut daemon = serving(&lab);
    serves_again(&lab, "at the start");
    let peer = lab.client.name();
    lab.client.ip("link del eth0").expect("deleted");
    wait_log(&mut daemon, "interface eth0 is gone");
    let add = format!("link add eth0 type veth peer name eth0 netns {peer}");
    lab.director.ip(&add).expect("added");
    lab.client
        .ip("link set eth0 up\naddr add 172.16.254.100/24 dev eth0")
        .expect("addressed");
    // An entry of the time before, which only an announcement can put right.
    let stale = "neigh replace 172.16.254.200 lladdr 02:00:5e:00:00:99 dev eth0 nud reachable";
    lab.client.ip(stale).expect("set");
    lab.director
        .ip("link set eth0 up\naddr add 172.16.254.1/24 dev eth0")
        .expect("addressed");
    let mac = lab.director.mac("eth0").expect("a MAC address");
    eventually("the client heard the announcement", || {
        let known = lab.client.run("ip neigh show 172.16.254.200");
        known.is_ok_and(|line| line.contains(&mac))
    });
    serves_again(&lab, "after the announcement");
    daemon.stop().expect("it ends well");
}

#[test]
fn a_route_to_the_clients_moves_to_another_gateway() {
    let options = Options {
        client_behind_router: true,
        ..Options::default()
    };
    // FULLNAT, whose replies the director itself sends to the gateway; a real server needs nothing for it.
    let lab = Lab::build(Mode::Dr, options).expect("the lab is built");
    let shell = Shell::new(&lab, uvs()).expect("the symlinks are made");
    let content = lab.content("4M", 4 << 20).expect("a file");
    let mut daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let commands = "
ipvsadm -A -t 192.168.0.38:80 -s wrr --laddr 192.168.0.8
ipvsadm -a -t 192.168.0.38:80 -r 192.168.0.18:8080 --fullnat -w 3
ipvsadm -a -t 192.168.0.38:80 -r 192.168.0.28:8080 --fullnat -w 1
";
    shell.succeed(&lab.director, commands).expect("added");
    let url = lab.plan.url("/4M?rate=1m");
    let download = Download::start(&lab.client, &url, &lab.dir().join("download")).expect("curl");
    download.server().expect("it runs");
    // The third real server becomes a router, too.
    let router = &lab.servers[2].host;
    router.sysctl("net.ipv4.ip_forward", "1").expect("set");
    let heard = Capture::start(router, "eth0", "src host 192.168.0.38", lab.dir());
    let heard = heard.expect("tcpdump listens");
    lab.director
        .ip("route replace default via 192.168.0.48")
        .expect("replaced");
    wait_log(
        &mut daemon,
        "route moved: 0.0.0.0/0 via 192.168.0.48 dev eth0",
    );
    serves_again(&lab, "by the other gateway");
    let received = download
        .finish()
        .unwrap_or_else(|e| panic!("{e}\n{}", daemon.log()));
    received.must_equal(&content).expect("every byte");
    let heard = heard.finish(router).expect("tcpdump ends");
    assert!(heard.frames.len() >= 80, "{} frames", heard.frames.len());
    daemon.stop().expect("it ends well");
}
