//! The rules of grafana/dashboard-linter that apply to us, on the classic JSON model. That an expression is
//! valid PromQL is left to Prometheus itself.

use serde_json::Value;

use super::names;

const MATCHERS: [(&str, &str); 2] = [
    ("job", "job=~\"$job\""),
    ("instance", "instance=~\"$instance\""),
];

/// What is wrong with a dashboard, each a sentence.
pub(crate) fn problems(board: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let text = |v: &Value, key: &str| v[key].as_str().unwrap_or_default().to_owned();
    if board["editable"] != false {
        found.push("editable must be false".to_owned());
    }
    if text(board, "uid").is_empty() || !board["id"].is_null() {
        found.push("a fixed uid and no id".to_owned());
    }
    for key in ["title", "description", "refresh"] {
        if text(board, key).is_empty() {
            found.push(format!("the dashboard has no {key}"));
        }
    }
    variables(board, &mut found);
    let empty = Vec::new();
    for panel in board["panels"].as_array().unwrap_or(&empty) {
        if panel["type"] != "row" {
            let mut of_panel = Vec::new();
            check_panel(panel, &mut of_panel);
            let title = text(panel, "title");
            found.extend(of_panel.into_iter().map(|p| format!("{title}: {p}")));
        }
    }
    found
}

fn variables(board: &Value, found: &mut Vec<String>) {
    let list = &board["templating"]["list"];
    let first = &list[0];
    if first["name"] != "datasource"
        || first["type"] != "datasource"
        || first["query"] != "prometheus"
    {
        found.push("the first variable must be the datasource".to_owned());
    }
    for (i, name) in ["job", "instance"].into_iter().enumerate() {
        let v = &list[i + 1];
        let all = v["multi"] == true && v["includeAll"] == true && v["allValue"] == ".+";
        let values = v["query"]["query"].as_str().unwrap_or_default();
        if v["name"] != name || !all || !values.starts_with("label_values(") {
            found.push(format!(
                "the variable {name}: label_values, multi, includeAll, allValue .+"
            ));
        }
    }
    let empty = Vec::new();
    for v in list.as_array().unwrap_or(&empty).iter().skip(1) {
        if v["refresh"] != 2 {
            found.push(format!(
                "the variable {}: refresh must be 2, on time change",
                v["name"]
            ));
        }
        if v["datasource"]["uid"] != "${datasource}" {
            found.push(format!("the variable {}: datasource", v["name"]));
        }
    }
}

fn check_panel(panel: &Value, found: &mut Vec<String>) {
    let kinds = ["timeseries", "stat", "gauge", "bargauge", "table"];
    if !kinds.iter().any(|k| panel["type"] == *k) {
        found.push(format!(
            "the type {} cannot be drawn by our check",
            panel["type"]
        ));
    }
    for key in ["title", "description"] {
        if panel[key].as_str().is_none_or(str::is_empty) {
            found.push(format!("no {key}"));
        }
    }
    if panel["datasource"]["uid"] != "${datasource}" {
        found.push("the datasource must be the variable".to_owned());
    }
    let unit = &panel["fieldConfig"]["defaults"]["unit"];
    if unit.as_str().is_none_or(str::is_empty) {
        found.push("no unit".to_owned());
    }
    let targets = panel["targets"].as_array().cloned().unwrap_or_default();
    if targets.is_empty() {
        found.push("no targets".to_owned());
    }
    for target in &targets {
        check_expression(target["expr"].as_str().unwrap_or_default(), found);
    }
}

/// Whether Prometheus makes series of this name by our rules.
fn is_of_rules(name: &str) -> bool {
    let rules = include_str!("../../rules/uvs.rules.yml");
    matches!(name, "ALERTS" | "ALERTS_FOR_STATE") || rules.contains(&format!("- record: {name}\n"))
}

fn check_expression(expr: &str, found: &mut Vec<String>) {
    let names = names::metrics_in(expr);
    if names.is_empty() {
        found.push(format!("no metric in {expr}"));
    }
    for name in names
        .iter()
        .filter(|n| !names::is_known(n) && !is_of_rules(n))
    {
        found.push(format!(
            "{name} is no metric of the exporter's or the rules'"
        ));
    }
    for (what, matcher) in MATCHERS {
        if expr.matches(matcher).count() < names.len() {
            found.push(format!(
                "a selector without the {what} matcher {matcher}: {expr}"
            ));
        }
    }
    let ranges = expr.matches('[').count();
    if expr.matches("[$__rate_interval]").count() != ranges {
        found.push(format!("a range other than $__rate_interval: {expr}"));
    }
    let is_counter = |n: &&String| {
        ["_total", "_bucket", "_sum", "_count"]
            .iter()
            .any(|s| n.ends_with(s))
    };
    let counters = names.iter().filter(is_counter).count();
    let rates = ["rate(", "irate(", "increase("];
    let rated: usize = rates.iter().map(|f| expr.matches(&format!("{f}uvs_")).count()
        + expr.matches(&format!("{f}process_")).count()).sum::<usize>()
        // `irate(` has `rate(` in it.
        - expr.matches("irate(uvs_").count() - expr.matches("irate(process_").count();
    if counters != rated {
        found.push(format!(
            "a counter without rate, or a rate of something else: {expr}"
        ));
    }
}
