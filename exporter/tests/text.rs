//! The text of `/metrics`: all of the catalogue and nothing else, with its types and labels; and the
//! documentation that is made from it.

#[path = "common/sample.rs"]
mod sample;
#[path = "common/written.rs"]
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use sample::{backend, port, service, snapshot, stats, worker};
use uvs_core::counters::ScheduleFailure;
use uvs_core::service::ServiceKey;
use uvs_core::verdict::DropReason;
use uvs_exporter::catalog::{self, Kind};
use uvs_exporter::{MetricSnapshot, render};

fn text(snapshot: MetricSnapshot) -> String {
    render(Arc::new(snapshot)).expect("it can be encoded")
}

/// The value of the one series that is written so.
fn value(text: &str, series: &str) -> f64 {
    let mut found = text.lines().filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        (name == series).then_some(value)
    });
    let value = found
        .next()
        .unwrap_or_else(|| panic!("no {series} in\n{text}"));
    assert_eq!(found.next(), None, "{series} twice");
    value.parse().expect("a number")
}

fn sum(text: &str, prefix: &str) -> f64 {
    let lines = text.lines().filter(|line| line.starts_with(prefix));
    lines
        .map(|line| {
            line.rsplit_once(' ')
                .map_or(0.0, |(_, v)| v.parse().expect("a number"))
        })
        .sum()
}

/// The labels of each metric as they appear, without a histogram's `le`.
fn labels(text: &str) -> BTreeMap<String, BTreeSet<Vec<String>>> {
    let mut all: BTreeMap<String, BTreeSet<Vec<String>>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let series = line.rsplit_once(' ').expect("a value").0;
        let (name, rest) = series.split_once('{').unwrap_or((series, ""));
        let names = rest
            .trim_end_matches('}')
            .split("\",")
            .filter_map(|l| l.split_once('='));
        let names = names
            .map(|(name, _)| name.to_owned())
            .filter(|name| name != "le");
        let name = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .filter(|n| n.ends_with("_seconds") || n.ends_with("_size"))
            .unwrap_or(name);
        all.entry(name.to_owned())
            .or_default()
            .insert(names.collect());
    }
    all
}

