//! Families under construction: values go to their metric's family, with labels in the catalogue's order.

use std::collections::HashMap;

use prometheus::core::Desc;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram as HistogramValue, LabelPair, Metric, MetricFamily,
    MetricType,
};

use crate::Histogram;
use crate::catalog::{Definition, Kind};

/// The families that have values so far.
#[derive(Default)]
pub(crate) struct Families {
    order: Vec<&'static Definition>,
    metrics: HashMap<&'static str, Vec<Metric>>,
}

impl Families {
    /// Adds a value under the catalogue's labels; there are as many values as labels.
    pub(crate) fn add(&mut self, definition: &'static Definition, labels: &[&str], value: f64) {
        debug_assert_eq!(labels.len(), definition.labels.len(), "{}", definition.name);
        let pairs = definition
            .labels
            .iter()
            .copied()
            .zip(labels.iter().copied());
        self.add_with(definition, pairs, value);
    }

    /// Adds a value under these labels.
    pub(crate) fn add_with<'a>(
        &mut self,
        definition: &'static Definition,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        value: f64,
    ) {
        let mut metric = Metric::from_label(labels.map(pair).collect());
        match definition.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge | Kind::Histogram => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.push(definition, metric);
    }

    /// Adds a histogram.
    pub(crate) fn histogram(
        &mut self,
        definition: &'static Definition,
        labels: &[&str],
        histogram: &Histogram,
    ) {
        let pairs = definition
            .labels
            .iter()
            .copied()
            .zip(labels.iter().copied());
        let mut metric = Metric::from_label(pairs.map(pair).collect());
        let mut cumulative = 0;
        let buckets = histogram.bounds.iter().zip(&histogram.counts);
        let buckets = buckets.map(|(bound, count)| {
            cumulative += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(cumulative);
            bucket
        });
        let mut value = HistogramValue::default();
        value.set_bucket(buckets.collect());
        value.set_sample_count(histogram.count);
        value.set_sample_sum(histogram.sum);
        metric.set_histogram(value);
        self.push(definition, metric);
    }

    /// The families, in the order of their first values.
    pub(crate) fn finish(mut self) -> Vec<MetricFamily> {
        let families = self.order.iter().map(|definition| {
            let mut family = MetricFamily::default();
            family.set_name(definition.name.to_owned());
            family.set_help(definition.help.to_owned());
            family.set_field_type(match definition.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            family.set_metric(self.metrics.remove(definition.name).unwrap_or_default());
            family
        });
        families.collect()
    }

    fn push(&mut self, definition: &'static Definition, metric: Metric) {
        let metrics = self.metrics.entry(definition.name).or_insert_with(|| {
            self.order.push(definition);
            Vec::new()
        });
        metrics.push(metric);
    }
}

/// The catalogue's row as the `prometheus` crate wants to know it.
pub(crate) fn describe(definition: &Definition) -> prometheus::Result<Desc> {
    Desc::new(
        definition.name.to_owned(),
        definition.help.to_owned(),
        definition.labels.iter().map(|l| (*l).to_owned()).collect(),
        HashMap::new(),
    )
}

fn pair((name, value): (&str, &str)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}
