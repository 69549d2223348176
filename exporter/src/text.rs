//! Families whose series grow with the services, written as text at once: a director of ten thousand services has some
//! hundred thousand of them, for each of which the `prometheus` crate would make a dozen strings, compare and copy them
//! before it writes a line. The format is Prometheus's text format 0.0.4, as the crate's encoder writes it.

use std::collections::HashMap;
use std::fmt::Write;

use crate::Histogram;
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
        let lines = self.lines(definition);
        line(lines, definition.name, (labels, None), value);
    }

    /// Adds a histogram under these labels.
    pub(crate) fn histogram_with<'a>(
        &mut self,
        definition: &'static Definition,
        labels: impl Iterator<Item = (&'a str, &'a str)> + Clone,
        histogram: &Histogram,
    ) {
        debug_assert!(definition.kind == Kind::Histogram, "{}", definition.name);
        let lines = self.lines(definition);
        let [bucket, sum, count] =
            ["bucket", "sum", "count"].map(|part| format!("{}_{part}", definition.name));
        let bounds = histogram.bounds.iter().map(f64::to_string);
        let counts = histogram.counts.iter().scan(0, |below, count| {
            *below += count;
            Some(*below)
        });
        let buckets = bounds.zip(counts);
        for (bound, count) in buckets.chain([("+Inf".to_owned(), histogram.count)]) {
            let bound = Some(("le", bound.as_str()));
            line(lines, &bucket, (labels.clone(), bound), count as f64);
        }
        line(lines, &sum, (labels.clone(), None), histogram.sum);
        line(lines, &count, (labels, None), histogram.count as f64);
    }

    fn lines(&mut self, definition: &'static Definition) -> &mut String {
        self.lines.entry(definition.name).or_insert_with(|| {
            self.order.push(definition);
            String::new()
        })
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

/// Appends a series of these labels, and perhaps of one more, and its value.
fn line<'a>(
    lines: &mut String,
    name: &str,
    (labels, last): (
        impl Iterator<Item = (&'a str, &'a str)>,
        Option<(&str, &str)>,
    ),
    value: f64,
) {
    lines.push_str(name);
    let mut before = '{';
    let mut label = |name: &str, value: &str| {
        lines.push(before);
        lines.push_str(name);
        lines.push_str("=\"");
        escape(value, &['\\', '\n', '"'], lines);
        lines.push('"');
        before = ',';
    };
    labels.for_each(|(name, value)| label(name, value));
    if let Some((name, value)) = last {
        label(name, value);
    }
    let end = if before == ',' { "}" } else { "" };
    // A string takes everything.
    let _ = writeln!(lines, "{end} {value}");
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
    use crate::catalog::{BATCH_SIZE, SERVICE_PACKETS, TRUNCATED};
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
        let times = Histogram {
            bounds: vec![2.5e-7, 0.001, 10.0],
            counts: vec![0, 2, 1],
            count: 4,
            sum: 12.25,
        };
        for worker in ["0", "a \"name\""] {
            text.histogram_with(&BATCH_SIZE, [("worker", worker)].into_iter(), &times);
            families.histogram(&BATCH_SIZE, &[worker], &times);
        }
        text.add(&TRUNCATED, &[], 1.0);
        families.add(&TRUNCATED, &[], 1.0);
        let encoded = TextEncoder::new().encode_to_string(&families.finish());
        assert_eq!(text.finish(), encoded.expect("a text"));
    }
}
