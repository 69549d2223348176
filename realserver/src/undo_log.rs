//! What `up` changed and for whom, so that `down` restores what was there before the first `up`.
//!
//! One file for a network namespace, because VIPs share sysctls, the tunnel and the default route: a step
//! is taken back when its last holder goes. The file's name has the namespace's inode; inside is its
//! cookie, which unlike the inode is never used again before the next boot, so that the state of a
//! namespace that is gone is not taken for this one's.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::family::Family;
use super::mode::Holder;
use super::state::{state_dir, state_file};
use super::step::Step;
use super::undo::Undo;
use super::{RsError, sys};

/// A step that was taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    step: Step,
    holders: BTreeSet<Holder>,
    pub(super) undo: Undo,
}

/// All steps taken in this network namespace, in their order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct UndoLog {
    netns_cookie: u64,
    entries: Vec<Entry>,
}

impl UndoLog {
    /// Whether anything is held.
    pub(super) fn holds(&self, holder: Holder) -> bool {
        self.entries.iter().any(|e| e.holders.contains(&holder))
    }

    /// All who hold anything, each once.
    pub(super) fn holders(&self) -> BTreeSet<Holder> {
        self.entries
            .iter()
            .flat_map(|e| &e.holders)
            .copied()
            .collect()
    }

    /// Notes that `holder` needs `step`, which is taken back by `undo`. What was found by the first holder
    /// stays what is restored.
    pub(super) fn hold(&mut self, step: &Step, holder: Holder, undo: Undo) -> Result<(), RsError> {
        let same = |e: &&mut Entry| match (&e.step, step) {
            (Step::DefaultRoute { gateway: a, .. }, Step::DefaultRoute { gateway: b, .. }) => {
                Family::of(*a) == Family::of(*b)
            }
            (a, b) => a == b,
        };
        let Some(entry) = self.entries.iter_mut().find(same) else {
            self.entries.push(Entry {
                step: step.clone(),
                holders: BTreeSet::from([holder]),
                undo,
            });
            return Ok(());
        };
        entry.rebind(step, holder)?;
        entry.holders.insert(holder);
        if entry.undo == Undo::Nothing {
            entry.undo = undo;
        }
        Ok(())
    }

    /// `holder` needs nothing any more. Returns the entries that nobody needs now, last taken first.
    pub(super) fn release(&mut self, holder: Holder) -> Vec<Entry> {
        for entry in &mut self.entries {
            entry.holders.remove(&holder);
        }
        let (kept, released) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition(|e| !e.holders.is_empty());
        self.entries = kept;
        let mut released: Vec<Entry> = released;
        released.reverse();
        released
    }

    /// Keeps an entry that could not be taken back.
    pub(super) fn put_back(&mut self, mut entry: Entry, holder: Holder) {
        entry.holders.insert(holder);
        self.entries.insert(0, entry);
    }
}

impl Entry {
    /// The default route can be had only one way: another gateway is its only holder's change of mind, or
    /// a conflict.
    fn rebind(&mut self, step: &Step, holder: Holder) -> Result<(), RsError> {
        let (Step::DefaultRoute { gateway: held, .. }, Step::DefaultRoute { gateway, .. }) =
            (&self.step, step)
        else {
            return Ok(());
        };
        if held != gateway && self.holders.iter().any(|h| *h != holder) {
            let holders = self
                .holders
                .iter()
                .map(Holder::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            return Err(RsError::RouteHeld {
                held: *held,
                holders,
            });
        }
        if let Undo::DefaultRoute { ours, .. } = &mut self.undo {
            *ours = *gateway;
        }
        self.step = step.clone();
        Ok(())
    }
}

/// The ledger's place on disk, locked for as long as this lives.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    cookie: u64,
    _lock: File,
}

impl Store {
    /// Waits for the lock: two `up`s at once are one after the other.
    pub(super) fn open() -> Result<Self, RsError> {
        let dir = state_dir();
        fs::create_dir_all(&dir).map_err(RsError::file("create", &dir))?;
        let lock_path = state_file("lock")?;
        let lock = File::create(&lock_path).map_err(RsError::file("create", &lock_path))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|e| RsError::file("lock", &lock_path)(e.into()))?;
        Ok(Self {
            path: state_file("json")?,
            cookie: cookie(),
            _lock: lock,
        })
    }

    /// What was saved in this namespace; nothing where there is nothing, or only another's.
    pub(super) fn load(&self) -> Result<UndoLog, RsError> {
        read(&self.path, self.cookie)
    }

    /// Replaces what was saved, whole or not at all.
    pub(super) fn save(&self, undo_log: &UndoLog) -> Result<(), RsError> {
        if undo_log.entries.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    Err(RsError::file("remove", &self.path)(e))
                }
                _ => Ok(()),
            };
        }
        let text = serde_json::to_vec_pretty(undo_log).map_err(|source| RsError::State {
            path: self.path.clone(),
            source,
        })?;
        let fresh = self.path.with_extension("json.new");
        fs::write(&fresh, text).map_err(RsError::file("write", &fresh))?;
        fs::rename(&fresh, &self.path).map_err(RsError::file("replace", &self.path))
    }
}

/// What is saved now, read without the lock: it is always replaced as a whole.
pub(super) fn peek() -> Result<UndoLog, RsError> {
    read(&state_file("json")?, cookie())
}

/// Kernels before 5.14 have no cookie; there the inode alone must do.
fn cookie() -> u64 {
    sys::netns_cookie().unwrap_or(0)
}

fn read(path: &Path, cookie: u64) -> Result<UndoLog, RsError> {
    let fresh = UndoLog {
        netns_cookie: cookie,
        entries: Vec::new(),
    };
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(fresh),
        Err(e) => return Err(RsError::file("read", path)(e)),
    };
    let saved: UndoLog = serde_json::from_slice(&text).map_err(|source| RsError::State {
        path: path.to_owned(),
        source,
    })?;
    Ok(if saved.netns_cookie == cookie {
        saved
    } else {
        fresh
    })
}
