//! Carrying out control commands. A change is tried on a copy of the table and takes the copy's place only
//! when everything it entails is in force.

use std::collections::BTreeSet;
use std::slice;
use std::sync::Arc;

use uvs_control::protocol::{Answer, Answers, Change, Errno, MAX_BATCH, Refusal, SysctlValue, ask};
use uvs_control::server::Task;
use uvs_control::table::Table;
use uvs_core::service::{ServiceKey, ServiceSpec};

use super::{Daemon, derive};

/// Services that are gone at once after which memory is given back to the host,
const MANY: usize = 1000;
/// and so many rounds later, when all copies have gone too: what was counted goes within two seconds.
const ROUNDS: u32 = 5;

impl Daemon {
    /// The answer to what a client waits for: each question's is the [`Answers`] of this daemon.
    pub(super) fn answer(&mut self, task: Task) -> Answer {
        match task {
            Task::Command(command) => command.put_to(self),
            Task::Rest(rest) => rest.put_to(self),
        }
    }

    /// Changes the table as one step: what cannot be put in force is taken back.
    pub(super) fn change<T>(
        &mut self,
        edit: impl FnOnce(&mut Table) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut changed = self.table.clone();
        let result = edit(&mut changed)?;
        let services = changed.services().clone();
        let difference = services.since(self.table.services());
        let names =
            |of: &[&Arc<ServiceSpec>]| -> BTreeSet<_> { of.iter().map(|s| s.key).collect() };
        if names(&difference.gone) != names(&difference.new)
            || changed.keeps_out_others(&self.table)
        {
            changed.follow_firewall();
        }
        // A stand-by gets FULLNAT's addresses with the VIP.
        if changed.sync_daemons().is_empty() {
            derive::check_local_addresses(&difference, &self.mirror.fib())?;
        }
        let mut before = std::mem::replace(&mut self.table, changed);
        if let Err(refusal) = self.publish() {
            std::mem::swap(&mut self.table, &mut before);
            if let Err(again) = self.publish() {
                tracing::error!(
                    "the state before a refused change could not be restored: {}",
                    again.message
                );
            }
            return Err(refusal);
        }
        self.note_drift();
        if before.services().len() >= self.table.services().len() + MANY {
            self.shrinks_in = Some(ROUNDS);
        }
        if before.services().is_empty() && !self.table.services().is_empty() {
            self.estimator.half_way(std::time::Instant::now());
        }
        self.warn_of_unserved(&before);
        Ok(result)
    }

    /// New services that are kept and listed, as ipvsadm's users expect, but that no packet can match; and
    /// those that lost their last rule.
    fn warn_of_unserved(&self, before: &Table) {
        let (now, known) = (self.table.services(), before.services());
        let same_marks = self.table.marks() == before.marks();
        let new = now.since(known).new;
        let all = now.iter().filter(|_| !same_marks);
        for key in new.into_iter().chain(all).map(|service| service.key) {
            if let ServiceKey::Mark { mark, .. } = key
                && self.table.is_unmarked(&key)
                && (before.service(&key).is_none() || !before.is_unmarked(&key))
            {
                tracing::warn!(
                    "{key}: no packet has this mark yet; say which shall: uvs mark {mark} tcp VIP:PORT"
                );
            }
        }
    }
}

impl Answers<Change> for Daemon {
    fn answer(&mut self, change: Change) -> Result<(), Refusal> {
        self.audited(&change, |daemon| {
            daemon.change(|table| table.apply(&change))
        })
    }
}

impl Answers<ask::Transaction> for Daemon {
    fn answer(&mut self, ask::Transaction(changes): ask::Transaction) -> Result<(), Refusal> {
        let wanted = format!("make {} changes as one step", changes.len());
        self.audited(&wanted, |daemon| {
            check_length(&changes)?;
            daemon.change(|table| {
                table.apply_together(&changes).map_err(|(place, refusal)| {
                    let message = format!(
                        "change {} of {}: {}; none was made",
                        place + 1,
                        changes.len(),
                        refusal.message
                    );
                    Refusal { message, ..refusal }
                })
            })
        })
    }
}

fn check_length(changes: &[Change]) -> Result<(), Refusal> {
    if changes.len() > MAX_BATCH {
        return Err(Refusal {
            errno: Errno::Invalid,
            message: format!("a batch has at most {MAX_BATCH} commands"),
        });
    }
    Ok(())
}

impl Answers<ask::Batch> for Daemon {
    /// Puts several changes in force at once or, where that is refused, one by one, so that the refusal
    /// meets the change it is for.
    fn answer(
        &mut self,
        ask::Batch(changes): ask::Batch,
    ) -> Result<Vec<Result<(), Refusal>>, Refusal> {
        check_length(&changes)?;
        let before = self.table.clone();
        let together = self.change(|table| Ok(table.apply_all(&changes)));
        let outcomes = together.unwrap_or_else(|_| {
            let alone = |change| self.change(|t| t.apply_all(slice::from_ref(change)).remove(0));
            changes.iter().map(alone).collect()
        });
        self.note_changes(&before);
        for (change, outcome) in changes.iter().zip(&outcomes) {
            if let Err(refusal) = outcome {
                self.note_refused(change, refusal);
            }
        }
        Ok(outcomes)
    }
}

impl Answers<ask::Sysctl> for Daemon {
    fn answer(&mut self, ask::Sysctl(request): ask::Sysctl) -> Result<SysctlValue, Refusal> {
        let name = &request.name;
        match &request.value {
            Some(value) => {
                let wanted = format!("set net.ipv4.vs.{name} to {value}");
                self.audited(&wanted, |daemon| {
                    daemon.change(|table| {
                        table.set_sysctl(name, value)?;
                        table.sysctl(name)
                    })
                })
            }
            None => self.table.sysctl(name),
        }
    }
}
