//! Services of firewall marks on real traffic, their rules made by `uvs mark`; and what marks are used for
//! without them, as docs/coming-from-ipvsadm.md says. Needs root, or `make test`.

#[path = "support/stand.rs"]
mod stand;

use std::collections::BTreeSet;

use uvs_lab::{Lab, Mode, Options, VipOwner};

use stand::{lab, run, uvs};

/// Last bytes of the clients' addresses, which share the client's interface.
const CLIENTS: std::ops::Range<u8> = 101..113;

/// ipvsadm's own words for one server per client on both ports, in a mode's option.
const MARKED: &str = "ipvsadm -A -f 1 -s rr -p 300
ipvsadm -a -f 1 -r RS1 MODE
ipvsadm -a -f 1 -r RS2 MODE";

#[test]
fn a_mark_joins_two_ports_with_nat() {
    let rules = "uvs mark 1 tcp VIP:80 VIP:8080";
    let script = format!("{rules}\n{MARKED}");
    same_server_on_both_ports(Mode::Nat, Options::default(), &script);
}

#[test]
fn a_mark_joins_two_ports_with_direct_routing() {
    let rules = "uvs mark 1 tcp VIP:80-89 tcp VIP:8080";
    // No interface has the VIP: UVS answers ARP for what the rules name.
    let options = Options {
        vip: VipOwner::Uvs,
        ..Options::default()
    };
    same_server_on_both_ports(Mode::Dr, options, &format!("{MARKED}\n{rules}"));
}

#[test]
fn a_persistent_service_on_all_ports() {
    same_server_on_both_ports(
        Mode::Nat,
        Options::default(),
        "ipvsadm -A -t VIP:0 -s rr -p 300
ipvsadm -a -t VIP:0 -r RS1:0 -m
ipvsadm -a -t VIP:0 -r RS2:0 -m",
    );
}

#[test]
fn services_that_hash_the_client_to_the_same_servers() {
    same_server_on_both_ports(
        Mode::Nat,
        Options::default(),
        "ipvsadm -A -t VIP:80 -s sh
ipvsadm -a -t VIP:80 -r RS1:80 -m
ipvsadm -a -t VIP:80 -r RS2:80 -m
ipvsadm -A -t VIP:8080 -s sh
ipvsadm -a -t VIP:8080 -r RS1:8080 -m
ipvsadm -a -t VIP:8080 -r RS2:8080 -m",
    );
}

#[test]
fn a_rule_makes_the_packets_and_its_end_ends_them() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let vip = lab.plan.vip.ip().to_string();
    let client = lab.plan.client.to_string();
    let say = |script: &str| run(&lab, &shell, &filled(&lab, script));
    let done = |script: &str| {
        let ended = say(script);
        assert_eq!(
            (ended.code, ended.stderr.as_str()),
            (Some(0), ""),
            "{script}"
        );
        ended.stdout
    };
    let answers = || try_to_ask(&lab, &client, &vip, 80).is_ok();
    done("ipvsadm -A -f 1 -s rr\nipvsadm -a -f 1 -r RS1:80 -m");
    assert!(!answers(), "no packet has the mark");
    assert!(daemon.log().contains("uvs mark 1 tcp VIP:PORT"));
    for rule in ["tcp VIP:80", "any VIP", "tcp VIP:70-90"] {
        done(&format!("uvs mark 1 {rule}"));
        assert!(answers(), "{rule}: {}", daemon.log());
        let rule = rule.replace("VIP", &vip);
        assert_eq!(done("uvs mark"), format!("MARK  MATCH\n   1  {rule}\n"));
        let wide = done("uvs show services -o wide");
        assert!(wide.contains(&rule), "{wide}");
        done("uvs mark --delete 1");
        assert!(!answers(), "{rule} is gone");
    }
    let refused = say("uvs mark --delete 1");
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("no rule gives the mark 1"),
        "{}",
        refused.stderr
    );
    // As nft's would, a rule outlives the services.
    done("uvs mark 1 tcp VIP:80\nipvsadm -C");
    assert!(!answers(), "there is no service");
    done("ipvsadm -A -f 1 -s rr\nipvsadm -a -f 1 -r RS1:80 -m");
    assert!(answers(), "{}", daemon.log());
    let taken = say("uvs mark 2 tcp VIP:443 tcp VIP:80");
    assert_eq!(taken.code, Some(1));
    assert!(
        taken.stderr.contains("has the mark 1 already"),
        "{}",
        taken.stderr
    );
    assert_eq!(done("uvs mark 2"), "MARK  MATCH\n", "nothing half-applied");
    daemon.stop().expect("it ends well");
}

#[test]
fn a_network_is_served_but_for_the_directors_own_addresses() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let (client, director) = (lab.plan.client.to_string(), lab.plan.director);
    let route = format!("route add 203.0.113.0/24 via {director}");
    lab.client.ip(&route).expect("routed");
    lab.director
        .ip("addr add 203.0.113.9/32 dev lo")
        .expect("added");
    let script = "uvs mark 1 any 203.0.113.0/24\nipvsadm -A -f 1 -s rr\nipvsadm -a -f 1 -r RS1 -m";
    let script = filled(&lab, script);
    shell.succeed(&lab.director, &script).expect("added");
    let answer = |to| try_to_ask(&lab, &client, to, 80).ok();
    assert!(answer("203.0.113.5").is_some(), "{}", daemon.log());
    assert_eq!(answer("203.0.113.5"), answer("203.0.113.250"));
    // Nothing listens there, and the director's kernel says so.
    let refused = try_to_ask(&lab, &client, "203.0.113.9", 80).expect_err("no answer");
    assert!(!refused.contains("timed out"), "{refused}");
    daemon.stop().expect("it ends well");
}

/// A script with the lab's addresses.
fn filled(lab: &Lab, script: &str) -> String {
    let [first, second, _] = lab.plan.servers.map(|s| s.ip().to_string());
    script
        .replace("VIP", &lab.plan.vip.ip().to_string())
        .replace("RS1", &first)
        .replace("RS2", &second)
}

fn same_server_on_both_ports(mode: Mode, options: Options, commands: &str) {
    let (lab, shell) = lab(mode, options);
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");

    let commands = filled(&lab, commands).replace("MODE", mode.flag());
    shell.succeed(&lab.director, &commands).expect("added");
    let base = lab.plan.client.octets();
    let mut servers = BTreeSet::new();
    for host in CLIENTS {
        let client = format!("{}.{}.{}.{host}", base[0], base[1], base[2]);
        let add = format!("addr add {client}/24 dev eth0");
        lab.client.ip(&add).expect("added");
        let [http, alternative] = [80, 8080].map(|port| ask(&lab, &client, port));
        assert_eq!(http, alternative, "{client}");
        servers.insert(http);
    }
    assert_eq!(servers.len(), 2, "clients are spread: {servers:?}");
    daemon.stop().expect("it ends well");
}

fn ask(lab: &Lab, client: &str, port: u16) -> String {
    let vip = lab.plan.vip.ip().to_string();
    try_to_ask(lab, client, &vip, port).expect("an answer")
}

/// The server that answers; what curl says where none does.
fn try_to_ask(lab: &Lab, client: &str, to: &str, port: u16) -> Result<String, String> {
    let curl = format!("curl -sSf -m 3 --interface {client} http://{to}:{port}/");
    lab.client.run(&curl).map_err(|e| e.to_string())
}
