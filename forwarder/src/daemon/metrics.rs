//! The daemon's numbers as the exporter wants them. The exporter's thread only says that it wants some; they
//! are gathered here, on the control thread, from copies that the workers make between two batches.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};
use hdrhistogram::Histogram as Recorded;
use mio::Waker;
use uvs_control::config::{Listen, Metrics};
use uvs_core::engine::{Report, ServiceReport};
use uvs_core::fib::Fib;
use uvs_core::numbers::LogLosses;
use uvs_core::service::{ServerSpec, ServiceSpec};
use uvs_exporter::{
    BackendMetrics, Build, Exporter, Histogram, LATENCY_BOUNDS, LocalAddress, MetricSnapshot,
    PluginMetrics, PortMetrics, Reloads, ServiceMetrics, WorkerMetrics,
};

use super::frames::OWN_STACK;
use super::liveness::Liveness;
use super::{Daemon, status, timed};
use crate::port::port_id;
use crate::worker::{BATCH_BUCKETS, PortStatus, Work, WorkerStatus};
use crate::workers::Counted;

const BUILD: Build = Build {
    version: env!("CARGO_PKG_VERSION"),
    commit: env!("UVS_COMMIT"),
    rustc: env!("UVS_RUSTC"),
};
/// The send errors that have a series from the start; any other is `other`.
const ERRNOS: [(i32, &str); 7] = [
    (libc::EAGAIN, "EAGAIN"),
    (libc::EINVAL, "EINVAL"),
    (libc::EMSGSIZE, "EMSGSIZE"),
    (libc::ENETDOWN, "ENETDOWN"),
    (libc::ENOBUFS, "ENOBUFS"),
    (libc::ENOMEM, "ENOMEM"),
    (libc::ENXIO, "ENXIO"),
];
const OTHER_ERRNO: &str = "other";

/// The exporter, and whether it waits for numbers.
pub(super) struct Metering {
    exporter: Exporter,
    wanted: Arc<AtomicBool>,
    /// The exporter's socket.
    listening: TcpListener,
}

impl Metering {
    /// Starts the exporter, unless it is off. An address that nobody asked for may be taken: then a warning
    /// is enough.
    pub(super) fn start(
        settings: &Metrics,
        notify: Arc<Waker>,
        liveness: Liveness,
        handed_down: Option<TcpListener>,
    ) -> Result<Option<Self>> {
        let Some(address) = settings.listen.address() else {
            return Ok(None);
        };
        let is_it = |listener: &TcpListener| listener.local_addr().ok() == Some(address);
        let listener = handed_down.filter(is_it);
        let listener = match listener.map_or_else(|| TcpListener::bind(address), Ok) {
            Ok(listener) => listener,
            Err(e) if settings.listen == Listen::Default => {
                tracing::warn!(
                    "no metrics: {address}: {e}; choose another address with --metrics, or `--metrics off`"
                );
                return Ok(None);
            }
            Err(e) => {
                return Err(e).context(format!(
                    "metrics cannot be served on {address}; choose another address with --metrics, or `--metrics off`"
                ));
            }
        };
        let listening = listener.try_clone().context("the exporter")?;
        let wanted = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&wanted);
        let ask = move || {
            asked.store(true, Ordering::Release);
            let _ = notify.wake();
        };
        let stuck = Box::new(move || liveness.complaints());
        let exporter =
            uvs_exporter::serve(listener, Box::new(ask), stuck).context("the exporter")?;
        tracing::info!("metrics on http://{}/metrics", exporter.address());
        Ok(Some(Self {
            exporter,
            wanted,
            listening,
        }))
    }

    /// The listening socket, for another process to take it over.
    pub(super) fn hand_down(&self) -> io::Result<OwnedFd> {
        self.listening.try_clone().map(OwnedFd::from)
    }
}

impl Daemon {
    /// Answers the exporter, where it asked.
    pub(super) fn meter(&mut self) {
        let wanted = self.metering.as_ref();
        if !wanted.is_some_and(|metering| metering.wanted.swap(false, Ordering::Acquire)) {
            return;
        }
        let drift = self.drift();
        let Some(metering) = &self.metering else {
            return;
        };
        match self.counted() {
            Ok(counted) => metering.exporter.publish(self.metrics(&counted, drift)),
            // The exporter goes on with the last, whose age it shows.
            Err(refusal) => tracing::warn!("no new metrics: {}", refusal.message),
        }
    }

