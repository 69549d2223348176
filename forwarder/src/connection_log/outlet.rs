//! A worker's end of the connection log: it gives records away, and never waits.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use uvs_core::engine::Engine;
use uvs_core::record::Record;
use uvs_core::time;

use super::Tally;

/// How long the records of a daemon that stops may wait for room, in all.
const LAST_RECORDS: Duration = Duration::from_millis(500);

/// Where a worker's records go.
pub(crate) struct Outlet {
    /// The queue, and the thread at its other end; `None` where nothing is logged.
    queue: Option<(SyncSender<Record>, Thread)>,
    tally: Arc<Tally>,
}

impl Outlet {
    pub(super) fn new(queue: Option<(SyncSender<Record>, Thread)>, tally: Arc<Tally>) -> Self {
        Self { queue, tally }
    }

    /// Gives away what the engine has made since.
    pub(crate) fn take(&self, engine: &mut Engine) {
        let mut any = false;
        let lost = engine.take_records(|record| {
            any = true;
            if self.give(record).is_some() {
                Tally::add(&self.tally.queue_full, 1);
            }
        });
        if lost > 0 {
            Tally::add(&self.tally.queue_full, lost);
        }
        if any {
            self.wake();
        }
    }

    /// Gives away the last records, of connections that end with the daemon: now there is a moment to wait.
    pub(crate) fn take_last(&self, engine: &Engine, now: time::Instant) {
        let end = Instant::now() + LAST_RECORDS;
        engine.log_stop(now, |record| {
            let mut record = record;
            while let Some(refused) = self.give(record) {
                if Instant::now() >= end {
                    return Tally::add(&self.tally.queue_full, 1);
                }
                record = refused;
                self.wake();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        self.wake();
    }

    /// Queues a record; one that finds no room comes back.
    fn give(&self, record: Record) -> Option<Record> {
        let Some((to, _)) = &self.queue else {
            Tally::add(&self.tally.write_failed, 1);
            return None;
        };
        Tally::add(&self.tally.queued, 1);
        let Err(refused) = to.try_send(record) else {
            return None;
        };
        self.tally
            .queued
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        match refused {
            TrySendError::Full(record) => Some(record),
            TrySendError::Disconnected(_) => {
                Tally::add(&self.tally.write_failed, 1);
                None
            }
        }
    }

    /// Gives a record away as a worker does.
    #[cfg(test)]
    pub(super) fn test(&self, record: Record) {
        if self.give(record).is_some() {
            Tally::add(&self.tally.queue_full, 1);
        }
        self.wake();
    }

    fn wake(&self) {
        if let Some((_, thread)) = &self.queue {
            thread.unpark();
        }
    }
}
