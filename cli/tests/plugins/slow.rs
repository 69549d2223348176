//! A scheduler that takes its time: it is measured, its excess counts, and what comes of that is seen where somebody
//! looks, until it is over.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use uvs_lab::{Lab, Mode};

use crate::project::c_plugin;
use crate::traffic::{Director, alone, lab, page};

/// Far more than the budget. (Strict C11 has no usleep.)
const NAP: &str = "int usleep(unsigned); usleep(20000);";

/// More than the faults that two workers bear together.
const ENOUGH: u32 = 40;

/// A plugin that naps, and picks the server added first.
fn napping(lab: &Lab, file: &str, version: &str, nap: &str) -> PathBuf {
    let pick = format!("{nap} return count - 1;");
    c_plugin(lab.dir(), file, "sleepy", version, &pick)
}

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The value of a metric of the lab's service, whose scheduler is the plugin. Numbers that are young are served again.
fn of_plugin(lab: &Lab, name: &str) -> f64 {
    let vip = lab.plan.vip;
    let series = format!(
        "{name}{{vip=\"{}\",port=\"{}\",proto=\"tcp\",scheduler=\"sleepy\"}} ",
        vip.ip(),
        vip.port()
    );
    let text = page(lab, "metrics");
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(&series));
    let value = value.unwrap_or_else(|| panic!("no {series}: {text}"));
    value.parse().expect("a number")
}

/// Whether the plugin's service has fallen back, as metrics have it, becomes so.
fn becomes(lab: &Lab, fallback: f64) {
    let end = Instant::now() + PATIENCE;
    while of_plugin(lab, "uvs_scheduler_fallback") != fallback {
        assert!(Instant::now() < end, "it does not become {fallback}");
        sleep(Duration::from_millis(100));
    }
}

fn service_of(director: &Director<'_>) -> serde_json::Value {
    let json = director.uvs("show services -o json");
    let services: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    services[0].clone()
}

/// The fall-back is where somebody looks.
fn is_shown(lab: &Lab, director: &Director<'_>) {
    let vip = format!("TCP {}", lab.plan.vip);
    let faults = of_plugin(lab, "uvs_scheduler_over_budget_total");
    assert!(faults >= 10.0, "{faults}");
    assert_eq!(of_plugin(lab, "uvs_scheduler_pick_seconds_count"), faults);
    let sum = of_plugin(lab, "uvs_scheduler_pick_seconds_sum");
    assert!(sum >= faults * 0.02, "{sum}");
    let shown = director.uvs("show services");
    assert!(shown.contains("sleepy→wrr"), "{shown}");
    let line = format!("{vip}: sleepy fell back to wrr");
    assert!(shown.contains(&line), "{shown}");
    assert!(
        shown.contains("its last fault: slow; uvs plugin retry sleepy"),
        "{shown}"
    );
    let plain = director.uvs("top --once");
    assert!(plain.contains("sleepy→wrr"), "{plain}");
    let status = service_of(director);
    assert_eq!(status["plugin"]["fallback"]["fault"], "slow");
    assert_eq!(status["plugin"]["picks"]["count"], faults);
    let listed = director.uvs("plugin list");
    assert!(listed.contains(&format!("(slow {faults})")), "{listed}");
    assert!(
        listed.contains(&format!("sleepy: {vip} fell back to wrr")),
        "{listed}"
    );
    let dropped = director.uvs("show drops");
    assert!(
        !dropped.contains("scheduler_fault"),
        "nobody lost a SYN: {dropped}"
    );
    // ipvsadm's column is its own: a script that reads it finds the name that it gave.
    let listed = director.uvs("ipvsadm -ln");
    assert!(
        listed.contains(&format!("{} sleepy\n", lab.plan.vip)),
        "{listed}"
    );
}

