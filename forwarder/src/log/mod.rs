//! The daemon's log, for which no thread ever waits.
//!
//! A disk that is full, a pipe that nobody reads and a journal that is dead are other people's trouble: none
//! may stop the control thread, which then neither follows routes nor handles SIGTERM, and none may end the
//! process. So a line is put into a bounded queue, and one thread, which has nothing else to do, writes it. What
//! does not fit, or cannot be written, is lost and counted. `tracing-appender` has the queue but says nothing of
//! failed writes and prints to standard output when it cannot end; `tracing-journald` sends from the thread
//! that logs, which a full socket of the journal's stops.

pub(crate) mod journal;
mod limit;
mod queue;
mod sink;

use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use signal_hook::consts::SIGXFSZ;
use tracing::Level;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use self::journal::Journal;
use self::limit::{Limit, Limiter};
use self::queue::Queue;
pub(crate) use self::queue::Tally;
pub(crate) use self::sink::write_all;
use self::sink::{Out, Sink};

/// How long the end of the process waits for lines that are still to be written.
const LAST_LINES: Duration = Duration::from_millis(400);

/// The running log; what is queued when it is dropped gets a moment to be written.
pub struct Log {
    queue: Queue,
    journal: bool,
}

impl Log {
    /// Logs to standard error, or to the journal where that is what standard error is. Levels by `$UVS_LOG`
    /// (`info` unless set), e.g. `UVS_LOG=uvs=debug`. Once a process.
    pub fn start(json: bool) -> Self {
        // Beyond a limit of the file's size (RLIMIT_FSIZE) a write fails, instead of ending the process.
        let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
        let journal = if json { None } else { journal::connected() };
        let (queue, lines) = Queue::new();
        let limiter = Arc::new(Limiter::default());
        let log = Self {
            queue,
            journal: journal.is_some(),
        };
        let layer = log.layer(json);
        let out = journal.map_or(Out::Stderr, Out::Journal);
        let sink = Sink::new(out, Arc::clone(log.queue.tally()), Arc::clone(&limiter));
        // Without the thread every line is lost, and counted; the daemon serves all the same.
        let _ = std::thread::Builder::new()
            .name("uvs-log".to_owned())
            .spawn(move || sink.run(&lines));
        let filter = EnvFilter::try_from_env("UVS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
        tracing_subscriber::registry()
            .with(layer.and_then(Limit(limiter)).and_then(filter))
            .init();
        std::panic::set_hook(Box::new(report_panic));
        log
    }

    /// What was lost, for who counts it.
    pub fn tally(&self) -> Arc<Tally> {
        Arc::clone(self.queue.tally())
    }

    /// Says something to whoever started the program, as it is, whatever the levels.
    pub fn say(&self, text: &str) {
        self.queue.push(if self.journal {
            journal::plain(journal::IDENTIFIER, Level::ERROR, text)
        } else {
            format!("{text}\n").into_bytes()
        });
    }

    fn layer(&self, json: bool) -> Box<dyn Layer<Registry> + Send + Sync> {
        if self.journal {
            return Box::new(Journal(self.queue.clone()));
        }
        let text = tracing_subscriber::fmt::layer()
            .with_writer(self.queue.clone())
            .log_internal_errors(false)
            .with_target(false);
        if json {
            Box::new(text.json())
        } else {
            Box::new(text.with_ansi(std::io::stderr().is_terminal()))
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let end = Instant::now() + LAST_LINES;
        while !self.queue.tally().is_written() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A panic's message goes the way of every other line: the hook that comes with Rust writes it itself.
fn report_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let backtrace = std::backtrace::Backtrace::capture();
    match backtrace.status() {
        std::backtrace::BacktraceStatus::Captured => {
            tracing::error!("thread {name} {panic}\n{backtrace}");
        }
        _ => tracing::error!("thread {name} {panic}"),
    }
}
