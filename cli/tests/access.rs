//! Who may use a service, on real traffic: by command, by configuration and its files, by the host's own
//! firewall, and how fast. Needs root, or `make test`.

#[path = "support/stand.rs"]
mod stand;

use std::fs;
use std::net::Ipv6Addr;

use uvs_lab::shell::Shell;
use uvs_lab::{Daemon, Families, Lab, Mode, Options, twin};

use stand::{eventually, fill_in, lab, run, serving, uvs};

/// Last bytes of the clients' addresses, which share the client's interface.
const GOOD: u8 = 101;
const BAD: u8 = 102;

/// A lab with both addresses on its client.
fn two_clients(mode: Mode) -> (Lab, Shell) {
    let (lab, shell) = lab(mode, Options::default());
    for last in [GOOD, BAD] {
        let add = format!("ip address add {}/32 dev eth0", address(&lab, last));
        shell.succeed(&lab.client, &add).expect("an address");
    }
    (lab, shell)
}

/// An address beside the client's own.
fn address(lab: &Lab, last: u8) -> String {
    let [a, b, c, _] = lab.plan.client.octets();
    format!("{a}.{b}.{c}.{last}")
}

/// Whether a client is answered within so many seconds.
fn answered(lab: &Lab, shell: &Shell, last: u8, patience: u32) -> bool {
    let (from, url) = (address(lab, last), lab.plan.url("/"));
    let curl = format!("curl -sS -m {patience} --interface {from} {url}");
    let ended = shell.run(&lab.client, &curl).expect("curl runs");
    ended.code == Some(0)
}

/// Who of the two is answered, as it should be. Who is denied hears nothing: a second shows that.
fn must_be(lab: &Lab, shell: &Shell, (good, bad): (bool, bool), why: &str) {
    let patience = |expected: bool| if expected { 30 } else { 1 };
    for (last, expected) in [(GOOD, good), (BAD, bad)] {
        let is = answered(lab, shell, last, patience(expected));
        assert_eq!(is, expected, "{why}: client {last}");
    }
}

fn drops(lab: &Lab, shell: &Shell, reason: &str) -> u64 {
    let shown = run(lab, shell, "uvs show drops").stdout;
    let line = shown
        .lines()
        .find(|l| l.split_whitespace().next() == Some(reason));
    let count = line.and_then(|l| l.split_whitespace().nth(1));
    count.map_or(0, |count| count.parse().expect("a number"))
}

fn succeed(lab: &Lab, shell: &Shell, script: &str) -> String {
    shell.succeed(&lab.director, script).expect(script)
}

#[test]
fn a_command_keeps_a_client_out_and_lets_it_in_again() {
    let (lab, shell) = two_clients(Mode::Nat);
    let daemon = serving(&lab);
    must_be(&lab, &shell, (true, true), "at first");
    let (bad, vip) = (address(&lab, BAD), lab.plan.vip);
    for list in [
        String::new(),
        format!(" --service tcp://{vip}"),
        format!(" -t {vip}"),
    ] {
        succeed(&lab, &shell, &format!("uvs deny add {bad}{list}"));
        must_be(&lab, &shell, (true, false), &format!("deny add{list}"));
        succeed(&lab, &shell, &format!("uvs deny del {bad}{list}"));
        must_be(&lab, &shell, (true, true), &format!("deny del{list}"));
    }
    assert!(drops(&lab, &shell, "denied") > 0);
    let shown = succeed(&lab, &shell, "uvs show services -o json");
    assert!(shown.contains("\"denied\""), "{shown}");

    succeed(&lab, &shell, "uvs deny add all");
    succeed(
        &lab,
        &shell,
        &format!("uvs allow add {}", address(&lab, GOOD)),
    );
    must_be(&lab, &shell, (true, false), "lists");
    let listed = succeed(&lab, &shell, "uvs deny list; uvs allow");
    assert!(listed.contains("0.0.0.0/0  every    live"), "{listed}");
    assert!(listed.contains("::/0"), "{listed}");
    daemon.stop().expect("it ends well");
}

