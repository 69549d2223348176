//! Debian's ldirectord, unmodified, with the `ipvsadm` it finds being a symlink to `uvs`: it fills the
//! table, asks real HTTP servers for a line, takes one that fails out and back in, and ends with an empty
//! table. What it does is compared with the table, and the table with who answers real requests.
//!
//! Optional: where ldirectord is not installed, the tests say so. Needs root, or `make test`.

mod supervisor;

#[path = "../support/stand.rs"]
mod stand;

use uvs_lab::share::expected;
use uvs_lab::traffic::{Answers, requests};
use uvs_lab::{Families, Lab, Mode, Options, Service, tools};

use stand::{eventually, lab, run, uvs};
use supervisor::{Ldirectord, PROGRAM};

/// What ldirectord is told.
const WEIGHTS: [u32; 3] = [2, 1, 1];
/// Whole rounds of all weights that occur: 4, 3 and 2 a round.
const REQUESTS: u32 = 36;

/// With `quiescent=no` a failed server is removed. This one hangs: its kernel still takes connections, so
/// that only the missing answer tells.
#[test]
fn a_server_that_hangs_is_removed_and_comes_back() {
    let hang = |lab: &Lab| signal(lab, "STOP");
    let go_on = |lab: &Lab| signal(lab, "CONT");
    let log = life(
        (Mode::Nat, Families::V4),
        "no",
        [None, Some(1), Some(1)],
        hang,
        go_on,
    );
    let Some(log) = log else { return };
    in_order(
        &log,
        &[
            "Added virtual server: 172.16.254.200:80",
            "Added real server: 192.168.0.18:80 (172.16.254.200:80) (Weight set to 2)",
            "Deleted real server: 192.168.0.18:80 (172.16.254.200:80)",
            "Added real server: 192.168.0.18:80 (172.16.254.200:80) (Weight set to 2)",
            "Purged real server (stop): 192.168.0.18:80",
            "Purged virtual server (stop): 172.16.254.200:80",
        ],
    );
}

/// With `quiescent=yes` it stays, with weight 0. This one is cut off from the network.
#[test]
fn a_server_that_is_cut_off_gets_weight_0_and_its_own_again() {
    let cut = |lab: &Lab| link(lab, "down");
    let fix = |lab: &Lab| link(lab, "up");
    let log = life(
        (Mode::Dr, Families::V4),
        "yes",
        [Some(0), Some(1), Some(1)],
        cut,
        fix,
    );
    let Some(log) = log else { return };
    in_order(
        &log,
        &[
            "Added virtual server: 192.168.0.38:80",
            "real server: 192.168.0.18:80 (192.168.0.38:80) (Weight set to 2)",
            "Quiescent real server: 192.168.0.18:80 (192.168.0.38:80) (Weight set to 0)",
            "Restored real server: 192.168.0.18:80 (192.168.0.38:80) (Weight set to 2)",
            "Purged real server (stop): 192.168.0.18:80",
            "Purged virtual server (stop): 192.168.0.38:80",
        ],
    );
}

/// In IPv6, by `virtual6` and `real6`. ldirectord asks IPv6 servers for a line only with a Perl module that few
/// have (Net::INET6Glue), so connecting is its check here.
#[test]
fn a_server_of_an_ipv6_service_is_removed_and_comes_back() {
    let cut = |lab: &Lab| link(lab, "down");
    let fix = |lab: &Lab| link(lab, "up");
    let what = (Mode::Dr, Families::V6);
    let log = life(what, "no", [None, Some(1), Some(1)], cut, fix);
    let Some(log) = log else { return };
    in_order(
        &log,
        &[
            "Added virtual server: [2001:db8:192::38]:80",
            "Deleted real server: [2001:db8:192::18]:80",
            "Added real server: [2001:db8:192::18]:80",
            "Purged virtual server (stop): [2001:db8:192::38]:80",
        ],
    );
}

/// From `ldirectord start` to `ldirectord stop`; `fail` and `fix` are done to the first real server.
/// Returns what was logged, or nothing where there is no ldirectord.
fn life(
    (mode, families): (Mode, Families),
    quiescent: &str,
    meanwhile: [Option<u32>; 3],
    fail: impl Fn(&Lab),
    fix: impl Fn(&Lab),
) -> Option<String> {
    if tools::find(PROGRAM).is_err() {
        println!("skipped: {PROGRAM} is not installed (apt-get install {PROGRAM})");
        return None;
    }
    let (lab, shell) = lab(mode, Options::default());
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let table = || run(&lab, &shell, "ipvsadm -Ln").stdout;
    let service = lab.plan.service(families);
    let ldirectord = Ldirectord::start(&lab, &shell, &service, quiescent, &WEIGHTS);
    let serves = |weights: [Option<u32>; 3]| {
        let rows = weights.iter().filter(|w| w.is_some()).count();
        let is_so = || {
            let table = table();
            let rows_there = table.lines().filter(|l| l.starts_with("  -> ")).count() - 1;
            rows_there == rows && weighted(&service, &table, &weights)
        };
        eventually("the table", || {
            assert!(ldirectord.has_pid(), "{}", ldirectord.log());
            is_so()
        });
        let weights = weights.map(Option::unwrap_or_default);
        let answers = requests(&lab.client, &service.url("/"), REQUESTS);
        let answers = answers.unwrap_or_else(|e| panic!("{e}\n{}", daemon.log()));
        assert_eq!(answers, shares(&lab, &weights), "{}", table());
    };
    serves(WEIGHTS.map(Some));
    fail(&lab);
    serves(meanwhile);
    fix(&lab);
    serves(WEIGHTS.map(Some));
    ldirectord.stop();
    assert_eq!(table().lines().count(), 3, "only the head is left");
    let log = ldirectord.log();
    println!("ldirectord's log:\n{log}");
    assert!(!log.contains("failed"), "a command of ldirectord's failed");
    daemon.stop().expect("it ends well");
    Some(log)
}

/// Whether the table has each server with the weight it should have.
fn weighted(service: &Service, table: &str, weights: &[Option<u32>; 3]) -> bool {
    let servers = service.servers.iter().zip(weights);
    let mut present = servers.filter_map(|(server, weight)| weight.map(|w| (server, w)));
    present.all(|(server, weight)| {
        let words = [server.to_string(), weight.to_string()];
        let of_row = |line: &str| {
            let mut row = line.split_whitespace().skip(1);
            [row.next(), row.nth(1)] == words.each_ref().map(|w| Some(w.as_str()))
        };
        table.lines().any(of_row)
    })
}

fn shares(lab: &Lab, weights: &[u32]) -> Answers {
    let counts = expected(weights, REQUESTS);
    let all = lab.servers.iter().map(|s| s.name().to_owned()).zip(counts);
    all.filter(|(_, count)| *count > 0).collect()
}

fn signal(lab: &Lab, name: &str) {
    let web = &lab.servers[0];
    let kill = format!("kill -{name} {}", web.http_process());
    web.host.run(&kill).expect("signalled");
}

fn link(lab: &Lab, state: &str) {
    let set = format!("link set eth0 {state}");
    lab.servers[0].host.ip(&set).expect("set");
}

/// Every line is in the log, each behind the one before.
fn in_order(log: &str, lines: &[&str]) {
    let mut rest = log;
    for line in lines {
        let found = rest.split_once(line);
        rest = found
            .unwrap_or_else(|| panic!("{line:?} is missing, or out of its order, in\n{log}"))
            .1;
    }
}