#[test]
fn a_slow_plugin_is_seen_and_loses_its_service_until_it_is_tried_again() {
    let _alone = alone();
    let lab = lab(Mode::Nat);
    let mut director = Director::start(&lab);
    let vip = format!("TCP {}", lab.plan.vip);
    director.install(&napping(&lab, "slow", "1.0.0", NAP), "libsleepy.so");
    director.serve("sleepy", [1, 1, 1]);
    becomes(&lab, 0.0);
    assert!(service_of(&director)["plugin"]["fallback"].is_null());

    // Each pick is late and serves; all of them by one server, until wrr takes over.
    let answers = director.answers(ENOUGH);
    assert_eq!(answers.values().sum::<u32>(), ENOUGH);
    let log = director
        .daemon
        .wait_log("falls back to wrr after 10 faults");
    log.expect("said so");
    let log = director.daemon.log();
    assert!(
        log.contains("the scheduler plugin failed: its pick took 2"),
        "{log}"
    );
    assert!(log.contains("its budget is 1ms"), "{log}");
    assert!(log.contains("`uvs plugin retry sleepy`"), "{log}");
    becomes(&lab, 1.0);
    is_shown(&lab, &director);

    // Another try, which is over at once where it is looked at, and ends as the first did.
    let unknown = director.refused("plugin retry other");
    assert!(
        unknown.contains("no plugin \"other\" is loaded; loaded: sleepy"),
        "{unknown}"
    );
    let said = director.uvs("plugin retry sleepy");
    assert_eq!(
        said,
        format!("sleepy: 1.0.0 (libsleepy.so) is tried again by {vip}\n")
    );
    becomes(&lab, 0.0);
    assert!(!director.uvs("show services").contains("wrr"));
    let over = director
        .daemon
        .wait_log("the service's fall-back to wrr is over");
    over.expect("said so");
    let said = director.uvs("plugin retry");
    assert_eq!(
        said,
        "sleepy: 1.0.0 (libsleepy.so) goes on; no service has fallen back\n"
    );
    director.answers(ENOUGH);
    becomes(&lab, 1.0);

    // And one that is put right.
    let better = napping(&lab, "fast", "1.1.0", "");
    director.install(&better, "libsleepy-1.1.so");
    director.uvs("plugin reload");
    becomes(&lab, 0.0);
    let answers = director.answers(ENOUGH);
    assert_eq!(answers.get("rs1"), Some(&ENOUGH), "{answers:?}");
    becomes(&lab, 0.0);
    director.daemon.stop().expect("a clean end");
}

#[test]
fn what_several_workers_measure_is_one_sum() {
    let _alone = alone();
    let lab = lab(Mode::Nat);
    let director = Director::start_with(&lab, " --workers 2");
    director.install(&napping(&lab, "slow", "1.0.0", ""), "libsleepy.so");
    director.serve("sleepy", [1, 1, 1]);
    director.answers(ENOUGH);
    let status = service_of(&director);
    let connections = f64::from(ENOUGH);
    // The second worker's instance is asked once more at first, so as not to begin with the server of the first's.
    let picks = status["plugin"]["picks"]["count"]
        .as_f64()
        .expect("a number");
    assert!(
        picks == connections || picks == connections + 1.0,
        "{picks}"
    );
    director.daemon.stop().expect("a clean end");
}

#[test]
fn the_budget_is_the_configurations_and_a_reload_changes_it() {
    let _alone = alone();
    let lab = lab(Mode::Nat);
    let file = lab.dir().join("uvs.toml");
    let configure = |budget: u32, services: &str| {
        let plugins = format!("[plugins]\nscheduler_budget = {budget}\n");
        std::fs::write(&file, plugins + services).expect("written");
    };
    configure(0, "");
    let director = Director::start_with(&lab, &format!(" --config {}", file.display()));
    director.install(&napping(&lab, "slow", "1.0.0", NAP), "libsleepy.so");
    let (vip, server) = (lab.plan.vip, lab.plan.servers[0]);
    let service = format!(
        "[[service]]\ntcp = \"{vip}\"\nscheduler = \"sleepy\"\nmode = \"nat\"\n\
         [[service.server]]\naddress = \"{server}\"\n"
    );
    configure(0, &service);
    director.uvs("reload");
    let in_force = || {
        let shown = director.uvs("show config");
        let mut lines = shown.lines();
        let line = lines.find_map(|line| line.strip_prefix("plugins.scheduler_budget"));
        let line = line.unwrap_or_else(|| panic!("{shown}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(in_force(), "0 1000");
    director.answers(12);
    assert_eq!(service_of(&director)["plugin"]["over_budget"], 0);

    configure(2_000_000, &service);
    let refused = director.refused("reload");
    assert!(
        refused.contains("plugins.scheduler_budget: 2000000 is out of range"),
        "{refused}"
    );
    assert_eq!(in_force(), "0 1000");
    configure(15_000, &service);
    director.uvs("reload");
    assert_eq!(in_force(), "15000 1000");
    director.answers(1);
    assert_eq!(service_of(&director)["plugin"]["over_budget"], 1);
    director.daemon.stop().expect("a clean end");
}