#[test]
fn what_a_command_cannot_do_is_said_and_nothing_is_done() {
    let (lab, shell) = two_clients(Mode::Nat);
    let daemon = serving(&lab);
    for (command, code, said) in [
        ("uvs deny add 192.0.2.7/24", 2, "192.0.2.0/24 for all of it"),
        ("uvs deny add www.example.org", 2, "names are not looked up"),
        (
            "uvs deny add 192.0.2.7 -t 192.0.2.9:80",
            1,
            "no such service",
        ),
        (
            "uvs deny del 192.0.2.7",
            1,
            "not on the deny list of every service",
        ),
        ("uvs deny add", 2, "PREFIX"),
    ] {
        let refused = run(&lab, &shell, command);
        assert_eq!(refused.code, Some(code), "{command}: {refused:?}");
        assert!(refused.stderr.contains(said), "{command}: {refused:?}");
    }
    assert_eq!(succeed(&lab, &shell, "uvs deny list -o json"), "[]\n");
    daemon.stop().expect("it ends well");
}

/// A connection that pauses would hide that it was cut: this one is never silent.
#[test]
fn a_running_download_of_a_client_that_is_denied_stops() {
    let (lab, shell) = two_clients(Mode::Nat);
    lab.content("20M", 20 << 20).expect("a file");
    let daemon = serving(&lab);
    let url = lab.plan.url("/20M?rate=1m");
    let bad = address(&lab, BAD);
    let begin = format!(
        "curl -s -o /dev/null --speed-time 2 --speed-limit 1 --interface {bad} '{url}' & \
         while ! ss -Htn state established src {bad} | grep -q .; do sleep 0.05; done; sleep 0.5; echo begun; \
         wait $!; echo ended $?"
    );
    let deny = format!("uvs deny add {bad}");
    let ended = std::thread::scope(|scope| {
        let download = scope.spawn(|| shell.run(&lab.client, &begin).expect("it runs"));
        eventually("the connection is there", || {
            run(&lab, &shell, &format!("uvs show conns --client {bad}"))
                .stdout
                .contains("ESTABLISHED")
        });
        succeed(&lab, &shell, &deny);
        download.join().expect("it ends")
    });
    assert!(
        ended.stdout.contains("ended 28"),
        "curl's own limit: {ended:?}"
    );
    let left = succeed(
        &lab,
        &shell,
        &format!("uvs show conns --client {bad} -o json"),
    );
    assert_eq!(left, "[]\n");
    daemon.stop().expect("it ends well");
}

#[test]
fn a_file_is_read_again_by_itself_and_kept_where_it_goes_bad() {
    let (lab, shell) = two_clients(Mode::Nat);
    let (config, list) = (lab.dir().join("uvs.toml"), lab.dir().join("deny.txt"));
    let bad = address(&lab, BAD);
    fs::write(&list, format!("# ours\n{bad}\n")).expect("written");
    let text = format!(
        "interfaces = [\"eth0\", \"eth1\"]\ndeny_file = \"{}\"\n",
        list.display()
    );
    fs::write(&config, &text).expect("written");
    let line = format!("run --config {}", config.display());
    let mut daemon = Daemon::start_with(&lab, uvs(), &line).expect("uvs runs");
    for command in [lab.plan.add_service("rr"), lab.plan.add_server(0, 1)] {
        daemon.ipvsadm(&command).expect("done");
    }
    must_be(&lab, &shell, (true, false), "lists");

    fs::write(&list, "").expect("written");
    eventually("the empty list is in force", || {
        answered(&lab, &shell, BAD, 5)
    });
    let good = address(&lab, GOOD);
    fs::write(&list, format!("{good}\n")).expect("written");
    eventually("the new list is in force", || {
        !answered(&lab, &shell, GOOD, 1)
    });
    fs::write(&list, "nonsense\n").expect("written");
    let said = format!("{}:1: \"nonsense\" is not an address", list.display());
    daemon.wait_log(&said).expect("the log has it");
    must_be(&lab, &shell, (false, true), "lists");

    // A reload refuses a bad file whole; what a command added is still there after a good one.
    succeed(&lab, &shell, &format!("uvs deny add {bad}"));
    let refused = run(&lab, &shell, "uvs reload");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains(&said), "{refused:?}");
    fs::write(&config, "interfaces = [\"eth0\", \"eth1\"]\n").expect("written");
    succeed(&lab, &shell, "uvs reload");
    daemon.ipvsadm(&lab.plan.add_service("rr")).expect("done");
    daemon.ipvsadm(&lab.plan.add_server(0, 1)).expect("done");
    must_be(&lab, &shell, (true, false), "lists");
    daemon.stop().expect("it ends well");
}

