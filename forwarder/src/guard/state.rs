//! What the guard must be, and the socket by which it becomes so: shared, under a lock, by the control
//! thread, which changes what is wanted, and the reconciler, which puts right what others did. Whoever has the
//! lock has the last word, so that what is in force after both is what is wanted.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::SystemTime;

use super::claim::Claim;
use super::nft::link::{Fault, Link};
use super::nft::listing::{Listing, fetch};
use super::nft::message::{Attributes, Batch, Kind};
use super::nft::table::{TABLE as OF_TABLE, removal};
use super::rules::table;
use super::sets::TABLE;
use super::spec::GuardSpec;
use super::{Repairs, Tampering, Unsure};

pub(super) struct State {
    pub(super) link: Link,
    claim: Claim,
    /// What was applied last; `None` = nothing is, by us.
    pub(super) wanted: Option<Arc<GuardSpec>>,
    /// What puts it up, where it is made already.
    ready: Option<Ready>,
    /// Tables put up so far.
    tables: u64,
    /// Whether the last of them knows no clients yet.
    is_unsure: bool,
    pub(super) repairs: Repairs,
}

/// The message that puts a table up, on the interfaces that there were when it was made.
pub(super) struct Ready {
    interfaces: Vec<String>,
    batch: Batch,
}

impl State {
    pub(super) fn new(claim: Claim, link: Link) -> Self {
        Self {
            link,
            claim,
            wanted: None,
            ready: None,
            tables: 0,
            is_unsure: false,
            repairs: Repairs::default(),
        }
    }

    /// The claim, for another process to take it over.
    pub(super) fn hand_down(&self) -> io::Result<OwnedFd> {
        self.claim.hand_down()
    }

    /// The interfaces of these that there are now.
    pub(super) fn present(&self, interfaces: &[String]) -> Vec<String> {
        let here = interfaces
            .iter()
            .filter(|name| self.claim.has_interface(name));
        here.cloned().collect()
    }

    /// Puts a table up. It knows no clients.
    pub(super) fn put_up(&mut self, ready: &Ready) -> Result<(), Fault> {
        self.link.commit(&ready.batch)?;
        self.tables += 1;
        self.is_unsure = true;
        Ok(())
    }

    /// The table in force, where it knows no clients yet.
    pub(super) fn unsure(&self) -> Option<Unsure> {
        let is_unsure = self.is_unsure && self.wanted.is_some();
        is_unsure.then_some(Unsure(self.tables))
    }

    /// Changes the sets of the table in force; one that is put up meanwhile learns of it otherwise.
    pub(super) fn note(&mut self, change: &Batch) -> Result<(), Fault> {
        if self.wanted.is_none() {
            return Ok(());
        }
        match self.link.commit(change) {
            Err(fault) if fault.errno() == Some(libc::ENOENT) => Ok(()),
            noted => noted,
        }
    }

    /// Changes the sets of a table that knows no clients yet. `false` where it is in force no more: the reconciler
    /// puts another up, or has.
    pub(super) fn tell(&mut self, table: Unsure, change: &Batch) -> Result<bool, Fault> {
        if self.unsure() != Some(table) {
            return Ok(false);
        }
        match self.link.commit(change) {
            Err(fault) if fault.errno() == Some(libc::ENOENT) => Ok(false),
            told => told.map(|()| true),
        }
    }

    /// Takes it that the table knows the clients.
    pub(super) fn clear_unsure(&mut self) {
        self.is_unsure = false;
    }

    /// Notes what is in force from now on.
    pub(super) fn want(&mut self, spec: Arc<GuardSpec>, ready: Option<Ready>) {
        self.wanted = Some(spec);
        self.ready = ready;
        self.repairs.broken = None;
    }

    /// Notes a message that was made meanwhile, if it is still what is wanted.
    pub(super) fn prepared(&mut self, spec: &Arc<GuardSpec>, ready: Ready) {
        if self.wanted.as_ref().is_some_and(|w| Arc::ptr_eq(w, spec)) {
            self.ready = Some(ready);
        }
    }

    /// What is wanted, where its message is still to be made.
    pub(super) fn unprepared(&self) -> Option<Arc<GuardSpec>> {
        let wanted = self.wanted.as_ref().filter(|_| self.ready.is_none());
        wanted.cloned()
    }

    /// Puts the table up again where it is not as wanted; says what was wrong. What is known is not looked for.
    pub(super) fn repair(&mut self, known: Option<Tampering>) -> Result<Option<Tampering>, Fault> {
        let Some(spec) = self.wanted.clone() else {
            return Ok(None);
        };
        let tampering = match known {
            Some(tampering) => Some(tampering),
            None => self.tampering(&spec)?,
        };
        let Some(tampering) = tampering else {
            return Ok(None);
        };
        let ready = self.ready.take().unwrap_or_else(|| self.prepare(&spec));
        let ready = match self.put_up(&ready) {
            // An interface has gone since the message was made.
            Err(Fault::Refused { .. }) => {
                let ready = self.prepare(&spec);
                self.put_up(&ready)?;
                ready
            }
            up => up.map(|()| ready)?,
        };
        self.ready = Some(ready);
        self.repairs.note(tampering.clone(), SystemTime::now());
        Ok(Some(tampering))
    }

    /// What is otherwise than wanted now.
    pub(super) fn look(&mut self) -> Result<Option<Tampering>, Fault> {
        self.wanted
            .clone()
            .map_or(Ok(None), |spec| self.tampering(&spec))
    }

    fn tampering(&mut self, spec: &GuardSpec) -> Result<Option<Tampering>, Fault> {
        let present = self.present(&spec.interfaces);
        let ready = self
            .ready
            .take()
            .filter(|ready| ready.interfaces == present);
        let ready = ready.unwrap_or_else(|| Ready::new(spec, present));
        let wanted = Listing::of_batch(&ready.batch);
        let found = match fetch(&mut self.link, TABLE, &wanted.fixed_sets()) {
            Ok(found) => wanted
                .difference(&Listing::of_answers(&found, TABLE))
                .map(Tampering::Damaged),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Some(Tampering::Removed),
            Err(e) => return Err(e.into()),
        };
        self.ready = Some(ready);
        Ok(found)
    }

    fn prepare(&self, spec: &GuardSpec) -> Ready {
        Ready::new(spec, self.present(&spec.interfaces))
    }
}

impl Ready {
    pub(super) fn new(spec: &GuardSpec, interfaces: Vec<String>) -> Self {
        let batch = table(spec, &interfaces).replacement();
        Self { interfaces, batch }
    }
}

/// Whether the table is there.
pub(super) fn is_present(link: &mut Link) -> io::Result<bool> {
    let ours = Attributes::of(|out| {
        out.text(OF_TABLE, TABLE);
    });
    link.get(Kind::GET_TABLE, &ours)
        .map(|found| found.is_some())
}

/// Removes the table; says whether it was there.
pub(super) fn remove(link: &mut Link) -> Result<bool, Fault> {
    if !is_present(link)? {
        return Ok(false);
    }
    link.commit(&Batch::of(&removal(TABLE)))?;
    Ok(true)
}
