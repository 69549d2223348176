//! What the plugin ABI costs a new connection: the same scheduler called as a built-in one, through the
//! ABI's table of functions, and through the guard that the daemon puts around plugins.

#![forbid(unsafe_code)]
#![allow(missing_docs)] // criterion_group! makes an undocumented function.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::scheduler::{Scheduler, SchedulerParams};
use uvs_core::testing::servers::{backend, flow};
use uvs_core::time::Instant;
use uvs_plugin::guest::Export;
use uvs_plugin::host::Plugin;
use uvs_plugin::supervised::{Source, Tolerance};

/// Servers in the set.
const SERVERS: u64 = 16;

criterion_group!(benches, picks);
criterion_main!(benches);

/// A built-in scheduler, so that each way has the same one virtual call beyond its own.
struct BuiltIn(Box<dyn Scheduler>);

impl Scheduler for BuiltIn {
    fn backends_changed(&mut self, backends: &[Backend]) {
        self.0.backends_changed(backends);
    }

    fn pick(&mut self, flow: &Flow, backends: &[Backend]) -> Option<usize> {
        self.0.pick(flow, backends)
    }

    fn tick(&mut self, now: Instant) {
        self.0.tick(now);
    }
}

macro_rules! export {
    ($type:ident, $name:literal) => {
        struct $type;

        impl Export for $type {
            type Scheduler = BuiltIn;

            fn create(params: &SchedulerParams) -> BuiltIn {
                BuiltIn(built_in($name, params))
            }
        }
    };
}

export!(RoundRobin, "rr");
export!(LeastConnection, "lc");

fn picks(c: &mut Criterion) {
    pick::<RoundRobin>(c, "rr");
    pick::<LeastConnection>(c, "lc");
}

fn pick<E: Export>(c: &mut Criterion, name: &str) {
    let params = SchedulerParams::default();
    let plugin = Plugin::in_process::<E>(c"exported", c"1.0.0", c"a bench", 0).expect("a plugin");
    let instance = plugin.instance(&params).expect("an instance");
    let source = Source::new(
        Arc::new(plugin),
        Tolerance {
            max_faults: 10,
            budget: Duration::from_millis(1),
        },
        ("rr", || built_in("rr", &SchedulerParams::default())),
    );
    let ways: [(&str, Box<dyn Scheduler>); 3] = [
        ("built in", Box::new(BuiltIn(built_in(name, &params)))),
        ("through the ABI", Box::new(instance)),
        ("through ABI and guard", source.scheduler(&params)),
    ];
    let set: Vec<Backend> = (1..=SERVERS).map(|id| backend(id, 1)).collect();
    let flows: Vec<Flow> = (0..1024).map(flow).collect();
    let mut group = c.benchmark_group("pick");
    for (way, mut scheduler) in ways {
        scheduler.backends_changed(&set);
        group.bench_function(BenchmarkId::new(name, way), |b| {
            let mut next = flows.iter().cycle();
            b.iter(|| {
                let flow = next.next().expect("endless");
                black_box(&mut scheduler).pick(black_box(flow), black_box(&set))
            });
        });
    }
    group.finish();
}

fn built_in(name: &str, params: &SchedulerParams) -> Box<dyn Scheduler> {
    (uvs_schedulers::find(name).expect("built in").new)(params)
}
