//! Carrying out control commands. A change is tried on a copy of the table and takes the copy's place only
//! when everything it entails is in force.

use std::path::Path;
use std::slice;
use std::sync::Arc;
use std::time::SystemTime;

use uvs_control::access::ListFiles;
use uvs_control::config::{self, Config, ConfigError, Metrics, OwnVips, Step};
use uvs_control::protocol::{
    Command, Data, Ended, Errno, GuardStatus, Info, LogLosses, MAX_BATCH, Refusal,
};
use uvs_control::server::{Answer, Ask};
use uvs_control::table::Table;
use uvs_core::service::ServiceKey;
use uvs_core::verdict::DropReason;

use super::status::{connection_status, service_status, totals};
use super::{Daemon, derive, failed, frames, start};

/// Slots of IPVS's connection table by default: the `size=` that `ipvsadm -L` prints.
const TABLE_SIZE: u32 = 4096;

/// Entries of the deny and allow lists in one answer.
const ACCESS_PAGE: u32 = 10_000;

impl Daemon {
    /// The answer to what a client asks.
    pub(super) fn answer(&mut self, ask: Ask) -> Answer {
        match ask {
            Ask::Command(Command::ListConnections) => self.list_connections(0),
            Ask::More(cursor) => self.list_connections(cursor),
            Ask::Command(command) => Answer::Last(self.carry_out(command)),
        }
    }

    fn carry_out(&mut self, command: Command) -> Result<Data, Refusal> {
        match command {
            Command::AddService(_)
            | Command::EditService(_)
            | Command::DeleteService(_)
            | Command::Clear
            | Command::AddServer(..)
            | Command::EditServer(..)
            | Command::DeleteServer(..)
            | Command::Mark(..)
            | Command::Unmark(..)
            | Command::AddAccess(_)
            | Command::DeleteAccess(_)
            | Command::SetTimeouts(_) => {
                self.change(|table| table.apply(&command).map(|_| Data::Done))
            }
            Command::Sysctl {
                name,
                value: Some(value),
            } => self.change(|table| {
                table.set_sysctl(&name, &value)?;
                table.sysctl(&name).map(Data::Sysctl)
            }),
            Command::Sysctl { name, value: None } => self.table.sysctl(&name).map(Data::Sysctl),
            Command::Batch(commands) => self.batch(&commands),
            Command::Zero(key) => self.zero(key),
            Command::ListServices(key) => self.list_services(key),
            Command::ListMarks => Ok(Data::Marks(self.table.marks().to_vec())),
            Command::ListAccess(from) => {
                let (entries, next) = self.table.lists().page(from, ACCESS_PAGE);
                Ok(Data::Access { entries, next })
            }
            Command::GetTimeouts => Ok(Data::Timeouts(self.table.timeouts())),
            Command::Info => self.info(),
            Command::Drops => self.drops(),
            Command::Traffic => {
                let (stats, rates) = self.rates.all();
                Ok(Data::Traffic { stats, rates })
            }
            Command::Trace(subjects) => self.trace(&subjects),
            Command::TraceLive(request) => self.trace_live(request),
            Command::TraceLiveSeen => self.trace_live_seen(),
            Command::Reload => self.reload().map(|()| Data::Done),
            Command::ListPlugins => Ok(Data::Plugins(self.list_plugins())),
            Command::ReloadPlugins(name) => self.reload_plugins(name.as_deref()),
            Command::Sample => self.sample().map(Data::Sample),
            Command::FindConnections(find) => self.find(&find).map(Data::Found),
            Command::Latency(ago) => self.latency(ago).map(Data::Latency),
            Command::ListNeighbours => Ok(Data::Neighbours(self.neighbours())),
            Command::Settings => Ok(Data::Settings(self.settings())),
            Command::ListConnections => Err(failed("connections are listed in parts")),
        }
    }

