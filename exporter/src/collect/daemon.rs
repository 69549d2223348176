//! The daemon itself: tables, latency, the worker's time, configuration.

use std::time::{SystemTime, UNIX_EPOCH};

use uvs_core::counters::BulkResult;

use crate::MetricSnapshot;
use crate::catalog as c;
use crate::family::Families;

pub(super) fn collect(snapshot: &MetricSnapshot, to: &mut Families) {
    let build = &snapshot.build;
    to.add(
        &c::BUILD_INFO,
        &[build.version, build.commit, build.rustc],
        1.0,
    );
    to.add(&c::START_TIME, &[], seconds(snapshot.started));
    to.add(&c::READY, &[], flag(snapshot.all_problems().is_empty()));
    to.add(
        &c::SNAPSHOT_AGE,
        &[],
        snapshot.taken.elapsed().as_secs_f64(),
    );
    plugins(snapshot, to);
    tables(snapshot, to);
    workers(snapshot, to);
    let log = &snapshot.log;
    to.add(&c::LOG_LOST, &["queue_full"], log.queue_full as f64);
    to.add(&c::LOG_LOST, &["write_failed"], log.write_failed as f64);
    to.add(&c::LOG_SUPPRESSED, &[], log.suppressed as f64);
    let records = &snapshot.records;
    to.add(&c::RECORDS, &[], records.written as f64);
    to.add(&c::RECORDS_LOST, &["queue_full"], records.queue_full as f64);
    to.add(
        &c::RECORDS_LOST,
        &["write_failed"],
        records.write_failed as f64,
    );
    sync(snapshot, to);
    let reloads = &snapshot.reloads;
    to.add(&c::RELOADS, &["success"], reloads.succeeded as f64);
    to.add(&c::RELOADS, &["failure"], reloads.failed as f64);
    to.add(&c::RELOAD_OK, &[], flag(reloads.last_ok));
    to.add(&c::RELOAD_TIME, &[], seconds(reloads.last_success));
    if let Some(drift) = snapshot.drift {
        to.add(&c::DRIFT, &[], drift as f64);
    }
}

fn plugins(snapshot: &MetricSnapshot, to: &mut Families) {
    for plugin in &snapshot.plugins {
        let abi = plugin.abi.to_string();
        let about = [&plugin.name, &plugin.version, &abi, &plugin.file].map(String::as_str);
        to.add(&c::PLUGIN_INFO, &about, 1.0);
        for (reason, count) in &plugin.faults {
            to.add(&c::PLUGIN_FAULTS, &[&plugin.name, reason], *count as f64);
        }
    }
}

fn sync(snapshot: &MetricSnapshot, to: &mut Families) {
    for daemon in &snapshot.sync {
        let (role, numbers) = ([daemon.role], &daemon.numbers);
        to.add(&c::SYNC_DATAGRAMS, &role, numbers.datagrams as f64);
        to.add(&c::SYNC_BYTES, &role, numbers.bytes as f64);
        to.add(&c::SYNC_MESSAGES, &role, numbers.messages as f64);
        to.add(&c::SYNC_REFUSED, &role, numbers.refused as f64);
        to.add(&c::SYNC_LOST, &role, numbers.lost as f64);
        for result in BulkResult::ALL {
            let labels = [daemon.role, result.label()];
            to.add(
                &c::SYNC_BULK,
                &labels,
                numbers.bulk[*result as usize] as f64,
            );
        }
        to.add(&c::SYNC_BULK_MESSAGES, &role, numbers.bulk_messages as f64);
        if let Some(last) = numbers.last {
            to.add(&c::SYNC_SILENCE, &role, last as f64);
        }
        to.add(&c::SYNC_MISSED, &role, numbers.missed as f64);
        if let Some(entries) = numbers.entries {
            to.add(&c::SYNC_ENTRIES, &role, entries as f64);
        }
        if let Some(delay) = numbers.delay_us {
            to.add(&c::SYNC_DELAY, &role, delay as f64 / 1e6);
        }
    }
}

fn tables(snapshot: &MetricSnapshot, to: &mut Families) {
    to.add(&c::CONNTRACK_ENTRIES, &[], f64::from(snapshot.connections));
    to.add(
        &c::CONNTRACK_LIMIT,
        &[],
        f64::from(snapshot.connection_limit),
    );
    for local in &snapshot.local_addresses {
        let addr = local.addr.to_string();
        to.add(&c::SNAT_PORTS_IN_USE, &[&addr], f64::from(local.in_use));
        to.add(
            &c::SNAT_PORTS_LIMIT,
            &[&addr],
            f64::from(snapshot.local_port_limit),
        );
    }
    let (known, unknown) = snapshot.neighbours;
    to.add(&c::NEIGHBOURS, &["known"], known as f64);
    to.add(&c::NEIGHBOURS, &["unknown"], unknown as f64);
    to.add(&c::NETLINK_OVERRUNS, &[], snapshot.netlink_overruns as f64);
    let (removed, damaged) = snapshot.guard_repairs;
    to.add(&c::GUARD_REPAIRS, &["removed"], removed as f64);
    to.add(&c::GUARD_REPAIRS, &["damaged"], damaged as f64);
}

fn workers(snapshot: &MetricSnapshot, to: &mut Families) {
    to.histogram(&c::FORWARD_LATENCY, &[], &snapshot.latency);
    to.histogram(&c::SCHEDULE_DURATION, &[], &snapshot.schedule);
    for (i, worker) in snapshot.workers.iter().enumerate() {
        let name = i.to_string();
        to.histogram(&c::BATCH_SIZE, &[&name], &worker.batches);
        to.add(&c::WORKER_BUSY, &[&name], worker.busy);
        to.add(&c::WORKER_WAIT, &[&name], worker.waited);
    }
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}
