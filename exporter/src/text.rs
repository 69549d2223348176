//! Families whose series grow with the services, written as text at once: a director of ten thousand services has some
//! hundred thousand of them, for each of which the `prometheus` crate would make a dozen strings, compare and copy them
//! before it writes a line. The format is Prometheus's text format 0.0.4, as the crate's encoder writes it.

use std::collections::HashMap;
use std::fmt::Write;

use crate::catalog::{Definition, Kind};

/// The families that have values so far.
#[derive(Default)]
pub(crate) struct Text {
    order: Vec<&'static Definition>,
    lines: HashMap<&'static str, String>,
}

impl Text {
    /// Adds a value under the catalogue's labels; there are as many values as labels.
    pub(crate) fn add(&mut self, definition: &'static Definition, labels: &[&str], value: f64) {
        debug_assert_eq!(labels.len(), definition.labels.len(), "{}", definition.name);
        let pairs = definition.labels.iter().copied();
        self.add_with(definition, pairs.zip(labels.iter().copied()), value);
    }

    /// Adds a value under these labels.
    pub(crate) fn add_with<'a>(
        &mut self,
        definition: &'static Definition,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        value: f64,
    ) {
        debug_assert!(definition.kind != Kind::Histogram, "{}", definition.name);
        let lines = self.lines.entry(definition.name).or_insert_with(|| {
            self.order.push(definition);
            String::new()
        });
        lines.push_str(definition.name);
        let mut before = '{';
        for (name, value) in labels {
            lines.push(before);
            lines.push_str(name);
            lines.push_str("=\"");
            escape(value, &['\\', '\n', '"'], lines);
            lines.push('"');
            before = ',';
        }
        let end = if before == ',' { "}" } else { "" };
        // A string takes everything.
        let _ = writeln!(lines, "{end} {value}");
    }

    /// The families, in the order of their first values.
    pub(crate) fn finish(self) -> String {
        let size = self.lines.values().map(String::len).sum();
        let mut text = String::with_capacity(size);
        for definition in self.order {
            let kind = match definition.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let name = definition.name;
            let _ = write!(text, "# HELP {name} ");
            escape(definition.help, &['\\', '\n'], &mut text);
            let _ = writeln!(text, "\n# TYPE {name} {kind}");
            text.push_str(&self.lines[name]);
        }
        text
    }
}

/// Appends a text in which these characters are written with a backslash.
fn escape(text: &str, special: &[char], to: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find(special) {
        to.push_str(&rest[..at]);
        to.push('\\');
        let c = &rest[at..=at];
        to.push_str(if c == "\n" { "n" } else { c });
        rest = &rest[at + 1..];
    }
    to.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{SERVICE_PACKETS, TRUNCATED};
    use crate::family::Families;
    use prometheus::TextEncoder;

    #[test]
    fn it_is_written_as_the_crate_would() {
        let values = [0.0, 1.5, 4_294_967_296.0, 1e21, 0.1];
        let (mut text, mut families) = (Text::default(), Families::default());
        for (n, value) in (0..).zip(values) {
            let odd = format!("a \"quoted\" \\ of\ntwo lines {n}");
            let labels = || [("vip", odd.as_str()), ("direction", "in")].into_iter();
            text.add_with(&SERVICE_PACKETS, labels(), value);
            families.add_with(&SERVICE_PACKETS, labels(), value);
        }
        text.add(&TRUNCATED, &[], 1.0);
        families.add(&TRUNCATED, &[], 1.0);
        let encoded = TextEncoder::new().encode_to_string(&families.finish());
        assert_eq!(text.finish(), encoded.expect("a text"));
    }
}
