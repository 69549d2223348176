//! The connection log: a line of JSON for each connection of a logged service, for audits.
//!
//! A worker makes records and never waits for them to be written: each has a bounded queue into the one thread that
//! writes, and what finds no room there, or cannot be written, is lost and counted. A full disk, a slow one, a
//! collector that has stopped or is gone cost lines, and no packet. The daemon's own log (`log/`) is another one: it
//! has levels and limits, and its lines are for people.

mod calendar;
mod line;
mod outlet;
mod place;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use uvs_control::config::ConnectionLogging;
use uvs_core::numbers::RecordNumbers;
use uvs_core::record::Record;

pub(crate) use outlet::Outlet;
use place::Place;
use writer::Writer;

/// How long the end of the process waits for lines that are still to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What became of records.
#[derive(Debug, Default)]
struct Tally {
    /// Given to the thread.
    queued: AtomicU64,
    written: AtomicU64,
    queue_full: AtomicU64,
    write_failed: AtomicU64,
}

impl Tally {
    fn add(to: &AtomicU64, count: u64) {
        to.fetch_add(count, Ordering::Relaxed);
    }

    fn numbers(&self) -> RecordNumbers {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        RecordNumbers {
            written: of(&self.written),
            queue_full: of(&self.queue_full),
            write_failed: of(&self.write_failed),
        }
    }

    /// Whether no record waits in a queue or in a write.
    fn is_done(&self) -> bool {
        let ended =
            self.written.load(Ordering::Acquire) + self.write_failed.load(Ordering::Acquire);
        ended >= self.queued.load(Ordering::Acquire)
    }
}

/// The running log, or none, where the configuration has none.
#[derive(Default)]
pub(crate) struct ConnectionLog {
    running: Option<Running>,
    tally: Arc<Tally>,
    /// What daemons before this one have written and lost.
    before: RecordNumbers,
}

struct Running {
    thread: Thread,
    reopen: Arc<AtomicBool>,
    queue: usize,
    /// Receivers on their way to the thread.
    queues: std::sync::mpsc::Sender<Receiver<Record>>,
}

impl ConnectionLog {
    /// Opens the place and starts the thread, where there is something to log to.
    ///
    /// # Errors
    /// A file cannot be opened, or is no regular file; there is no thread left.
    pub(crate) fn start(wanted: Option<&ConnectionLogging>) -> Result<Self> {
        let mut log = Self::default();
        let Some(wanted) = wanted else {
            return Ok(log);
        };
        let place = Place::open(&wanted.to).with_context(|| {
            let to = &wanted.to;
            format!("connection_log.to: {to} cannot be written to; make its directory, or name another file")
        })?;
        let (queues, arrivals) = std::sync::mpsc::channel();
        let reopen = Arc::new(AtomicBool::new(false));
        let writer = Writer::new(place, arrivals, Arc::clone(&log.tally), Arc::clone(&reopen));
        let thread = std::thread::Builder::new().name("uvs-connections".to_owned());
        let thread = thread.spawn(move || writer.run());
        log.running = Some(Running {
            thread: thread
                .context("the connection log's thread")?
                .thread()
                .clone(),
            reopen,
            queue: wanted.queue,
            queues,
        });
        Ok(log)
    }

    /// A worker's end of it, with a queue of its own.
    pub(crate) fn outlet(&self) -> Outlet {
        let queue = self.running.as_ref().and_then(|running| {
            let (to, from) = sync_channel(running.queue);
            running.queues.send(from).ok()?;
            Some((to, running.thread.clone()))
        });
        Outlet::new(queue, Arc::clone(&self.tally))
    }

    /// Has a file opened again under its name; `false` where there is none.
    pub(crate) fn reopen(&self) -> bool {
        let Some(running) = &self.running else {
            return false;
        };
        running.reopen.store(true, Ordering::Release);
        running.thread.unpark();
        true
    }

    /// The same, that counts on from what daemons before this one have written and lost.
    pub(crate) fn going_on(mut self, before: RecordNumbers) -> Self {
        self.before = before;
        self
    }

    /// What was written and lost.
    pub(crate) fn numbers(&self) -> RecordNumbers {
        let mut numbers = self.before;
        numbers += self.tally.numbers();
        numbers
    }

    /// Waits a moment until all is written that there is.
    pub(crate) fn finish(&self) {
        let end = Instant::now() + LAST_LINES;
        while !self.tally.is_done() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        let numbers = self.tally.numbers();
        let lost = numbers.queue_full + numbers.write_failed;
        if lost > 0 || !self.tally.is_done() {
            tracing::warn!(
                written = numbers.written,
                queue_full = numbers.queue_full,
                write_failed = numbers.write_failed,
                "the connection log lacks lines"
            );
        }
    }
}
