//! A dead server is seen: one whose program has stopped, one whose firewall drops clients, one that has lost its way back
//! through the director, in metrics, columns, doctor and the log, with whatever forwards. Needs root, or `make test`.

#[path = "support/stand.rs"]
mod stand;

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use uvs_lab::probe::{Connect, connect};
use uvs_lab::shell::Shell;
use uvs_lab::{Daemon, Lab, Mode, Options};

use stand::{eventually, lab, run, uvs};

/// Of each server, in a round: as many failures as make it dead.
const EACH: usize = 3;
/// Until the third SYN has been sent, which Linux does after 1 and 3 s.
const UNTIL_SILENT: Duration = Duration::from_millis(3500);

/// Clients that come at once, as many for each server; what came of them, sorted.
fn clients(lab: &Lab) -> Vec<Connect> {
    let count = EACH * lab.servers.len();
    let mut outcomes: Vec<Connect> = thread::scope(|scope| {
        let one = || connect(&lab.client, lab.plan.vip, UNTIL_SILENT).expect("it was tried");
        let all: Vec<_> = (0..count).map(|_| scope.spawn(one)).collect();
        all.into_iter()
            .map(|client| client.join().expect("no panic"))
            .collect()
    });
    outcomes.sort_by_key(|outcome| *outcome as u8);
    outcomes
}

/// Of each server's address, what `uvs show servers` has under a key.
fn shown(daemon: &Daemon<'_>, key: impl Fn(&Value) -> Value) -> BTreeMap<String, Value> {
    let told = daemon.uvs("show servers -o json").expect("servers").stdout;
    let servers: Vec<Value> = serde_json::from_str(&told).expect("JSON");
    let addr = |s: &Value| {
        s["spec"]["endpoint"]["addr"]
            .as_str()
            .expect("an address")
            .to_owned()
    };
    servers.iter().map(|s| (addr(s), key(s))).collect()
}

/// The states of the plan's servers, in their order.
fn states(lab: &Lab, daemon: &Daemon<'_>) -> Vec<String> {
    let states = shown(daemon, |s| s["state"].clone());
    let of = |server: &std::net::SocketAddrV4| {
        let state = &states[&server.ip().to_string()];
        state.as_str().expect("a word").to_owned()
    };
    lab.plan.servers.iter().map(of).collect()
}

fn metric(lab: &Lab, server: usize, result: &str) -> u64 {
    let line = "curl -sS -f http://127.0.0.1:9650/metrics";
    let metrics = lab.director.run(line).expect("/metrics answers");
    let (rip, result) = (
        format!("rip=\"{}\"", lab.plan.servers[server].ip()),
        format!("result=\"{result}\""),
    );
    let is_it = |line: &&str| {
        line.starts_with("uvs_backend_handshakes_total{")
            && line.contains(&rip)
            && line.contains(&result)
    };
    let line = metrics.lines().find(is_it).expect("it is served");
    let (_, value) = line.rsplit_once(' ').expect("a value");
    value.parse().expect("a number")
}

/// What is shown of servers that are dead, each by `EACH` failures: in the table, by doctor, and in the log.
fn are_told(lab: &Lab, shell: &Shell, daemon: &Daemon<'_>) {
    let table = daemon.uvs("show servers").expect("servers").stdout;
    let first = lab.plan.servers[0].to_string();
    let line = table.lines().find(|l| l.contains(&first));
    let line = line.expect("it is there");
    let state = format!("  no answers  {EACH} handshakes in a row failed, ");
    assert!(line.contains(&state), "{table}");
    let said = run(lab, shell, "uvs doctor --json --only server_no_answers");
    assert_eq!(said.code, Some(1), "{said:?}");
    let vip = lab.plan.vip;
    for server in &lab.plan.servers {
        let found = format!("{server} of TCP {vip}: {EACH} handshakes in a row failed");
        assert!(said.stdout.contains(&found), "{said:?}");
        let line = format!("TCP {vip}: server {server}: no answers: {EACH} handshakes in a row");
        eventually("a line names server and service", || {
            daemon.log().contains(&line)
        });
    }
}

/// A director with a service on all servers.
fn serving(lab: &Lab) -> Daemon<'_> {
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let service = lab.plan.add_service("rr");
    let servers = (0..lab.servers.len()).map(|n| lab.plan.add_server(n, 1));
    for command in std::iter::once(service).chain(servers) {
        daemon.ipvsadm(&command).expect("it is carried out");
    }
    daemon
}

/// Stops the first server's program, closes the second's port by its firewall, takes the third's way back.
fn spoil(lab: &Lab, shell: &Shell) {
    let port = lab.plan.servers[1].port();
    let faults = [
        format!("kill {}", lab.servers[0].http_process()),
        format!(
            "nft add table ip wall; nft 'add chain ip wall in {{ type filter hook input priority 0; }}'; \
             nft add rule ip wall in tcp dport {port} drop"
        ),
        "ip route del default".to_owned(),
    ];
    for (server, fault) in lab.servers.iter().zip(&faults) {
        shell.succeed(&server.host, fault).expect(fault);
    }
    eventually("nobody listens", || {
        let listening = lab.servers[0].host.run("ss -Hltn").expect("ss runs");
        !listening.contains(&format!(":{} ", lab.plan.servers[0].port()))
    });
}

#[test]
fn a_stopped_program_a_firewalled_port_and_a_lost_route_are_seen_and_their_end_too() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let daemon = serving(&lab);
    assert_eq!(clients(&lab), [Connect::Taken; 9]);
    eventually("they have answered", || {
        (0..3).all(|n| metric(&lab, n, "ok") == 3)
    });
    assert_eq!(states(&lab, &daemon), ["up"; 3]);

    spoil(&lab, &shell);
    let mut expected = vec![Connect::Refused; EACH];
    expected.extend([Connect::Silence; 2 * EACH]);
    assert_eq!(clients(&lab), expected);
    eventually("all are dead", || {
        states(&lab, &daemon) == ["no-answers"; 3]
    });
    let counted = |n| (metric(&lab, n, "reset"), metric(&lab, n, "timeout"));
    let failures = [counted(0), counted(1), counted(2)];
    assert_eq!(failures, [(3, 0), (0, 3), (0, 3)]);
    are_told(&lab, &shell, &daemon);

    let gateway = lab.plan.gateway.expect("NAT has one");
    for (server, remedy) in [
        (1, "nft delete table ip wall".to_owned()),
        (2, format!("ip route add default via {gateway}")),
    ] {
        let host = &lab.servers[server].host;
        shell.succeed(host, &remedy).expect(&remedy);
    }
    let mut expected = vec![Connect::Taken; 2 * EACH];
    expected.extend([Connect::Refused; EACH]);
    assert_eq!(clients(&lab), expected);
    eventually("two are up again", || {
        states(&lab, &daemon) == ["no-answers", "up", "up"]
    });
    let (vip, server) = (lab.plan.vip, lab.plan.servers[1]);
    let told = format!("TCP {vip}: server {server} is up again, after no answers");
    eventually("which is told", || daemon.log().contains(&told));
    daemon.stop().expect("it ends well");
}