#[test]
fn the_catalogue_is_served_and_nothing_else() {
    let text = text(snapshot());
    let served = labels(&text);
    let known = || catalog::ALL.iter().chain(&catalog::NODE_IPVS);
    for definition in known() {
        let expected: Vec<String> = definition.labels.iter().map(|l| (*l).to_owned()).collect();
        let found = served.get(definition.name);
        let found = found.unwrap_or_else(|| panic!("{} is not served", definition.name));
        assert_eq!(*found, BTreeSet::from([expected]), "{}", definition.name);
        let head = format!("# TYPE {} {}\n", definition.name, definition.kind.name());
        assert!(text.contains(&head), "{head}");
        let counter = definition.kind == Kind::Counter;
        assert_eq!(
            definition.name.ends_with("_total"),
            counter,
            "{}",
            definition.name
        );
    }
    let unknown: Vec<_> = served
        .keys()
        .filter(|name| known().all(|d| d.name != **name))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn a_plugin_says_how_long_it_takes_and_whether_it_is_at_work() {
    let served = |snapshot| {
        let text = text(snapshot);
        move |name: &str, more: &str| {
            let series = format!(
                "uvs_scheduler_{name}{{vip=\"192.168.0.38\",port=\"80\",proto=\"tcp\",scheduler=\"p2c\"{more}}}"
            );
            value(&text, &series)
        }
    };
    let of = served(snapshot());
    for (bound, picks) in [("0.00000025", 0.0), ("0.000001", 1.0), ("0.001", 1.0)] {
        let more = format!(",le=\"{bound}\"");
        assert_eq!(of("pick_seconds_bucket", &more), picks, "{bound}");
    }
    assert_eq!(of("pick_seconds_bucket", ",le=\"0.0025\""), 2.0);
    assert_eq!(of("pick_seconds_count", ""), 2.0);
    assert_eq!(
        (of("over_budget_total", ""), of("fallback", "")),
        (1.0, 1.0)
    );

    let mut well = snapshot();
    let numbers = &mut well.services[0].numbers;
    numbers.plugin.as_mut().expect("a plugin").fallback = None;
    assert_eq!(served(well)("fallback", ""), 0.0);

    let mut built_in = snapshot();
    built_in.services[0].numbers.plugin = None;
    assert!(!text(built_in).contains("\nuvs_scheduler_fallback"));
}

#[test]
fn series_are_there_at_0_from_the_start() {
    let mut fresh = snapshot();
    fresh.workers = vec![worker(uvs_exporter::PortMetrics {
        interface: "eth0".to_owned(),
        ..Default::default()
    })];
    let text = text(fresh);
    for reason in DropReason::ALL {
        let (reason, stage) = (reason.label(), reason.stage().label());
        let series = format!(
            "uvs_drops_total{{reason=\"{reason}\",stage=\"{stage}\",interface=\"eth0\",worker=\"0\"}}"
        );
        assert_eq!(value(&text, &series), 0.0);
    }
    for failure in ScheduleFailure::ALL {
        let series = format!(
            "uvs_schedule_failures_total{{vip=\"192.168.0.38\",port=\"80\",proto=\"tcp\",reason=\"{}\"}}",
            failure.label()
        );
        assert_eq!(value(&text, &series), 0.0);
    }
}

#[test]
fn what_is_unaccounted_is_the_difference() {
    let both = |p| {
        let text = text(MetricSnapshot {
            workers: vec![worker(p)],
            ..snapshot()
        });
        let of = |name| value(&text, &format!("{name}{{interface=\"eth0\",worker=\"0\"}}"));
        (of("uvs_frames_unaccounted"), of("uvs_frames_unsent"))
    };
    assert_eq!(both(port("eth0")), (0.0, 0.0));
    let mut wrong = port("eth0");
    wrong.received += 2;
    wrong.waiting += 5;
    assert_eq!(both(wrong), (2.0, -5.0));
}

#[test]
fn each_worker_has_series_of_its_own_and_an_interface_one_state() {
    let mut second = worker(port("eth0"));
    (second.busy, second.ports[0].received) = (7.5, 20);
    let text = text(MetricSnapshot {
        workers: vec![worker(port("eth0")), second],
        ..snapshot()
    });
    let of = |name: &str, labels| value(&text, &format!("{name}{{{labels}}}"));
    for (number, received, busy) in [(0, 12.0, 1.5), (1, 20.0, 7.5)] {
        let labels = format!("interface=\"eth0\",worker=\"{number}\"");
        assert_eq!(of("uvs_frames_received_total", labels), received);
        let labels = format!("worker=\"{number}\"");
        assert_eq!(of("uvs_worker_busy_seconds_total", labels), busy);
    }
    assert_eq!(text.matches("\nuvs_interface_up{").count(), 1);
}

#[test]
fn too_many_real_servers_leave_the_services() {
    let backends: Vec<_> = (1..=101).map(backend).collect();
    let text = text(MetricSnapshot {
        services: vec![service(backends)],
        node_ipvs: false,
        ..snapshot()
    });
    assert_eq!(value(&text, "uvs_metrics_truncated"), 1.0);
    assert!(!text.contains("\nuvs_backend_"));
    let active =
        "uvs_service_connections{vip=\"192.168.0.38\",port=\"80\",proto=\"tcp\",state=\"active\"}";
    assert_eq!(value(&text, active), 101.0);
}

#[test]
fn a_real_server_is_in_the_state_that_excludes_it_most() {
    let mut all = [18, 28, 38, 48, 58].map(backend);
    all[1].spec.weight = 0;
    all[2].numbers.overloaded = true;
    (all[3].numbers.overloaded, all[3].reachable) = (true, false);
    let text = text(MetricSnapshot {
        services: vec![service(all.to_vec())],
        ..snapshot()
    });
    for (state, count) in [
        ("up", 2.0),
        ("drained", 1.0),
        ("overloaded", 1.0),
        ("down", 1.0),
    ] {
        let series = format!(
            "uvs_service_backends{{vip=\"192.168.0.38\",port=\"80\",proto=\"tcp\",state=\"{state}\"}}"
        );
        assert_eq!(value(&text, &series), count, "{state}");
    }
}

#[test]
fn a_firewall_marks_service_has_its_mark() {
    let mut marked = service(vec![backend(18)]);
    marked.key = ServiceKey::Mark {
        mark: 255,
        ipv6: false,
    };
    let text = text(MetricSnapshot {
        services: vec![marked],
        ..snapshot()
    });
    assert_eq!(
        value(&text, "uvs_service_connections_total{fwmark=\"255\"}"),
        46.0
    );
    let node = "node_ipvs_backend_weight{local_address=\"\",local_port=\"0\",remote_address=\"192.168.0.18\",remote_port=\"80\",proto=\"FWM\",local_mark=\"000000FF\"}";
    assert_eq!(value(&text, node), 3.0);
}

#[test]
fn node_exporters_totals_keep_what_removed_services_had() {
    let with = text(snapshot());
    assert_eq!(value(&with, "node_ipvs_connections_total"), 50.0);
    assert_eq!(
        value(&with, "node_ipvs_outgoing_bytes_total"),
        stats(50).out_bytes as f64
    );
    let without = text(MetricSnapshot {
        node_ipvs: false,
        ..snapshot()
    });
    assert!(!without.contains("node_ipvs"));
}

#[test]
fn buckets_are_cumulative_and_end_with_all() {
    let text = text(snapshot());
    assert_eq!(
        value(&text, "uvs_forward_latency_seconds_bucket{le=\"0.000001\"}"),
        2.0
    );
    assert_eq!(
        value(&text, "uvs_forward_latency_seconds_bucket{le=\"0.1\"}"),
        32.0
    );
    assert_eq!(
        value(&text, "uvs_forward_latency_seconds_bucket{le=\"+Inf\"}"),
        33.0
    );
    assert_eq!(value(&text, "uvs_forward_latency_seconds_count"), 33.0);
}

#[test]
fn a_handshake_that_is_not_known_has_no_series() {
    let mut s = snapshot();
    let backends = &mut s.services[0].backends;
    (backends[0].numbers.handshake, backends[1].numbers.handshake) = (450, 0);
    let text = text(s);
    let lines: Vec<&str> = text
        .lines()
        .filter(|l| l.starts_with("uvs_backend_handshake_seconds{"))
        .collect();
    assert!(
        matches!(lines[..], [one] if one.ends_with(" 0.00045")),
        "{lines:?}"
    );
}

#[test]
fn the_process_is_this_one() {
    let text = text(snapshot());
    assert!(value(&text, "process_open_fds") >= 3.0);
    assert!(value(&text, "process_resident_memory_bytes") > 1e5);
    assert!(sum(&text, "process_start_time_seconds ") > 1.6e9);
}

#[test]
fn the_documentation_is_the_catalogues() {
    written::must_be_written("../docs/metrics.md", &catalog::markdown());
}

/// Prometheus's own linter, where it is installed.
#[test]
fn promtool_finds_nothing_to_criticise() {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        println!("skipped: promtool is not installed (apt-get install prometheus)");
        return;
    };
    let text = text(MetricSnapshot {
        node_ipvs: false,
        ..snapshot()
    });
    let mut stdin = promtool.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("it reads");
    drop(stdin);
    let output = promtool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}
