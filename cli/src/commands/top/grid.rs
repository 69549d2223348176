//! What a level shows: lines of values, and their order. The same for the screen and for plain text.

use std::collections::HashMap;

use uvs_core::engine::ConnReport;
use uvs_core::flow::{Endpoint, Protocol};
use uvs_core::service::ServiceKey;

use super::model::Reading;
use crate::commands::columns::connections::{self, Connection};
use crate::commands::columns::servers::{self, Server};
use crate::commands::columns::services::{self, Service};
use crate::commands::columns::{Value, values};

/// Where the columns are by which a level is sorted at first: connections a second, the time since the last
/// packet.
pub(super) const CONN_RATE: usize = 3;
pub(super) const IDLE: usize = 4;

/// What a line is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Id {
    Service(ServiceKey),
    Server(Endpoint),
    /// With the call of a template that stands for one.
    Connection(Option<Protocol>, Endpoint, Endpoint, Option<Box<str>>),
}

/// A line, and its bits a second over time, the oldest first.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) id: Id,
    pub(super) values: Vec<Value>,
    pub(super) trend: Vec<u64>,
}

/// Sorts by a column, the largest first where `down`; equal lines by their names, so that none jumps.
pub(super) fn sort(lines: &mut [Item], column: usize, down: bool) {
    lines.sort_by(|a, b| {
        let order = a.values[column].compare(&b.values[column]);
        let order = if down { order.reverse() } else { order };
        order.then_with(|| a.values[0].compare(&b.values[0]))
    });
}

/// All services.
pub(super) fn services(reading: &Reading) -> Vec<Item> {
    let line = |service: &Service| {
        let key = service.status.spec.key;
        Item {
            id: Id::Service(key),
            values: values(services::TOP, service),
            trend: reading.trend(key, None).to_vec(),
        }
    };
    reading.services.iter().map(line).collect()
}

/// A service's servers.
pub(super) fn servers(reading: &Reading, service: &Service) -> Vec<Item> {
    let line = |server: Server| {
        let endpoint = server.status.spec.endpoint;
        Item {
            id: Id::Server(endpoint),
            values: values(servers::TOP, &server),
            trend: reading.trend(server.service, Some(endpoint)).to_vec(),
        }
    };
    reading.servers(service).map(line).collect()
}

/// What connections had carried when they were listed before, and how long ago that is.
#[derive(Default)]
pub(super) struct Before {
    pub(super) sequence: HashMap<Id, (u32, u32)>,
    pub(super) seconds: f64,
}

/// Connections.
pub(super) fn connections(list: &[ConnReport], before: &Before) -> Vec<Item> {
    list.iter().map(|c| connection(c, before)).collect()
}

fn connection(report: &ConnReport, before: &Before) -> Item {
    let id = connection_id(report);
    let known = before.sequence.get(&id).zip(report.sequence);
    // Sequence numbers wrap, and are unknown (0) until a packet came that has them.
    let rate = |of: fn((u32, u32)) -> u32| {
        let (old, new) = known.map(|(old, new)| (of(*old), of(new)))?;
        let bytes = (old != 0).then(|| new.wrapping_sub(old))?;
        Some(8.0 * f64::from(bytes) / before.seconds)
    };
    let connection = Connection {
        report: report.clone(),
        bits: (rate(|sequence| sequence.0), rate(|sequence| sequence.1)),
    };
    Item {
        id,
        values: values(connections::TOP, &connection),
        trend: Vec::new(),
    }
}

/// What identifies a connection.
pub(super) fn connection_id(c: &ConnReport) -> Id {
    Id::Connection(c.protocol, c.client, c.vip, c.call.clone())
}

/// The last values of a trend as bars, the largest of all as the highest.
pub(super) fn bars(trend: &[u64], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let last = &trend[trend.len().saturating_sub(width)..];
    let most = last.iter().copied().max().unwrap_or(0).max(1);
    let bar = |n: &u64| BARS[(u128::from(*n) * 7).div_ceil(u128::from(most)) as usize];
    last.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::super::model::Meter;
    use super::super::testing::{self, KEY, sample};
    use super::*;

    fn reading() -> Reading {
        let mut meter = Meter::default();
        meter.read(sample(0, 0));
        meter.read(sample(2_000, 50))
    }

    fn texts(line: &Item) -> Vec<String> {
        line.values.iter().map(Value::text).collect()
    }

    #[test]
    fn a_service_and_its_servers_have_their_load_in_line() {
        let reading = reading();
        let lines = services(&reading);
        assert_eq!(
            texts(&lines[0]),
            [
                "TCP 192.168.0.38:80",
                "4",
                "40",
                "25",
                "20.0k",
                "20.0k",
                "250",
                "250",
                "wrr",
                "2"
            ]
        );
        let lines = servers(&reading, reading.service(&KEY).expect("the service"));
        assert_eq!(texts(&lines[0])[5], "20.0k");
        // Direct routing: the replies go another way.
        assert_eq!(texts(&lines[1])[4..8], ["20.0k", "-", "250", "-"]);
    }

    #[test]
    fn lines_are_sorted_by_any_column_and_the_unknown_is_least() {
        let reading = reading();
        let mut lines = servers(&reading, reading.service(&KEY).expect("the service"));
        let first = |lines: &[Item]| lines[0].values[0].text();
        for (column, down, expected) in [
            (0, false, "192.168.0.18:80"),
            (0, true, "192.168.0.28:80"),
            (5, true, "192.168.0.18:80"),
            (5, false, "192.168.0.28:80"),
            (9, false, "192.168.0.28:80"),
            // Equal: by name.
            (3, true, "192.168.0.18:80"),
        ] {
            sort(&mut lines, column, down);
            assert_eq!(first(&lines), expected, "{column} {down}");
        }
    }

    #[test]
    fn a_connections_rate_is_known_where_it_was_there_before() {
        let list = [testing::connection(1, 40), testing::connection(2, 7)];
        let old = testing::connection(1, 10).sequence.expect("TCP");
        let before = Before {
            sequence: HashMap::from([(connection_id(&list[0]), old)]),
            seconds: 2.0,
        };
        let items = connections(&list, &before);
        let rates: Vec<_> = items.iter().map(|i| i.values[5].text()).collect();
        assert_eq!(rates, ["12.0k", "-"], "across the wrap");
    }

    #[test]
    fn bars_rise_to_the_largest() {
        assert_eq!(bars(&[0, 0, 1, 50, 100], 4), "▁▂▅█");
        assert_eq!(bars(&[0, 0], 4), "▁▁");
        assert_eq!(bars(&[], 4), "");
        assert_eq!(bars(&[u64::MAX, 0], 4), "█▁");
    }
}
