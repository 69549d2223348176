//! `uvs top` driven by keys: the levels, the order, a size that changes, a daemon that goes and comes back,
//! and a terminal that is as it was, however it ends.

use std::thread;

use uvs_lab::load::{Connections, HttpLoad, wrk};
use uvs_lab::traffic::requests;
use uvs_lab::{Families, Lab, Mode, Options};

use crate::stand::{ask, fill_in, lab, run, serving, uvs};
use crate::terminal::Terminal;

/// Bytes of what the client loads again and again.
const BODY: u64 = 100 << 10;
const SECONDS: u32 = 8;

#[test]
fn keys_lead_through_the_levels_and_the_shell_comes_back() {
    let (lab, _shell) = lab(Mode::Nat, Options::default());
    let daemon = serving(&lab);
    ask(&lab).expect("answers");
    let terminal = Terminal::open(&lab, &daemon);
    terminal.top();
    let [vip, rs1] = [lab.plan.vip.to_string(), lab.plan.servers[0].to_string()];
    terminal.until("the service", |s| {
        s.contains(&format!("TCP {}", vip)) && s.contains("CONN/S▼")
    });
    terminal.keys(&["Enter"]);
    terminal.until("its servers", |s| {
        s.contains("› servers") && s.contains(&rs1)
    });
    terminal.keys(&[">"]);
    terminal.until("another order", |s| s.contains("IN-BIT/S▼"));
    terminal.keys(&["r"]);
    terminal.until("the reverse", |s| s.contains("IN-BIT/S▲"));
    terminal.keys(&["c"]);
    let client = lab.plan.client.to_string();
    terminal.until("its connections", |s| {
        let rows = s.lines().filter(|l| l.starts_with(&client));
        s.contains("› connections (40)") && rows.count() > 10
    });
    terminal.keys(&["Escape"]);
    terminal.until("the servers again", |s| s.contains("› servers"));
    terminal.keys(&["p", "?"]);
    terminal.until("the help", |s| {
        s.contains("any key closes this") && s.contains("PAUSED")
    });
    terminal.resize("60", "12");
    terminal.keys(&["x"]);
    terminal.until("what there is room for", |s| {
        s.contains("SERVER")
            && s.contains("CONN/S")
            && !s.contains("MODE")
            && !s.contains("at most")
    });
    terminal.resize("120", "34");
    terminal.until("all of it", |s| s.contains("MODE") && s.contains("at most"));
    terminal.keys(&["q"]);
    terminal.must_be_restored(0);
    drop(terminal);
    daemon.stop().expect("stopped");
}

#[test]
fn services_servers_and_connections_of_ipv6_are_written_with_brackets() {
    let (lab, _shell) = lab(Mode::Nat, Options::default());
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let service = fill_in(&lab, &daemon, Families::V6);
    requests(&lab.client, &service.url("/"), 40).expect("answers");
    let terminal = Terminal::open(&lab, &daemon);
    terminal.top();
    terminal.until("the service", |s| {
        s.contains(&format!("TCP {}", service.vip))
    });
    terminal.keys(&["Enter"]);
    terminal.until("its servers", |s| {
        s.contains("› servers") && s.contains(&service.servers[0].to_string())
    });
    terminal.keys(&["c"]);
    let client = format!("[{}]:", service.client);
    terminal.until("its connections", |s| {
        let rows = s.lines().filter(|l| l.starts_with(&client));
        s.contains("› connections (40)") && rows.count() > 10
    });
    terminal.keys(&["q"]);
    terminal.must_be_restored(0);
    drop(terminal);
    daemon.stop().expect("stopped");
}

