//! What `uvs show` prints of one service with two servers.

use uvs_control::protocol::{ServerState, ServerStatus};
use uvs_core::counters::Stats;
use uvs_core::engine::ConnReport;
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::numbers::{ServerNumbers, ServiceNumbers};
use uvs_core::plugins::{Fallback, PluginFault, PluginNumbers};
use uvs_core::service::{Forwarding, Persistence, ServerSpec, ServiceKey, ServiceSpec};

use super::*;

const VIP: Endpoint = Endpoint::new(Addr::v4([192, 168, 0, 38]), 80);

fn server(last: u8, weight: u32, forwarding: Forwarding) -> ServerStatus {
    let endpoint = Endpoint::new(Addr::v4([192, 168, 0, last]), 80);
    ServerStatus {
        spec: ServerSpec {
            weight,
            ..ServerSpec::new(endpoint, forwarding)
        },
        local: false,
        state: ServerState::Up,
        numbers: ServerNumbers {
            active: weight,
            inactive: 10 * weight,
            effective_weight: f64::from(weight),
            open: 2 * weight,
            draining: (weight == 0).then_some(34),
            stats: Stats {
                connections: 100 * u64::from(weight),
                ..Stats::default()
            },
            ..ServerNumbers::default()
        },
        rates: Stats::default(),
    }
}

fn services() -> Vec<ServiceStatus> {
    let key = ServiceKey::address(Protocol::Tcp, VIP);
    let mut spec = ServiceSpec::new(key, "wrr");
    spec.persistence = Some(Persistence {
        timeout: 300,
        mask: u32::MAX,
    });
    let servers = vec![
        server(28, 1, Forwarding::Tunnel),
        server(18, 3, Forwarding::Dr),
    ];
    let stats = Stats {
        connections: 400,
        in_packets: 9,
        ..Stats::default()
    };
    let service = ServiceStatus {
        spec,
        numbers: ServiceNumbers {
            stats,
            ..ServiceNumbers::default()
        },
        rates: Stats::default(),
        servers,
        matches: Vec::new(),
    };
    vec![service]
}

fn listed(what: What, format: Format) -> String {
    View::of_services(what, services()).render(format)
}

/// The server of weight 3 during its slow start, its handshakes measured.
fn slow_and_measured() -> Vec<ServiceStatus> {
    let mut services = services();
    let server = &mut services[0].servers[1].numbers;
    (server.effective_weight, server.handshake) = (1.25, 12_345);
    services
}

#[test]
fn services_and_servers_are_tables_in_ipvsadms_order() {
    assert_eq!(
        listed(What::Services, Format::Table),
        "PROTO  VIP              SCHEDULER  SERVERS  ACTIVE  INACTIVE  CONNECTIONS\n\
         TCP    192.168.0.38:80  wrr              2       4        40          400\n"
    );
    assert_eq!(
        listed(What::Servers, Format::Table),
        "SERVICE              SERVER           MODE  WEIGHT  ACTIVE  INACTIVE  CONNECTIONS  STATE  WHY\n\
         TCP 192.168.0.38:80  192.168.0.18:80  dr         3       3        30          300  up     -\n\
         TCP 192.168.0.38:80  192.168.0.28:80  ipip       1       1        10          100  up     -\n"
    );
}

#[test]
fn a_service_that_fell_back_from_its_plugin_says_so() {
    let mut services = services();
    services[0].spec.scheduler = "sticky".to_owned();
    let fallback = Fallback {
        ago: 12,
        fault: PluginFault::Slow,
        workers: 2,
    };
    services[0].numbers.plugin = Some(PluginNumbers {
        fallback: Some(fallback),
        ..PluginNumbers::default()
    });
    let view = View::of_services(What::Services, services);
    assert_eq!(
        view.render(Format::Table),
        "PROTO  VIP              SCHEDULER   SERVERS  ACTIVE  INACTIVE  CONNECTIONS\n\
         TCP    192.168.0.38:80  sticky→wrr        2       4        40          400\n\
         TCP 192.168.0.38:80: sticky fell back to wrr in 2 workers 12 s ago, its last fault: slow; uvs plugin retry sticky tries it again\n"
    );
    let json: serde_json::Value = serde_json::from_str(&view.render(Format::Json)).expect("JSON");
    let said = serde_json::json!({ "ago": 12, "fault": "slow", "workers": 2 });
    assert_eq!(json[0]["plugin"]["fallback"], said);
}