    fn metrics(&self, counted: &Counted, drift: Option<usize>) -> MetricSnapshot {
        let status = &counted.all;
        let fib = self.mirror.fib();
        let services = self.table.services().iter();
        let reports = status.services.by_key();
        let (first, last) = self.limits.local_ports;
        let repairs = self.isolation.repairs();
        MetricSnapshot {
            taken: Instant::now(),
            build: BUILD,
            started: self.started_at,
            plugins: self.plugins(),
            services: services
                .map(|spec| service(spec, reports.get(&spec.key).copied(), &fib))
                .collect(),
            retired: status.services.retired,
            max_backends: self.metrics.max_backends,
            node_ipvs: self.metrics.node_ipvs,
            interfaces: self.interfaces_up(&fib),
            counters: status.counters.clone(),
            connections: status.connections,
            connection_limit: self.limits.connections,
            local_addresses: local_addresses(&status.services),
            local_port_limit: u32::from(last - first) + 1,
            workers: counted.each.iter().map(|w| self.worker(w)).collect(),
            latency: latency(&status.latency),
            schedule: timed::histogram(&self.schedule_times),
            neighbours: self.mirror.count_neighbours(),
            netlink_overruns: self.mirror.overruns(),
            hook: self.hook_metrics(status),
            guard_repairs: (repairs.removed, repairs.damaged),
            sync: self.sync_metrics(status),
            reloads: self.reloads,
            drift,
            log: self.log_losses(),
            records: self.connection_log.numbers(),
            problems: self.problems(&fib),
        }
    }

    /// What the log has lost, of this daemon and those before it.
    pub(super) fn log_losses(&self) -> LogLosses {
        let log = &self.options.log;
        let mut losses = self.log_before;
        losses += LogLosses {
            queue_full: log.queue_full(),
            write_failed: log.write_failed(),
            suppressed: log.suppressed(),
        };
        losses
    }

    fn plugins(&self) -> Vec<PluginMetrics> {
        let loaded = self.options.schedulers.loaded().into_iter();
        loaded
            .map(|plugin| PluginMetrics {
                name: plugin.name,
                version: plugin.version,
                abi: plugin.abi,
                file: plugin.file.display().to_string(),
                faults: plugin.faults.into(),
            })
            .collect()
    }

    /// The interfaces, and `lo`, by which the host's own stack is reached.
    fn interfaces_up(&self, fib: &Fib) -> Vec<(String, bool)> {
        let up = |i: usize| fib.interface(port_id(i)).is_some_and(|i| i.up);
        let interfaces = self.interfaces.iter().enumerate();
        let interfaces = interfaces.map(|(i, name)| (name.clone(), up(i)));
        interfaces.chain([(OWN_STACK.to_owned(), true)]).collect()
    }

    fn worker(&self, status: &WorkerStatus) -> WorkerMetrics {
        let WorkerStatus { work, counted } = status;
        let names = self.interfaces.iter().map(String::as_str);
        let own = interface(OWN_STACK, &counted.own);
        WorkerMetrics {
            busy: work.busy.as_secs_f64(),
            waited: work.waited.as_secs_f64(),
            batches: batches(work),
            ports: names
                .zip(&counted.ports)
                .map(|(name, port)| interface(name, port))
                .chain([own])
                .collect(),
        }
    }

    /// What stands in the way of serving.
    fn problems(&self, fib: &Fib) -> Vec<String> {
        let interfaces = self.interfaces_up(fib).into_iter();
        let down = interfaces.filter(|(_, up)| !up);
        let down = down.map(|(name, _)| format!("interface {name} is down or gone"));
        let broken = self.isolation.repairs().broken;
        let guard = broken.map(|why| format!("the guard could not be repaired: {why}"));
        down.chain(guard).collect()
    }
}

/// How loading the configuration went so far: once, at the start, beside what daemons before have counted.
pub(super) fn first_load((succeeded, failed): (u64, u64)) -> Reloads {
    Reloads {
        succeeded: succeeded + 1,
        failed,
        last_success: SystemTime::now(),
        last_ok: true,
    }
}

