//! Reading the configuration file again: for good, on trial, or only to say what would become of it.
//!
//! What was changed since the file was last read is not lost silently. Weights are kept, drains among them, unless the file
//! says something else of the server than it did; all else that a reload takes back is told.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant as Wall, SystemTime};

use uvs_control::access::ListFiles;
use uvs_control::config::{self, Config, ConfigError, Metrics, Step};
use uvs_control::difference::{self, Edit, Place};
use uvs_control::protocol::{Answers, Applied, Errno, Refusal, ReloadRequest, ask};
use uvs_control::regular;
use uvs_control::table::{Server, Table};

use super::audit::By;
use super::{Daemon, derive, failed, start};

/// Seconds that a reload may be on trial.
const TRIAL: std::ops::RangeInclusive<u32> = 1..=86400;
/// After which going back is tried again, where it was refused.
const AGAIN: Duration = Duration::from_secs(10);
/// Edits that a line has in words.
const TOLD: usize = 8;

/// What the configuration said when it was put in force.
pub(super) struct Reading {
    /// The table that it makes by itself.
    table: Table,
    /// All of it but the services, which are the table's.
    config: Config,
    lists: ListFiles,
    /// In how many places what runs differs from it, where that is known.
    drift: Option<usize>,
}

/// A reload on trial.
pub(super) struct Trial {
    /// Where it goes back to.
    before: Table,
    reading: Reading,
    /// What it has made of the table.
    after: Table,
    until: Wall,
}

/// A file as it was read just now.
struct Fresh {
    file: PathBuf,
    config: Config,
    lists: ListFiles,
}

impl Reading {
    /// What a configuration has made of a table.
    pub(super) fn new(mut table: Table, config: &Config, lists: &ListFiles) -> Self {
        table.forget_live_entries();
        let mut config = config.clone();
        config.services = Vec::new();
        Self {
            table,
            config,
            lists: lists.clone(),
            drift: None,
        }
    }

    /// The same of a table that another daemon has handed down, with the weights that were changed since its file was read.
    pub(super) fn handed_down(mut self, running: &Table, live: &[(Server, u32)]) -> Self {
        self.table.as_read(running, live);
        self
    }

    /// The table has changed.
    pub(super) fn note_change(&mut self) {
        self.drift = None;
    }
}

impl Answers<ask::Reload> for Daemon {
    fn answer(&mut self, _: ask::Reload) -> Result<(), Refusal> {
        let request = ask::Apply(ReloadRequest::default());
        <Self as Answers<ask::Apply>>::answer(self, request).map(|_| ())
    }
}

impl Answers<ask::Apply> for Daemon {
    fn answer(&mut self, ask::Apply(request): ask::Apply) -> Result<Applied, Refusal> {
        let outcome = match request.dry_run {
            true => self.try_out(request),
            false => self.reload(&request),
        };
        outcome.inspect_err(|refusal| {
            if !request.dry_run {
                self.note_refused(&"reload the configuration", refusal);
            }
        })
    }
}

impl Answers<ask::ConfirmReload> for Daemon {
    fn answer(&mut self, _: ask::ConfirmReload) -> Result<(), Refusal> {
        if self.trial.take().is_none() {
            let refusal = no_trial();
            self.note_refused(&"confirm a reload", &refusal);
            return Err(refusal);
        }
        self.note_done("the reload is confirmed");
        Ok(())
    }
}

impl Answers<ask::UndoReload> for Daemon {
    fn answer(&mut self, _: ask::UndoReload) -> Result<Applied, Refusal> {
        let undone = self.go_back();
        undone.inspect_err(|refusal| self.note_refused(&"go back from a reload", refusal))
    }
}

impl Daemon {
    /// Reads the configuration file again and makes it the state, as one step.
    pub(super) fn reload(&mut self, request: &ReloadRequest) -> Result<Applied, Refusal> {
        self.notifier.reloading();
        let outcome = self.try_reload(*request);
        self.reload_error = outcome.as_ref().err().map(|e| e.message.clone());
        self.notifier.ready();
        self.reloads.last_ok = outcome.is_ok();
        if outcome.is_ok() {
            self.reloads.succeeded += 1;
            self.reloads.last_success = SystemTime::now();
        } else {
            self.reloads.failed += 1;
        }
        outcome
    }

