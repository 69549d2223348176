//! Debian's Prometheus scrapes four directors, one in each mode and two of them synchronised, while clients are served and
//! one real server fails until the alert fires; then every expression of every dashboard and rule is executed. None may be an error, none empty but
//! those that look for trouble, and what counts connections must say what the clients counted.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use uvs_lab::traffic::requests;
use uvs_lab::{Daemon, Lab, Mode, Options, SERVERS, tools};

use crate::lab::{start, uvs};
use crate::pair;
use crate::prometheus::{DOCS, PROGRAM, Prometheus, relays};

/// Whole cycles of the weights.
const REQUESTS: u32 = 60;
/// Several scrapes, which are a second apart.
const RATE_INTERVAL: &str = "30s";
/// Tries, a tenth of a second apart, until a condition must hold: three minutes, for a machine that is slow and an alert
/// that takes a minute to fire.
const TRIES: u32 = 1800;
const WEIGHTS: [u32; SERVERS] = [3, 1, 2];
/// Alerts that a failed server raises.
const EXPECTED_ALERTS: [&str; 2] = ["UvsBackendDown", "UvsDropsHigh"];

#[test]
fn every_expression_of_dashboards_and_rules_is_answered() {
    if tools::find(PROGRAM).is_err() {
        println!("skipped: {PROGRAM} is not installed (apt-get install {PROGRAM})");
        return;
    }
    let labs = Mode::ALL.map(|mode| Lab::build(mode, Options::default()).expect("a lab"));
    let [home, nat, fullnat, ipip] = &labs;
    let files = pair::join([home, ipip], WEIGHTS);
    let daemons = [
        configured(home, &files[0]),
        start(nat, WEIGHTS),
        start(fullnat, WEIGHTS),
        configured(ipip, &files[1]),
    ];
    let prometheus = Prometheus::start(&labs, &home.dir().join("tsdb"));
    thread::scope(|scope| {
        let _relays = relays(scope, &labs);
        serve(home, &prometheus);
        fail_a_server(home, &prometheus);
        // By now nothing of what was measured of home's clients is of the last minute.
        for lab in [nat, fullnat, ipip] {
            serve(lab, &prometheus);
        }
        prometheus.wait("uvs_sync_entries > 0 and on (instance) uvs_sync_delay_seconds");
        let mut table =
            String::from("| where | expression | series | values |\n| --- | --- | --- | --- |\n");
        dashboards(&prometheus, &mut table);
        rules(&prometheus, &mut table);
        keep(&table);
    });
    prometheus.stop();
    for daemon in daemons {
        daemon.stop().expect("stopped");
    }
}

/// A daemon in a lab with a file that has its service.
fn configured<'a>(lab: &'a Lab, file: &Path) -> Daemon<'a> {
    lab.prepare_servers(uvs()).expect("the real servers");
    let words = format!("--config {}", file.display());
    lab.start_daemon_with(uvs(), &words).expect("the daemon")
}

/// Clients are served, and Prometheus has what they counted. Twice, as a rate needs two values.
fn serve(lab: &Lab, prometheus: &Prometheus<'_>) {
    let mode = lab.plan.mode;
    let mut counted = [0; 3];
    for round in 1..=2 {
        let answers = requests(&lab.client, &lab.plan.url("/"), REQUESTS).expect("answers");
        for (count, server) in counted.iter_mut().zip(&lab.servers) {
            *count += answers.get(server.name()).copied().unwrap_or_default();
        }
        let all = round * REQUESTS;
        prometheus.wait(&format!(
            "sum(uvs_backend_connections_total{{mode=\"{mode}\"}}) == {all}"
        ));
    }
    for (count, address) in counted.iter().zip(&lab.plan.servers) {
        let rip = address.ip();
        let query = format!("uvs_backend_connections_total{{mode=\"{mode}\",rip=\"{rip}\"}}");
        assert_eq!(prometheus.numbers(&query), [f64::from(*count)], "{query}");
    }
}

