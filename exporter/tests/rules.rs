//! The alerts and recording rules: what they name exists, each alert has a page and is tested firing and silent,
//! and promtool, where it is installed, finds them right.

#[path = "common/names.rs"]
mod names;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("rules")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(directory().join(path)).expect("it is there")
}

/// The values of a key, each on a line of its own.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let lines = text
        .lines()
        .map(|l| l.trim_start().trim_start_matches("- "));
    lines
        .filter_map(|l| Some(l.strip_prefix(key)?.strip_prefix(": ")?.trim()))
        .collect()
}

#[test]
fn rules_name_metrics_that_exist() {
    let text = read("uvs.rules.yml");
    let recorded: BTreeSet<&str> = values(&text, "record").into_iter().collect();
    let expressions = values(&text, "expr");
    assert!(expressions.len() > 20);
    for expression in expressions {
        let named = names::metrics_in(expression);
        let known = |name: &String| {
            names::is_known(name) || recorded.contains(name.as_str()) || name == "up"
        };
        assert!(!named.is_empty(), "{expression} names no metric");
        let unknown: Vec<_> = named.iter().filter(|name| !known(name)).collect();
        assert!(unknown.is_empty(), "{expression}: {unknown:?}");
    }
    for name in recorded {
        assert_eq!(name.split(':').count(), 3, "{name}: level:metric:operation");
    }
}

#[test]
fn every_alert_is_explained_and_tested_both_ways() {
    let (rules, tests) = (read("uvs.rules.yml"), read("uvs.rules.test.yml"));
    let runbook = read("../../docs/alerts.md");
    let alerts = values(&rules, "alert");
    assert!(alerts.len() > 10);
    for key in ["summary", "description", "runbook_url"] {
        assert_eq!(values(&rules, key).len(), alerts.len(), "{key}");
    }
    for alert in alerts {
        assert!(
            runbook.contains(&format!("\n## {alert}\n")),
            "{alert} in docs/alerts.md"
        );
        let url = format!(
            "{{{{ $externalLabels.uvs_docs }}}}/alerts.md#{}\"\n",
            alert.to_lowercase()
        );
        assert!(rules.contains(&url), "{alert}: runbook_url");
        let silent = format!("alertname: {alert}, exp_alerts: []");
        assert!(tests.contains(&silent), "{alert} is not tested silent");
        let firing = format!("alertname: {alert}\n        exp_alerts:\n          - exp_labels:");
        assert!(tests.contains(&firing), "{alert} is not tested firing");
    }
}

#[test]
fn promtool_finds_the_rules_right() {
    for words in [
        ["check", "rules", "uvs.rules.yml"],
        ["test", "rules", "uvs.rules.test.yml"],
    ] {
        let output = Command::new("promtool")
            .args(words)
            .current_dir(directory())
            .output();
        let Ok(output) = output else {
            println!("skipped: promtool is not installed (apt-get install prometheus)");
            return;
        };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let wrong = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.contains("SUCCESS"),
            "{said}{wrong}"
        );
    }
}