    fn try_reload(&mut self, request: ReloadRequest) -> Result<Applied, Refusal> {
        self.check_trial(request)?;
        let Fresh {
            file,
            config: new,
            lists,
        } = self.read_again()?;
        let own = self.options.own_vips.clone();
        let sync = self.plan_sync(&new)?;
        let (before, read) = (self.table.clone(), self.reading.take());
        let outcome = self.change(|table| {
            let mut made = None;
            sync.change(table, |table| {
                made = Some(load(
                    table,
                    &new,
                    &lists,
                    own.as_ref(),
                    keeping(&read, request),
                )?);
                Ok(())
            })?;
            made.ok_or_else(|| failed("nothing was loaded"))
        });
        let (pure, kept) = match outcome {
            Ok(made) => made,
            Err(refusal) => {
                self.reading = read;
                return Err(refusal);
            }
        };
        let applied = applied(read.as_ref(), (&before, &self.table), kept);
        self.carry_out(sync);
        let reading = Reading::new(pure, &new, &lists);
        self.settle(&new, lists);
        self.reading = Some(reading);
        start::tell(&new, own.as_ref());
        tracing::info!(file = %file.display(), services = self.table.services().len(), "configuration reloaded");
        self.tell_applied("the reload", &before, &applied);
        if let (Some(seconds), Some(read)) = (request.confirm, read) {
            let first = Trial {
                before,
                reading: read,
                after: Table::default(),
                until: Wall::now(),
            };
            // One trial after the other goes back to where the first began.
            let trial = self.trial.take().unwrap_or(first);
            self.trial = Some(Trial {
                after: self.table.clone(),
                until: Wall::now() + Duration::from_secs(seconds.into()),
                ..trial
            });
            self.note_done(&format!(
                "the reload is on trial: it goes back in {seconds} s unless it is confirmed"
            ));
        }
        Ok(applied)
    }

    /// What a reload would change. Nothing is.
    fn try_out(&self, request: ReloadRequest) -> Result<Applied, Refusal> {
        let Fresh { config, lists, .. } = self.read_again()?;
        let own = self.options.own_vips.as_ref();
        let mut next = self.table.clone();
        for role in self.sync_to_end(&config) {
            next.stop_sync(role)?;
        }
        let (_, kept) = load(
            &mut next,
            &config,
            &lists,
            own,
            keeping(&self.reading, request),
        )?;
        let services = next.services().clone();
        let difference = services.since(self.table.services());
        if next.sync_daemons().is_empty() {
            derive::check_local_addresses(&difference, &self.mirror.fib())?;
        }
        Ok(applied(self.reading.as_ref(), (&self.table, &next), kept))
    }

    /// The configuration as it is now, if it could be put in force.
    fn read_again(&self) -> Result<Fresh, Refusal> {
        let invalid = |e: &dyn std::fmt::Display| Refusal {
            errno: Errno::Invalid,
            message: e.to_string(),
        };
        let Some(file) = self.options.file.clone() else {
            return Err(invalid(
                &"this daemon runs without a configuration file: start it with `uvs run --config FILE`",
            ));
        };
        let unfit = |e| invalid(&format!("{}: {e}", file.display()));
        let (opened, _) = regular::open(&file).map_err(unfit)?;
        let schedulers = Arc::clone(&self.options.schedulers);
        let config = config::load_from(&file, opened, &|_| Arc::clone(&schedulers))
            .map_err(|e| invalid(&e))?;
        derive::check_config(&config, &file, &self.mirror.fib()).map_err(|e| invalid(&e))?;
        self.check_fixed(&config, &file).map_err(|e| invalid(&e))?;
        let lists = ListFiles::load(&config.access).map_err(|e| invalid(&e))?;
        Ok(Fresh {
            file,
            config,
            lists,
        })
    }

    /// What of a configuration is not the table's comes in force.
    fn settle(&mut self, new: &Config, lists: ListFiles) {
        self.sync_requests.clone_from(&new.sync);
        self.list_files = lists;
        self.options.schedulers.set_budget(&new.plugins);
        self.metrics = Metrics {
            listen: self.metrics.listen,
            ..new.metrics
        };
        if self.host_firewall != new.host_firewall {
            self.host_firewall = new.host_firewall;
            self.firewall.forget();
        }
    }

    /// Refuses a reload that the one on trial, or an upgrade, has no place for.
    fn check_trial(&self, request: ReloadRequest) -> Result<(), Refusal> {
        let Some(seconds) = request.confirm else {
            return self.refuse_on_trial();
        };
        if !TRIAL.contains(&seconds) {
            return Err(Refusal {
                errno: Errno::Range,
                message: format!(
                    "confirm: {seconds} s is out of range; a reload may be on trial for {} to {} s",
                    TRIAL.start(),
                    TRIAL.end()
                ),
            });
        }
        if self.upgrades.is_under_way() {
            let message =
                "an upgrade is under way, which knows of no trial; reload again when it is done";
            return Err(failed(message));
        }
        Ok(())
    }

