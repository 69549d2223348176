//! keepalived through its whole life: it fills the table, looks after real servers by HTTP, TCP and a script, takes
//! one that fails out or down to weight 0, brings in a sorry server, follows its configuration, and ends with an
//! empty table; with VRRP and a sync daemon beside it.

use std::fs;
use std::net::SocketAddrV4;
use std::path::Path;

use rustix::process::Signal;
use uvs_lab::process::Process;
use uvs_lab::traffic::requests;
use uvs_lab::{Daemon, Lab, Mode, Options};

use crate::preloaded;
use crate::stand::{PATIENCE, eventually, lab, uvs};

const PROGRAM: &str = "/usr/sbin/keepalived";
const CONFIGURATION: &str = include_str!("keepalived.conf");
/// Whole rounds of all weights that occur: 3, 4 and 1 a round.
const REQUESTS: u32 = 24;
/// In no topology of the lab's.
const VRRP_ADDRESS: &str = "192.0.2.99";

/// A running keepalived; its processes end with the lab.
pub(crate) struct Keepalived<'a> {
    lab: &'a Lab,
    daemon: &'a Daemon<'a>,
    pub(crate) process: Process,
}

impl<'a> Keepalived<'a> {
    pub(crate) fn start(lab: &'a Lab, daemon: &'a Daemon<'a>, run: &str) -> Self {
        assert!(
            Path::new(PROGRAM).exists(),
            "{PROGRAM} is not there: apt-get install keepalived"
        );
        write_configuration(lab, 2);
        let file = |name: &str| lab.dir().join(name).display().to_string();
        let words = format!(
            "{PROGRAM} --dont-fork --log-console --log-detail --use-file {} --pid {} --checkers_pid {} --vrrp_pid {}",
            file("keepalived.conf"),
            file("keepalived.pid"),
            file("checkers.pid"),
            file("vrrp.pid"),
        );
        let process = lab
            .director
            .spawn(
                daemon.command(&format!("{run} {words}")),
                &lab.dir().join("keepalived.log"),
            )
            .expect("keepalived runs");
        Self {
            lab,
            daemon,
            process,
        }
    }

    /// Waits until the service has these servers with these weights; `None` stands for one that is not there.
    pub(crate) fn has(&mut self, what: &str, weights: [Option<u32>; 3]) {
        let (lab, daemon, process) = (self.lab, self.daemon, &mut self.process);
        eventually(what, || {
            assert!(process.is_running(), "{}", process.log());
            servers_of(lab, daemon, &lab.plan.vip.to_string()) == weights
        });
    }

    /// Who answers requests.
    fn answers(&self) -> [u32; 3] {
        let url = self.lab.plan.url("/");
        let answers = requests(&self.lab.client, &url, REQUESTS);
        let answers = answers.unwrap_or_else(|e| panic!("{e}\n{}", self.process.log()));
        ["rs1", "rs2", "rs3"].map(|name| answers.get(name).copied().unwrap_or(0))
    }
}

#[test]
fn keepalived_lives_its_life() {
    lives(&crate::run_words());
}

#[test]
fn a_traced_keepalived_lives_its_life() {
    lives(crate::TRACE_WORDS);
}

fn lives(run: &str) {
    let (lab, _) = lab(Mode::Nat, Options::default());
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let mut keepalived = Keepalived::start(&lab, &daemon, run);

    keepalived.has("the servers are in", [Some(2), Some(1), None]);
    assert_eq!(keepalived.answers(), [16, 8, 0]);
    is_counted(&lab, &daemon);
    has_the_other_services(&lab, &daemon);
    assert_eq!(timeouts(&daemon), "Timeout (tcp tcpfin udp): 800 100 200\n");

    link(&lab, 0, "down");
    keepalived.has("a dead server is out", [None, Some(1), None]);
    assert_eq!(keepalived.answers(), [0, 24, 0]);
    link(&lab, 1, "down");
    keepalived.has(
        "below the quorum there is a sorry server",
        [None, Some(0), Some(1)],
    );
    assert_eq!(keepalived.answers(), [0, 0, 24]);
    link(&lab, 0, "up");
    keepalived.has("the sorry server is out", [Some(2), Some(0), None]);
    assert_eq!(keepalived.answers(), [24, 0, 0]);
    link(&lab, 1, "up");
    keepalived.has("all is as it was", [Some(2), Some(1), None]);
    assert_eq!(keepalived.answers(), [16, 8, 0]);

    write_configuration(&lab, 3);
    keepalived.process.signal(Signal::HUP).expect("signalled");
    keepalived.has("its configuration is followed", [Some(3), Some(1), None]);
    assert_eq!(keepalived.answers(), [18, 6, 0]);

    let ended = keepalived.process.stop().expect("ended");
    assert!(ended.success(), "{}", keepalived.process.log());
    let list = daemon.ipvsadm("-Ln").expect("listed");
    assert_eq!(list.lines().count(), 3, "only the head is left: {list}");
    let log = keepalived.process.log();
    println!("keepalived's log:\n{log}");
    assert!(log.contains("Entering MASTER STATE"), "{log}");
    daemon.stop().expect("it ends well");
}

