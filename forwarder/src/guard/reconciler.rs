//! The thread that maintains the guard. It waits for nothing but others' changes to nft's rules, and has the
//! message that puts the table up ready: the control thread may be busy for milliseconds, and each one
//! without the guard costs connections.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::state::{Ready, State};
use super::watch::{Heard, Watch};
use super::{GuardError, Tampering};

/// After a repair that failed.
const RETRY: Duration = Duration::from_secs(1);

/// The thread, for as long as this value lives.
pub(super) struct Reconciler {
    waker: Waker,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reconciler {
    /// `repaired` is called after each repair.
    pub(super) fn start(
        state: Arc<Mutex<State>>,
        watch: Watch,
        repaired: Box<dyn Fn() + Send>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), Token(0))?;
        let fd: RawFd = watch.fd();
        poll.registry()
            .register(&mut SourceFd(&fd), Token(1), Interest::READABLE)?;
        let stopping = Arc::new(AtomicBool::new(false));
        let mut turn = Turn {
            state,
            watch,
            repaired,
            poll,
            stopping: Arc::clone(&stopping),
        };
        let thread = std::thread::Builder::new()
            .name("uvs-guard".to_owned())
            .spawn(move || turn.run())?;
        Ok(Self {
            waker,
            stopping,
            thread: Some(thread),
        })
    }

    /// What is wanted is otherwise now.
    pub(super) fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "the guard's thread cannot be woken");
        }
    }
}

impl Drop for Reconciler {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        self.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The lock; a thread that panicked with it left nothing half done that the next repair would not see.
pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Turn {
    state: Arc<Mutex<State>>,
    watch: Watch,
    repaired: Box<dyn Fn() + Send>,
    poll: Poll,
    stopping: Arc<AtomicBool>,
}

impl Turn {
    fn run(&mut self) {
        let mut events = Events::with_capacity(4);
        let mut heard = Heard::default();
        loop {
            let is_broken = lock(&self.state).repairs.broken.is_some();
            let waited = self.poll.poll(&mut events, is_broken.then_some(RETRY));
            if self.stopping.load(Ordering::Acquire) {
                return;
            }
            if let Err(error) = waited
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the guard is not maintained any more");
                return;
            }
            self.keep(&mut heard, is_broken);
            self.prepare();
        }
    }

    /// Puts right what was heard of, until there is no more.
    fn keep(&mut self, heard: &mut Heard, was_broken: bool) {
        let mut is_due = was_broken;
        loop {
            self.hear(heard);
            if !is_due && !heard.is_due() {
                return;
            }
            is_due = false;
            let removed = std::mem::take(&mut heard.removed);
            let forgotten = std::mem::take(&mut heard.forgotten);
            let mut by = heard.by.take();
            if !removed {
                *heard = Heard::default();
            }
            let forgotten =
                forgotten.then(|| Tampering::Damaged("set clients lost elements".into()));
            let outcome = self.repair(removed.then_some(Tampering::Removed).or(forgotten));
            if matches!(outcome, Outcome::Right(Some(_))) {
                (self.repaired)();
            }
            if removed {
                // The kernel names the process last, but before it lets our own transaction begin.
                self.hear(heard);
                by = by.or_else(|| heard.by.clone());
            }
            tell(outcome, by.as_deref());
        }
    }

    fn repair(&self, known: Option<Tampering>) -> Outcome {
        let mut state = lock(&self.state);
        let was_broken = state.repairs.broken.take();
        match state.repair(known) {
            Ok(tampering) => Outcome::Right(tampering),
            Err(fault) => {
                let fault = GuardError::of("repair the guard", fault).to_string();
                let is_news = was_broken.as_ref() != Some(&fault);
                state.repairs.broken = Some(fault.clone());
                Outcome::Broken(fault, is_news)
            }
        }
    }

    fn hear(&mut self, heard: &mut Heard) {
        if let Err(error) = self.watch.hear(heard) {
            tracing::error!(%error, "the guard's thread cannot follow changes of nft's rules");
        }
    }

    /// Makes the message that the next repair will need, without the lock.
    fn prepare(&self) {
        let wanted = {
            let state = lock(&self.state);
            let wanted = state.unprepared();
            wanted.map(|spec| (state.present(&spec.interfaces), spec))
        };
        if let Some((present, spec)) = wanted {
            let ready = Ready::new(&spec, present);
            lock(&self.state).prepared(&spec, ready);
        }
    }
}

/// What a check of the guard found.
enum Outcome {
    /// It is as wanted; what was wrong, if anything was.
    Right(Option<Tampering>),
    /// It could not be repaired: why, and whether that is news.
    Broken(String, bool),
}

fn tell(outcome: Outcome, by: Option<&str>) {
    let by = by.unwrap_or("unknown");
    match outcome {
        Outcome::Right(None) | Outcome::Broken(_, false) => {}
        Outcome::Right(Some(Tampering::Removed)) => tracing::warn!(
            by,
            "another program removed the guard (nft table `netdev uvs`); it has been put back"
        ),
        Outcome::Right(Some(Tampering::Damaged(what))) => tracing::warn!(
            by,
            what,
            "another program changed the guard (nft table `netdev uvs`); it has been repaired"
        ),
        Outcome::Broken(error, true) => tracing::error!(
            by,
            error,
            "another program removed or changed the guard, and it could not be repaired; trying again every second"
        ),
    }
}