    /// Refuses what would make a reload on trial one for good.
    pub(super) fn refuse_on_trial(&self) -> Result<(), Refusal> {
        let Some(left) = self.trial_left(Wall::now()) else {
            return Ok(());
        };
        Err(failed(format!(
            "a reload is on trial for {} s more; say first what is to become of it: uvs reload --confirmed, or uvs reload --undo",
            left.as_secs()
        )))
    }

    /// How long a reload is still on trial.
    pub(super) fn trial_left(&self, now: Wall) -> Option<Duration> {
        let trial = self.trial.as_ref()?;
        Some(trial.until.saturating_duration_since(now))
    }

    /// Goes back from a reload that nobody has confirmed in time.
    pub(super) fn end_trial(&mut self, now: Wall) {
        if !self.trial_left(now).is_some_and(|left| left.is_zero()) {
            return;
        }
        self.audit.asked_by(By::Timeout);
        match self.go_back() {
            Ok(_) => tracing::warn!(
                "nobody has confirmed the reload: what was in force before is again; the file still says what was reloaded"
            ),
            Err(refusal) => {
                tracing::error!(
                    "nobody has confirmed the reload, and going back is refused: {}; it is tried again in {} s",
                    refusal.message,
                    AGAIN.as_secs()
                );
                if let Some(trial) = &mut self.trial {
                    trial.until = now + AGAIN;
                }
            }
        }
    }

    /// Makes what was in force before the reload on trial the state again, as one step. Weights that were changed since are
    /// kept where the reload has not changed them itself.
    fn go_back(&mut self) -> Result<Applied, Refusal> {
        let Some(trial) = self.trial.take() else {
            return Err(no_trial());
        };
        let before = self.table.clone();
        let outcome = self.plan_sync(&trial.reading.config).and_then(|sync| {
            let kept = self.change(|table| {
                let mut kept = Vec::new();
                sync.change(table, |table| {
                    table.take_from(&trial.before);
                    table.configure_lists(&trial.reading.config.access, &trial.reading.lists);
                    kept = table.keep_weights(&trial.after, &before);
                    Ok(())
                })?;
                Ok(kept)
            })?;
            Ok((sync, kept))
        });
        let (sync, kept) = match outcome {
            Ok(done) => done,
            Err(refusal) => {
                self.trial = Some(trial);
                return Err(refusal);
            }
        };
        self.carry_out(sync);
        let changes = difference::of_tables(&before, &self.table);
        let live = difference::of_tables(&trial.after, &before);
        let live = places(&live);
        let applied = Applied {
            undone: of_places(&changes, &live),
            changes,
            kept,
        };
        let reading = trial.reading;
        self.settle(&reading.config, reading.lists.clone());
        self.reading = Some(reading);
        self.note_drift();
        self.note_done("gone back from the reload on trial");
        self.tell_applied("going back", &before, &applied);
        Ok(applied)
    }

    /// Tells what a reload has changed, what it has taken back and what it has kept.
    fn tell_applied(&mut self, what: &str, before: &Table, applied: &Applied) {
        self.note_changes(before);
        if !applied.undone.is_empty() {
            self.note_done(&format!(
                "{what} takes back what was changed since: {}",
                told(&applied.undone, &Edit::to_string)
            ));
        }
        if !applied.kept.is_empty() {
            self.note_done(&format!(
                "{what} keeps weights that were changed since: {}",
                told(&applied.kept, &Edit::as_difference)
            ));
        }
    }

    /// In how many places the table differs from the file as it was last read; `None` where there is no file.
    pub(super) fn drift(&mut self) -> Option<usize> {
        let reading = self.reading.as_mut()?;
        let count = || difference::of_tables(&reading.table, &self.table).len();
        Some(*reading.drift.get_or_insert_with(count))
    }

    /// The table has changed, or what it is compared with.
    pub(super) fn note_drift(&mut self) {
        if let Some(reading) = &mut self.reading {
            reading.note_change();
        }
    }

    /// The servers whose weights were changed since the file was read, and what it said.
    pub(super) fn live_weights(&self) -> Vec<(Server, u32)> {
        let reading = self.reading.as_ref();
        reading.map_or_else(Vec::new, |reading| self.table.live_weights(&reading.table))
    }

