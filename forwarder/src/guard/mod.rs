//! The guard: keeps the host's kernel from answering or forwarding what is UVS's.
//!
//! AF_PACKET only taps: the kernel processes every frame as well. One nft table, `netdev uvs`, drops
//! exactly the frames that UVS serves at the ingress hook, which comes after the packet sockets and
//! before everything else. It is replaced whole, or its sets are changed, in one transaction, so it is
//! never half there; a killed run's table is found and replaced by the next. What others do to it is put
//! right by a thread of its own, the reconciler.
//!
//! `rules` says what the table is, `nft/` how that is told to the kernel. No other program takes part,
//! but `nft` to print it for people.

mod claim;
mod clients;
mod elements;
mod error;
mod nft;
mod predict;
mod reconciler;
mod rules;
mod sets;
mod spec;
mod state;
mod tampering;
mod tool;
mod watch;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};

pub(crate) use claim::Claim;
pub use error::GuardError;
pub use nft::listing::Counter;
pub use spec::{Destined, FullNat, GuardSpec, HOST_MARK, Idle, LOOPBACK, Nat, Server, TunnelEnd};
pub use tampering::{Repairs, Tampering};

use nft::link::{Fault, Link};
use reconciler::{Reconciler, lock};
use state::{Ready, State};
use watch::Watch;

/// A table that was put up again and knows no clients, so that it keeps all that NAT servers send beyond the
/// host from the kernel. What is entered into it is not in the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsure(u64);

/// The guard of this network namespace. While this value lives, no other daemon can have it, and what
/// others do to its rules is repaired; when it goes, so do the rules.
pub struct Guard {
    state: Arc<Mutex<State>>,
    /// `None` while another process may have the table, and once it has ended.
    reconciler: Option<Reconciler>,
    repaired: Arc<dyn Fn() + Send + Sync>,
}

impl Guard {
    /// Claims the guard of this network namespace. Rules that a killed run left stay in force until the
    /// first [`apply`](Self::apply) replaces them; the log says so. `repaired` is called, by another thread,
    /// when the table was put up again because of what others did: it is [`unsure`](Self::unsure) then.
    ///
    /// # Errors
    /// Another daemon has it; the right or the kernel's support for it is missing.
    pub fn claim(repaired: impl Fn() + Send + Sync + 'static) -> Result<Self, GuardError> {
        let claim = Claim::new()?;
        let mut link = open()?;
        if state::is_present(&mut link).map_err(|e| GuardError::of("look for the table", e))? {
            tracing::warn!(
                "an earlier run left its guard (nft table `netdev uvs`) behind; it will be replaced"
            );
        }
        Self::start(claim, link, Arc::new(repaired))
    }

    /// Takes the guard over from another process, which has [paused](Self::pause) it and hands down its claim and
    /// how often it has repaired the table. The rules stay in force until the first [`apply`](Self::apply) replaces them.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn succeed(
        claim: OwnedFd,
        (removed, damaged): (u64, u64),
        repaired: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, GuardError> {
        let guard = Self::start(Claim::succeed(claim)?, open()?, Arc::new(repaired))?;
        guard.state().repairs = Repairs {
            removed,
            damaged,
            ..Repairs::default()
        };
        Ok(guard)
    }

    fn start(
        claim: Claim,
        link: Link,
        repaired: Arc<dyn Fn() + Send + Sync>,
    ) -> Result<Self, GuardError> {
        let mut guard = Self {
            state: Arc::new(Mutex::new(State::new(claim, link))),
            reconciler: None,
            repaired,
        };
        guard.watch()?;
        Ok(guard)
    }

    /// Begins to repair what others do.
    fn watch(&mut self) -> Result<(), GuardError> {
        let watching = |e| GuardError::of("watch nft's rules", e);
        let watch = Watch::new(self.state().link.port()).map_err(watching)?;
        let repaired = Arc::clone(&self.repaired);
        let state = Arc::clone(&self.state);
        let reconciler = Reconciler::start(state, watch, Box::new(move || repaired()));
        self.reconciler = Some(reconciler.map_err(watching)?);
        Ok(())
    }