fn service(spec: &ServiceSpec, counted: Option<&ServiceReport>, fib: &Fib) -> ServiceMetrics {
    let backend = |server: &ServerSpec| BackendMetrics {
        spec: *server,
        numbers: status::server_numbers(counted, server),
        reachable: status::is_reachable(spec, server, fib),
    };
    ServiceMetrics {
        key: spec.key,
        scheduler: spec.scheduler.clone(),
        persistent: spec.persistence.is_some(),
        numbers: status::service_numbers(counted),
        backends: spec.servers.iter().map(backend).collect(),
    }
}

/// An address that several services share is as full as where it is fullest.
fn local_addresses(report: &Report) -> Vec<LocalAddress> {
    let mut in_use = BTreeMap::new();
    for (addr, ports) in report.services.iter().flat_map(|s| &s.local_ports) {
        let most = in_use.entry(*addr).or_insert(0);
        *most = (*most).max(*ports);
    }
    let addresses = in_use.into_iter();
    addresses
        .map(|(addr, in_use)| LocalAddress { addr, in_use })
        .collect()
}

fn interface(name: &str, port: &PortStatus) -> PortMetrics {
    let ledger = &port.ledger;
    PortMetrics {
        interface: name.to_owned(),
        rx_frames: port.rx.received,
        rx_kernel_drops: port.rx.kernel_drops,
        rx_stalls: port.rx.stalls,
        rx_oversized: port.rx.copied,
        rx_bytes: ledger.bytes,
        received: ledger.received,
        taken_over: ledger.taken_over,
        ends: ledger.ends.clone(),
        lost: ledger.lost,
        handed: ledger.handed,
        waiting: port.waiting,
        tx_frames: ledger.sent,
        tx_bytes: ledger.sent_bytes,
        tx_errors: errors(&port.errors),
    }
}

fn errors(by_number: &BTreeMap<i32, u64>) -> BTreeMap<String, u64> {
    let names = ERRNOS.iter().map(|(_, name)| *name);
    let mut by_name: BTreeMap<String, u64> = names
        .chain([OTHER_ERRNO])
        .map(|name| (name.to_owned(), 0))
        .collect();
    for (errno, count) in by_number {
        let known = ERRNOS.iter().find(|(number, _)| number == errno);
        let name = known.map_or(OTHER_ERRNO, |(_, name)| *name);
        *by_name.entry(name.to_owned()).or_default() += count;
    }
    by_name
}

fn batches(work: &Work) -> Histogram {
    let (counts, frames) = work.batches;
    Histogram {
        bounds: (0..BATCH_BUCKETS).map(|i| f64::from(1 << i)).collect(),
        counts: counts.to_vec(),
        count: counts.iter().sum(),
        sum: frames as f64,
    }
}

/// Nanoseconds recorded with two digits become classic buckets of seconds.
fn latency(recorded: &Recorded<u64>) -> Histogram {
    let mut counts = vec![0; LATENCY_BOUNDS.len()];
    let mut sum = 0.0;
    for step in recorded.iter_recorded() {
        let seconds = step.value_iterated_to() as f64 / 1e9;
        let count = step.count_since_last_iteration();
        sum += seconds * count as f64;
        if let Some(bucket) = LATENCY_BOUNDS.iter().position(|bound| seconds <= *bound) {
            counts[bucket] += count;
        }
    }
    Histogram {
        bounds: LATENCY_BOUNDS.to_vec(),
        counts,
        count: recorded.len(),
        sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_their_buckets() {
        let mut recorded = Recorded::new_with_bounds(1, 10_000_000_000, 2).expect("valid bounds");
        for ns in [900, 4_000, 4_000, 2_000_000_000] {
            recorded.record(ns).expect("in bounds");
        }
        let h = latency(&recorded);
        assert_eq!((h.counts[0], h.counts[1], h.counts[2]), (1, 0, 2));
        assert_eq!((h.counts.iter().sum::<u64>(), h.count), (3, 4));
        assert!((h.sum - 2.000_009).abs() < 0.02, "{}", h.sum);
    }

    #[test]
    fn send_errors_have_names() {
        let by_name = errors(&BTreeMap::from([(libc::ENOBUFS, 3), (1, 2), (5, 1)]));
        assert_eq!(by_name["ENOBUFS"], 3);
        assert_eq!(by_name["other"], 3);
        assert_eq!(by_name["ENETDOWN"], 0);
    }
}
