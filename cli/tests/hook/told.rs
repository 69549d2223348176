//! What others are told of the hook: `uvs doctor` and the metrics.

use serde_json::Value;
use uvs_lab::shell::Shell;
use uvs_lab::{Lab, Mode, Options};

use crate::director::{Bpffs, kill, on_all_ports, serving};
use crate::stand::{ask, lab, run};

/// The findings of these checks, of a host with this configuration.
fn found(lab: &Lab, shell: &Shell, words: &str, checks: &str) -> Vec<Value> {
    let said = run(
        lab,
        shell,
        &format!("uvs doctor {words} --json --only {checks}"),
    );
    let report: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let findings = report["findings"].as_array().expect("a list").iter();
    findings
        .filter(|f| f["severity"] != "ok")
        .cloned()
        .collect()
}

#[test]
fn doctor_finds_a_hook_well_and_one_that_was_left() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let bpffs = Bpffs::new();
    let daemon = serving(&lab, &bpffs, "tier");
    let checks = "hook,hook_port,hook_detached,hook_others,hook_unpinned,hook_leftover,vip_unguarded,guard_damaged";
    let well = found(&lab, &shell, "", checks);
    assert!(well.is_empty(), "{well:?}");
    kill(daemon);
    let file = lab.dir().join("hook.toml");
    let words = format!("--config {}", file.display());
    let left = found(&lab, &shell, &words, "hook_leftover");
    assert_eq!(left.len(), 1, "{left:?}");
    let down = format!("uvs guard down --pins {}", bpffs.pins().display());
    assert_eq!(left[0]["fix"]["command"], down.as_str());
    run(&lab, &shell, &down);
    let left = found(&lab, &shell, &words, "hook_leftover");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn metrics_have_what_the_kernel_forwards() {
    let (lab, _shell) = lab(Mode::Nat, Options::default());
    let bpffs = Bpffs::new();
    let daemon = serving(&lab, &bpffs, "tier");
    ask(&lab).expect("answers");
    let text = lab.director.run("curl -s http://127.0.0.1:9650/metrics");
    let text = text.expect("they are served");
    let sum = |name: &str| -> f64 {
        let series = text.lines().filter(|line| line.starts_with(name));
        let values = series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        values.sum()
    };
    assert_eq!(sum("uvs_hook_state{state=\"tier\"}"), 1.0, "{text}");
    assert_eq!(sum("uvs_hook_attached"), lab.plan.interfaces.len() as f64);
    // One connection each, and nobody sends any more.
    assert_eq!(sum("uvs_hook_taken_total"), 40.0);
    assert!(sum("uvs_hook_heartbeat_limit_seconds") > 0.0);
    let forwarded = on_all_ports(&daemon, "forwarded");
    assert!(forwarded >= 40 * 8, "{forwarded}");
    assert_eq!(sum("uvs_frames_in_kernel_total"), forwarded as f64);
    daemon.stop().expect("it ends well");
}
