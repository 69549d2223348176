//! What a level shows: columns, lines of values, and their order. The same for the screen and for plain text.

use std::cmp::Ordering;
use std::collections::HashMap;

use uvs_control::protocol::Connection;
use uvs_core::flow::{Endpoint, Protocol};
use uvs_core::service::ServiceKey;

use super::model::{Load, Reading, ServiceReading};
use crate::commands::output::{Column, number, text};
use crate::commands::units::{nanoseconds, short};
use crate::commands::words::mode;

/// Services and servers show the same of their load; the columns that matter most come first, as a narrow
/// terminal cuts the last.
pub(super) const SERVICES: &[Column] = &[
    text("SERVICE"),
    number("ACTIVE"),
    number("INACT"),
    number("CONN/S"),
    number("IN-BIT/S"),
    number("OUT-BIT/S"),
    number("IN-PKT/S"),
    number("OUT-PKT/S"),
    text("SCHEDULER"),
    number("SERVERS"),
];
pub(super) const SERVERS: &[Column] = &[
    text("SERVER"),
    number("ACTIVE"),
    number("INACT"),
    number("CONN/S"),
    number("IN-BIT/S"),
    number("OUT-BIT/S"),
    number("IN-PKT/S"),
    number("OUT-PKT/S"),
    text("MODE"),
    number("WEIGHT"),
];
pub(super) const CONNECTIONS: &[Column] = &[
    text("CLIENT"),
    text("SERVER"),
    text("STATE"),
    number("EXPIRES"),
    number("IDLE"),
    number("IN-BIT/S"),
    number("OUT-BIT/S"),
    text("VIP"),
];
/// Where the columns are by which a level is sorted at first: connections a second, the time since the last
/// packet.
pub(super) const CONN_RATE: usize = 3;
pub(super) const IDLE: usize = 4;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Id {
    Service(ServiceKey),
    Server(Endpoint),
    Connection(Option<Protocol>, Endpoint, Endpoint),
}

/// A cell.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Word(String),
    Service(ServiceKey),
    Endpoint(Endpoint),
    Count(u64),
    /// Nanoseconds.
    Idle(u64),
    /// In a second; `None` = not known, or nothing that could be counted.
    Rate(Option<f64>),
}

/// A line, and its bits a second over time, the oldest first.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) id: Id,
    pub(super) values: Vec<Value>,
    pub(super) trend: Vec<u64>,
}

impl Value {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Word(word) => word.clone(),
            Self::Service(key) => key.to_string(),
            Self::Endpoint(endpoint) => endpoint.to_string(),
            Self::Count(n) => n.to_string(),
            Self::Idle(ns) => nanoseconds(*ns),
            Self::Rate(Some(n)) => short(*n),
            Self::Rate(None) => "-".to_owned(),
        }
    }

    /// Smaller first; what is not known is the smallest.
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Word(a), Self::Word(b)) => a.cmp(b),
            (Self::Service(a), Self::Service(b)) => a.cmp(b),
            (Self::Endpoint(a), Self::Endpoint(b)) => a.cmp(b),
            (Self::Count(a), Self::Count(b)) | (Self::Idle(a), Self::Idle(b)) => a.cmp(b),
            (Self::Rate(a), Self::Rate(b)) => {
                let known = |n: &Option<f64>| n.unwrap_or(f64::NEG_INFINITY);
                known(a).total_cmp(&known(b))
            }
            // A column holds values of one kind.
            _ => Ordering::Equal,
        }
    }
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
    let line = |s: &ServiceReading| Item {
        id: Id::Service(s.key),
        values: values(
            Value::Service(s.key),
            &s.load,
            Value::Word(s.scheduler.clone()),
            s.servers.len() as u64,
        ),
        trend: s.load.trend.clone(),
    };
    reading.services.iter().map(line).collect()
}

/// A service's servers.
pub(super) fn servers(service: &ServiceReading) -> Vec<Item> {
    let servers = service.servers.iter();
    let line = servers.map(|s| Item {
        id: Id::Server(s.spec.endpoint),
        values: values(
            Value::Endpoint(s.spec.endpoint),
            &s.load,
            Value::Word(mode(&s.spec, s.local).to_owned()),
            s.spec.weight.into(),
        ),
        trend: s.load.trend.clone(),
    });
    line.collect()
}

fn values(name: Value, load: &Load, word: Value, count: u64) -> Vec<Value> {
    let rate = |of: fn(&super::model::Rates) -> f64| Value::Rate(load.rates.as_ref().map(of));
    // What does not pass the director is not 0: nobody here knows it.
    let reply = |of| {
        if load.replies {
            rate(of)
        } else {
            Value::Rate(None)
        }
    };
    vec![
        name,
        Value::Count(load.active),
        Value::Count(load.inactive),
        rate(|r| r.connections),
        rate(|r| r.in_bits),
        reply(|r| r.out_bits),
        rate(|r| r.in_packets),
        reply(|r| r.out_packets),
        word,
        Value::Count(count),
    ]
}

/// What connections had carried when they were listed before, and how long ago that is.
#[derive(Default)]
pub(super) struct Before {
    pub(super) sequence: HashMap<Id, (u32, u32)>,
    pub(super) seconds: f64,
}

/// Connections.
pub(super) fn connections(list: &[Connection], before: &Before) -> Vec<Item> {
    list.iter().map(|c| connection(c, before)).collect()
}

fn connection(c: &Connection, before: &Before) -> Item {
    let (id, s) = (connection_id(c), &c.status);
    let known = before.sequence.get(&id).zip(c.sequence);
    // Sequence numbers wrap, and are unknown (0) until a packet came that has them.
    let rate = |of: fn((u32, u32)) -> u32| {
        let (old, new) = known.map(|(old, new)| (of(*old), of(new)))?;
        let bytes = (old != 0).then(|| new.wrapping_sub(old))?;
        Some(8.0 * f64::from(bytes) / before.seconds)
    };
    Item {
        id,
        values: vec![
            Value::Endpoint(s.client),
            Value::Endpoint(s.server),
            Value::Word(s.state.clone()),
            Value::Count(s.expires.into()),
            Value::Idle(c.idle_ns),
            Value::Rate(rate(|sequence| sequence.0)),
            Value::Rate(rate(|sequence| sequence.1)),
            Value::Endpoint(s.vip),
        ],
        trend: Vec::new(),
    }
}

/// What identifies a connection.
pub(super) fn connection_id(c: &Connection) -> Id {
    Id::Connection(c.status.protocol, c.status.client, c.status.vip)
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
        let lines = servers(reading.service(&KEY).expect("the service"));
        assert_eq!(lines[0].values.len(), SERVERS.len());
        assert_eq!(texts(&lines[0])[5], "20.0k");
        // Direct routing: the replies go another way.
        assert_eq!(texts(&lines[1])[4..8], ["20.0k", "-", "250", "-"]);
    }

    #[test]
    fn lines_are_sorted_by_any_column_and_the_unknown_is_least() {
        let mut lines = servers(reading().service(&KEY).expect("the service"));
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
        assert_eq!(items[0].values.len(), CONNECTIONS.len());
    }

    #[test]
    fn bars_rise_to_the_largest() {
        assert_eq!(bars(&[0, 0, 1, 50, 100], 4), "▁▂▅█");
        assert_eq!(bars(&[0, 0], 4), "▁▁");
        assert_eq!(bars(&[], 4), "");
        assert_eq!(bars(&[u64::MAX, 0], 4), "█▁");
    }
}
