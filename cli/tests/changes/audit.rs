//! Who has changed what, by the log.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use uvs_lab::{Daemon, Mode, Options, install};

use crate::stand::{eventually, lab, library, run, serving, uvs};

/// A line of the log with this text.
fn line(daemon: &Daemon<'_>, text: &str) -> String {
    eventually(text, || daemon.log().contains(text));
    let log = daemon.log();
    let found = log.lines().find(|line| line.contains(text));
    found.expect("it was there").to_owned()
}

#[test]
fn each_change_is_a_line_with_who_made_it_and_so_is_each_refusal() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    let daemon = serving(&lab);
    let rs1 = "192.168.0.18:80 in TCP 192.168.0.38:80";
    for (script, told, by) in [
        (
            "ipvsadm -e -t 192.168.0.38:80 -r 192.168.0.18:80 -g -w 5",
            format!("weight of {rs1} from 3 to 5, by uid 0 pid "),
            "(ipvsadm -e -t 192.168.0.38:80 -r 192.168.0.18:80 -g -w 5)",
        ),
        (
            "uvs sysctl net.ipv4.vs.drop_entry=1",
            "net.ipv4.vs.drop_entry from 0 to 1, by uid 0 pid ".to_owned(),
            "(uvs sysctl net.ipv4.vs.drop_entry=1)",
        ),
        (
            "uvs deny add 192.0.2.0/24",
            "deny 192.0.2.0/24 for every service added (by a command), by uid 0 pid ".to_owned(),
            "(uvs deny add 192.0.2.0/24)",
        ),
        (
            "uvs mark 7 tcp 192.168.0.38:443",
            "mark 7 for tcp 192.168.0.38:443 added, by uid 0 pid ".to_owned(),
            "(uvs mark 7 tcp 192.168.0.38:443)",
        ),
        (
            "uvs drain --no-wait 192.168.0.28",
            "weight of 192.168.0.28:80 in TCP 192.168.0.38:80 from 1 to 0, by uid 0 pid ".to_owned(),
            "(uvs drain --no-wait 192.168.0.28)",
        ),
        (
            "ipvsadm -A -t 192.168.0.38:80 -s rr",
            "refused: to add the service TCP 192.168.0.38:80 (rr): TCP 192.168.0.38:80: the service exists already, by uid 0 pid "
                .to_owned(),
            "(ipvsadm -A -t 192.168.0.38:80 -s rr)",
        ),
    ] {
        run(&lab, &shell, script);
        let line = line(&daemon, &told);
        assert!(line.ends_with(by), "{line}");
        assert!(line.contains("INFO"), "{line}");
    }
    // By the kernel's own interface, as keepalived and Debian's ipvsadm speak it.
    let words = format!("ipvs-run --library {} --", library().display());
    let stock = "/usr/sbin/ipvsadm -e -t 192.168.0.38:80 -r 192.168.0.18:80 -g -w 9";
    run(&lab, &shell, &format!("uvs {words} {stock}"));
    let told = line(
        &daemon,
        &format!("weight of {rs1} from 5 to 9, by uid 0 pid "),
    );
    assert!(told.ends_with(&format!("({stock})")), "{told}");
    // The same lines for whoever asks later.
    let shown = run(&lab, &shell, "uvs show changes").stdout;
    assert!(
        shown.contains(&format!("weight of {rs1} from 5 to 9")),
        "{shown}"
    );
    assert!(shown.contains("refused: to add the service"), "{shown}");
    daemon.stop().expect("it ends well");
}

#[test]
fn who_may_not_change_anything_is_told_with_his_number() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    let daemon = serving(&lab);
    let everyone = || fs::Permissions::from_mode(0o666);
    fs::set_permissions(daemon.socket(), everyone()).expect("set");
    // The program, its directory and its socket must be reachable for somebody who is nobody.
    let program = lab.dir().join("uvs-for-all");
    install::program(uvs(), &program).expect("copied");
    fs::set_permissions(lab.dir(), fs::Permissions::from_mode(0o755)).expect("set");
    let script = format!(
        "setpriv --reuid 65534 --clear-groups {} weight 192.168.0.18 9",
        program.display()
    );
    let ended = run(&lab, &shell, &script);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("user 65534 may look"), "{ended:?}");
    let told = line(&daemon, "refused: to transaction");
    assert!(
        told.contains("by uid 65534 pid ") && told.ends_with("(uvs-for-all)"),
        "{told}"
    );
    daemon.stop().expect("it ends well");
}

#[test]
fn a_restore_of_many_services_is_told_in_few_lines_that_count_all() {
    const SERVICES: usize = 10_000;
    let (lab, shell) = lab(Mode::Dr, Options::default());
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let mut rules = String::new();
    for n in 0..SERVICES {
        let vip = format!("10.{}.{}.1:80", n / 250, n % 250);
        writeln!(
            rules,
            "-A -t {vip} -s rr\n-a -t {vip} -r 192.168.0.18:80 -g -w 1"
        )
        .expect("written");
    }
    let file = lab.dir().join("rules");
    fs::write(&file, rules).expect("written");
    let ended = run(&lab, &shell, &format!("ipvsadm -R < {}", file.display()));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let counted = |log: &str, what: &str| -> usize {
        let lines = log.lines().filter(|line| line.contains(what));
        let numbers = lines.filter_map(|line| {
            let before = line.split(what).next()?;
            before.rsplit(' ').next()?.parse::<usize>().ok()
        });
        numbers.sum()
    };
    eventually("all are told", || {
        let log = daemon.log();
        counted(&log, " services added") == SERVICES && counted(&log, " servers added") == SERVICES
    });
    let log = daemon.log();
    let lines = log
        .lines()
        .filter(|line| line.contains(" services added"))
        .count();
    assert!((1..=30).contains(&lines), "{lines} lines");
    assert!(log.contains("(ipvsadm -R)"), "{log}");
    daemon.stop().expect("it ends well");
}
