//! The alerts and recording rules: what they name exists, each alert has a page and is tested firing and silent,
//! and promtool, where it is installed, finds them right.

#[path = "common/names.rs"]
mod names;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

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

/// Where the documentation is, as Prometheus fills it in.
const DOCS: &str = "{{ $externalLabels.uvs_docs }}";

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
        let url = format!("\"{DOCS}/alerts.md#{}\"", alert.to_lowercase());
        let places = [
            format!("runbook: {url}}}\n"),
            format!("runbook_url: {url}\n"),
        ];
        for place in places {
            assert!(rules.contains(&place), "{alert}: {place}");
        }
        let silent = format!("alertname: {alert}, exp_alerts: []");
        assert!(tests.contains(&silent), "{alert} is not tested silent");
        let firing = format!("alertname: {alert}\n        exp_alerts:\n          - exp_labels:");
        assert!(tests.contains(&firing), "{alert} is not tested firing");
    }
}

/// A heading's anchor, as Markdown's renderers make it.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    let lower: String = kept.flat_map(char::to_lowercase).collect();
    lower.replace(' ', "-")
}

/// On the boards an alert leads to its section of docs/alerts.md: by its label, which the list's query keeps and a
/// cell's link is.
#[test]
fn listed_alerts_lead_to_their_sections() {
    let runbook = read("../../docs/alerts.md");
    let headings = runbook.lines().filter_map(|l| l.strip_prefix("## "));
    let anchors: BTreeSet<String> = headings.map(anchor).collect();
    let rules = read("uvs.rules.yml");
    let labels = values(&rules, "labels");
    let labels = labels.iter().map(|l| {
        let rest = l.split("runbook: \"").nth(1).expect("a runbook");
        rest.trim_end_matches("\"}")
    });
    let docs = "https://wiki.example/uvs";
    let addresses: Vec<String> = labels.map(|l| l.replace(DOCS, docs)).collect();
    assert_eq!(addresses.len(), values(&rules, "alert").len());
    for board in ["overview", "service"] {
        let text = read(&format!("../grafana/dashboards/uvs-{board}.json"));
        let board: Value = serde_json::from_str(&text).expect("JSON");
        let panels = board["panels"].as_array().expect("panels");
        let list = panels.iter().find(|p| p["title"] == "Firing alerts");
        let list = list.expect("a list of alerts");
        let query = list["targets"][0]["expr"].as_str().expect("a query");
        let kept = query.split("by (").nth(1).and_then(|q| q.split(')').next());
        assert!(
            kept.is_some_and(|k| k.split(", ").any(|l| l == "runbook")),
            "{query}"
        );
        let overrides = list["fieldConfig"]["overrides"].as_array().expect("a list");
        let cell = overrides
            .iter()
            .find(|o| o["matcher"]["options"] == "runbook");
        let properties = cell.expect("a cell")["properties"]
            .as_array()
            .expect("a list");
        let link = properties
            .iter()
            .find(|p| p["id"] == "links")
            .expect("a link");
        let form = link["value"][0]["url"].as_str().expect("an address");
        for address in &addresses {
            let leads = form.replace("${__value.raw}", address);
            let anchor = leads.strip_prefix(&format!("{docs}/alerts.md#"));
            assert!(
                anchor.is_some_and(|a| anchors.contains(a)),
                "{leads}: {anchors:?}"
            );
        }
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