    /// Changes the table as one step: what cannot be put in force is taken back.
    pub(super) fn change<T>(
        &mut self,
        edit: impl FnOnce(&mut Table) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut changed = self.table.clone();
        let result = edit(&mut changed)?;
        changed.follow_firewall();
        let (new, old) = (changed.services(), self.table.services());
        derive::check_local_addresses(new, old, &self.mirror.fib())?;
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
        if before.services().is_empty() && !self.table.services().is_empty() {
            self.estimator.half_way(std::time::Instant::now());
        }
        self.warn_of_unserved(&before);
        Ok(result)
    }

    /// Puts several changes in force at once or, where that is refused, one by one, so that the refusal
    /// meets the change it is for.
    fn batch(&mut self, commands: &[Command]) -> Result<Data, Refusal> {
        if commands.len() > MAX_BATCH {
            return Err(Refusal {
                errno: Errno::Invalid,
                message: format!("a batch has at most {MAX_BATCH} commands"),
            });
        }
        let together = self.change(|table| Ok(table.apply_all(commands)));
        let outcomes = together.unwrap_or_else(|_| {
            let alone = |command| self.change(|t| t.apply_all(slice::from_ref(command)).remove(0));
            commands.iter().map(alone).collect()
        });
        Ok(Data::Outcomes(outcomes))
    }

    /// New services that are kept and listed, as ipvsadm's users expect, but that no packet can match; and
    /// those that lost their last rule.
    fn warn_of_unserved(&self, before: &Table) {
        for service in self.table.services() {
            let (key, new) = (service.key, before.service(&service.key).is_none());
            match key {
                ServiceKey::Mark { mark, ipv6: false }
                    if self.table.is_unmarked(&key) && (new || !before.is_unmarked(&key)) =>
                {
                    tracing::warn!(
                        "{key}: no packet has this mark yet; say which shall: uvs mark {mark} tcp VIP:PORT"
                    );
                }
                ServiceKey::Mark { ipv6: true, .. } if new => {
                    tracing::warn!("{key} is listed but not forwarded: IPv6 is not implemented");
                }
                ServiceKey::Address { addr, .. } if !addr.is_v4() && new => {
                    tracing::warn!("{key} is listed but not forwarded: IPv6 is not implemented");
                }
                ServiceKey::Mark { .. } | ServiceKey::Address { .. } => {}
            }
        }
    }