/// Debian's ipvsadm lists the connections of the requests, from /proc/net/ip_vs_conn, and their number.
fn is_counted(lab: &Lab, daemon: &Daemon<'_>) {
    let list = |words: &str| {
        let command = preloaded(daemon, &format!("/usr/sbin/ipvsadm {words}"));
        let listed = lab.director.output(command, PATIENCE);
        listed.expect("listed").stdout
    };
    let vip = lab.plan.vip.to_string();
    let connections = list("-Lnc");
    let rows = connections.lines().filter(|row| row.contains(&vip));
    assert_eq!(rows.count(), REQUESTS as usize, "{connections}");
    let counted = || {
        let stats = list(&format!("-Ln -t {vip} --stats"));
        let row = stats.lines().find(|row| row.starts_with("TCP"));
        row.and_then(|row| row.split_whitespace().nth(2)?.parse().ok())
    };
    eventually("the requests are counted", || counted() == Some(REQUESTS));
}

/// A mark by a script's check, and one service for each address of a group.
fn has_the_other_services(lab: &Lab, daemon: &Daemon<'_>) {
    eventually("the mark's server is in", || {
        daemon
            .ipvsadm("-Ln -f 7")
            .is_ok_and(|list| list.contains("FWM  7 sh (sh-port)") && list.lines().count() == 4)
    });
    for port in [8080, 8081] {
        let of_group = format!("{}:{port}", lab.plan.vip.ip());
        eventually("the group's server is in", || {
            servers_of(lab, daemon, &of_group) == [Some(1), None, None]
        });
    }
    let list = daemon.ipvsadm("-Ln").expect("listed");
    assert!(
        list.contains("TCP  [2001:db8::100]:80 rr persistent 50 mask 64\n"),
        "{list}"
    );
}

fn servers_of(lab: &Lab, daemon: &Daemon<'_>, service: &str) -> [Option<u32>; 3] {
    let list = daemon
        .ipvsadm(&format!("-Ln -t {service}"))
        .unwrap_or_default();
    lab.plan.servers.map(|server| {
        let row = format!("  -> {server} ");
        let mut rows = list.lines().filter_map(|line| line.strip_prefix(&row));
        rows.next()?.split_whitespace().nth(1)?.parse().ok()
    })
}

fn timeouts(daemon: &Daemon<'_>) -> String {
    daemon.ipvsadm("-L --timeout").expect("listed")
}

pub(crate) fn link(lab: &Lab, server: usize, state: &str) {
    let set = format!("link set eth0 {state}");
    lab.servers[server].host.ip(&set).expect("set");
    if state == "up" {
        // It went with the link.
        let gateway = lab.plan.gateway.expect("NAT's servers have one");
        let route = format!("route replace default via {gateway}");
        lab.servers[server].host.ip(&route).expect("set");
    }
}

/// `weight` is the first server's.
fn write_configuration(lab: &Lab, weight: u32) {
    let at = |server: SocketAddrV4| format!("{} {}", server.ip(), server.port());
    let [first, second, sorry] = lab.plan.servers.map(at);
    let values = [
        ("@INTERFACE@", lab.plan.interfaces[0].clone()),
        ("@VRRP@", VRRP_ADDRESS.to_owned()),
        ("@VIP@", lab.plan.vip.ip().to_string()),
        ("@PORT@", lab.plan.vip.port().to_string()),
        ("@FIRST@", first),
        ("@SECOND@", second),
        ("@SORRY@", sorry),
        ("@WEIGHT@", weight.to_string()),
    ];
    let mut text = CONFIGURATION.to_owned();
    for (name, value) in values {
        text = text.replace(name, &value);
    }
    fs::write(lab.dir().join("keepalived.conf"), text).expect("written");
}
