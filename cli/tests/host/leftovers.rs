//! How it ends: by a signal nothing stays behind, and what a `kill -9` left is replaced by the next run or
//! removed by `uvs guard down`.

use rustix::process::Signal;
use uvs_lab::process::SOON;
use uvs_lab::shell::Shell;
use uvs_lab::{Daemon, Lab, Mode, Options};

use crate::stand::{lab, must_serve, run, serving_by_guard};

#[test]
fn a_signal_leaves_no_rule_no_process_no_socket_and_no_kept_neighbour() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    for signal in [Signal::TERM, Signal::INT] {
        let mut daemon = serving_by_guard(&lab);
        must_serve(&lab, &daemon);
        assert!(rules(&lab, &shell).contains("table netdev uvs"));
        assert!(neighbours(&lab, &shell).contains("managed"));
        let socket = daemon.socket().to_owned();
        daemon.process().signal(signal).expect("it is there");
        daemon.process().wait(SOON).expect("it ends with status 0");
        assert_eq!(rules(&lab, &shell), "");
        assert_eq!(lab.director.processes().expect("listed"), Vec::<u32>::new());
        let directory = std::fs::read_dir(socket.parent().expect("a directory")).expect("read");
        let left = directory.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let left: Vec<_> = left.filter(|n| n.contains("control.sock")).collect();
        assert_eq!(left, Vec::<String>::new());
        assert!(!neighbours(&lab, &shell).contains("managed"));
    }
}

#[test]
fn what_kill_9_left_is_replaced_by_the_next_run() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    kill_9(serving_by_guard(&lab));
    assert!(rules(&lab, &shell).contains("table netdev uvs"));
    let daemon = serving_by_guard(&lab);
    assert!(
        daemon.log().contains("an earlier run left its guard"),
        "{}",
        daemon.log()
    );
    must_serve(&lab, &daemon);
    daemon.stop().expect("it ends well");
    assert_eq!(rules(&lab, &shell), "");
}

#[test]
fn what_kill_9_left_is_removed_by_guard_down() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let daemon = serving_by_guard(&lab);
    let refused = run(&lab, &shell, "uvs guard down");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains(&format!("process {}", daemon.id())),
        "{refused:?}"
    );
    kill_9(daemon);
    let shown = run(&lab, &shell, "uvs guard show");
    assert!(shown.stdout.contains("table netdev uvs"), "{shown:?}");
    let removed = run(&lab, &shell, "uvs guard down");
    assert_eq!(removed.stdout, "removed the guard (nft table netdev uvs)\n");
    assert_eq!(rules(&lab, &shell), "");
}

fn kill_9(mut daemon: Daemon<'_>) {
    daemon.process().signal(Signal::KILL).expect("it is there");
    let ended = daemon.process().wait(SOON).expect_err("killed");
    assert!(ended.to_string().contains("SIGKILL"), "{ended}");
}

fn rules(lab: &Lab, shell: &Shell) -> String {
    let listed = shell.succeed(&lab.director, "nft list ruleset");
    listed.expect("nft lists")
}

fn neighbours(lab: &Lab, shell: &Shell) -> String {
    let listed = shell.succeed(&lab.director, "ip neigh show");
    listed.expect("ip lists")
}
