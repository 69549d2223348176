//! Other programs change nft's rules: a firewall that is reloaded flushes all of them, the guard's too. It is
//! back at once, the service goes on, and what happened can be seen everywhere.

use serde_json::Value;
use uvs_lab::shell::Shell;
use uvs_lab::{Lab, Mode, Options};

use crate::stand::{eventually, lab, must_serve, run, serving_by_guard};

/// Reloads of the firewall, each with service traffic behind it.
const RELOADS: u64 = 5;

#[test]
fn a_reloaded_firewall_takes_the_guard_along_and_nat_goes_on() {
    reloaded(Mode::Nat);
}

#[test]
fn a_reloaded_firewall_takes_the_guard_along_and_fullnat_goes_on() {
    reloaded(Mode::FullNat);
}

fn reloaded(mode: Mode) {
    let (lab, shell) = lab(mode, Options::default());
    let daemon = serving_by_guard(&lab);
    let before = rules(&lab, &shell);
    let rules_file = lab.dir().join("firewall.nft");
    let firewall = "flush ruleset\ntable inet fw {\nchain in {\n\
                    type filter hook input priority 0; policy accept;\n}\n}\n";
    std::fs::write(&rules_file, firewall).expect("written");
    let reload = format!("nft -f {}", rules_file.display());
    for n in 1..=RELOADS {
        shell.succeed(&lab.director, &reload).expect("reloaded");
        eventually("the guard is back", || guard(&lab, &shell)["removed"] == n);
        assert_eq!(rules(&lab, &shell), before);
        must_serve(&lab, &daemon);
    }
    let status = guard(&lab, &shell);
    assert_eq!(status["damaged"], 0);
    assert_eq!(status["wrong"], Value::Null);
    assert!(daemon.log().contains("another program removed the guard"));
    assert!(daemon.log().contains("nft (process "), "{}", daemon.log());
    daemon.stop().expect("it ends well");
}

#[test]
fn what_is_damaged_is_put_right_and_doctor_tells() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let daemon = serving_by_guard(&lab);
    let before = rules(&lab, &shell);
    let element = format!("{{ {} . tcp . 80 }}", lab.plan.vip.ip());
    let element = format!("nft delete element netdev uvs nat_service '{element}'");
    for (n, damage) in [(1, "nft flush table netdev uvs"), (2, &element)] {
        shell.succeed(&lab.director, damage).expect("damaged");
        eventually(damage, || guard(&lab, &shell)["damaged"] == n);
        assert_eq!(rules(&lab, &shell), before, "{damage}");
        must_serve(&lab, &daemon);
    }
    let told = run(
        &lab,
        &shell,
        "uvs doctor --only guard_damaged,guard_repaired",
    );
    assert!(told.stdout.contains("changed 2 times"), "{told:?}");
    assert!(told.stdout.contains("set nat_service lacks 1"), "{told:?}");
    let info = run(&lab, &shell, "uvs show info").stdout;
    assert!(
        info.contains("as it must be; removed by others 0 times, damaged 2"),
        "{info}"
    );
    let scraped = shell.succeed(&lab.director, "curl -s http://127.0.0.1:9650/metrics");
    let scraped = scraped.expect("metrics");
    for line in [
        r#"uvs_guard_repairs_total{harm="damaged"} 2"#,
        r#"uvs_guard_repairs_total{harm="removed"} 0"#,
    ] {
        assert!(scraped.contains(line), "{line}: {scraped}");
    }
    daemon.stop().expect("it ends well");
}

/// What the daemon says of its guard.
fn guard(lab: &Lab, shell: &Shell) -> Value {
    let info = run(lab, shell, "uvs show info -o json");
    let info: Value =
        serde_json::from_str(&info.stdout).unwrap_or_else(|e| panic!("{e}: {info:?}"));
    info["guard"].clone()
}

/// The table without what packets put into it, once it knows the clients.
fn rules(lab: &Lab, shell: &Shell) -> String {
    let mut rules = String::new();
    eventually("the guard is sure", || {
        let listed = shell.succeed(&lab.director, "nft -s list table netdev uvs");
        rules = listed.expect("there is a guard");
        let unsure = rules.split("set unsure {").nth(1).expect("a set");
        !unsure
            .split_once('}')
            .expect("its end")
            .0
            .contains("elements")
    });
    let fixed = |set: &str| match set.split_once("flags dynamic") {
        Some((_, rest)) => rest.split_once("\n\t}").expect("its end").1.to_owned(),
        None => set.to_owned(),
    };
    rules.split("\tset ").map(fixed).collect()
}
