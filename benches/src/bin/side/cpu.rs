//! CPU time: of the load balancer's process, and of the whole machine.
//!
//! On veth the next host's receive path runs inside the sender's system call, and what the kernel forwards
//! costs no process anything. So the balancer's own time tells how it compares with another process, and
//! the machine's how it compares with the kernel.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// What `/proc/stat` counts in (USER_HZ).
const TICK: Duration = Duration::from_millis(10);

/// Readings at the start of a measurement.
pub(crate) struct Meter {
    balancer: Option<u32>,
    balancer_start: Duration,
    machine_start: Duration,
}

/// CPU time spent between start and stop.
pub(crate) struct Spent {
    /// By the load balancer's process, where it is one.
    pub(crate) balancer: Option<Duration>,
    /// By everything on the machine.
    pub(crate) machine: Duration,
}

impl Meter {
    /// Starts measuring; `balancer` is the load balancer's process id.
    pub(crate) fn start(balancer: Option<u32>) -> Result<Self> {
        Ok(Self {
            balancer,
            balancer_start: balancer.map_or(Ok(Duration::ZERO), process)?,
            machine_start: machine()?,
        })
    }

    /// What was spent since.
    pub(crate) fn stop(self) -> Result<Spent> {
        let machine = machine()?.saturating_sub(self.machine_start);
        let spent = |now: Duration| now.saturating_sub(self.balancer_start);
        let balancer = self.balancer.map(process).transpose()?.map(spent);
        Ok(Spent { balancer, machine })
    }
}

/// User and system time of all threads of a process, to the nanosecond (the scheduler's own account).
fn process(pid: u32) -> Result<Duration> {
    let tasks = format!("/proc/{pid}/task");
    let mut total = 0;
    for task in fs::read_dir(&tasks).with_context(|| format!("read {tasks}"))? {
        let path = task?.path().join("schedstat");
        // A thread may have ended since the directory was read.
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let ran: u64 = text
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok())
            .with_context(|| format!("no time in {}", path.display()))?;
        total += ran;
    }
    Ok(Duration::from_nanos(total))
}

/// All time that was not idle.
fn machine() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    busy_ticks(&text)
        .map(|ticks| TICK * ticks)
        .context("no sum of CPU times in /proc/stat")
}

/// proc(5): user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already.
fn busy_ticks(stat: &str) -> Option<u32> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u32> = line
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = fields[..] else {
        return None;
    };
    Some(user + nice + system + irq + softirq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_waiting_and_stolen_time_is_not_work() {
        let stat = "cpu  10 20 30 4000 5000 1 2 600 0 0\ncpu0 9 9 9 9 9 9 9 9 9 9\n";
        assert_eq!(busy_ticks(stat), Some(63));
        assert_eq!(busy_ticks("intr 1 2 3\n"), None);
    }

    #[test]
    fn this_process_spends_what_it_works() {
        let before = process(std::process::id()).expect("our own times");
        let mut n = 1u64;
        while process(std::process::id()).expect("our own times") == before {
            n = std::hint::black_box(n.wrapping_mul(3));
        }
    }
}
