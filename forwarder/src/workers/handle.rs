//! One worker as the control thread has it: its thread, the way to ask it, and its heartbeat.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant as Wall};

use mio::Waker;
use uvs_core::engine::Engine;
use uvs_core::peer::Told;
use uvs_core::time::Instant;

use crate::clock::monotonic;
use crate::connection_log::Outlet;
use crate::cpu;
use crate::daemon::Placement;
use crate::worker::{Ask, Colleagues, Heartbeat, Line, Notice, Ports, Published, Worker};

/// A worker sleeps for half a second at most: one without a heartbeat for so long is stuck.
pub(crate) const MISSED: Duration = Duration::from_secs(5);
/// A worker answers within a turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// One that is stuck is asked all the same, as it may only just have been woken with this process.
const STUCK_PATIENCE: Duration = Duration::from_millis(200);

/// What a worker is called: the only one is `the worker`, others have their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// Counted from 0.
    pub(super) number: usize,
    /// How many there are.
    pub(super) of: usize,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of {
            1 => f.write_str("the worker"),
            _ => write!(f, "worker {}", self.number),
        }
    }
}

impl Name {
    /// As `ps -L` shows the thread.
    fn of_thread(self) -> String {
        match self.of {
            1 => "uvs-worker".to_owned(),
            _ => format!("uvs-worker-{}", self.number),
        }
    }
}

/// Why a worker did not answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// It is late.
    #[error("{0} did not answer within {seconds} s", seconds = .1.as_secs_f32())]
    Late(Name, Duration),
    /// It is not there any more.
    #[error("{0} has ended")]
    Ended(Name),
}

/// Whether a worker comes round; read by any thread, without asking it.
#[derive(Clone)]
pub(crate) struct WorkerHeartbeat {
    /// Whose.
    pub(crate) name: Name,
    pub(super) heartbeat: Arc<Heartbeat>,
}

impl WorkerHeartbeat {
    /// When it last came round.
    pub(crate) fn last(&self) -> Instant {
        self.heartbeat.last()
    }

    /// How long ago it last came round.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.heartbeat.age(now)
    }

    /// That of a worker which came round at a time.
    #[cfg(test)]
    pub(crate) fn test(number: usize, of: usize, at: Instant) -> Self {
        let heartbeat = Arc::new(Heartbeat::new());
        heartbeat.beat(at);
        let name = Name { number, of };
        Self { name, heartbeat }
    }

    /// Whether it is stuck.
    pub(crate) fn is_missed(&self, now: Instant) -> bool {
        self.age(now) > MISSED
    }
}

/// What a worker has with the control thread and with the other workers.
pub(super) struct Lines {
    pub(super) published: Arc<Published>,
    pub(super) notices: Box<dyn Fn(Notice) + Send>,
    pub(super) told: Box<dyn Fn(Vec<Told>, u64) + Send>,
    pub(super) colleagues: Colleagues,
    pub(super) records: Outlet,
}

/// A running worker.
pub(super) struct Handle {
    pub(super) heartbeat: WorkerHeartbeat,
    asks: Sender<Ask>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

/// An answer that is to come, and until when it is waited for.
pub(super) struct Pending<T> {
    name: Name,
    from: Receiver<T>,
    patience: Duration,
    asked: Wall,
}

impl Handle {
    /// Starts a worker.
    pub(super) fn start(
        name: Name,
        (engine, ports): (Engine, Ports),
        lines: Lines,
        placement: &Placement,
    ) -> io::Result<Self> {
        let (asks, inbox) = channel();
        let heartbeat = Arc::new(Heartbeat::new());
        let line = Line {
            published: lines.published,
            heartbeat: Arc::clone(&heartbeat),
            asks: inbox,
            notices: lines.notices,
            told: lines.told,
            colleagues: lines.colleagues,
            records: lines.records,
        };
        let (mut worker, waker) = Worker::new(engine, ports, line)?;
        worker.poll_busily(placement.busy_poll);
        let cpu = placement.cpus.iter().cycle().nth(name.number).copied();
        let run = move || {
            if let Some(cpu) = cpu
                && let Err(e) = cpu::pin(usize::try_from(cpu).unwrap_or(usize::MAX))
            {
                tracing::warn!("{name} cannot be kept on CPU {cpu}: {e}");
            }
            worker.run();
        };
        let thread = thread::Builder::new().name(name.of_thread());
        Ok(Self {
            heartbeat: WorkerHeartbeat { name, heartbeat },
            asks,
            waker: Arc::new(waker),
            thread: Some(thread.spawn(run)?),
        })
    }

    /// Says something to the worker; one that has ended does not hear it.
    pub(super) fn tell(&self, ask: Ask) {
        if self.asks.send(ask).is_ok() {
            self.wake();
        }
    }

    /// Has the worker look whether there is anything new.
    pub(super) fn wake(&self) {
        if let Err(e) = self.waker.wake() {
            tracing::error!("{} cannot be woken: {e}", self.heartbeat.name);
        }
    }

    /// What wakes it.
    pub(super) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Asks something.
    pub(super) fn ask<T>(&self, question: impl FnOnce(Sender<T>) -> Ask) -> Pending<T> {
        let (to, from) = channel();
        self.tell(question(to));
        Pending {
            name: self.heartbeat.name,
            from,
            patience: self.patience(),
            asked: Wall::now(),
        }
    }

    /// Whether its thread has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the end of a worker that was told to stop, unless it is stuck.
    pub(super) fn end(&mut self, told: Wall) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        let patience = self.patience();
        while !thread.is_finished() {
            if told.elapsed() >= patience {
                let name = self.heartbeat.name;
                return tracing::error!("{name} is stuck; the process ends without it");
            }
            thread::sleep(Duration::from_millis(1));
        }
        let _ = thread.join();
    }

    fn patience(&self) -> Duration {
        match self.heartbeat.is_missed(monotonic()) {
            false => PATIENCE,
            true => STUCK_PATIENCE,
        }
    }
}

impl<T> Pending<T> {
    /// Waits for the answer.
    pub(super) fn wait(self) -> Result<T, NoAnswer> {
        let left = self.patience.saturating_sub(self.asked.elapsed());
        self.from.recv_timeout(left).map_err(|e| match e {
            RecvTimeoutError::Timeout => NoAnswer::Late(self.name, self.patience),
            RecvTimeoutError::Disconnected => NoAnswer::Ended(self.name),
        })
    }
}
