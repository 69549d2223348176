//! Reading the configuration file again.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use uvs_control::access::ListFiles;
use uvs_control::config::{self, Config, ConfigError, Metrics, Step};
use uvs_control::protocol::{Answers, Errno, Refusal, ask};
use uvs_control::regular;
use uvs_control::table::Table;

use super::{Daemon, derive, failed, start};

impl Answers<ask::Reload> for Daemon {
    fn answer(&mut self, _: ask::Reload) -> Result<(), Refusal> {
        self.reload()
    }
}

impl Daemon {
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
        let unfit = |e| invalid(&format!("{}: {e}", file.display()));
        let (opened, _) = regular::open(&file).map_err(unfit)?;
        let schedulers = Arc::clone(&self.options.schedulers);
        let new = config::load_from(&file, opened, &|_| Arc::clone(&schedulers))
            .map_err(|e| invalid(&e))?;
        derive::check_config(&new, &file, &self.mirror.fib()).map_err(|e| invalid(&e))?;
        self.check_fixed(&new, &file).map_err(|e| invalid(&e))?;
        let own = self.options.own_vips.clone();
        let lists = ListFiles::load(&new.access).map_err(|e| invalid(&e))?;
        let sync = self.plan_sync(&new)?;
        let load = |table: &mut Table| start::load(table, &new, &lists, own.as_ref());
        self.change(|table| sync.change(table, |table| load(table).map_err(failed)))?;
        self.carry_out(sync);
        self.sync_requests.clone_from(&new.sync);
        self.list_files = lists;
        if self.host_firewall != new.host_firewall {
            self.host_firewall = new.host_firewall;
            self.firewall.forget();
        }
        schedulers.set_budget(&new.plugins);
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
