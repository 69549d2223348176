//! The columns of `uvs show` that no other command has: drops, interfaces, neighbours, settings.

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use crate::commands::columns::{Column, Show, Value};
use crate::commands::units;
use uvs_control::protocol::{
    HookPort, InterfaceFrames, NeighbourStatus, Setting, SyncDaemon, SyncStatus, ToldChange,
};
use uvs_core::counters::BulkResult;

/// A reason and its counter.
#[derive(Serialize)]
pub(super) struct Drop {
    pub(super) reason: String,
    pub(super) count: u64,
    /// Empty where the daemon knows a reason that this program does not.
    pub(super) meaning: &'static str,
    pub(super) advice: &'static str,
}

pub(super) const DROPS: Show<Drop> = (
    &[
        Column::text("REASON", |d| Value::word(&d.reason)),
        Column::number("COUNT", |d| Value::Count(d.count)),
        Column::text("MEANING", |d| Value::or_dash(d.meaning.to_owned())),
        Column::text("WHAT TO DO", |d| Value::or_dash(d.advice.to_owned())),
    ],
    2,
);

pub(super) const INTERFACES: Show<InterfaceFrames> = (
    &[
        Column::text("INTERFACE", |i| Value::word(&i.interface)),
        Column::number("RING-FULL", |i| Value::Count(i.ring_full)),
        Column::number("RECEIVED", |i| Value::Count(i.came.received)),
        Column::number("SENT", |i| Value::Count(i.came.sent)),
        Column::number("ANSWERED", |i| Value::Count(i.came.answered)),
        Column::number("HELD", |i| Value::Count(i.came.held)),
        Column::number("PASSED", |i| Value::Count(i.came.passed)),
        Column::number("LOCAL", |i| Value::Count(i.came.local)),
        Column::number("IN-KERNEL", |i| Value::Count(i.came.in_kernel)),
        Column::number("DROPPED", |i| Value::Count(i.came.dropped)),
        Column::number("UNACCOUNTED", |i| Value::Difference(i.unaccounted)),
        Column::number("TO-SEND", |i| Value::Count(i.handed)),
        Column::number("LEFT", |i| Value::Count(i.left)),
        Column::number("WAITING", |i| Value::Count(i.waiting)),
        Column::number("LOST", |i| Value::Count(i.came.lost)),
        Column::number("UNSENT", |i| Value::Difference(i.unsent)),
    ],
    11,
);

pub(super) const CHANGES: Show<ToldChange> = (
    &[
        Column::number("AGO", |c| Value::word(&ago(c.at_ms))),
        Column::text("WHAT", |c| {
            let refused = if c.refused { "refused: " } else { "" };
            Value::word(&format!(
                "{refused}{}",
                c.what.trim_start_matches("refused: ")
            ))
        }),
        Column::text("BY", |c| Value::word(&c.by)),
    ],
    3,
);

/// How long ago, of a time in milliseconds since 1970.
fn ago(at_ms: u64) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(at_ms);
    units::age(at.elapsed().unwrap_or_default())
}

pub(super) const HOOKED: Show<HookPort> = (
    &[
        Column::text("INTERFACE", |p| Value::word(&p.interface)),
        Column::text("ATTACHED BY", |p| Value::or_dash(p.attach.clone())),
        Column::number("RECEIVED", |p| Value::Count(p.received)),
        Column::number("FORWARDED", |p| Value::Count(p.forwarded)),
        Column::number("TO-USER-SPACE", |p| Value::Count(p.ours)),
        Column::number("LOST", |p| Value::Count(p.lost + p.gso_unsupported)),
        Column::number("OTHERS", |p| Value::Count(p.others as u64)),
        Column::number("FORWARDED-BYTES", |p| Value::Count(p.forwarded_bytes)),
    ],
    7,
);

pub(super) const NEIGHBOURS: Show<NeighbourStatus> = (
    &[
        Column::text("ADDRESS", |n| Value::Word(n.addr.to_string())),
        Column::text("INTERFACE", |n| Value::word(&n.interface)),
        Column::text("MAC", |n| Value::or_dash(n.mac.clone().unwrap_or_default())),
        Column::text("STATE", |n| Value::word(&n.state)),
        Column::text("SERVERS", |n| Value::list(&n.servers, ",")),
        Column::text("KEPT BY", |n| {
            Value::or_dash(n.kept_by.clone().unwrap_or_default())
        }),
    ],
    5,
);

pub(super) const SETTINGS: Show<Setting> = (
    &[
        Column::text("KEY", |s| Value::word(&s.key)),
        Column::text("VALUE", |s| Value::word(&s.value)),
        Column::text("DEFAULT", |s| Value::word(&s.default)),
    ],
    3,
);

/// Names, and behind them what they have.
pub(super) fn listed(lines: &[(&str, String)]) -> String {
    let line = |(name, value): &(&str, String)| {
        let value = if value.is_empty() { "-" } else { value };
        format!("{name:<15}  {value}\n")
    };
    lines.iter().map(line).collect()
}

/// Whom a sync daemon speaks to or hears.
fn speaks_to(daemon: &SyncDaemon) -> String {
    let peers: Vec<String> = daemon.peers.iter().map(ToString::to_string).collect();
    match peers.is_empty() {
        true => daemon.group.to_string(),
        false => peers.join(","),
    }
}

/// How many transfers of the whole table there were, and how many of them were complete.
fn transfers(status: &SyncStatus) -> String {
    let all: u64 = status.numbers.bulk.iter().sum();
    let complete = status.numbers.bulk[BulkResult::Complete as usize];
    match status.daemon.bulk {
        true => format!("{complete} of {all}"),
        false => String::new(),
    }
}

/// Milliseconds, with three digits behind the point.
fn delay(micros: i64) -> String {
    format!("{:.3} ms", micros as f64 / 1000.0)
}

pub(super) const SYNC: Show<SyncStatus> = (
    &[
        Column::text("ROLE", |s| Value::word(s.daemon.role.word())),
        Column::text("INTERFACE", |s| Value::word(&s.daemon.interface)),
        Column::number("SYNCID", |s| Value::Count(s.daemon.syncid.into())),
        Column::number("MESSAGES", |s| Value::Count(s.numbers.messages)),
        Column::number("LOST", |s| Value::Count(s.numbers.lost)),
        Column::number("REFUSED", |s| Value::Count(s.numbers.refused)),
        Column::text("LAST", |s| {
            let last = s.numbers.last.map(|seconds| format!("{seconds} s ago"));
            Value::or_dash(last.unwrap_or_default())
        }),
        Column::text("ENTRIES", |s| {
            let entries = s.numbers.entries.map(|entries| entries.to_string());
            Value::or_dash(entries.unwrap_or_default())
        }),
        Column::text("BULK", |s| Value::or_dash(transfers(s))),
        Column::number("MISSED", |s| Value::Count(s.numbers.missed)),
        Column::text("DELAY", |s| {
            Value::or_dash(s.numbers.delay_us.map(delay).unwrap_or_default())
        }),
        Column::number("BULK-MESSAGES", |s| Value::Count(s.numbers.bulk_messages)),
        Column::number("DATAGRAMS", |s| Value::Count(s.numbers.datagrams)),
        Column::number("BYTES", |s| Value::Count(s.numbers.bytes)),
        Column::text("TO", |s| Value::Word(speaks_to(&s.daemon))),
        Column::number("PORT", |s| Value::Count(s.daemon.port.into())),
        Column::number("TTL", |s| Value::Count(s.daemon.ttl.into())),
        Column::number("MAXLEN", |s| Value::Count(s.daemon.maxlen.into())),
    ],
    9,
);
