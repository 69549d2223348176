//! What services and real servers have in common: their traffic, in totals and a second.

use uvs_core::counters::Stats;

use super::column::{Column, Value};

/// What happened in a second between two samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) connections: f64,
    pub(crate) in_packets: f64,
    pub(crate) out_packets: f64,
    pub(crate) in_bits: f64,
    pub(crate) out_bits: f64,
}

/// What services and real servers have in common.
pub(super) trait Counted {
    /// Totals.
    fn stats(&self) -> &Stats;
    /// Per second, by the daemon's estimator.
    fn estimated(&self) -> &Stats;
    /// Per second, between two samples.
    fn rates(&self) -> Option<&Rates>;
    /// Whether replies pass the director, so that there is something to count.
    fn replies(&self) -> bool;

    fn rate(&self, of: fn(&Rates) -> f64) -> Value {
        Value::Rate(self.rates().map(of))
    }

    /// What does not pass the director is not 0: nobody here knows it.
    fn reply(&self, of: fn(&Rates) -> f64) -> Value {
        if self.replies() {
            self.rate(of)
        } else {
            Value::Rate(None)
        }
    }
}

pub(super) const fn connections<T: Counted>() -> Column<T> {
    Column::number("CONNECTIONS", |t| Value::Count(t.stats().connections))
}

pub(super) const fn estimated<T: Counted>() -> Column<T> {
    Column::number("CONNS/S", |t| Value::Count(t.estimated().connections))
}

pub(super) const fn in_packets<T: Counted>() -> Column<T> {
    Column::number("IN-PACKETS", |t| Value::Count(t.stats().in_packets))
}

pub(super) const fn out_packets<T: Counted>() -> Column<T> {
    Column::number("OUT-PACKETS", |t| Value::Count(t.stats().out_packets))
}

pub(super) const fn in_bytes<T: Counted>() -> Column<T> {
    Column::number("IN-BYTES", |t| Value::Count(t.stats().in_bytes))
}

pub(super) const fn out_bytes<T: Counted>() -> Column<T> {
    Column::number("OUT-BYTES", |t| Value::Count(t.stats().out_bytes))
}

pub(super) const fn connection_rate<T: Counted>() -> Column<T> {
    Column::number("CONN/S", |t| t.rate(|r| r.connections))
}

pub(super) const fn in_bits<T: Counted>() -> Column<T> {
    Column::number("IN-BIT/S", |t| t.rate(|r| r.in_bits))
}

pub(super) const fn out_bits<T: Counted>() -> Column<T> {
    Column::number("OUT-BIT/S", |t| t.reply(|r| r.out_bits))
}

pub(super) const fn in_packet_rate<T: Counted>() -> Column<T> {
    Column::number("IN-PKT/S", |t| t.rate(|r| r.in_packets))
}

pub(super) const fn out_packet_rate<T: Counted>() -> Column<T> {
    Column::number("OUT-PKT/S", |t| t.reply(|r| r.out_packets))
}
