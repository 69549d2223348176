//! What firewall marks are used for, without them: one server per client on several ports, as
//! docs/coming-from-ipvsadm.md says. Needs root, or `make test`.

#[path = "support/stand.rs"]
mod stand;

use std::collections::BTreeSet;

use uvs_lab::{Lab, Mode, Options};

use stand::{lab, uvs};

/// Last bytes of the clients' addresses, which share the client's interface.
const CLIENTS: std::ops::Range<u8> = 101..113;

#[test]
fn a_persistent_service_on_all_ports() {
    same_server_on_both_ports(
        "ipvsadm -A -t VIP:0 -s rr -p 300
ipvsadm -a -t VIP:0 -r RS1:0 -m
ipvsadm -a -t VIP:0 -r RS2:0 -m",
    );
}

#[test]
fn services_that_hash_the_client_to_the_same_servers() {
    same_server_on_both_ports(
        "ipvsadm -A -t VIP:80 -s sh
ipvsadm -a -t VIP:80 -r RS1:80 -m
ipvsadm -a -t VIP:80 -r RS2:80 -m
ipvsadm -A -t VIP:8080 -s sh
ipvsadm -a -t VIP:8080 -r RS1:8080 -m
ipvsadm -a -t VIP:8080 -r RS2:8080 -m",
    );
}

fn same_server_on_both_ports(commands: &str) {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let [first, second, _] = lab.plan.servers.map(|s| s.ip().to_string());
    let commands = commands
        .replace("VIP", &lab.plan.vip.ip().to_string())
        .replace("RS1", &first)
        .replace("RS2", &second);
    shell.succeed(&lab.director, &commands).expect("added");
    let mut servers = BTreeSet::new();
    for host in CLIENTS {
        let client = format!("172.16.254.{host}");
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
    let vip = lab.plan.vip.ip();
    let curl = format!("curl -sSf -m 10 --interface {client} http://{vip}:{port}/");
    lab.client.run(&curl).expect("an answer")
}
