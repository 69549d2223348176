//! The `process_*` metrics that every client library has, read from /proc.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use crate::catalog::{self as c, Definition};
use crate::family::{Families, describe};

/// `USER_HZ`: 100 on every architecture that Rust's standard library runs on with Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads /proc/self at each scrape; what cannot be read is left out.
pub(crate) struct ProcessCollector {
    descs: Vec<Desc>,
    started: Option<f64>,
}

impl ProcessCollector {
    pub(crate) fn new() -> prometheus::Result<Self> {
        let definitions = c::ALL.iter().filter(|d| d.name.starts_with("process_"));
        Ok(Self {
            descs: definitions.map(describe).collect::<Result<_, _>>()?,
            started: started(),
        })
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Families::default();
        let stat = stat();
        let field = |number: usize| stat.get(number - FIRST_FIELD)?.parse::<f64>().ok();
        // proc(5): 14 utime, 15 stime, 20 num_threads, 23 vsize.
        let cpu = field(14)
            .zip(field(15))
            .map(|(user, system)| (user + system) / TICKS_PER_SECOND);
        let descriptors = fs::read_dir("/proc/self/fd").map(|dir| dir.count() as f64);
        let values: [(&'static Definition, Option<f64>); 7] = [
            (&c::PROCESS_CPU, cpu),
            (&c::PROCESS_OPEN_FDS, descriptors.ok()),
            (&c::PROCESS_MAX_FDS, max_descriptors()),
            (&c::PROCESS_VIRTUAL, field(23)),
            (&c::PROCESS_RESIDENT, resident()),
            (&c::PROCESS_START, self.started),
            (&c::PROCESS_THREADS, field(20)),
        ];
        for (definition, value) in values {
            if let Some(value) = value {
                families.add(definition, &[], value);
            }
        }
        families.finish()
    }
}

/// The number of the first field that [`stat`] returns.
const FIRST_FIELD: usize = 3;

/// The fields of /proc/self/stat after the command, which may have spaces and brackets.
fn stat() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace().map(str::to_owned).collect()
}

fn resident() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

fn max_descriptors() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|l| l.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Now less the process's age, as the clock may have been set since the boot.
fn started() -> Option<f64> {
    let ticks: f64 = stat().get(22 - FIRST_FIELD)?.parse().ok()?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(now.as_secs_f64() - (uptime - ticks / TICKS_PER_SECOND))
}
