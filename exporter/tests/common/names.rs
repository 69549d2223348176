//! Metrics by name, as rules and dashboards write them.

use uvs_exporter::catalog;

/// The names in an expression that can only be metrics': they begin as ours do, or have colons.
pub(crate) fn metrics_in(expression: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    // Every second part is a label's value.
    let bare = expression.split('"').step_by(2);
    let words = bare.flat_map(|part| part.split(|c| !is_part(c)));
    let ours = |w: &&str| {
        ["uvs_", "process_", "node_"]
            .iter()
            .any(|p| w.starts_with(p))
            || w.split(':').count() == 3
            || *w == "up"
            || w.starts_with("ALERTS")
    };
    words.filter(ours).map(str::to_owned).collect()
}

/// Whether the exporter serves a series of this name.
pub(crate) fn is_known(name: &str) -> bool {
    let histogram = ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix));
    let all = || catalog::ALL.iter().chain(&catalog::NODE_IPVS);
    all().any(|d| match d.kind {
        catalog::Kind::Histogram => Some(d.name) == histogram,
        catalog::Kind::Counter | catalog::Kind::Gauge => d.name == name,
    })
}
