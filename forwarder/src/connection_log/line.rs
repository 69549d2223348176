//! A record as a line of JSON. Its keys are interface: docs/connection-log.md says what each means.

use serde::Serialize;
use uvs_core::flow::{Addr, Endpoint};
use uvs_core::record::{Event, Record};
use uvs_core::time::Instant;

use super::calendar::Calendar;

/// A line's keys, in their order.
#[derive(Serialize)]
struct Line<'a> {
    event: &'a str,
    service: String,
    protocol: &'a str,
    client: String,
    client_port: u16,
    vip: String,
    vip_port: u16,
    local: Option<String>,
    local_port: Option<u16>,
    server: String,
    server_port: u16,
    mode: &'a str,
    started: Option<String>,
    #[serde(flatten)]
    end: Option<End<'a>>,
    logged: String,
}

/// What is known at a connection's end only.
#[derive(Serialize)]
struct End<'a> {
    ended: String,
    duration_ms: Option<u64>,
    client_packets: Option<u64>,
    client_bytes: Option<u64>,
    server_packets: Option<u64>,
    server_bytes: Option<u64>,
    state: &'a str,
    why: &'a str,
}

/// The line, without its end.
pub(super) fn line(record: &Record, calendar: Calendar) -> String {
    let date = |at: Instant| calendar.date(at);
    let addr = |end: Endpoint| Addr::to_string(&end.addr);
    let end = match record.event {
        Event::Started => None,
        Event::Ended(ended) => {
            let from_client = ended.traffic;
            let from_server = ended.traffic.filter(|_| ended.replies_pass);
            let lasted = record.lasted();
            Some(End {
                ended: date(ended.last_packet),
                duration_ms: lasted.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
                client_packets: from_client.map(|t| t.in_packets),
                client_bytes: from_client.map(|t| t.in_bytes),
                server_packets: from_server.map(|t| t.out_packets),
                server_bytes: from_server.map(|t| t.out_bytes),
                state: ended.state,
                why: ended.why.name(),
            })
        }
    };
    let line = Line {
        event: if end.is_some() { "end" } else { "start" },
        service: record.service.to_string(),
        protocol: record.protocol.name(),
        client: addr(record.client),
        client_port: record.client.port,
        vip: addr(record.vip),
        vip_port: record.vip.port,
        local: record.local.map(addr),
        local_port: record.local.map(|local| local.port),
        server: addr(record.server),
        server_port: record.server.port,
        mode: record.mode,
        started: record.began.map(date),
        end,
        logged: date(record.made),
    };
    // Words, numbers and nothing else: there is nothing in it that JSON has no form for.
    serde_json::to_string(&line).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use uvs_core::flow::Protocol;
    use uvs_core::offload::Traffic;
    use uvs_core::record::{Ended, Why};
    use uvs_core::service::ServiceKey;

    use super::*;

    pub(in crate::connection_log) fn record() -> Record {
        let vip = Endpoint::new(Addr::v4([192, 0, 2, 1]), 443);
        Record {
            event: Event::Started,
            service: ServiceKey::address(Protocol::Tcp, vip),
            protocol: Protocol::Tcp,
            client: Endpoint::new(Addr::v4([198, 51, 100, 7]), 40_112),
            vip,
            local: Some(Endpoint::new(Addr::v4([10, 0, 0, 2]), 10_001)),
            server: Endpoint::new(Addr::v4([10, 0, 0, 11]), 8443),
            mode: "fullnat",
            began: Some(Instant::from_millis(1_000)),
            made: Instant::from_millis(9_000),
        }
    }

    #[test]
    fn a_line_is_json_with_these_keys_in_this_order() {
        let calendar = Calendar::test(Instant::from_millis(10_000), 1_767_225_600_000);
        let start = line(&record(), calendar);
        let ends = r#""service":"TCP 192.0.2.1:443","protocol":"TCP","client":"198.51.100.7","client_port":40112,"vip":"192.0.2.1","vip_port":443,"local":"10.0.0.2","local_port":10001,"server":"10.0.0.11","server_port":8443,"mode":"fullnat","started":"2025-12-31T23:59:51.000Z""#;
        let logged = r#""logged":"2025-12-31T23:59:59.000Z""#;
        assert_eq!(start, format!(r#"{{"event":"start",{ends},{logged}}}"#));
        let ended = Ended {
            last_packet: Instant::from_millis(2_500),
            state: "TIME_WAIT",
            why: Why::Closed,
            traffic: Some(Traffic {
                in_packets: 6,
                out_packets: 5,
                in_bytes: 600,
                out_bytes: 5000,
            }),
            replies_pass: true,
        };
        let mut record = record();
        record.event = Event::Ended(ended);
        let end = r#""ended":"2025-12-31T23:59:52.500Z","duration_ms":1500,"client_packets":6,"client_bytes":600,"server_packets":5,"server_bytes":5000,"state":"TIME_WAIT","why":"closed""#;
        assert_eq!(
            line(&record, calendar),
            format!(r#"{{"event":"end",{ends},{end},{logged}}}"#)
        );
    }

    #[test]
    fn the_manual_knows_every_key_and_every_reason() {
        let manual = include_str!("../../../docs/connection-log.md");
        for why in Why::ALL {
            let row = format!("| `{}` | {} |", why.name(), why.meaning());
            assert!(manual.contains(&row), "docs/connection-log.md lacks: {row}");
        }
        let example = manual
            .split("```json\n")
            .nth(1)
            .unwrap()
            .lines()
            .next()
            .unwrap();
        let keys = |line: &str| {
            let line: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(line).unwrap();
            line.keys().cloned().collect::<Vec<_>>()
        };
        let calendar = Calendar::test(Instant::from_millis(10_000), 1_767_225_600_000);
        let mut record = record();
        record.event = Event::Ended(Ended {
            last_packet: Instant::from_millis(2_500),
            state: "TIME_WAIT",
            why: Why::Closed,
            traffic: Some(Traffic::default()),
            replies_pass: true,
        });
        let written = keys(&line(&record, calendar));
        assert_eq!(keys(example), written);
        for key in written {
            assert!(
                manual.contains(&format!("`{key}`")),
                "docs/connection-log.md lacks {key}"
            );
        }
    }

    #[test]
    fn what_is_not_known_is_null() {
        let calendar = Calendar::test(Instant::from_millis(10_000), 1_767_225_600_000);
        let mut record = record();
        record.began = None;
        record.local = None;
        record.event = Event::Ended(Ended {
            last_packet: Instant::from_millis(2_500),
            state: "UDP",
            why: Why::TimedOut,
            traffic: Some(Traffic::default()),
            replies_pass: false,
        });
        let line: serde_json::Value = serde_json::from_str(&line(&record, calendar)).unwrap();
        for key in [
            "started",
            "duration_ms",
            "local",
            "local_port",
            "server_packets",
            "server_bytes",
        ] {
            assert_eq!(line.get(key), Some(&serde_json::Value::Null), "{key}");
        }
        assert_eq!(line["client_packets"], 0, "it was counted");
    }
}