/// One of DR's real servers loses its link, and clients go on asking.
fn fail_a_server(lab: &Lab, prometheus: &Prometheus<'_>) {
    let rip = lab.plan.servers[0].ip();
    let server = &lab.servers[0].host;
    server.ip("link set eth0 down").expect("down");
    let flush = format!("ip neigh flush to {rip}");
    lab.director.run(&flush).expect("flushed");
    for _ in 0..4 {
        let ask = format!("curl -s -o /dev/null -m 1 {}", lab.plan.url("/"));
        let _ = lab.client.run(&ask);
    }
    let down =
        format!("uvs_backend_up{{mode=\"dr\"}} == 0 and on (rip) uvs_backend_up{{rip=\"{rip}\"}}");
    prometheus.wait(&down);
    prometheus.wait("sum(rate(uvs_drops_total{reason=\"neighbour_unresolved\"}[30s])) > 0");
    prometheus.wait(&format!(
        "ALERTS{{alertname=\"UvsBackendDown\",alertstate=\"firing\",rip=\"{rip}\",runbook=\"{DOCS}/alerts.md#uvsbackenddown\"}}"
    ));
    let alerts: BTreeSet<String> = prometheus
        .query("group by (alertname) (ALERTS)")
        .iter()
        .map(|r| {
            r["metric"]["alertname"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    let other: Vec<_> = alerts
        .iter()
        .filter(|a| !EXPECTED_ALERTS.contains(&a.as_str()))
        .collect();
    assert!(other.is_empty(), "{other:?}");
    assert_eq!(
        prometheus
            .query("ALERTS{alertname=\"UvsBackendDown\"}")
            .len(),
        1
    );
}

fn dashboards(prometheus: &Prometheus<'_>, table: &mut String) {
    let mut panels = 0;
    for path in files("grafana/dashboards", "json") {
        let text = fs::read_to_string(&path).expect("a dashboard");
        let board: Value = serde_json::from_str(&text).expect("JSON");
        let title = board["title"].as_str().expect("a title");
        for mark in board["annotations"]["list"].as_array().expect("marks") {
            let name = format!(
                "{title}: {}, a mark",
                mark["name"].as_str().expect("a name")
            );
            let expr = substituted(mark["expr"].as_str().expect("an expression"));
            let any = prometheus.query(expr.strip_suffix(" > 0").expect("a condition"));
            assert!(!any.is_empty(), "{name}: {expr} is empty");
            row(table, &name, &expr, &prometheus.query(&expr));
        }
        for panel in board["panels"].as_array().expect("panels") {
            let name = format!("{title}: {}", panel["title"].as_str().expect("a title"));
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expr = substituted(target["expr"].as_str().expect("an expression"));
                let unconditional = unconditional(&expr, panel, prometheus);
                assert!(
                    !prometheus.query(unconditional).is_empty(),
                    "{name}: {expr} is empty"
                );
                row(table, &name, &expr, &prometheus.query(&expr));
                legend_fits(target, &prometheus.query(unconditional), &name);
                panels += 1;
            }
        }
    }
    assert!(panels > 60, "{panels}");
}

/// What of an expression is never empty: what only looks for trouble is while there is none, and what is of a hook where no
/// director has such a one, as without root; then its panel says so.
fn unconditional<'e>(expr: &'e str, panel: &Value, prometheus: &Prometheus<'_>) -> &'e str {
    let rest = expr.strip_suffix(" > 0").unwrap_or(expr);
    let Some((of_hook, there_is)) = rest.split_once(" and on (job, instance) uvs_hook_state")
    else {
        return rest;
    };
    let there_is = format!("uvs_hook_state{there_is}");
    if !prometheus.query(&there_is).is_empty() {
        return rest;
    }
    assert!(prometheus.query(expr).is_empty(), "{expr}");
    let says = &panel["fieldConfig"]["defaults"]["noValue"];
    assert!(says.is_string(), "{expr}: the panel says nothing");
    of_hook
}

/// Every label that a legend names is there.
fn legend_fits(target: &Value, results: &[Value], name: &str) {
    let legend = target["legendFormat"].as_str().unwrap_or_default();
    for part in legend.split("{{").skip(1) {
        let label = part.split("}}").next().unwrap_or_default();
        let all = results.iter().all(|r| r["metric"][label].is_string());
        assert!(all, "{name}: the legend's {label} is not in {results:?}");
    }
}

fn rules(prometheus: &Prometheus<'_>, table: &mut String) {
    let text = fs::read_to_string(exporter("rules/uvs.rules.yml")).expect("the rules");
    let mut name = "";
    for line in text.lines().map(|l| l.trim().trim_start_matches("- ")) {
        let value = |key| line.strip_prefix(key);
        if let Some(found) = value("record: ").or_else(|| value("alert: ")) {
            name = found;
        }
        if let Some(expr) = value("expr: ") {
            let results = prometheus.query(expr);
            // Prometheus evaluated the recording rule itself; an alert may be silent.
            let recorded = name.contains(':').then(|| prometheus.query(name));
            assert!(
                recorded.is_none_or(|r| !r.is_empty()),
                "{name} records nothing"
            );
            row(table, name, expr, &results);
        }
    }
}

fn row(table: &mut String, name: &str, expr: &str, results: &[Value]) {
    let values: Vec<String> = results
        .iter()
        .take(3)
        .map(|r| format!("{:.4}", number(r)))
        .collect();
    let more = if results.len() > values.len() {
        " …"
    } else {
        ""
    };
    let expr = expr.replace('|', "\\|");
    let (count, values) = (results.len(), values.join(" "));
    let _ = writeln!(table, "| {name} | `{expr}` | {count} | {values}{more} |");
}

/// The table of results, for whoever wants to see it. The documentation has one run's; it must be of these
/// expressions, and `UPDATE_DOCS=1` writes it.
fn keep(table: &str) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboards.md");
    fs::write(&path, table).expect("written");
    println!("{} has each expression with its result", path.display());
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/dashboards.md");
    let text = format!("{}{table}", include_str!("dashboards.md.in"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&page, &text).expect("written");
    }
    let kept = fs::read_to_string(&page).expect("the page");
    assert!(
        without_results(&kept) == without_results(&text),
        "docs/dashboards.md is about other expressions; write it again: \
         UPDATE_DOCS=1 cargo test -p uvs --test metrics every_expression"
    );
}

/// What does not differ from run to run: of a row, only where an expression is and what it says.
fn without_results(page: &str) -> Vec<&str> {
    let row = |line| str::rsplit_once(line, "` |").map_or(line, |(expression, _)| expression);
    page.lines().map(row).collect()
}

/// The variables as Grafana fills them in where all is chosen.
fn substituted(expr: &str) -> String {
    let names = ["job", "instance", "vip", "port", "proto"];
    let expr = expr.replace("$__rate_interval", RATE_INTERVAL);
    names
        .iter()
        .fold(expr, |e, name| e.replace(&format!("${name}"), ".+"))
}

fn number(result: &Value) -> f64 {
    let value = result["value"][1].as_str().and_then(|v| v.parse().ok());
    value.unwrap_or_else(|| panic!("no number in {result}"))
}

fn exporter(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../exporter")
        .join(path)
}

fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(exporter(directory)).expect("a directory");
    let paths = entries.map(|e| e.expect("an entry").path());
    let mut paths: Vec<_> = paths
        .filter(|p| p.extension().is_some_and(|e| e == extension))
        .collect();
    paths.sort();
    paths
}

impl Prometheus<'_> {
    fn numbers(&self, expr: &str) -> Vec<f64> {
        self.query(expr).iter().map(number).collect()
    }

    /// Waits until a query has a result.
    fn wait(&self, expr: &str) {
        for _ in 0..TRIES {
            if !self.query(expr).is_empty() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        let targets = self.query("up");
        panic!("{expr} never came true; targets: {targets:?}");
    }
}
