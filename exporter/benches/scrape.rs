//! What a scrape costs: the text of `/metrics` made from a snapshot, by the number of real servers. It is made on
//! the exporter's own thread, at most once a second, while the worker goes on.

#![allow(missing_docs)] // criterion_group! makes an undocumented function.

#[path = "../tests/common/sample.rs"]
mod sample;

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use sample::{backend, service, snapshot};
use uvs_exporter::{MetricSnapshot, render};

const SERVERS: [u16; 3] = [10, 100, 1000];

criterion_group!(benches, scrape);
criterion_main!(benches);

fn scrape(c: &mut Criterion) {
    let mut group = c.benchmark_group("scrape");
    for servers in SERVERS {
        let snapshot = Arc::new(with(servers));
        group.bench_function(BenchmarkId::from_parameter(servers), |b| {
            b.iter(|| render(Arc::clone(&snapshot)).expect("a text"));
        });
    }
    group.finish();
}

/// One service with so many real servers, each with series of its own.
fn with(servers: u16) -> MetricSnapshot {
    let backends = (1..=servers).map(|port| {
        let mut backend = backend(18);
        backend.spec.endpoint.port = port;
        backend
    });
    MetricSnapshot {
        services: vec![service(backends.collect())],
        max_backends: usize::from(servers),
        ..snapshot()
    }
}
