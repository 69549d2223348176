//! The thread that writes the connection log: the only one that may ever wait for where it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use uvs_core::record::Record;

use super::Tally;
use super::calendar::Calendar;
use super::line::line;
use super::place::Place;

/// Records of one queue that are written at once.
const BATCH: usize = 256;
/// How often a file is looked after, and losses are told of.
const LOOK: Duration = Duration::from_secs(10);

/// What the thread has.
pub(super) struct Writer {
    place: Place,
    /// Queues of workers that are new.
    arrivals: Receiver<Receiver<Record>>,
    queues: Vec<Receiver<Record>>,
    tally: Arc<Tally>,
    reopen: Arc<AtomicBool>,
    /// Why the last lines were not written, where they were not.
    trouble: Option<std::io::Error>,
    /// Lost lines that the daemon's log has told of.
    told: u64,
}

impl Writer {
    pub(super) fn new(
        place: Place,
        arrivals: Receiver<Receiver<Record>>,
        tally: Arc<Tally>,
        reopen: Arc<AtomicBool>,
    ) -> Self {
        Self {
            place,
            arrivals,
            queues: Vec::new(),
            tally,
            reopen,
            trouble: None,
            told: 0,
        }
    }

    /// Writes until nobody can give it records any more.
    pub(super) fn run(mut self) {
        let mut next = Instant::now() + LOOK;
        loop {
            let last = self.meet_workers();
            if self.reopen.swap(false, Ordering::Acquire) {
                self.open_again();
            }
            let records = self.gather();
            if Instant::now() >= next {
                self.look();
                next = Instant::now() + LOOK;
            }
            if !records.is_empty() {
                self.write(&records);
            } else if last && self.queues.is_empty() {
                return self.tell();
            } else {
                // A worker that has given a record ends this.
                std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
            }
        }
    }

    /// Takes new workers' queues; whether there will be no more.
    fn meet_workers(&mut self) -> bool {
        loop {
            match self.arrivals.try_recv() {
                Ok(queue) => self.queues.push(queue),
                Err(outcome) => return outcome == TryRecvError::Disconnected,
            }
        }
    }

    fn gather(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        self.queues.retain(|queue| {
            for _ in 0..BATCH {
                match queue.try_recv() {
                    Ok(record) => records.push(record),
                    Err(outcome) => return outcome == TryRecvError::Empty,
                }
            }
            true
        });
        records
    }

    fn write(&mut self, records: &[Record]) {
        let calendar = Calendar::now();
        let lines: Vec<String> = records.iter().map(|r| line(r, calendar)).collect();
        let (written, trouble) = self.place.write(&lines);
        if trouble.is_none() && self.trouble.is_some() {
            tracing::info!(to = %self.place, "the connection log is written again");
        }
        self.trouble = trouble;
        Tally::add(&self.tally.write_failed, (lines.len() - written) as u64);
        Tally::add(&self.tally.written, written as u64);
    }

    fn open_again(&mut self) {
        match self.place.reopen() {
            Ok(()) => tracing::info!(to = %self.place, "the connection log was opened again"),
            Err(e) => tracing::error!(
                to = %self.place,
                "the connection log cannot be opened again, and goes on in the old file: {e}"
            ),
        }
    }

    fn look(&mut self) {
        if self.place.is_deleted() {
            tracing::warn!(to = %self.place, "somebody has deleted the connection log's file");
            self.open_again();
        }
        self.tell();
    }

    /// Says what is missing since this was said last.
    fn tell(&mut self) {
        let numbers = self.tally.numbers();
        let lost = numbers.queue_full + numbers.write_failed;
        if lost <= self.told {
            return;
        }
        let why = self.trouble.as_ref();
        let why = why.map_or_else(
            || "it is not written fast enough".to_owned(),
            ToString::to_string,
        );
        tracing::warn!(
            to = %self.place,
            queue_full = numbers.queue_full,
            write_failed = numbers.write_failed,
            "{} lines of the connection log were lost: {why}; since the start by reason:",
            lost - self.told
        );
        self.told = lost;
    }
}

#[cfg(test)]
mod tests {
    use uvs_control::config::{ConnectionLogging, LogTo};

    use super::super::ConnectionLog;
    use super::super::line::tests::record;

    #[test]
    fn every_record_of_every_worker_is_a_line_or_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("connections.log");
        let log = ConnectionLog::start(Some(&ConnectionLogging {
            to: LogTo::File(path.clone()),
            starts: true,
            queue: 64,
        }))
        .unwrap();
        let give = |count: usize| {
            let outlet = log.outlet();
            std::thread::spawn(move || (0..count).for_each(|_| outlet.test(record())))
        };
        let workers = [give(1000), give(2000)];
        workers.into_iter().for_each(|w| w.join().unwrap());
        log.finish();
        let numbers = log.numbers();
        let lines = std::fs::read_to_string(&path).unwrap();
        assert_eq!(lines.lines().count() as u64, numbers.written);
        assert_eq!(numbers.written + numbers.queue_full, 3000);
        assert_eq!(numbers.write_failed, 0);
        assert!(numbers.written >= 128, "as many as the queues hold");
        let whole = |line: &str| serde_json::from_str::<serde_json::Value>(line).is_ok();
        assert!(lines.lines().all(whole));

        std::fs::rename(&path, dir.path().join("rotated")).unwrap();
        assert!(log.reopen());
        let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while !path.exists() {
            assert!(std::time::Instant::now() < end, "it is opened again");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    #[test]
    fn without_a_place_records_are_counted_as_lost() {
        let log = ConnectionLog::start(None).unwrap();
        log.outlet().test(record());
        assert_eq!(log.numbers().write_failed, 1);
        assert!(!log.reopen());
        log.finish();
    }
}