    /// Lets another process change the table; with the claim that this process has.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub(crate) fn pause(&mut self) -> std::io::Result<OwnedFd> {
        let claim = self.state().hand_down()?;
        self.reconciler = None;
        Ok(claim)
    }

    /// Goes on after a [pause](Self::pause): the other process is gone, and the table is put up again as it was.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn go_on(&mut self) -> Result<(), GuardError> {
        let wanted = self.state().wanted.clone();
        if let Some(spec) = wanted {
            self.replace(&spec)?;
        }
        self.watch()
    }

    /// Leaves the table to another process, which has it now.
    pub(crate) fn leave(&mut self) {
        self.reconciler = None;
        self.state().wanted = None;
    }

    /// Puts the guard up, or changes it. Interfaces that do not exist now are left out and named in the
    /// log: [`replace`](Self::replace) it when they are back.
    ///
    /// # Errors
    /// The rules could not be put in force; those before them still are.
    pub fn apply(&mut self, spec: &GuardSpec) -> Result<(), GuardError> {
        let spec = Arc::new(spec.clone());
        if !self.change(&spec) {
            return self.replace(&spec);
        }
        self.wake();
        Ok(())
    }

    /// Changes elements only, where that is enough and succeeds.
    fn change(&self, spec: &Arc<GuardSpec>) -> bool {
        let mut state = self.state();
        let Some(wanted) = &state.wanted else {
            return false;
        };
        let Some(changes) = elements::changes(wanted, spec) else {
            return false;
        };
        if !changes.is_empty()
            && let Err(error) = state.link.commit(&elements::batch(&changes))
        {
            // Somebody changed our table a moment ago.
            tracing::debug!(%error, "the guard's sets could not be changed; it is replaced");
            return false;
        }
        state.want(Arc::clone(spec), None);
        true
    }

    /// Puts the guard up again as a whole, on the interfaces there are now.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn replace(&mut self, spec: &GuardSpec) -> Result<(), GuardError> {
        let spec = Arc::new(spec.clone());
        // An interface may go between the look and the transaction: then one more look.
        self.try_replace(&spec)
            .or_else(|fault| match fault {
                Fault::Refused { .. } => self.try_replace(&spec),
                Fault::Io(_) => Err(fault),
            })
            .map_err(|fault| GuardError::of("put the guard up", fault))
    }

    fn try_replace(&self, spec: &Arc<GuardSpec>) -> Result<(), Fault> {
        let present = self.state().present(&spec.interfaces);
        for interface in spec.interfaces.iter().filter(|i| !present.contains(i)) {
            tracing::warn!(
                interface,
                "no such interface now: not guarded until it is back"
            );
        }
        let ready = Ready::new(spec, present);
        let mut state = self.state();
        state.put_up(&ready)?;
        state.want(Arc::clone(spec), Some(ready));
        Ok(())
    }

    /// The table in force, where it knows no clients yet: [`remember`](Self::remember) them, and
    /// [`clear_unsure`](Self::clear_unsure).
    pub fn unsure(&self) -> Option<Unsure> {
        self.state().unsure()
    }

    /// These are clients of NAT services. `false` where that table is in force no more.
    ///
    /// # Errors
    /// They could not be noted.
    pub fn remember(&self, table: Unsure, those: &[Server]) -> Result<bool, GuardError> {
        let changes = clients::changes(those);
        if changes.is_empty() {
            return Ok(true);
        }
        let told = self.state().tell(table, &elements::batch(&changes));
        told.map_err(|e| GuardError::of("note clients", e))
    }

    /// These are clients of NAT services too, by another director's word.
    ///
    /// # Errors
    /// They could not be noted.
    pub fn note_clients(&self, those: &[Server]) -> Result<(), GuardError> {
        let changes = clients::changes(those);
        if changes.is_empty() {
            return Ok(());
        }
        let noted = self.state().note(&elements::batch(&changes));
        noted.map_err(|e| GuardError::of("note clients", e))
    }

    /// All clients are known: what NAT servers send to others is the kernel's again. `false` where that table
    /// is in force no more.
    ///
    /// # Errors
    /// It could not be said; the kernel forgets by itself within half a minute.
    pub fn clear_unsure(&self, table: Unsure) -> Result<bool, GuardError> {
        let mut state = self.state();
        let told = state.tell(table, &elements::emptying(clients::UNSURE));
        let told = told.map_err(|e| GuardError::of("say that all clients are known", e))?;
        if told {
            state.clear_unsure();
        }
        Ok(told)
    }

    /// Takes the guard down; says whether there was one.
    ///
    /// # Errors
    /// It could not be taken down.
    pub fn remove(&mut self) -> Result<bool, GuardError> {
        let mut state = self.state();
        state.wanted = None;
        state::remove(&mut state.link).map_err(|e| GuardError::of("take the guard down", e))
    }

    /// Compares it with what was put up; says what is otherwise. That is nothing, but for the moment
    /// until the reconciler has put it right, or where it cannot.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn look(&self) -> Result<Option<Tampering>, GuardError> {
        let tampering = self.state().look();
        tampering.map_err(|e| GuardError::of("look at the table", e))
    }

    /// What others did to it so far.
    pub fn repairs(&self) -> Repairs {
        self.state().repairs.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn wake(&self) {
        if let Some(reconciler) = &self.reconciler {
            reconciler.wake();
        }
    }
}

