//! Lines on their way to the thread that writes them: bounded in number and in bytes, and never waited for.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait at most.
pub(super) const LINES: usize = 8192;
/// Their bytes at most: one line may be a whole `ipvsadm -R`.
pub(super) const BYTES: usize = 4 << 20;

/// What became of lines that nobody can read.
#[derive(Debug, Default)]
pub struct Tally {
    queue_full: AtomicU64,
    write_failed: AtomicU64,
    suppressed: AtomicU64,
    /// Bytes queued and not yet written or given up.
    held: AtomicUsize,
}

impl Tally {
    /// Lines that found no room in the queue, as those before them were not written fast enough.
    pub(crate) fn queue_full(&self) -> u64 {
        self.queue_full.load(Ordering::Relaxed)
    }

    /// Lines that could not be written.
    pub(crate) fn write_failed(&self) -> u64 {
        self.write_failed.load(Ordering::Relaxed)
    }

    /// Lines that were left out, as too many like them had been logged; a line says how many.
    pub(crate) fn suppressed(&self) -> u64 {
        self.suppressed.load(Ordering::Relaxed)
    }

    /// Lost lines of both kinds.
    pub(super) fn lost(&self) -> u64 {
        self.queue_full() + self.write_failed()
    }

    pub(super) fn suppress(&self, count: u64) {
        self.suppressed.fetch_add(count, Ordering::Relaxed);
    }

    /// A line has left the queue.
    pub(super) fn end(&self, line: &[u8], written: bool) {
        if !written {
            self.write_failed.fetch_add(1, Ordering::Relaxed);
        }
        self.held.fetch_sub(line.len(), Ordering::Release);
    }

    /// Whether no line waits.
    pub(super) fn is_written(&self) -> bool {
        self.held.load(Ordering::Acquire) == 0
    }
}

/// The end that takes lines.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    lines: SyncSender<Vec<u8>>,
    tally: Arc<Tally>,
}

impl Queue {
    /// An empty queue, and the end that gives the lines out.
    pub(super) fn new() -> (Self, Receiver<Vec<u8>>) {
        let (lines, out) = sync_channel(LINES);
        let tally = Arc::default();
        (Self { lines, tally }, out)
    }

    pub(super) fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// Queues a line, or counts it as lost.
    pub(super) fn push(&self, line: Vec<u8>) {
        let (length, tally) = (line.len(), &self.tally);
        let held = tally.held.fetch_add(length, Ordering::Relaxed);
        let lost = if held + length > BYTES {
            &tally.queue_full
        } else {
            match self.lines.try_send(line) {
                Ok(()) => return,
                Err(TrySendError::Full(_)) => &tally.queue_full,
                Err(TrySendError::Disconnected(_)) => &tally.write_failed,
            }
        };
        lost.fetch_add(1, Ordering::Relaxed);
        tally.held.fetch_sub(length, Ordering::Release);
    }
}

/// The formatter writes each line as one piece.
impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_does_not_wait() {
        let (queue, out) = Queue::new();
        for _ in 0..LINES + 3 {
            queue.push(b"line\n".to_vec());
        }
        assert_eq!(queue.tally.queue_full(), 3);
        for line in out.try_iter() {
            queue.tally.end(&line, true);
        }
        assert!(queue.tally.is_written());
        queue.push(vec![b'x'; BYTES]);
        queue.push(vec![b'x']);
        assert_eq!(queue.tally.queue_full(), 4, "no room for a byte more");
        drop(out);
        let (queue, out) = Queue::new();
        drop(out);
        queue.push(b"nobody\n".to_vec());
        assert_eq!((queue.tally.write_failed(), queue.tally.lost()), (1, 1));
        assert!(queue.tally.is_written());
    }
}
