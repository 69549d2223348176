//! What users start beside a director: the compose file mounts files that exist, where its programs look for them,
//! and promtool, where it is installed, accepts Prometheus's configuration.

use std::fs;
use std::path::Path;
use std::process::Command;

const GRAFANA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/grafana");

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(GRAFANA).join(path)).expect("it is there")
}

/// The compose file's mounts of files: here and there.
fn mounts(compose: &str) -> Vec<(&str, &str)> {
    let lines = compose.lines().map(str::trim);
    let mounted = lines.filter_map(|l| l.strip_prefix("- ")?.strip_suffix(":ro"));
    mounted.filter_map(|l| l.split_once(':')).collect()
}

#[test]
fn the_compose_file_mounts_what_there_is() {
    let compose = read("compose.yml");
    let mounts = mounts(&compose);
    assert_eq!(mounts.len(), 4, "{mounts:?}");
    for (here, _) in &mounts {
        assert!(Path::new(GRAFANA).join(here).exists(), "{here}");
    }
    let mounted_at = |file: &str| {
        let found = mounts.iter().find(|(here, _)| here.ends_with(file));
        found.map(|(_, there)| *there).expect("mounted")
    };
    let configuration = mounted_at("prometheus.yml");
    assert!(compose.contains(&format!("--config.file={configuration}")));
    // Prometheus looks for rules beside its configuration.
    let rules = Path::new(mounted_at("uvs.rules.yml"));
    assert_eq!(rules.parent(), Path::new(configuration).parent());
    let provider = read("provisioning/dashboards/uvs.yml");
    assert!(provider.contains(&format!("path: {}", mounted_at("dashboards"))));
}

#[test]
fn grafana_asks_the_prometheus_that_is_started_as_often_as_it_scrapes() {
    let compose = read("compose.yml");
    let listens = compose.split("--web.listen-address=").nth(1);
    let listens = listens
        .and_then(|l| l.split(']').next())
        .expect("an address");
    let source = read("provisioning/datasources/prometheus.yml");
    assert!(
        source.contains(&format!("url: http://{listens}\n")),
        "{listens}"
    );
    let prometheus = read("prometheus.yml");
    let interval = prometheus.split("scrape_interval: ").nth(1);
    let interval = interval
        .and_then(|i| i.lines().next())
        .expect("an interval");
    assert!(
        source.contains(&format!("timeInterval: {interval}}}")),
        "{interval}"
    );
}

#[test]
fn promtool_accepts_the_configuration() {
    let here = Path::new(env!("CARGO_TARGET_TMPDIR")).join("provisioning");
    fs::create_dir_all(&here).expect("a directory");
    for file in ["prometheus.yml", "../rules/uvs.rules.yml"] {
        let name = Path::new(file).file_name().expect("a name");
        fs::write(here.join(name), read(file)).expect("written");
    }
    let mut check = Command::new("promtool");
    check
        .args(["check", "config"])
        .arg(here.join("prometheus.yml"));
    let Ok(output) = check.output() else {
        println!("skipped: promtool is not installed (apt-get install prometheus)");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("1 rule files found"), "{said}");
}