impl Drop for Guard {
    /// The last resort, where the daemon unwinds before it could call [`Guard::remove`].
    fn drop(&mut self) {
        drop(self.reconciler.take());
        if self.state().wanted.is_some()
            && let Err(error) = self.remove()
        {
            tracing::error!(%error, "the guard could not be removed; `uvs guard down` does it");
        }
    }
}

/// Frames dropped by each of the guard's rules since it was last put up or replaced; empty where there
/// is no guard.
///
/// # Errors
/// The kernel's.
pub fn counters() -> Result<Vec<Counter>, GuardError> {
    let counters = nft::listing::counters(&mut open()?, sets::TABLE);
    counters.map_err(|e| GuardError::of("read the guard's counters", e))
}

/// The rules in force with their counters, as nft writes them, `terse` without the sets' elements;
/// `None` where there is no guard.
///
/// # Errors
/// `nft` failed, or is not there.
pub fn show(terse: bool) -> Result<Option<String>, GuardError> {
    let is_present = state::is_present(&mut open()?);
    if !is_present.map_err(|e| GuardError::of("look for the table", e))? {
        return Ok(None);
    }
    tool::list(terse).map(Some)
}

/// What `nft` answers to these words, with `input` on its standard input.
///
/// # Errors
/// `nft` failed.
pub fn ask(words: &[&str], input: &str) -> Result<String, GuardError> {
    tool::run("nft", words, input)
}

/// Takes down what an earlier run has left, for a daemon that has the claim and no guard.
///
/// # Errors
/// It could not be taken down.
pub(crate) fn remove_leftover() -> Result<(), GuardError> {
    // Where there is no nf_tables, there is no table.
    let Ok(mut link) = open() else { return Ok(()) };
    let removed = state::remove(&mut link);
    match removed.map_err(|e| GuardError::of("take the guard down", e)) {
        Ok(true) => tracing::warn!(
            "an earlier run left its guard (nft table `netdev uvs`) behind; it is removed"
        ),
        Ok(false) | Err(GuardError::NoKernelSupport) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Takes down whatever guard is there; says whether there was one.
///
/// # Errors
/// A daemon that runs in this network namespace needs it, unless `force`; the kernel refused.
pub fn down(force: bool) -> Result<bool, GuardError> {
    let _claim = if force { None } else { Some(Claim::new()?) };
    state::remove(&mut open()?).map_err(|e| GuardError::of("take the guard down", e))
}

fn open() -> Result<Link, GuardError> {
    Link::open().map_err(|e| GuardError::of("open a socket to nf_tables", e))
}
