//! The three boards: what an operator looks at first, one service, and the path of a frame.

use super::model::Kind::{Bars, Lines, Stacked, Stat, Table};
use super::model::{Board, Panel, panel};

/// Is it well, and how much does it do?
pub(crate) fn overview() -> Board {
    Board {
        uid: "uvs-overview",
        title: "UVS / Overview",
        description: "All directors and services: state, traffic, drops, latency, real servers.",
        variables: &[],
        rows: vec![
            ("State", overview_state()),
            ("Alerts", vec![alerts_table("$$")]),
            ("Traffic", overview_traffic()),
            ("Trouble and latency", overview_trouble()),
            (
                "Real servers",
                vec![
                    backends_table("$$")
                        .link("vip", "The service", TO_SERVICE)
                        .height(13),
                ],
            ),
        ],
    }
}

fn overview_state() -> Vec<Panel> {
    vec![
        panel(Stat, "Ready", "none", "Whether every director can serve (/readyz): configuration in force, interfaces up, guard present, worker alive.")
            .query("min(uvs_ready{$$})", "")
            .red_below(1.0)
            .word("0", "NOT READY", "red")
            .word("1", "ready", "green"),
        panel(Stat, "Critical alerts", "short", "Alerts of severity critical that fire: the service is hurt, or about to be.")
            .query(&firing("critical"), "")
            .none("no rules")
            .red_from(1.0),
        panel(Stat, "Other alerts", "short", "Alerts of severity warning and info that fire.")
            .query(&firing("warning|info"), "")
            .none("no rules")
            .orange_from(1.0),
        panel(Stat, "Real servers not up", "short", "Real servers that take no new connections: down, drained or overloaded.")
            .query(r#"sum(uvs_service_backends{$$,state!="up"})"#, "")
            .red_from(1.0),
        panel(Stat, "Frames dropped", "percentunit", "Frames dropped of those received.")
            .query("sum(rate(uvs_drops_total{$$}[$__rate_interval])) / (sum(rate(uvs_frames_received_total{$$}[$__rate_interval])) + sum(rate(uvs_frames_in_kernel_total{$$}[$__rate_interval])))", "")
            .red_from(0.01),
        panel(Stat, "Busiest worker", "percentunit", "The part of its time that the busiest worker works.")
            .query("max(rate(uvs_worker_busy_seconds_total{$$}[$__rate_interval]) / (rate(uvs_worker_busy_seconds_total{$$}[$__rate_interval]) + rate(uvs_worker_poll_seconds_total{$$}[$__rate_interval])))", "")
            .red_from(0.9),
    ]
}

/// How many alerts of these severities fire; nothing where Prometheus has no rules of UVS's, which is not 0.
fn firing(severities: &str) -> String {
    format!(
        r#"count(ALERTS{{$$,alertname=~"Uvs.+",alertstate="firing",severity=~"{severities}"}}) or 0 * (count(ALERTS{{$$,alertname=~"Uvs.+"}}) or count(worker:uvs_busy:ratio_rate5m{{$$}}))"#
    )
}

/// What fires, for how long, where, and what leads to what is to be done.
fn alerts_table(selector: &str) -> Panel {
    let alerts = format!(r#"{selector},alertname=~"Uvs.+""#);
    let age = format!(
        r#"(time() - ALERTS_FOR_STATE{{{alerts}}}) and ignoring (alertstate) ALERTS{{{alerts},alertstate="firing"}}"#
    );
    let about = r#""fwmark", "interface", "laddr", "worker", "name", "reason""#;
    let joined = format!(
        r#"label_replace(label_join({age}, "about", " ", {about}), "about", "$1", "about", " *(.*?) *")"#
    );
    panel(
        Table,
        "Firing alerts",
        "short",
        "What fires, and for how long it has been so. The runbook says what it means, how to look closer and what to do; where it leads is said by Prometheus's external label uvs_docs (docs/alerts.md).",
    )
    .labels(ALERT_COLUMNS)
    .column(
        &format!("max by (severity, alertname, instance, vip, port, rip, about, runbook) ({joined})"),
        "for",
        "s",
    )
    .marked(
        "severity",
        &[("critical", "red"), ("warning", "orange"), ("info", "blue")],
    )
    .addresses("runbook", "What it means and what to do", "runbook")
    .link("vip", "The service", TO_SERVICE)
    .sorted("severity")
    .none("No alert fires, as far as Prometheus has rules.")
    .height(7)
}

const ALERT_COLUMNS: &[(&str, &str)] = &[
    ("severity", "severity"),
    ("alertname", "alert"),
    ("instance", "director"),
    ("vip", "VIP"),
    ("port", "port"),
    ("rip", "real server"),
    ("about", "about"),
    ("runbook", "what to do"),
];

/// The service of a table's row, on its own board.
const TO_SERVICE: &str = "/d/uvs-service?var-vip=${__data.fields.vip}&var-port=${__data.fields.port}&${datasource:queryparam}&${job:queryparam}&${instance:queryparam}&${__url_time_range}";

fn overview_traffic() -> Vec<Panel> {
    vec![
        panel(Stat, "New connections", "cps", "Connections scheduled a second.")
            .query("sum(rate(uvs_service_connections_total{$$}[$__rate_interval]))", "")
            .width(8),
        panel(Stat, "Active connections", "short", "Connections that IPVS counts as active: for TCP, established or being so.")
            .query(r#"sum(uvs_service_connections{$$,state="active"})"#, "")
            .width(8),
        panel(Stat, "Throughput", "Bps", "IP bytes a second, both directions as far as they pass the director.")
            .query("sum(rate(uvs_service_bytes_total{$$}[$__rate_interval]))", "")
            .width(8),
        panel(Lines, "New connections by service", "cps", "Connections scheduled a second.")
            .query("sum by (vip, port, proto) (rate(uvs_service_connections_total{$$}[$__rate_interval]))", "{{vip}}:{{port}} {{proto}}"),
        panel(Stacked, "Connections by state", "short", "Connections and persistence templates in the table.")
            .query("sum by (state) (uvs_service_connections{$$})", "{{state}}")
            .colour("active", "green")
            .colour("inactive", "blue")
            .colour("persistent", "purple"),
        panel(Lines, "Bytes by service and direction", "Bps", "IP bytes forwarded a second. Replies are seen only in modes where they pass the director (NAT, FULLNAT).")
            .query(r#"sum by (vip, port, proto) (rate(uvs_service_bytes_total{$$,direction="in"}[$__rate_interval]))"#, "{{vip}}:{{port}} {{proto}} in")
            .query(&format!(r#"sum by (vip, port, proto) (rate(uvs_service_bytes_total{{$$,direction="out"}}[$__rate_interval])) unless on (vip, port, proto) (uvs_backend_up{{$$}} unless on (vip, port, proto) uvs_backend_up{{$$,{REPLIES_PASS}}})"#), "{{vip}}:{{port}} {{proto}} out"),
        panel(Lines, "Packets by direction", "pps", "IP packets forwarded a second; a super-frame is one.")
            .query("sum by (direction) (rate(uvs_service_packets_total{$$}[$__rate_interval]))", "{{direction}}"),
    ]
}

fn overview_trouble() -> Vec<Panel> {
    vec![
        panel(Stacked, "Drops by reason", PER_SECOND, "Frames dropped a second. docs/drops.md says what each reason means and what to do.")
            .query("sum by (reason) (rate(uvs_drops_total{$$}[$__rate_interval])) > 0", "{{reason}}")
            .none("No drops seen."),
        panel(Lines, "Refused connections by reason", PER_SECOND, "New connections that got no real server.")
            .query("sum by (reason) (rate(uvs_schedule_failures_total{$$}[$__rate_interval]))", "{{reason}}"),
        panel(Lines, "Failed handshakes by real server", PER_SECOND, "Handshakes of clients a second that a real server reset or did not answer, in modes that see replies (NAT, FULLNAT).")
            .query(r#"sum by (vip, port, rip, rport, result) (rate(uvs_backend_handshakes_total{$$,result!="ok"}[$__rate_interval])) > 0"#, "{{vip}}:{{port}} {{rip}}:{{rport}} {{result}}")
            .none("None seen to fail.")
            .width(24),
        panel(Lines, "Forwarding latency", "s", "What the director itself adds: from a frame's arrival in the ring until the batch with it was sent.")
            .query("histogram_quantile(0.5, sum by (le) (rate(uvs_forward_latency_seconds_bucket{$$}[$__rate_interval])))", "median")
            .query("histogram_quantile(0.99, sum by (le) (rate(uvs_forward_latency_seconds_bucket{$$}[$__rate_interval])))", "99 %"),
        panel(Lines, "Differences from the configuration file", "short", "In how many places what runs differs from the file as it was last read: drained servers, weights that a health checker set, what came by ipvsadm. `uvs diff` names them.")
            .query("uvs_config_drift{$$}", "{{instance}}")
            .none("No director has a configuration file."),
        panel(Bars, "Connection table in use", "percentunit", "Entries of the limit, by director.")
            .query("uvs_conntrack_entries{$$} / uvs_conntrack_limit{$$}", "{{instance}}")
            .maximum(1.0)
            .red_from(0.8),
        panel(Bars, "FULLNAT's local ports in use", "percentunit", "Ports of each local address, towards the real server that has most of them.")
            .query("uvs_snat_ports_in_use{$$} / uvs_snat_ports_limit{$$}", "{{instance}} {{laddr}}")
            .maximum(1.0)
            .red_from(0.8)
            .none("No service is of FULLNAT."),
    ]
}

/// Modes in which replies pass the director; of others it is not known what goes out, which is not 0.
const REPLIES_PASS: &str = r#"mode=~"nat|fullnat""#;
const NO_HANDSHAKES: &str =
    "None seen: no clients, or replies that do not pass the director (DR, tunnels).";

/// A unit for what seldom happens: Grafana would write a packet in five seconds as 200 mp/s.
const PER_SECOND: &str = "count:/s";

const BACKEND_COLUMNS: &[(&str, &str)] = &[
    ("instance", "director"),
    ("vip", "VIP"),
    ("port", "port"),
    ("proto", "protocol"),
    ("rip", "real server"),
    ("rport", "its port"),
    ("mode", "mode"),
];

fn backends_table(selector: &str) -> Panel {
    let by = "instance, vip, port, proto, rip, rport, mode";
    let of = |expr: &str| format!("sum by ({by}) ({})", expr.replace("@", selector));
    panel(
        Table,
        "Real servers",
        "short",
        "Weight, reachability (ARP), connections and traffic of every real server. Where replies do not pass the director (DR, tunnels), what goes out is not known.",
    )
    .labels(BACKEND_COLUMNS)
    .column(
        &format!("min by ({by}) (uvs_backend_up{{{selector}}})"),
        "state",
        "short",
    )
    .word("0", "down", "red")
    .word("1", "up", "green")
    .column(&of("uvs_backend_weight{@}"), "weight", "short")
    .column(
        &of("uvs_backend_effective_weight{@}"),
        "effective",
        "short",
    )
    .column(
        &of(r#"uvs_backend_connections{@,state="active"}"#),
        "active",
        "short",
    )
    .column(
        &of(r#"uvs_backend_connections{@,state="inactive"}"#),
        "inactive",
        "short",
    )
    .column(
        &of("rate(uvs_backend_connections_total{@}[$__rate_interval])"),
        "new",
        "cps",
    )
    .column(
        &of(r#"rate(uvs_backend_bytes_total{@,direction="in"}[$__rate_interval])"#),
        "in",
        "Bps",
    )
    .column(
        &of(&format!(
            r#"rate(uvs_backend_bytes_total{{@,direction="out",{REPLIES_PASS}}}[$__rate_interval])"#
        )),
        "out",
        "Bps",
    )
    .blank("n/a")
}

/// One service and its real servers.
pub(crate) fn service() -> Board {
    Board {
        uid: "uvs-service",
        title: "UVS / Service",
        description: "One virtual service: its load, how it is shared among its real servers, and who gets nothing.",
        variables: &["vip", "port", "proto"],
        rows: vec![
            ("Service", service_state()),
            ("Alerts", vec![alerts_table(SERVICE).height(6)]),
            ("Sharing", service_sharing()),
            ("Real servers", vec![backends_table(SERVICE)]),
        ],
    }
}

const SERVICE: &str = r#"$$,vip=~"$vip",port=~"$port",proto=~"$proto""#;

fn of_service(expr: &str) -> String {
    expr.replace('@', SERVICE)
}

fn service_state() -> Vec<Panel> {
    let mut panels = service_numbers();
    panels.extend([
        panel(
            Stacked,
            "Real servers by state",
            "short",
            "How many are up, drained (weight 0), overloaded, or down.",
        )
        .query(
            &of_service("sum by (state) (uvs_service_backends{@})"),
            "{{state}}",
        )
        .colour("up", "green")
        .colour("drained", "blue")
        .colour("overloaded", "orange")
        .colour("down", "red"),
        panel(
            Lines,
            "Refused connections by reason",
            PER_SECOND,
            "New connections that got no real server, by reason.",
        )
        .query(
            &of_service("sum by (reason) (rate(uvs_schedule_failures_total{@}[$__rate_interval]))"),
            "{{reason}}",
        ),
    ]);
    panels
}

fn service_numbers() -> Vec<Panel> {
    vec![
        panel(
            Stat,
            "Real servers up",
            "short",
            "Real servers that take new connections.",
        )
        .query(
            &of_service(r#"sum(uvs_service_backends{@,state="up"})"#),
            "",
        )
        .red_below(1.0),
        panel(
            Stat,
            "Real servers down",
            "short",
            "Real servers whose next hop does not answer ARP.",
        )
        .query(
            &of_service(r#"sum(uvs_service_backends{@,state="down"})"#),
            "",
        )
        .red_from(1.0),
        panel(
            Stat,
            "New connections",
            "cps",
            "Connections scheduled a second.",
        )
        .query(
            &of_service("sum(rate(uvs_service_connections_total{@}[$__rate_interval]))"),
            "",
        ),
        panel(
            Stat,
            "Active connections",
            "short",
            "Connections that IPVS counts as active: for TCP, established or being so.",
        )
        .query(
            &of_service(r#"sum(uvs_service_connections{@,state="active"})"#),
            "",
        ),
        panel(
            Stat,
            "Refused",
            PER_SECOND,
            "New connections that got no real server.",
        )
        .query(
            &of_service("sum(rate(uvs_schedule_failures_total{@}[$__rate_interval]))"),
            "",
        )
        .red_from(0.001),
        panel(
            Stat,
            "Throughput",
            "Bps",
            "IP bytes a second, both directions as far as they pass the director.",
        )
        .query(
            &of_service("sum(rate(uvs_service_bytes_total{@}[$__rate_interval]))"),
            "",
        ),
    ]
}

fn service_sharing() -> Vec<Panel> {
    vec![
        panel(Stacked, "New connections by real server", "cps", "Connections scheduled a second to each.")
            .query(&of_service("sum by (rip, rport) (rate(uvs_backend_connections_total{@}[$__rate_interval]))"), "{{rip}}:{{rport}}"),
        panel(Lines, "Share of new connections less share of weight", "percentunit", "Above 0: the real server gets more than its weight says; hashing schedulers and persistence do that.")
            .query(&of_service("sum by (rip, rport) (rate(uvs_backend_connections_total{@}[$__rate_interval])) / scalar(sum(rate(uvs_backend_connections_total{@}[$__rate_interval])) > 0) - sum by (rip, rport) (uvs_backend_weight{@}) / scalar(sum(uvs_backend_weight{@}) > 0)"), "{{rip}}:{{rport}}")
            .signed(),
        panel(Lines, "Connections by real server", "short", "Active connections of each, and dashed, by the scale on the right, inactive ones, which are often many more.")
            .query(&of_service(r#"sum by (rip, rport) (uvs_backend_connections{@,state="active"})"#), "{{rip}}:{{rport}} active")
            .query(&of_service(r#"sum by (rip, rport) (uvs_backend_connections{@,state="inactive"})"#), "{{rip}}:{{rport}} inactive")
            .right("/ inactive$/"),
        panel(Lines, "Bytes by real server and direction", "Bps", "IP bytes a second to (in) each, and from (out) each where replies pass the director.")
            .query(&of_service(r#"sum by (rip, rport) (rate(uvs_backend_bytes_total{@,direction="in"}[$__rate_interval]))"#), "{{rip}}:{{rport}} in")
            .query(&of_service(&format!(r#"sum by (rip, rport) (rate(uvs_backend_bytes_total{{@,direction="out",{REPLIES_PASS}}}[$__rate_interval]))"#)), "{{rip}}:{{rport}} out"),
        panel(Lines, "Weight by real server", "short", "0 = drained. Effective, dashed: what it counts for, less than its weight during its slow start.")
            .query(&of_service("max by (rip, rport) (uvs_backend_weight{@})"), "{{rip}}:{{rport}}")
            .query(&of_service("min by (rip, rport) (uvs_backend_effective_weight{@})"), "{{rip}}:{{rport}} effective")
            .dashed("/ effective$/"),
        panel(Lines, "Reachable by real server", "short", "1 while the next hop's MAC address is known.")
            .query(&of_service("min by (rip, rport) (uvs_backend_up{@})"), "{{rip}}:{{rport}}")
            .maximum(1.0),
        panel(Lines, "Failed handshakes by real server", PER_SECOND, "Connections that clients opened and the real server reset or did not answer; seen where replies pass (NAT, FULLNAT).")
            .query(&of_service(r#"sum by (rip, rport, result) (rate(uvs_backend_handshakes_total{@,result!="ok"}[$__rate_interval]))"#), "{{rip}}:{{rport}} {{result}}")
            .none(NO_HANDSHAKES),
        panel(Lines, "Handshake time by real server", "s", "From SYN to SYN-ACK, smoothed; seen where replies pass.")
            .query(&of_service("max by (rip, rport) (uvs_backend_handshake_seconds{@})"), "{{rip}}:{{rport}}")
            .none(NO_HANDSHAKES),
    ]
}

/// Where frames go, and what it costs.
pub(crate) fn data_path() -> Board {
    Board {
        uid: "uvs-datapath",
        title: "UVS / Data path",
        description: "Rings, frames by their end, drops, sending, latency, the worker's time, tables, the process.",
        variables: &[],
        rows: vec![
            ("State", data_path_state()),
            ("Frames", data_path_frames()),
            ("Kernel and user space", data_path_hook()),
            ("Synchronisation", data_path_sync()),
            ("Time", data_path_time()),
            ("Tables and host", data_path_tables()),
        ],
    }
}

fn data_path_state() -> Vec<Panel> {
    vec![
        panel(Stat, "Frames unexplained", "short", "Received without an end, or to be sent without one: always 0, or UVS has a fault.")
            .query("sum(abs(uvs_frames_unaccounted{$$})) + sum(abs(uvs_frames_unsent{$$}))", "")
            .red_from(1.0),
        panel(Stat, "Interfaces down", "short", "Interfaces of UVS's that carry no traffic.")
            .query("count(uvs_interface_up{$$}) - sum(uvs_interface_up{$$})", "")
            .red_from(1.0),
        panel(Stat, "Lost in full rings", PER_SECOND, "Frames that the kernel dropped because a ring was full, a second.")
            .query("sum(rate(uvs_rx_kernel_drops_total{$$}[$__rate_interval]))", "")
            .red_from(0.001),
        panel(Stat, "Frames waiting", "short", "Frames that wait for the MAC address of their next hop.")
            .query("sum(uvs_frames_waiting{$$})", ""),
        panel(Stat, "Frames received", "pps", "Frames that came in and were UVS's, whether taken from a ring or forwarded in the kernel, a second.")
            .query("sum(rate(uvs_frames_received_total{$$}[$__rate_interval])) + sum(rate(uvs_frames_in_kernel_total{$$}[$__rate_interval]))", ""),
        panel(Stat, "Latency, 99 %", "s", "99 of 100 frames were sent within this time of their arrival in the ring.")
            .query("histogram_quantile(0.99, sum by (le) (rate(uvs_forward_latency_seconds_bucket{$$}[$__rate_interval])))", ""),
    ]
}

fn data_path_frames() -> Vec<Panel> {
    vec![
        panel(Stacked, "Received frames by end", "pps", "Every received frame is forwarded, in the kernel or in user space, answered, held, passed, local or dropped.")
            .query("sum(rate(uvs_frames_in_kernel_total{$$}[$__rate_interval]))", "in kernel")
            .query("sum(rate(uvs_frames_forwarded_total{$$}[$__rate_interval]))", "forwarded")
            .query("sum(rate(uvs_frames_answered_total{$$}[$__rate_interval]))", "answered")
            .query("sum(rate(uvs_frames_held_total{$$}[$__rate_interval]))", "held")
            .query("sum(rate(uvs_frames_passed_total{$$}[$__rate_interval]))", "passed")
            .query("sum(rate(uvs_frames_local_total{$$}[$__rate_interval]))", "local")
            .query(r#"sum(rate(uvs_drops_total{$$,stage="input"}[$__rate_interval]))"#, "dropped"),
        panel(Lines, "Frames by interface", "pps", "Frames that came in, and frames that left, by interface.")
            .query("sum by (instance, interface) (rate(uvs_rx_packets_total{$$}[$__rate_interval]))", "{{instance}} {{interface}} in")
            .query("sum by (instance, interface) (rate(uvs_tx_packets_total{$$}[$__rate_interval]))", "{{instance}} {{interface}} out"),
        panel(Lines, "Bytes by interface", "Bps", "Bytes of those frames.")
            .query("sum by (instance, interface) (rate(uvs_rx_bytes_total{$$}[$__rate_interval]))", "{{instance}} {{interface}} in")
            .query("sum by (instance, interface) (rate(uvs_tx_bytes_total{$$}[$__rate_interval]))", "{{instance}} {{interface}} out"),
        panel(Stacked, "Drops by reason and stage", PER_SECOND, "`input`: instead of forwarding. `output`: a frame that was to be sent did not leave.")
            .query("sum by (reason, stage) (rate(uvs_drops_total{$$}[$__rate_interval])) > 0", "{{reason}} ({{stage}})")
            .none("No drops seen."),
        panel(Lines, "Ring overruns and send errors", PER_SECOND, "Frames that the kernel dropped because the ring was full, and frames it refused to send.")
            .query("sum by (instance) (rate(uvs_rx_kernel_drops_total{$$}[$__rate_interval]))", "{{instance}} ring full")
            .query("sum by (instance, interface, errno) (rate(uvs_tx_errors_total{$$}[$__rate_interval])) > 0", "{{instance}} {{interface}} {{errno}}"),
        panel(Lines, "Made frames", PER_SECOND, "Segments of super-frames, fragments, and ICMP messages passed on about a connection.")
            .query("sum(rate(uvs_segments_total{$$}[$__rate_interval]))", "segments")
            .query("sum(rate(uvs_fragments_total{$$}[$__rate_interval]))", "fragments")
            .query("sum(rate(uvs_icmp_translated_total{$$}[$__rate_interval]))", "ICMP passed on"),
    ]
}

fn data_path_hook() -> Vec<Panel> {
    vec![
        panel(Stacked, "Forwarded in", "pps", "Frames that the hook forwarded in the kernel, and frames that went through user space.")
            .query("sum(rate(uvs_frames_in_kernel_total{$$}[$__rate_interval]))", "kernel")
            .query("sum(rate(uvs_frames_forwarded_total{$$}[$__rate_interval]))", "user space")
            .colour("kernel", "green")
            .colour("user space", "blue"),
        panel(Lines, "Connections in the kernel", "short", "Connections that the kernel forwards, how many it can, and those forwarded in user space whose replies it gives there (known).")
            .query(&where_hook("uvs_hook_connections{$$}", TIER), "{{instance}}")
            .query(&where_hook("uvs_hook_known_connections{$$}", TIER), "{{instance}} known")
            .query(&where_hook("uvs_hook_connections_limit{$$}", TIER), "{{instance}} limit")
            .right("/ limit$/")
            .none("No director forwards in the kernel: the hook is off, or only tells frames apart."),
        panel(Stacked, "Connections not taken by reason", "cps", "Connections that stayed in user space a second. docs/metrics.md says what each reason means.")
            .query("sum by (reason) (rate(uvs_hook_untaken_total{$$}[$__rate_interval])) > 0", "{{reason}}")
            .none("None seen."),
        panel(Stacked, "Frames up by reason", "pps", "Frames that the hook gave to user space. docs/metrics.md says what each reason means.")
            .query("sum by (reason) (rate(uvs_hook_up_frames_total{$$}[$__rate_interval])) > 0", "{{reason}}")
            .none("None seen."),
        panel(Lines, "Hook: lost events and repairs", PER_SECOND, "Events of connections without room, and times that somebody else had removed the program.")
            .query(&where_hook("sum by (job, instance) (rate(uvs_hook_events_lost_total{$$}[$__rate_interval]))", ANY), "{{instance}} events lost")
            .query(&where_hook("sum by (job, instance) (rate(uvs_hook_repairs_total{$$}[$__rate_interval]))", ANY), "{{instance}} repairs")
            .none(NO_HOOK),
        panel(Lines, "Hook's heartbeat", "s", "How long ago each daemon last told its hook that it lives; at the limit the kernel gets everything back.")
            .query(&where_hook("uvs_hook_heartbeat_age_seconds{$$}", ANY), "{{instance}}")
            .none(NO_HOOK),
    ]
}

/// Matchers of `uvs_hook_state` whose value is 1 where the hook forwards, and where there is one at all.
const TIER: &str = r#"state="tier""#;
const ANY: &str = r#"state=~"tier|guard""#;
const NO_HOOK: &str = "No director has a hook.";

/// Series of the directors alone whose hook is so; of others they would be a 0 that means nothing.
fn where_hook(expr: &str, state: &str) -> String {
    format!("{expr} and on (job, instance) uvs_hook_state{{$$,{state}}} == 1")
}

fn data_path_sync() -> Vec<Panel> {
    let of = |expr: &str| format!("max by (instance, role) ({expr})");
    vec![
        panel(Table, "Sync daemons", "short", "Which director tells others of its connections (master), which is told (backup), and how that goes. docs/sync.md says what each number means.")
            .labels(&[("instance", "director"), ("role", "role")])
            .column(&of("rate(uvs_sync_messages_total{$$}[$__rate_interval])"), "messages", PER_SECOND)
            .column(&of("uvs_sync_last_datagram_age_seconds{$$}"), "last datagram ago", "s")
            .blank("none yet")
            .column(&of(r#"uvs_sync_entries{$$,role="backup"}"#), "known from others", "short")
            .blank("n/a")
            .column(&of(r#"uvs_sync_delay_seconds{$$,role="backup"}"#), "delay", "s")
            .blank("n/a")
            .column(&of(r#"rate(uvs_sync_lost_total{$$,role="master"}[$__rate_interval])"#), "not sent", PER_SECOND)
            .blank("n/a")
            .column(&of(r#"rate(uvs_sync_missed_datagrams_total{$$,role="backup"}[$__rate_interval])"#), "did not come", PER_SECOND)
            .blank("n/a")
            .column(&of(r#"rate(uvs_sync_refused_total{$$,role="backup"}[$__rate_interval])"#), "refused", PER_SECOND)
            .blank("n/a")
            .none(NO_SYNC)
            .height(6),
        panel(Lines, "Sync messages", PER_SECOND, "What masters say of connections, and what backups take up.")
            .query("sum by (instance, role) (rate(uvs_sync_messages_total{$$}[$__rate_interval]))", "{{instance}} {{role}}")
            .none(NO_SYNC),
        panel(Lines, "Sync: lost, missed and refused", PER_SECOND, "Messages that a master could not send, datagrams that did not come to a backup (known with a key only), and what it did not take up.")
            .query(r#"sum by (instance) (rate(uvs_sync_lost_total{$$,role="master"}[$__rate_interval]))"#, "{{instance}} lost")
            .query(r#"sum by (instance) (rate(uvs_sync_missed_datagrams_total{$$,role="backup"}[$__rate_interval]))"#, "{{instance}} missed")
            .query(r#"sum by (instance) (rate(uvs_sync_refused_total{$$,role="backup"}[$__rate_interval]))"#, "{{instance}} refused")
            .none(NO_SYNC),
        panel(Lines, "Known from other directors", "short", "Connections and templates of a backup that others have told of: what it could go on with.")
            .query(r#"sum by (instance) (uvs_sync_entries{$$,role="backup"})"#, "{{instance}}")
            .none("No sync daemon of the role backup runs."),
        panel(Lines, "Age of the last datagram", "s", "How long ago a master last sent, and a backup last heard, anything. It grows where there is nothing to tell; beside a master that sends, a backup's that grows hears nothing.")
            .query("max by (instance, role) (uvs_sync_last_datagram_age_seconds{$$})", "{{instance}} {{role}}")
            .none(NO_SYNC),
    ]
}

const NO_SYNC: &str = "No sync daemon runs.";

fn data_path_time() -> Vec<Panel> {
    vec![
        panel(Lines, "Forwarding latency", "s", "From a frame's arrival in the ring until the batch with it was sent.")
            .query("histogram_quantile(0.5, sum by (le) (rate(uvs_forward_latency_seconds_bucket{$$}[$__rate_interval])))", "median")
            .query("histogram_quantile(0.9, sum by (le) (rate(uvs_forward_latency_seconds_bucket{$$}[$__rate_interval])))", "90 %")
            .query("histogram_quantile(0.99, sum by (le) (rate(uvs_forward_latency_seconds_bucket{$$}[$__rate_interval])))", "99 %")
            .query("sum(rate(uvs_forward_latency_seconds_sum{$$}[$__rate_interval])) / sum(rate(uvs_forward_latency_seconds_count{$$}[$__rate_interval]))", "mean"),
        panel(Lines, "Scheduler's decision", "s", "How long a scheduler took to choose a real server.")
            .query("histogram_quantile(0.5, sum by (le) (rate(uvs_schedule_duration_seconds_bucket{$$}[$__rate_interval])))", "median")
            .query("histogram_quantile(0.99, sum by (le) (rate(uvs_schedule_duration_seconds_bucket{$$}[$__rate_interval])))", "99 %"),
        panel(Lines, "Worker busy", "percentunit", "The part of its time that each worker works.")
            .query("rate(uvs_worker_busy_seconds_total{$$}[$__rate_interval]) / (rate(uvs_worker_busy_seconds_total{$$}[$__rate_interval]) + rate(uvs_worker_poll_seconds_total{$$}[$__rate_interval]))", "{{instance}} worker {{worker}}"),
        panel(Lines, "Batch size", "short", "Frames taken from a ring at once, on average. 64 is the most: the worker is behind then.")
            .query("sum by (instance) (rate(uvs_batch_size_sum{$$}[$__rate_interval])) / sum by (instance) (rate(uvs_batch_size_count{$$}[$__rate_interval]))", "{{instance}}"),
    ]
}

fn data_path_tables() -> Vec<Panel> {
    vec![
        panel(Lines, "Connection table", "short", "Connections and templates in the table. Overview shows how much of the limit that is.")
            .query("uvs_conntrack_entries{$$}", "{{instance}}"),
        panel(Lines, "Expired connections", "cps", "Connections and templates that expired, a second.")
            .query("sum by (instance) (rate(uvs_conntrack_expired_total{$$}[$__rate_interval]))", "{{instance}}"),
        panel(Lines, "FULLNAT's local ports", "short", "Ports of each local address in use, towards the real server that has most of them.")
            .query("uvs_snat_ports_in_use{$$}", "{{instance}} {{laddr}}"),
        panel(Stacked, "Neighbours", "short", "The host's neighbour entries on UVS's interfaces.")
            .query("sum by (state) (uvs_neighbour_entries{$$})", "{{state}}")
            .colour("known", "green")
            .colour("unknown", "red"),
        panel(Lines, "CPU", "percentunit", "CPU of the whole process; 1 is one core.")
            .query("rate(process_cpu_seconds_total{$$}[$__rate_interval])", "{{instance}}")
            .width(8),
        panel(Lines, "Memory", "bytes", "Resident memory of the process.")
            .query("process_resident_memory_bytes{$$}", "{{instance}}")
            .width(8),
        panel(Lines, "Reloads and netlink overruns", PER_SECOND, "Loads of the configuration by result, and times the kernel's news of the network were too many.")
            .query("sum by (result) (rate(uvs_config_reloads_total{$$}[$__rate_interval]))", "reload: {{result}}")
            .query("sum(rate(uvs_netlink_overruns_total{$$}[$__rate_interval]))", "netlink overruns")
            .width(8),
        panel(Table, "Directors", "short", "What runs where, and how it is.")
            .labels(&[("instance", "director"), ("version", "version"), ("commit", "commit")])
            .column(&of_director("uvs_ready{$$}"), "state", "short")
            .word("0", "NOT READY", "red")
            .word("1", "ready", "green")
            .column(&of_director(r#"2 * uvs_hook_state{$$,state="tier"} + on (job, instance) uvs_hook_state{$$,state="guard"}"#), "hook", "short")
            .word("0", "off", "text")
            .word("1", "guard", "blue")
            .word("2", "tier", "green")
            .column(&of_director("uvs_config_drift{$$}"), "differs from file", "short")
            .blank("no file")
            .column(&of_director("time() - uvs_start_time_seconds{$$}"), "up for", "s")
            .column(&of_director("uvs_snapshot_age_seconds{$$}"), "age of numbers", "s")
            .column(&of_director("uvs_conntrack_entries{$$}"), "connections", "short")
            .column(&of_director("uvs_config_last_reload_success_timestamp_seconds{$$} * 1000"), "configured", "dateTimeAsIso")
            .height(7),
    ]
}

/// A director's value with the labels of its build.
fn of_director(expr: &str) -> String {
    format!(
        "min by (instance, version, commit) (({expr}) * on (job, instance) group_left (version, commit) uvs_build_info{{$$}})"
    )
}
