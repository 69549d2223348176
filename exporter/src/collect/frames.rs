//! Frames: how many came, what became of them, and which left.

use uvs_core::counters::ICMP_ERRORS;
use uvs_core::verdict::{DropReason, Stage};

use crate::catalog::{self as c, Definition};
use crate::family::Families;
use crate::{MetricSnapshot, PortMetrics};

pub(super) fn collect(snapshot: &MetricSnapshot, to: &mut Families) {
    for (name, up) in &snapshot.interfaces {
        to.add(&c::INTERFACE_UP, &[name], f64::from(u8::from(*up)));
    }
    for (worker, counted) in snapshot.workers.iter().enumerate() {
        for port in &counted.ports {
            frames(port, &worker.to_string(), to);
        }
    }
    let n = &snapshot.counters;
    for (definition, value) in [
        (&c::SEGMENTS, n.segments),
        (&c::FRAGMENTS, n.fragments),
        (&c::FRAGMENTS_EXPIRED, n.fragments_expired),
        (&c::ICMP_TRANSLATED, n.icmp_translated),
        (&c::SCHEDULER_FAULTS, n.scheduler_faults),
        (&c::CONNTRACK_EXPIRED, n.expired),
        (&c::CONNTRACK_EVICTED, n.evicted),
        (&c::CONNTRACK_DEFENDED, n.dropped_entries),
        (&c::CONNTRACK_OUT_OF_WINDOW, n.out_of_window),
        (&c::SNAT_REOPENED, n.reopened),
    ] {
        to.add(definition, &[], value as f64);
    }
    for ((_, _, kind), count) in ICMP_ERRORS.iter().zip(n.icmp_sent) {
        to.add(&c::ICMP_SENT, &[kind], count as f64);
    }
    to.add(&c::CONNTRACK_REPLACED, &["over"], n.replaced_over as f64);
    to.add(&c::CONNTRACK_REPLACED, &["live"], n.replaced_live as f64);
    let again = n.proxy_headers_again;
    let first = n.proxy_headers.saturating_sub(again);
    to.add(&c::PROXY_HEADERS, &["first"], first as f64);
    to.add(&c::PROXY_HEADERS, &["again"], again as f64);
    to.add(&c::CONNTRACK_TOLD, &["client"], n.told_clients as f64);
    to.add(&c::CONNTRACK_TOLD, &["server"], n.told_servers as f64);
}

fn frames(port: &PortMetrics, worker: &str, to: &mut Families) {
    let name = port.interface.as_str();
    let counted: [(&'static Definition, u64); 17] = [
        (&c::FRAMES_RECEIVED, port.received),
        (&c::FRAMES_FORWARDED, port.ends.sent),
        (&c::FRAMES_ANSWERED, port.ends.answered),
        (&c::FRAMES_HELD, port.ends.held),
        (&c::FRAMES_PASSED, port.ends.passed),
        (&c::FRAMES_LOCAL, port.ends.local),
        (&c::FRAMES_HANDED_ON, port.ends.handed_on),
        (&c::FRAMES_TAKEN_OVER, port.taken_over),
        (&c::FRAMES_HANDED, port.handed),
        (&c::FRAMES_WAITING, port.waiting),
        (&c::RX_PACKETS, port.rx_frames),
        (&c::RX_BYTES, port.rx_bytes),
        (&c::RX_KERNEL_DROPS, port.rx_kernel_drops),
        (&c::RX_STALLS, port.rx_stalls),
        (&c::RX_OVERSIZED, port.rx_oversized),
        (&c::TX_PACKETS, port.tx_frames),
        (&c::TX_BYTES, port.tx_bytes),
    ];
    for (definition, value) in counted {
        to.add(definition, &[name, worker], value as f64);
    }
    let unaccounted = port.unaccounted() as f64;
    to.add(&c::FRAMES_UNACCOUNTED, &[name, worker], unaccounted);
    to.add(&c::FRAMES_UNSENT, &[name, worker], port.unsent() as f64);
    for (errno, count) in &port.tx_errors {
        to.add(&c::TX_ERRORS, &[name, worker, errno], *count as f64);
    }
    for reason in DropReason::ALL {
        let stage = reason.stage();
        let count = match stage {
            Stage::Input => port.ends.drops[*reason as usize],
            Stage::Output => port.lost[*reason as usize],
        };
        let labels = [reason.label(), stage.label(), name, worker];
        to.add(&c::DROPS, &labels, count as f64);
    }
}
