//! Engines at once, each in a thread with connections of its own: packets of established connections in batches, as a
//! worker has them.

use std::fmt::Write as _;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use uvs_benches::{BATCH, Sample, World};
use uvs_core::service::Forwarding;
use uvs_forwarder::cpu::pin;
use uvs_forwarder::replay::cpu_time;

use crate::{Args, cpu, median};

/// An engine, and the next packets of its connections.
struct Station {
    world: World,
    segments: Vec<Sample>,
    at: usize,
}

impl Station {
    /// The `n`th, with connections that no other has.
    fn new(n: u32, connections: u32) -> Self {
        let mut world = World::new(Forwarding::Nat, "rr", connections);
        let clients = n * connections..(n + 1) * connections;
        let segments = clients.map(|client| world.open(client).0);
        Self {
            segments: segments.collect(),
            world,
            at: 0,
        }
    }

    /// Handles batches for so long; nanoseconds of processor time a frame.
    fn run(&mut self, lasts: Duration) -> f64 {
        let (start, before, mut batches) = (Instant::now(), cpu_time(), 0_u64);
        while start.elapsed() < lasts {
            let batch: [&Sample; BATCH] = std::array::from_fn(|n| {
                // In an order that no prefetcher follows.
                &self.segments[(self.at + n) * 7919 % self.segments.len()]
            });
            self.at += BATCH;
            self.world.batch_from_client(&batch);
            batches += 1;
        }
        let spent = (cpu_time() - before).as_nanos() as f64;
        spent / (batches * BATCH as u64) as f64
    }
}

/// The table of what a frame costs.
pub(crate) fn measure(args: &Args) -> Result<String> {
    let most = args.at_once.iter().copied().max().unwrap_or(1);
    let mut stations: Vec<Station> = (0..most)
        .map(|n| Station::new(n, args.connections))
        .collect();
    let lasts = Duration::from_millis(args.milliseconds);
    let mut costs = vec![Vec::new(); args.at_once.len()];
    for _ in 0..args.rounds {
        for (of, costs) in args.at_once.iter().zip(&mut costs) {
            let each = at_once(&mut stations[..*of as usize], lasts)?;
            costs.push(each.iter().sum::<f64>() / f64::from(*of));
        }
    }
    let mut table = format!(
        "{} connections of NAT in each engine\n\n| Engines at once | ns of processor time a frame | beside the first |\n|---|---|---|\n",
        args.connections
    );
    for (of, figures) in args.at_once.iter().zip(&costs) {
        let ratios = figures.iter().zip(&costs[0]).map(|(n, one)| n / one);
        let (cost, ratio) = (median(figures.clone()), median(ratios.collect()));
        writeln!(table, "| {of} | {cost:.1} | {ratio:.3} |")?;
    }
    Ok(table)
}

/// Runs these at once, from the same moment on.
fn at_once(stations: &mut [Station], lasts: Duration) -> Result<Vec<f64>> {
    let of = u32::try_from(stations.len())?;
    let barrier = Barrier::new(stations.len());
    thread::scope(|scope| {
        let start = |(n, station): (u32, _)| {
            let barrier = &barrier;
            scope.spawn(move || -> Result<f64> {
                let station: &mut Station = station;
                let pinned = cpu(n, of).map_or(Ok(()), pin);
                barrier.wait();
                pinned?;
                Ok(station.run(lasts))
            })
        };
        let threads: Vec<_> = (0..of).zip(stations).map(start).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<f64>>| {
            thread.join().map_err(|_| anyhow!("an engine panicked"))?
        };
        threads.into_iter().map(join).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_at_once_have_each_their_cost() {
        let mut stations = [0, 1, 2].map(|n| Station::new(n, 64));
        let costs = at_once(&mut stations, Duration::from_millis(1)).expect("threads");
        assert_eq!(costs.len(), 3);
        assert!(costs.iter().all(|ns| ns.is_finite() && *ns > 0.0));
    }
}
