//! A column: a title, and where its value is; and values, which know their text and their order.

use std::cmp::Ordering;

use uvs_core::flow::Endpoint;
use uvs_core::service::ServiceKey;

use crate::commands::output;
use crate::commands::units::{nanoseconds, short};

/// A column of a table of `T`s.
pub(crate) struct Column<T> {
    head: output::Column,
    value: fn(&T) -> Value,
}

/// The columns of `uvs show`, and how many of them `-o table` has.
pub(crate) type Show<T> = (&'static [Column<T>], usize);

impl<T> Column<T> {
    pub(crate) const fn text(title: &'static str, value: fn(&T) -> Value) -> Self {
        let head = output::text(title);
        Self { head, value }
    }

    pub(crate) const fn number(title: &'static str, value: fn(&T) -> Value) -> Self {
        let head = output::number(title);
        Self { head, value }
    }

    /// The same under a shorter title.
    pub(super) const fn titled(self, title: &'static str) -> Self {
        let head = self.head.titled(title);
        let value = self.value;
        Self { head, value }
    }
}

/// The titles of columns.
pub(crate) fn heads<T>(columns: &[Column<T>]) -> Vec<output::Column> {
    columns.iter().map(|column| column.head).collect()
}

/// A line of values under them.
pub(crate) fn values<T>(columns: &[Column<T>], of: &T) -> Vec<Value> {
    columns.iter().map(|column| (column.value)(of)).collect()
}

/// All lines as text under their titles.
pub(crate) fn table<'a, T: 'a>(
    columns: &[Column<T>],
    lines: impl IntoIterator<Item = &'a T>,
) -> String {
    let text = |of| values(columns, of).iter().map(Value::text).collect();
    let rows: Vec<Vec<String>> = lines.into_iter().map(text).collect();
    output::table(&heads(columns), &rows)
}

/// A cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Word(String),
    Service(ServiceKey),
    Endpoint(Endpoint),
    Count(u64),
    /// What should be 0, and may be less.
    Difference(i64),
    /// Of a real server during its slow start: to the hundredth.
    Weight(f64),
    /// Nanoseconds.
    Idle(u64),
    /// Microseconds, 0 = not known.
    Handshake(u32),
    /// In a second; `None` = not known, or nothing that could be counted.
    Rate(Option<f64>),
}

impl Value {
    pub(crate) fn word(word: &str) -> Self {
        Self::Word(word.to_owned())
    }

    /// Those words, or a dash where there are none.
    pub(crate) fn or_dash(words: String) -> Self {
        if words.is_empty() {
            Self::word("-")
        } else {
            Self::Word(words)
        }
    }

    /// Those of a list, in a row.
    pub(crate) fn list<T: ToString>(of: &[T], between: &str) -> Self {
        let words: Vec<String> = of.iter().map(ToString::to_string).collect();
        Self::or_dash(words.join(between))
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Word(word) => word.clone(),
            Self::Service(key) => key.to_string(),
            Self::Endpoint(endpoint) => endpoint.to_string(),
            Self::Count(n) => n.to_string(),
            Self::Difference(n) => n.to_string(),
            Self::Weight(weight) => {
                let text = format!("{weight:.2}");
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            }
            Self::Idle(ns) => nanoseconds(*ns),
            Self::Handshake(0) | Self::Rate(None) => "-".to_owned(),
            Self::Handshake(micros) => format!("{:.2} ms", f64::from(*micros) / 1000.0),
            Self::Rate(Some(n)) => short(*n),
        }
    }

    /// Smaller first; what is not known is the smallest.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Word(a), Self::Word(b)) => a.cmp(b),
            (Self::Service(a), Self::Service(b)) => a.cmp(b),
            (Self::Endpoint(a), Self::Endpoint(b)) => a.cmp(b),
            (Self::Count(a), Self::Count(b)) | (Self::Idle(a), Self::Idle(b)) => a.cmp(b),
            (Self::Difference(a), Self::Difference(b)) => a.cmp(b),
            (Self::Handshake(a), Self::Handshake(b)) => a.cmp(b),
            (Self::Weight(a), Self::Weight(b)) => a.total_cmp(b),
            (Self::Rate(a), Self::Rate(b)) => {
                let known = |n: &Option<f64>| n.unwrap_or(f64::NEG_INFINITY);
                known(a).total_cmp(&known(b))
            }
            // A column holds values of one kind.
            _ => Ordering::Equal,
        }
    }
}
