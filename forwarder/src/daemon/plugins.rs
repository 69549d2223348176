//! The daemon's answers about scheduler plugins.

use std::path::Path;

use uvs_control::plugins::{Loaded, Reloaded};
use uvs_control::protocol::{Answers, Errno, PluginReloaded, PluginStatus, Plugins, Refusal, ask};

use super::Daemon;

impl Answers<ask::ListPlugins> for Daemon {
    fn answer(&mut self, _: ask::ListPlugins) -> Result<Plugins, Refusal> {
        Ok(self.list_plugins())
    }
}

impl Answers<ask::ReloadPlugins> for Daemon {
    /// Services go over to new versions with their next connection.
    fn answer(
        &mut self,
        ask::ReloadPlugins(name): ask::ReloadPlugins,
    ) -> Result<Vec<PluginReloaded>, Refusal> {
        let reloaded = told(self.options.schedulers.reload(name.as_deref()))?;
        self.note_done(&format!(
            "{} scheduler plugins looked at again",
            reloaded.len()
        ));
        Ok(reloaded)
    }
}

impl Answers<ask::RetryPlugins> for Daemon {
    /// Services go back to their plugins with their next connection.
    fn answer(
        &mut self,
        ask::RetryPlugins(name): ask::RetryPlugins,
    ) -> Result<Vec<PluginReloaded>, Refusal> {
        let retried = told(self.options.schedulers.retry(name.as_deref()))?;
        self.note_done(&format!("{} scheduler plugins tried again", retried.len()));
        Ok(retried)
    }
}

fn told(done: Result<Vec<Reloaded>, String>) -> Result<Vec<PluginReloaded>, Refusal> {
    let done = done.map_err(|message| Refusal {
        errno: Errno::NotFound,
        message,
    })?;
    let line = |r: Reloaded| PluginReloaded {
        name: r.name,
        refused: r.refused,
        what: r.what,
    };
    Ok(done.into_iter().map(line).collect())
}

impl Daemon {
    /// What is loaded, who uses it, and what else lies in the directory.
    pub(super) fn list_plugins(&self) -> Plugins {
        let schedulers = &self.options.schedulers;
        let loaded = schedulers.loaded().into_iter();
        let files = schedulers.other_files().into_iter();
        Plugins {
            directory: schedulers
                .directory()
                .as_deref()
                .map_or_else(String::new, shown),
            plugins: loaded.map(|plugin| self.plugin_status(plugin)).collect(),
            files: files.map(|(file, what)| (shown(&file), what)).collect(),
        }
    }

    fn plugin_status(&self, plugin: Loaded) -> PluginStatus {
        let services = self.table.services().iter();
        PluginStatus {
            services: services
                .filter(|service| service.scheduler == plugin.name)
                .map(|service| service.key)
                .collect(),
            name: plugin.name,
            version: plugin.version,
            about: plugin.about,
            abi: plugin.abi,
            file: shown(&plugin.file),
            faults: plugin
                .faults
                .map(|(reason, count)| (reason.to_owned(), count))
                .into(),
            fallen_back: plugin.fallen_back,
        }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
