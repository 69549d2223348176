//! One copy of everything that is counted, for live views, and the neighbours that packets leave by.

use std::sync::Arc;
use std::time::Duration;

use uvs_control::protocol::{Answers, NeighbourStatus, Refusal, Sample, ask};
use uvs_core::numbers::Totals;
use uvs_core::service::ServiceSpec;
use uvs_core::wire::ethernet::mac_text;

use super::Daemon;
use super::status::service_status;
use crate::netlink::NeighbourEntry;
use crate::worker::Status;

impl Answers<ask::Sample> for Daemon {
    fn answer(&mut self, _: ask::Sample) -> Result<Sample, Refusal> {
        let counted = self.counted()?;
        let status = &counted.all;
        let (marks, fib) = (self.table.marks(), self.mirror.fib());
        let reports = status.services.by_key();
        let service = |spec: &Arc<ServiceSpec>| {
            let counted = reports.get(&spec.key).copied();
            service_status(spec, marks, counted, &self.rates, &fib)
        };
        Ok(Sample {
            taken_ns: counted.taken().0,
            pid: std::process::id(),
            uptime: self.started.elapsed().as_secs(),
            busy_ns: nanoseconds(counted.busy()),
            each_busy_ns: counted
                .each
                .iter()
                .map(|w| nanoseconds(w.work.busy))
                .collect(),
            ring_drops: ring_drops(status),
            totals: Totals::from(&status.counters),
            connections: status.connections,
            connection_limit: self.limits.connections,
            services: self.table.services().iter().map(service).collect(),
        })
    }
}

impl Answers<ask::ListNeighbours> for Daemon {
    fn answer(&mut self, _: ask::ListNeighbours) -> Result<Vec<NeighbourStatus>, Refusal> {
        let fib = self.mirror.fib();
        let name = |ifindex: u32| {
            let mut interfaces = fib.interfaces().iter();
            let port = interfaces.find(|i| i.ifindex == ifindex)?.port;
            self.interfaces.get(usize::from(port.0)).cloned()
        };
        let entries = self.mirror.list_neighbours().into_iter();
        Ok(entries
            .filter_map(|entry| Some(neighbour(name(entry.ifindex)?, entry)))
            .collect())
    }
}

fn neighbour(interface: String, entry: NeighbourEntry) -> NeighbourStatus {
    let state = match (entry.mac, entry.failed) {
        (Some(_), _) => "known",
        (None, true) => "failed",
        (None, false) => "unknown",
    };
    let kept_by = match (entry.maintained, entry.managed) {
        (true, _) => Some("administrator"),
        (false, true) => Some("kernel"),
        (false, false) => None,
    };
    NeighbourStatus {
        addr: entry.addr,
        interface,
        mac: entry.mac.map(mac_text),
        state: state.to_owned(),
        kept_by: kept_by.map(str::to_owned),
        servers: entry.servers,
    }
}

/// Frames that the kernel dropped because a ring was full.
pub(super) fn ring_drops(status: &Status) -> u64 {
    status.ports.iter().map(|port| port.rx.kernel_drops).sum()
}

/// As the protocol has times.
pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
