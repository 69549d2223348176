//! The Grafana dashboards: made from the boards described here, and held to the rules of grafana's
//! dashboard-linter that apply. `UPDATE_DOCS=1 cargo test -p uvs-exporter` writes them.
//!
//! Their expressions are executed against a real Prometheus in the test `metrics` of package `uvs`.

mod boards;
mod lint;
mod model;
#[path = "../common/names.rs"]
mod names;
#[path = "../common/written.rs"]
mod written;

use model::Board;

fn all() -> [Board; 3] {
    [boards::overview(), boards::service(), boards::data_path()]
}

#[test]
fn the_kept_dashboards_are_the_described_ones() {
    for board in all() {
        let text = serde_json::to_string_pretty(&board.json()).expect("JSON") + "\n";
        let path = format!("grafana/dashboards/{}.json", board.uid);
        written::must_be_written(&path, &text);
    }
}

#[test]
fn the_kept_dashboards_keep_the_linters_rules() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/grafana/dashboards");
    let entries = std::fs::read_dir(directory).expect("the dashboards");
    let paths: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
    assert_eq!(paths.len(), all().len());
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("read");
        let board = serde_json::from_str(&text).expect("JSON");
        let problems = lint::problems(&board);
        assert!(problems.is_empty(), "{}: {problems:#?}", path.display());
    }
}

/// The rules find what they are for: each of these boards breaks one.
#[test]
fn broken_dashboards_are_found() {
    let board = boards::overview().json();
    assert_eq!(lint::problems(&board), Vec::<String>::new());
    let broken = [
        ("/editable", true.into(), "editable"),
        ("/uid", "".into(), "uid"),
        ("/templating/list/0/name", "source".into(), "datasource"),
        ("/templating/list/1/refresh", 1.into(), "refresh"),
        ("/panels/1/title", "".into(), "title"),
        ("/panels/1/description", "".into(), "description"),
        ("/panels/1/datasource/uid", "P1".into(), "datasource"),
        ("/panels/1/fieldConfig/defaults/unit", "".into(), "unit"),
        ("/panels/1/targets", serde_json::json!([]), "no targets"),
        ("/panels/1/targets/0/expr", "uvs_ready".into(), "job"),
        (
            "/panels/1/targets/0/expr",
            "rate(uvs_drops_total{job=~\"$job\",instance=~\"$instance\"}[5m])".into(),
            "$__rate_interval",
        ),
        (
            "/panels/1/targets/0/expr",
            "sum(uvs_drops_total{job=~\"$job\",instance=~\"$instance\"})".into(),
            "counter",
        ),
        (
            "/panels/1/targets/0/expr",
            "uvs_redy{job=~\"$job\",instance=~\"$instance\"}".into(),
            "uvs_redy",
        ),
    ];
    for (place, value, expected) in broken {
        let mut changed = board.clone();
        *changed
            .pointer_mut(place)
            .unwrap_or_else(|| panic!("no {place}")) = value;
        let problems = lint::problems(&changed).join("\n");
        assert!(problems.contains(expected), "{place}: {problems:?}");
    }
}