    /// Reads the configuration file again and makes it the state, as one step.
    pub(super) fn reload(&mut self) -> Result<(), Refusal> {
        self.notifier.reloading();
        let outcome = self.try_reload();
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

    fn try_reload(&mut self) -> Result<(), Refusal> {
        let invalid = |e: &dyn std::fmt::Display| Refusal {
            errno: Errno::Invalid,
            message: e.to_string(),
        };
        let Some(file) = self.options.file.clone() else {
            return Err(invalid(
                &"this daemon runs without a configuration file: start it with `uvs run --config FILE`",
            ));
        };
        let schedulers = Arc::clone(&self.options.schedulers);
        let new = config::load(&file, &|_| Arc::clone(&schedulers)).map_err(|e| invalid(&e))?;
        derive::check_config(&new, &file, &self.mirror.fib()).map_err(|e| invalid(&e))?;
        self.check_fixed(&new, &file).map_err(|e| invalid(&e))?;
        let own = self.options.own_vips.clone();
        let lists = ListFiles::load(&new.access).map_err(|e| invalid(&e))?;
        self.change(|table| start::load(table, &new, &lists, own.as_ref()).map_err(failed))?;
        self.list_files = lists;
        if self.host_firewall != new.host_firewall {
            self.host_firewall = new.host_firewall;
            self.firewall.forget();
        }
        self.metrics = Metrics {
            listen: self.metrics.listen,
            ..new.metrics
        };
        tracing::info!(file = %file.display(), services = self.table.services().len(), "configuration reloaded");
        Ok(())
    }

    /// Refuses changes of what holds for the life of the process. Interfaces given on the command line
    /// override any file, so a file is compared with the file before.
    fn check_fixed(&self, new: &Config, file: &Path) -> Result<(), ConfigError> {
        let old = &self.options.config;
        let (limits, before) = (&new.limits, &old.limits);
        let limit = |key| [Step::Key("limits"), Step::Key(key)];
        let (plugins, loaded) = (&new.plugins, &old.plugins);
        let plugin = |key| [Step::Key("plugins"), Step::Key(key)];
        let fixed: [(&[Step], bool); 8] = [
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

    fn zero(&mut self, key: Option<ServiceKey>) -> Result<Data, Refusal> {
        if let Some(key) = key {
            self.table.find(&key)?;
        }
        self.rates.zero(key);
        Ok(Data::Done)
    }

    fn list_services(&mut self, key: Option<ServiceKey>) -> Result<Data, Refusal> {
        if let Some(key) = key {
            self.table.find(&key)?;
        }
        let report = self.status()?.services;
        let wanted = self
            .table
            .services()
            .iter()
            .filter(|s| key.is_none_or(|k| s.key == k));
        let fib = self.mirror.fib();
        let marks = self.table.marks();
        let services = wanted.map(|s| service_status(s, marks, &report, &self.rates, &fib));
        let services = services.collect();
        Ok(Data::Services {
            table_size: TABLE_SIZE,
            services,
        })
    }

    fn list_connections(&self, cursor: u64) -> Answer {
        let from = u32::try_from(cursor).unwrap_or(u32::MAX);
        match self.ask(|to| super::Question::Connections(from, to)) {
            Ok((page, rest)) => {
                let data = Data::Connections(page.iter().map(connection_status).collect());
                match rest {
                    Some(next) => Answer::Part(data, u64::from(next)),
                    None => Answer::Last(Ok(data)),
                }
            }
            Err(refusal) => Answer::Last(Err(refusal)),
        }
    }

    fn info(&self) -> Result<Data, Refusal> {
        let status = self.status()?;
        let own_vip = self.options.own_vips.as_ref();
        Ok(Data::Info(Info {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime: self.started.elapsed().as_secs(),
            interfaces: self.interfaces.clone(),
            config: self.options.file.as_ref().map(|f| f.display().to_string()),
            schedulers: self.options.schedulers.names(),
            connections: status.connections,
            connection_limit: self.limits.connections,
            own_vip: own_vip.into_iter().flat_map(OwnVips::words).collect(),
            owned_vips: self.homeless.owned.clone(),
            yielded_vips: self.yielded.list(&self.interfaces),
            absent_vips: self.homeless.absent.clone(),
            local_ports: self.limits.local_ports,
            log: LogLosses {
                queue_full: self.options.log.queue_full(),
                write_failed: self.options.log.write_failed(),
                suppressed: self.options.log.suppressed(),
            },
            guard: Some(self.guard_status()),
        }))
    }

    /// Looks at the guard as the kernel has it now.
    fn guard_status(&self) -> GuardStatus {
        let wrong = match self.guard.look() {
            Ok(harm) => harm.map(|harm| harm.to_string()),
            Err(error) => Some(error.to_string()),
        };
        let repairs = self.guard.repairs();
        let ago = |at: SystemTime| at.elapsed().map_or(0, |ago| ago.as_secs());
        GuardStatus {
            removed: repairs.removed,
            damaged: repairs.damaged,
            last: repairs.last.map(|(at, harm)| (ago(at), harm.to_string())),
            wrong: wrong.map(|what| match repairs.broken {
                Some(why) => format!("{what}; it could not be put right: {why}"),
                None => what,
            }),
        }
    }

    fn drops(&self) -> Result<Data, Refusal> {
        let status = self.status()?;
        let interfaces = frames::of(&self.interfaces, &status);
        let counters = status.counters;
        let reasons = DropReason::ALL.iter().map(|r| {
            let at = *r as usize;
            (r.label().to_owned(), counters.drops[at] + counters.lost[at])
        });
        Ok(Data::Drops {
            totals: totals(&counters),
            ended: Ended {
                ended: counters.expired,
                evicted: counters.evicted,
                dropped_entries: counters.dropped_entries,
                replaced_over: counters.replaced_over,
                replaced_live: counters.replaced_live,
                told_clients: counters.told_clients,
                told_servers: counters.told_servers,
            },
            reasons: reasons.collect(),
            interfaces,
        })
    }
}