    /// Refuses changes of what holds for the life of the process. Interfaces given on the command line
    /// override any file, so a file is compared with the file before.
    fn check_fixed(&self, new: &Config, file: &Path) -> Result<(), ConfigError> {
        let old = &self.options.config;
        let (limits, before) = (&new.limits, &old.limits);
        let limit = |key| [Step::Key("limits"), Step::Key(key)];
        let (plugins, loaded) = (&new.plugins, &old.plugins);
        let plugin = |key| [Step::Key("plugins"), Step::Key(key)];
        let place = |config: &Config| {
            let log = config.connection_log.as_ref();
            log.map(|log| (log.to.clone(), log.queue))
        };
        let (hook, hooked) = (&new.hook, &old.hook);
        let of_hook = |key| [Step::Key("hook"), Step::Key(key)];
        let fixed: [(&[Step], bool); 14] = [
            (&[Step::Key("interfaces")], new.interfaces == old.interfaces),
            (&[Step::Key("socket")], new.socket == old.socket),
            (
                &[Step::Key("metrics"), Step::Key("address")],
                new.metrics.listen == old.metrics.listen,
            ),
            (
                &limit("connections"),
                limits.connections == before.connections,
            ),
            (
                &limit("local_ports"),
                limits.local_ports == before.local_ports,
            ),
            (
                &limit("fragment_bytes"),
                limits.fragment_bytes == before.fragment_bytes,
            ),
            (&plugin("directory"), plugins.directory == loaded.directory),
            (
                &plugin("max_faults"),
                plugins.max_faults == loaded.max_faults,
            ),
            (&[Step::Key("connection_log")], place(new) == place(old)),
            (&of_hook("mode"), hook.mode == hooked.mode),
            (
                &of_hook("connections"),
                hook.connections == hooked.connections,
            ),
            (&of_hook("heartbeat"), hook.heartbeat == hooked.heartbeat),
            (&of_hook("pins"), hook.pins == hooked.pins),
            (
                &[Step::Key("confinement")],
                new.confinement == old.confinement,
            ),
        ];
        match fixed.iter().find(|(_, same)| !same) {
            Some((steps, _)) => Err(config::refuse(
                file,
                steps,
                "differs from what the running daemon was started with".to_owned(),
                "put it back, or restart the daemon",
            )),
            None => Ok(()),
        }
    }
}

/// What live weights are measured by, where they are to be kept.
fn keeping(read: &Option<Reading>, request: ReloadRequest) -> Option<&Table> {
    let reading = read.as_ref().filter(|_| !request.exact)?;
    Some(&reading.table)
}

/// Makes a table what a configuration says: that, and the weights that were kept all the same.
fn load(
    table: &mut Table,
    new: &Config,
    lists: &ListFiles,
    own: Option<&config::OwnVips>,
    read: Option<&Table>,
) -> Result<(Table, Vec<Edit>), Refusal> {
    let live = table.clone();
    start::load(table, new, lists, own)?;
    let pure = table.clone();
    let kept = read.map_or_else(Vec::new, |read| table.keep_weights(read, &live));
    Ok((pure, kept))
}

fn applied(read: Option<&Reading>, (before, after): (&Table, &Table), kept: Vec<Edit>) -> Applied {
    let changes = difference::of_tables(before, after);
    let live = read.map(|read| difference::of_tables(&read.table, before));
    let live = live.unwrap_or_default();
    Applied {
        undone: of_places(&changes, &places(&live)),
        changes,
        kept,
    }
}

fn places(edits: &[Edit]) -> BTreeSet<&Place> {
    edits.iter().map(|edit| &edit.place).collect()
}

fn of_places(edits: &[Edit], places: &BTreeSet<&Place>) -> Vec<Edit> {
    let of = edits.iter().filter(|edit| places.contains(&edit.place));
    of.cloned().collect()
}

/// The first of them in words, and how many there are more.
fn told(edits: &[Edit], words: &dyn Fn(&Edit) -> String) -> String {
    let first: Vec<String> = edits.iter().take(TOLD).map(words).collect();
    let first = first.join("; ");
    match edits.len().saturating_sub(TOLD) {
        0 => first,
        more => format!("{first}; and {more} more"),
    }
}

fn no_trial() -> Refusal {
    Refusal {
        errno: Errno::NotFound,
        message: "no reload is on trial; begin one with: uvs reload --confirm 60s".to_owned(),
    }
}