#[test]
fn the_rates_are_what_the_client_counts() {
    let (lab, _shell) = lab(Mode::Nat, Options::default());
    let daemon = serving(&lab);
    lab.content("100K", BODY).expect("a file");
    let terminal = Terminal::open(&lab, &daemon);
    terminal.top();
    terminal.until("rates", |s| s.contains("out 0 bit/s"));
    let (load, seen) = watch_load(&lab, &terminal);
    let told = load.per_second * (8 * BODY) as f64;
    let rates = seen
        .iter()
        .filter_map(|line| number(line, "out ", " bit/s"));
    let mut seen: Vec<f64> = rates.collect();
    assert!(seen.len() >= 3, "{seen:?}");
    seen.sort_by(f64::total_cmp);
    let shown = seen[seen.len() / 2];
    // The client counts bodies and the whole run, top packets and some seconds of it on a busy machine.
    let ratio = shown / told;
    assert!(
        (0.5..2.0).contains(&ratio),
        "top {shown}, the client {told} bit/s: {seen:?}"
    );
    terminal.until("rates that fall again", |s| s.contains("out 0 bit/s"));
    terminal.keys(&["C-c"]);
    terminal.must_be_restored(0);
    drop(terminal);
    daemon.stop().expect("stopped");
}

/// What the client counted, and the lines of rates that were seen meanwhile.
fn watch_load(lab: &Lab, terminal: &Terminal<'_>) -> (HttpLoad, Vec<String>) {
    let url = lab.plan.url("/100K");
    thread::scope(|scope| {
        let client = scope.spawn(|| wrk(&lab.client, &url, SECONDS, 4, Connections::Kept));
        let mut seen: Vec<String> = Vec::new();
        while !client.is_finished() {
            let screen = terminal.until("a line of rates", |s| s.contains("all services "));
            let line = screen.lines().find(|l| l.starts_with("all services "));
            let line = line.expect("it is there").to_owned();
            if !line.contains("out 0 bit/s") && seen.last() != Some(&line) {
                seen.push(line);
            }
            thread::sleep(std::time::Duration::from_millis(100));
        }
        let load = client.join().expect("it ends").expect("wrk runs");
        (load, seen)
    })
}

/// The number with its suffix between two words of a line, unless it was read while it was drawn.
fn number(line: &str, before: &str, after: &str) -> Option<f64> {
    let (number, _) = line.split_once(before)?.1.split_once(after)?;
    let digits = number.trim_end_matches(['k', 'M', 'G', 'T']);
    let factor = match &number[digits.len()..] {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        _ => 1e12,
    };
    Some(factor * digits.parse::<f64>().ok()?)
}

#[test]
fn a_daemon_that_goes_is_told_and_one_that_comes_back_is_shown() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    let daemon = serving(&lab);
    let terminal = Terminal::open(&lab, &daemon);
    terminal.top();
    let service = format!("TCP {}", lab.plan.vip);
    terminal.until("the service", |s| s.contains(&service));
    daemon.stop().expect("stopped");
    terminal.until("trouble, and the last numbers", |s| {
        s.contains("no daemon answers here; start one with") && s.contains(&service)
    });
    let daemon = serving(&lab);
    let pid = format!("pid {}", daemon.id());
    terminal.until("the new daemon", |s| {
        s.contains(&pid) && !s.contains("no daemon")
    });
    // In another shell: `kill` as a program is in a package of its own.
    run(&lab, &shell, &format!("kill -TERM {}", terminal.pid()));
    terminal.must_be_restored(128 + 15);
    daemon.stop().expect("stopped");
    terminal.top();
    terminal.until("why there is nothing to see", |s| {
        s.contains("no daemon answers here") && s.contains("ended 3")
    });
}

#[test]
fn without_a_terminal_it_is_one_table_and_says_so() {
    let (lab, _shell) = lab(Mode::Nat, Options::default());
    let daemon = serving(&lab);
    ask(&lab).expect("answers");
    let output = daemon.uvs("top --interval 0.2").expect("a table");
    assert!(
        output
            .stderr
            .starts_with("uvs top: standard output is not a terminal: one table instead")
    );
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(
        lines[0].starts_with("SERVICE / SERVER "),
        "{}",
        output.stdout
    );
    assert!(lines[1].starts_with(&format!("TCP {}", lab.plan.vip)));
    assert!(
        lines[2]
            .trim_start()
            .starts_with(&lab.plan.servers[0].to_string())
    );
    let asked_for = daemon.uvs("top --once --interval 0.2").expect("a table");
    assert_eq!(asked_for.stderr, "");
    daemon.stop().expect("stopped");
}
