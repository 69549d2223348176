//! The thread that writes the log: the only one that may ever wait for where it goes.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::journal::Socket;
use super::limit::Limiter;
use super::queue::Tally;

/// How often losses and suppressed lines are reported.
const TELL: Duration = Duration::from_secs(2);

/// Where the log goes.
pub(super) enum Out {
    /// Standard error, by its descriptor: a lock that the standard library keeps for it would stop
    /// whoever else writes there.
    Stderr,
    /// systemd's journal.
    Journal(Socket),
}

/// What the thread has.
pub(super) struct Sink {
    out: Out,
    tally: Arc<Tally>,
    limiter: Arc<Limiter>,
    /// The last line was written in part.
    cut: bool,
    /// Lost lines that the log has told of.
    told: u64,
}

impl Sink {
    pub(super) fn new(out: Out, tally: Arc<Tally>, limiter: Arc<Limiter>) -> Self {
        Self {
            out,
            tally,
            limiter,
            cut: false,
            told: 0,
        }
    }

    /// Writes until nobody can log any more.
    pub(super) fn run(mut self, lines: &Receiver<Vec<u8>>) {
        let mut next = Instant::now() + TELL;
        let mut works = true;
        loop {
            match lines.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    works = self.write(&line);
                    self.tally.end(&line, works);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if Instant::now() >= next {
                self.tell(works);
                next = Instant::now() + TELL;
            }
        }
    }

    /// Says what is missing, once there is somebody to tell.
    fn tell(&mut self, works: bool) {
        for (like, count) in self.limiter.take_suppressed() {
            self.tally.suppress(count);
            tracing::info!("{count} more lines like this were left out: {like}");
        }
        let lost = self.tally.lost();
        if works && lost > self.told {
            tracing::warn!(
                queue_full = self.tally.queue_full(),
                write_failed = self.tally.write_failed(),
                "{} lines of this log were lost; since the start by reason:",
                lost - self.told
            );
            self.told = lost;
        }
    }

    fn write(&mut self, line: &[u8]) -> bool {
        match &self.out {
            Out::Journal(socket) => socket.send(line),
            Out::Stderr => {
                let begun = std::mem::take(&mut self.cut);
                let outcome = if begun {
                    write_all(rustix::stdio::stderr(), &[b"\n", line].concat())
                } else {
                    write_all(rustix::stdio::stderr(), line)
                };
                self.cut = outcome.is_err_and(|(written, _)| written > 0 || begun);
                outcome.is_ok()
            }
        }
    }
}

/// Writes all of it, however long that takes.
///
/// # Errors
/// How much of it was written, and why the rest cannot be.
pub(crate) fn write_all(to: BorrowedFd<'_>, line: &[u8]) -> Result<(), (usize, Errno)> {
    let mut written = 0;
    while written < line.len() {
        match rustix::io::write(to, &line[written..]) {
            Ok(0) => return Err((written, Errno::IO)),
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            // Somebody who has the same pipe or terminal made it non-blocking.
            Err(Errno::AGAIN) => wait(to).map_err(|e| (written, e))?,
            Err(e) => return Err((written, e)),
        }
    }
    Ok(())
}

fn wait(to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let to = to.as_fd();
    match poll(&mut [PollFd::new(&to, PollFlags::OUT)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    #[test]
    fn a_failed_write_says_how_far_it_came() {
        let full = File::options().write(true).open("/dev/full");
        let full = full.expect("the device that is always full");
        assert_eq!(write_all(full.as_fd(), b"line\n"), Err((0, Errno::NOSPC)));
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        assert_eq!(write_all(writer.as_fd(), b"line\n"), Ok(()));
        let mut line = [0; 5];
        reader.read_exact(&mut line).expect("the line");
        drop(reader);
        assert_eq!(write_all(writer.as_fd(), b"line\n"), Err((0, Errno::PIPE)));
    }

    #[test]
    fn a_pipe_that_somebody_made_non_blocking_is_waited_for() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&writer, true).expect("non-blocking");
        let lines = vec![b'x'; 1 << 20];
        let expected = lines.len();
        let writing = std::thread::spawn(move || write_all(writer.as_fd(), &lines));
        let mut all = Vec::new();
        reader.read_to_end(&mut all).expect("all lines");
        assert_eq!(writing.join().expect("it ends"), Ok(()));
        assert_eq!(all.len(), expected);
    }
}
