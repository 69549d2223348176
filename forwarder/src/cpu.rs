//! Which CPU a thread runs on: a worker stays on its own, so that its caches and its queue's interrupts are there.

use std::io;

use rustix::thread::{CpuSet, sched_setaffinity};

/// Keeps the thread that this is called in on one CPU.
///
/// # Errors
/// There is no such CPU, or this process may not use it.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(io::Error::from)
}
