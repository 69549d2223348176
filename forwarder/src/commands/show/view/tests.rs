//! What `uvs show` prints of one service with two servers.

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::service::{Forwarding, Persistence, ServerSpec, ServiceSpec};

use super::*;
use crate::control::protocol::Stats;

const VIP: Endpoint = Endpoint::new(Addr::v4([192, 168, 0, 38]), 80);

fn server(last: u8, weight: u32, forwarding: Forwarding) -> ServerStatus {
    let endpoint = Endpoint::new(Addr::v4([192, 168, 0, last]), 80);
    ServerStatus {
        spec: ServerSpec {
            weight,
            ..ServerSpec::new(endpoint, forwarding)
        },
        local: false,
        active: weight,
        inactive: 10 * weight,
        persistent: 0,
        open: 2 * weight,
        draining: (weight == 0).then_some(34),
        stats: Stats {
            connections: 100 * u64::from(weight),
            ..Stats::default()
        },
        rates: Stats::default(),
    }
}

fn services() -> Data {
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
        stats,
        rates: Stats::default(),
        servers,
    };
    Data::Services {
        table_size: 4096,
        services: vec![service],
    }
}

fn shown(what: What, format: Format, data: Data) -> String {
    of(what, data)
        .expect("data of the kind that was asked for")
        .render(format)
}

#[test]
fn services_and_servers_are_tables_in_ipvsadms_order() {
    assert_eq!(
        shown(What::Services, Format::Table, services()),
        "PROTO  VIP              SCHEDULER  SERVERS  ACTIVE  INACTIVE  CONNECTIONS\n\
         TCP    192.168.0.38:80  wrr              2       4        40          400\n"
    );
    assert_eq!(
        shown(What::Servers, Format::Table, services()),
        "SERVICE              SERVER           MODE  WEIGHT  ACTIVE  INACTIVE  CONNECTIONS\n\
         TCP 192.168.0.38:80  192.168.0.18:80  dr         3       3        30          300\n\
         TCP 192.168.0.38:80  192.168.0.28:80  ipip       1       1        10          100\n"
    );
}

#[test]
fn wide_adds_columns() {
    let wide = shown(What::Services, Format::Wide, services());
    assert!(
        wide.lines()
            .next()
            .is_some_and(|titles| titles.ends_with("OUT-BYTES")),
        "{wide}"
    );
    assert!(wide.contains("300 s"), "{wide}");
}

#[test]
fn json_has_everything_and_parses() {
    let json = shown(What::Servers, Format::Json, services());
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(value[0]["spec"]["endpoint"]["addr"], "192.168.0.18");
    assert_eq!(value[0]["service"]["address"]["port"], 80);
    assert_eq!(value[1]["active"], 1);
}

#[test]
fn connections_have_their_local_endpoint_when_wide() {
    let connection = ConnectionStatus {
        protocol: Some(Protocol::Tcp),
        client: Endpoint::new(Addr::v4([10, 0, 0, 9]), 40000),
        vip: VIP,
        server: Endpoint::new(Addr::v4([192, 168, 0, 18]), 8080),
        local: Some(Endpoint::new(Addr::v4([192, 168, 0, 8]), 10001)),
        state: "ESTABLISHED".to_owned(),
        expires: 899,
    };
    assert_eq!(
        shown(
            What::Conns,
            Format::Wide,
            Data::Connections(vec![connection])
        ),
        "PROTO  CLIENT          VIP              SERVER             STATE        EXPIRES  LOCAL\n\
         TCP    10.0.0.9:40000  192.168.0.38:80  192.168.0.18:8080  ESTABLISHED      899  192.168.0.8:10001\n"
    );
}

#[test]
fn drops_that_never_happened_are_shown_when_wide_only() {
    let drops = || Data::Drops {
        totals: Totals {
            received: 29,
            sent: 21,
            answered: 2,
            held: 0,
            passed: 1,
            local: 0,
            dropped: 5,
            lost: 2,
        },
        ended: Ended {
            ended: 9,
            evicted: 3,
            dropped_entries: 2,
            told_clients: 4,
            told_servers: 1,
        },
        reasons: vec![("ttl".to_owned(), 0), ("no_server".to_owned(), 7)],
    };
    let totals = "received 29 = sent 21 + answered 2 + held 0 + passed 1 + local 0 + dropped 5; lost on the way out 2\n\
                  connections ended 9, of these evicted 3, dropped by drop_entry 2; told: clients 4, servers 1\n";
    let few = shown(What::Drops, Format::Table, drops());
    assert_eq!(few, format!("REASON     COUNT\nno_server      7\n{totals}"));
    let all = shown(What::Drops, Format::Wide, drops());
    assert_eq!(
        all,
        format!("REASON     COUNT\nttl            0\nno_server      7\n{totals}")
    );
}

#[test]
fn an_answer_to_another_question_is_none() {
    assert!(of(What::Drops, Data::Done).is_none());
    assert!(
        of(
            What::Services,
            Data::Timeouts(uvs_core::snapshot::Timeouts::default())
        )
        .is_none()
    );
}