/// As fail2ban and hand-written block lists do it, with a daemon that runs or is yet to start.
#[test]
fn what_the_hosts_input_chain_drops_is_kept_out_too() {
    let (lab, shell) = two_clients(Mode::Nat);
    let bad = address(&lab, BAD);
    let rules = format!(
        "nft add table inet fw; nft add set inet fw banned '{{ type ipv4_addr; }}'
         nft add chain inet fw in '{{ type filter hook input priority 0; }}'
         nft add rule inet fw in ct state established,related accept
         nft add rule inet fw in tcp dport 80 ip saddr @banned reject
         nft add element inet fw banned '{{ {bad} }}'"
    );
    succeed(&lab, &shell, &rules);
    let daemon = serving(&lab);
    must_be(&lab, &shell, (true, false), "lists");
    let listed = succeed(&lab, &shell, "uvs deny list");
    assert!(listed.contains("firewall"), "{listed}");
    succeed(
        &lab,
        &shell,
        &format!("nft delete element inet fw banned '{{ {bad} }}'"),
    );
    eventually("it is let in again", || answered(&lab, &shell, BAD, 5));
    succeed(
        &lab,
        &shell,
        &format!("nft add element inet fw banned '{{ {bad} }}'"),
    );
    eventually("it is kept out again", || !answered(&lab, &shell, BAD, 1));
    daemon.stop().expect("it ends well");
}

#[test]
fn what_the_hosts_input_chain_drops_is_kept_out_in_ipv6_too() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let client = twin(lab.plan.client);
    let [good, bad] = [GOOD, BAD].map(|last| {
        let [network @ .., _] = client.segments();
        let [a, b, c, d, e, f, g] = network;
        let address = Ipv6Addr::new(a, b, c, d, e, f, g, last.into());
        let add = format!("ip address add {address}/64 dev eth0 nodad");
        shell.succeed(&lab.client, &add).expect("an address");
        address
    });
    let rules = format!(
        "nft add table ip6 fw
         nft add chain ip6 fw in '{{ type filter hook input priority 0; }}'
         nft add rule ip6 fw in tcp dport 80 ip6 saddr {bad} drop"
    );
    succeed(&lab, &shell, &rules);
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let service = fill_in(&lab, &daemon, Families::V6);
    let asks = |from: Ipv6Addr, patience: u32| {
        let url = service.url("/");
        let curl = format!("curl -6 -sS -m {patience} --interface {from} '{url}'");
        shell.run(&lab.client, &curl).expect("curl runs").code == Some(0)
    };
    eventually("who is not meant is answered", || asks(good, 5));
    assert!(!asks(bad, 1), "who is dropped hears nothing");
    let listed = succeed(&lab, &shell, "uvs deny list");
    let told = |line: &str| line.contains(&bad.to_string()) && line.contains("firewall");
    assert!(listed.lines().any(told), "{listed}");
    succeed(&lab, &shell, "nft flush chain ip6 fw in");
    eventually("it is let in again", || asks(bad, 5));
    daemon.stop().expect("it ends well");
}

#[test]
fn a_client_that_is_too_fast_waits_and_another_does_not() {
    let (lab, shell) = two_clients(Mode::Nat);
    let config = lab.dir().join("uvs.toml");
    let (vip, server) = (lab.plan.vip, lab.plan.servers[0]);
    let text = format!(
        "interfaces = [\"eth0\", \"eth1\"]\n[[service]]\ntcp = \"{vip}\"\nmode = \"nat\"\n\
         new_connections_per_client = 1\nnew_connections_per_client_burst = 3\n\
         [[service.server]]\naddress = \"{server}\"\n"
    );
    fs::write(&config, text).expect("written");
    let line = format!("run --config {}", config.display());
    let daemon = Daemon::start_with(&lab, uvs(), &line).expect("uvs runs");
    let (bad, url) = (address(&lab, BAD), lab.plan.url("/"));
    let flood =
        format!("for i in $(seq 20); do curl -s -m 0.2 --interface {bad} {url} & done; wait; true");
    shell.run(&lab.client, &flood).expect("it runs");
    assert!(drops(&lab, &shell, "client_rate") > 0);
    assert!(answered(&lab, &shell, GOOD, 30));
    eventually("the fast one is let in again", || {
        answered(&lab, &shell, BAD, 5)
    });
    daemon.stop().expect("it ends well");
}