#[test]
fn wide_adds_columns() {
    let wide = listed(What::Services, Format::Wide);
    assert!(
        wide.lines()
            .next()
            .is_some_and(|titles| titles.ends_with("OUT-BYTES")),
        "{wide}"
    );
    assert!(wide.contains("300 s"), "{wide}");
    let wide = View::of_services(What::Servers, slow_and_measured()).render(Format::Wide);
    let cells = |line: &str| {
        line.split("  ")
            .map(str::trim)
            .filter(|c| !c.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let [titles, first, second] = [0, 1, 2].map(|n| cells(wide.lines().nth(n).expect("a line")));
    let of = |row: &[String], title| {
        row[titles.iter().position(|t| t == title).expect("a column")].clone()
    };
    assert_eq!(of(&first, "EFFECTIVE"), "1.25");
    assert_eq!(of(&first, "HANDSHAKE"), "12.35 ms");
    assert_eq!(of(&second, "EFFECTIVE"), "1");
    assert_eq!(of(&second, "HANDSHAKE"), "-");
}

#[test]
fn json_has_everything_and_parses() {
    let json = listed(What::Servers, Format::Json);
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(value[0]["spec"]["endpoint"]["addr"], "192.168.0.18");
    assert_eq!(value[0]["service"]["address"]["port"], 80);
    assert_eq!(value[1]["active"], 1);
    let json = View::of_services(What::Servers, slow_and_measured()).render(Format::Json);
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(value[0]["effective_weight"], 1.25);
    assert_eq!(value[0]["handshake"], 12_345);
}

#[test]
fn connections_have_their_local_endpoint_when_wide() {
    let report = ConnReport {
        service: ServiceKey::address(Protocol::Tcp, VIP),
        protocol: Some(Protocol::Tcp),
        client: Endpoint::new(Addr::v4([10, 0, 0, 9]), 40000),
        vip: VIP,
        server: Endpoint::new(Addr::v4([192, 168, 0, 18]), 8080),
        local: Some(Endpoint::new(Addr::v4([192, 168, 0, 8]), 10001)),
        state: "ESTABLISHED",
        expires: 899,
        idle_ns: 1_200_000_000,
        sequence: None,
        call: None,
        in_kernel: true,
    };
    let view = View::Connections(vec![report.into()]);
    assert_eq!(
        view.render(Format::Wide),
        "PROTO  CLIENT          VIP              SERVER             STATE        EXPIRES  PATH     IDLE  LOCAL              SERVICE\n\
         TCP    10.0.0.9:40000  192.168.0.38:80  192.168.0.18:8080  ESTABLISHED      899  kernel  1.2 s  192.168.0.8:10001  TCP 192.168.0.38:80\n"
    );
    let json: serde_json::Value = serde_json::from_str(&view.render(Format::Json)).expect("JSON");
    assert_eq!(
        (&json[0]["idle_ns"], &json[0]["state"]),
        (&1_200_000_000_u64.into(), &"ESTABLISHED".into())
    );
}

#[test]
fn drops_that_never_happened_are_shown_when_wide_only() {
    let drops = || protocol::Drops {
        totals: Totals {
            received: 32,
            sent: 21,
            answered: 2,
            held: 0,
            passed: 1,
            local: 0,
            in_kernel: 3,
            dropped: 5,
            lost: 2,
        },
        ended: Ended {
            ended: 9,
            evicted: 3,
            dropped_entries: 2,
            replaced_over: 7,
            replaced_live: 6,
            told_clients: 4,
            told_servers: 1,
        },
        reasons: vec![("ttl_exceeded".to_owned(), 0), ("no_route".to_owned(), 7)],
        interfaces: Vec::new(),
    };
    let totals = "received 32 = sent 21 + answered 2 + held 0 + passed 1 + local 0 + in the kernel 3 + dropped 5; lost on the way out 2\n\
                  connections ended 9, of these evicted 3, dropped by drop_entry 2, replaced: over 7, live 6; \
                  told: clients 4, servers 1\n";
    let few = View::Drops(drops().into()).render(Format::Table);
    assert_eq!(few, format!("REASON    COUNT\nno_route      7\n{totals}"));
    let all = View::Drops(drops().into()).render(Format::Wide);
    let lines: Vec<&str> = all.lines().collect();
    assert!(
        lines[1].starts_with("ttl_exceeded      0  An ICMP message"),
        "{all}"
    );
    assert!(
        lines[2].ends_with("`ip route get ADDRESS` on the director."),
        "{all}"
    );
}

#[test]
fn neighbours_say_which_servers_they_lead_to() {
    let neighbour = NeighbourStatus {
        addr: Addr::v4([192, 168, 0, 254]),
        interface: "eth1".to_owned(),
        mac: None,
        state: "failed".to_owned(),
        kept_by: Some("kernel".to_owned()),
        servers: vec![Addr::v4([10, 1, 0, 2]), Addr::v4([10, 1, 0, 3])],
    };
    assert_eq!(
        View::Neighbours(vec![neighbour]).render(Format::Wide),
        "ADDRESS        INTERFACE  MAC  STATE   SERVERS            KEPT BY\n\
         192.168.0.254  eth1       -    failed  10.1.0.2,10.1.0.3  kernel\n"
    );
}

#[test]
fn sysctls_with_their_defaults_are_shown_when_wide_only() {
    let setting = |key: &str, value: &str| Setting {
        key: key.to_owned(),
        value: value.to_owned(),
        default: "1".to_owned(),
    };
    let all = || {
        let settings = [
            ("limits.connections", "1"),
            ("sysctl.pmtu_disc", "1"),
            ("sysctl.sloppy_tcp", "0"),
        ];
        View::Settings(settings.map(|(key, value)| setting(key, value)).to_vec())
    };
    assert_eq!(
        all().render(Format::Table),
        "KEY                 VALUE  DEFAULT\n\
         limits.connections  1      1\n\
         sysctl.sloppy_tcp   0      1\n"
    );
    assert_eq!(all().render(Format::Wide).lines().count(), 4);
}

#[test]
fn each_interface_says_where_its_frames_went_and_what_the_kernel_dropped() {
    let eth0 = InterfaceFrames {
        interface: "eth0".to_owned(),
        came: Totals {
            received: 31,
            sent: 24,
            dropped: 7,
            lost: 2,
            ..Totals::default()
        },
        handed: 24,
        left: 21,
        waiting: 1,
        losses: vec![("send_failed".to_owned(), 2)].into(),
        ring_full: 5,
        ..InterfaceFrames::default()
    };
    let drops = protocol::Drops {
        totals: eth0.came,
        ended: Ended::default(),
        reasons: Vec::new(),
        interfaces: vec![eth0],
    };
    let text = View::Drops(drops.into()).render(Format::Table);
    let lines: Vec<&str> = text.lines().skip(3).collect();
    assert_eq!(
        lines,
        [
            "INTERFACE  RING-FULL  RECEIVED  SENT  ANSWERED  HELD  PASSED  LOCAL  IN-KERNEL  DROPPED  UNACCOUNTED",
            "eth0               5        31    24         0     0       0      0          0        7            0",
        ]
    );
}
