//! `ipvsadm -R` of a great table: all of it is in force and serves, and what a rule in the middle meets is
//! told of that rule alone. Needs root, or `make test`.

#[path = "support/stand.rs"]
mod stand;

use std::fmt::Write as _;
use std::fs;

use uvs_lab::{Lab, Mode, Options};

use stand::{lab, must_serve, run, uvs};

const SERVICES: u16 = 1000;
/// Of services that no request goes to; one more is the lab's own.
const FIRST_PORT: u16 = 10_000;

#[test]
fn a_thousand_services_are_restored_as_they_were_saved() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let rules = rules(&lab);
    fs::write(lab.dir().join("rules"), &rules).expect("written");
    let restore = format!("ipvsadm -R < {}/rules", lab.dir().display());
    let save = || run(&lab, &shell, "ipvsadm -Sn").stdout;
    for _ in 0..2 {
        let restored = run(&lab, &shell, &restore);
        assert_eq!((restored.code, restored.stderr.as_str()), (Some(0), ""));
        assert!(save() == rules, "saved otherwise than restored");
        must_serve(&lab, &daemon);
        run(&lab, &shell, "ipvsadm -C");
        assert_eq!(save(), "");
    }
    daemon.stop().expect("it ends well");
}

/// The host itself refuses the second rule, when all are put in force: such an address is not its own.
#[test]
fn a_rule_that_the_host_refuses_takes_no_other_with_it() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let (vip, plan) = (lab.plan.vip, &lab.plan);
    let rules = [
        plan.add_service("wrr"),
        format!("-A -t {}:81 -s rr --laddr 192.0.2.1", vip.ip()),
        plan.add_server(0, 3),
        plan.add_server(0, 1),
        plan.add_server(1, 1),
    ];
    let restored = run(
        &lab,
        &shell,
        &format!("ipvsadm -R <<END\n{}\nEND", rules.join("\n")),
    );
    let said: Vec<_> = restored.stderr.lines().collect();
    assert_eq!(restored.code, Some(0), "that of the last rule");
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("192.0.2.1"), "{said:?}");
    assert_eq!(said[1], "Destination already exists");
    must_serve(&lab, &daemon);
    daemon.stop().expect("it ends well");
}

/// As `-S -n` prints them.
fn rules(lab: &Lab) -> String {
    let (vip, servers) = (lab.plan.vip, lab.plan.servers);
    let mut rules = String::new();
    for port in std::iter::once(vip.port()).chain(FIRST_PORT..FIRST_PORT + SERVICES) {
        let service = format!("-t {}:{port}", vip.ip());
        let _ = writeln!(rules, "-A {service} -s wrr");
        for (server, weight) in [(servers[0], 3), (servers[1], 1)] {
            let _ = writeln!(rules, "-a {service} -r {server} -m -w {weight}");
        }
    }
    rules
}
