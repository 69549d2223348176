//! Every scheduler there is: the built-in ones, and plugins from the plugin directory.
//!
//! One [`Schedulers`] serves the whole process. The control thread asks whether a name exists, and so has
//! its plugin loaded; the worker makes instances. A name nobody knows yet is looked for in the directory:
//! first in files called after it, then in those that were never looked at. Libraries stay loaded; a
//! file that is new or has changed since is another library, and takes over when `uvs plugin reload` asks.

mod directory;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use uvs_core::scheduler::{Scheduler, SchedulerParams};
use uvs_plugin::fault::Fault;
use uvs_plugin::host::{CAN_LOAD, NO_PLUGINS};
use uvs_plugin::supervised::{Source, Tolerance};

use directory::{Directory, Library};
pub(crate) use settings::check_settings;

/// Where plugins are unless said otherwise.
pub const DEFAULT_DIRECTORY: &str = "/usr/lib/uvs/schedulers";
/// Faults a service takes of a plugin before it falls back, unless said otherwise.
pub(crate) const DEFAULT_MAX_FAULTS: u32 = 10;
/// Microseconds that a plugin's pick may take, unless said otherwise.
pub const DEFAULT_BUDGET: u32 = 1000;
/// What takes over from a plugin that failed.
pub const FALLBACK: &str = "wrr";

/// The configuration's `[plugins]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginSettings {
    /// Where plugins are; `None` = not said.
    pub directory: Option<PathBuf>,
    /// Faults a service takes before it falls back, 0 = any number; `None` = not said.
    pub max_faults: Option<u32>,
    /// Microseconds that a pick may take, 0 = any time; `None` = not said.
    pub scheduler_budget: Option<u32>,
    /// Files to load at the start, within the directory.
    pub load: Vec<PathBuf>,
}

impl PluginSettings {
    fn tolerance(&self) -> Tolerance {
        Tolerance {
            max_faults: self.max_faults.unwrap_or(DEFAULT_MAX_FAULTS),
            budget: Duration::from_micros(self.scheduler_budget.unwrap_or(DEFAULT_BUDGET).into()),
        }
    }
}

/// Why there is no scheduler of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfound {
    /// Nothing is called so.
    Unknown(String),
    /// There is a plugin for it, which is refused.
    Refused(String),
}

impl fmt::Display for Unfound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(what) | Self::Refused(what) => f.write_str(what),
        }
    }
}

/// A plugin in use, for listings.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it is called by.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// What it says of itself.
    pub about: String,
    /// The version of the interface that it was built for.
    pub abi: u32,
    /// Where it was loaded from.
    pub file: PathBuf,
    /// By reason.
    pub faults: [(&'static str, u64); Fault::KINDS],
    /// Services that fell back.
    pub fallen_back: Vec<String>,
}

/// What a reload did for one plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// The plugin.
    pub name: String,
    /// Whether a file called after it was refused.
    pub refused: bool,
    /// A sentence without the name.
    pub what: String,
}

/// The schedulers of this process.
#[derive(Debug, Default)]
pub struct Schedulers {
    inner: Mutex<Inner>,
    /// The file whose code is being loaded, which may never return from that.
    loading: directory::Loading,
}

#[derive(Debug, Default)]
struct Inner {
    /// What services bear of their plugins.
    tolerance: Tolerance,
    /// `None`: there are no plugins.
    directory: Option<Directory>,
    /// By the scheduler's name: where its services get it from, and which library that is.
    plugins: BTreeMap<String, (Arc<Source>, Library)>,
}

impl Schedulers {
    /// The built-in schedulers alone.
    #[cfg(test)]
    pub(crate) fn builtin() -> Arc<Self> {
        Arc::default()
    }

    /// The built-in schedulers and a directory's plugins, of which none is loaded yet.
    pub fn new(directory: &Path, settings: &PluginSettings) -> Arc<Self> {
        let loading = directory::Loading::default();
        let directory = Directory::new(directory, loading.clone());
        Arc::new(Self {
            inner: Mutex::new(Inner {
                tolerance: settings.tolerance(),
                directory: Some(directory),
                plugins: BTreeMap::new(),
            }),
            loading,
        })
    }

    /// The schedulers that a configuration asks for; `over` overrides its directory.
    pub fn configured(settings: &PluginSettings, over: Option<&Path>) -> Arc<Self> {
        let from_environment = || {
            let set = std::env::var_os("UVS_PLUGIN_DIR").filter(|dir| !dir.is_empty());
            set.map(PathBuf::from)
        };
        let directory = over
            .map(Path::to_owned)
            .or_else(|| settings.directory.clone())
            .or_else(from_environment)
            .unwrap_or_else(|| DEFAULT_DIRECTORY.into());
        Self::new(&directory, settings)
    }

    /// Puts a configuration's budget in force, for the plugins in use too.
    pub fn set_budget(&self, settings: &PluginSettings) {
        let mut inner = self.lock();
        inner.tolerance.budget = settings.tolerance().budget;
        for (source, _) in inner.plugins.values() {
            source.tolerate(inner.tolerance);
        }
    }

    /// What a plugin's pick may take; 0 = any time.
    pub fn budget(&self) -> Duration {
        self.lock().tolerance.budget
    }

    /// Plugins whose code has not returned for so long, each a sentence. Waits for nobody, so that it can be asked when a
    /// thread is stuck.
    pub fn unreturned(&self, than: Duration) -> Vec<String> {
        let inner = match self.inner.try_lock() {
            Ok(inner) => inner,
            Err(TryLockError::Poisoned(inner)) => inner.into_inner(),
            Err(TryLockError::WouldBlock) => return self.loading.longer(than),
        };
        let each = inner.plugins.values().flat_map(|(source, library)| {
            let plugin = &library.plugin;
            let calls = source.unreturned(than).into_iter();
            calls.map(move |call| {
                let (name, version) = (plugin.name(), plugin.version());
                format!("the scheduler plugin {name} {version}: {call}")
            })
        });
        each.collect()
    }

    /// Makes sure that there is a scheduler of this name; may load its plugin.
    ///
    /// # Errors
    /// There is none, or its plugin is refused.
    pub fn find(&self, name: &str) -> Result<(), Unfound> {
        if uvs_schedulers::find(name).is_some() {
            return Ok(());
        }
        let mut inner = self.lock();
        if inner.plugins.contains_key(name) {
            return Ok(());
        }
        let found = match &mut inner.directory {
            Some(directory) => directory.find(name),
            None => Ok(None),
        };
        match found {
            Ok(Some(library)) => {
                Self::adopt(&mut inner, library);
                Ok(())
            }
            Ok(None) => Err(Unfound::Unknown(inner.unknown(name))),
            Err(refusal) => {
                tracing::warn!("the scheduler plugin {name} is refused: {refusal}");
                Err(Unfound::Refused(refusal))
            }
        }
    }

    /// Loads a file of the directory, so that its scheduler can be named.
    ///
    /// # Errors
    /// It is refused, or its name is taken.
    pub fn load(&self, file: &Path) -> Result<(), String> {
        let mut inner = self.lock();
        let Some(directory) = &mut inner.directory else {
            return Err("there is no plugin directory".to_owned());
        };
        let library = directory.load(file)?;
        match inner.plugins.get(library.plugin.name()) {
            None => Self::adopt(&mut inner, library),
            Some((_, taken)) if taken.file == library.file => {}
            Some((_, taken)) => return Err(taken_by(&library, taken)),
        }
        Ok(())
    }

    /// Makes a scheduler for a service; `None` where [`Self::find`] was not asked or found none.
    pub fn make(&self, name: &str, params: &SchedulerParams) -> Option<Box<dyn Scheduler>> {
        if let Some(def) = uvs_schedulers::find(name) {
            return Some((def.new)(params));
        }
        let source = self.lock().plugins.get(name).map(|(s, _)| Arc::clone(s));
        source.map(|source| source.scheduler(params))
    }

    /// The names of all built-in schedulers and loaded plugins.
    pub fn names(&self) -> Vec<String> {
        self.lock().names()
    }

    /// The directory of plugins.
    pub fn directory(&self) -> Option<PathBuf> {
        self.lock().directory.as_ref().map(|d| d.path().to_owned())
    }

    /// The loaded plugins by name.
    pub fn loaded(&self) -> Vec<Loaded> {
        let inner = self.lock();
        let plugins = inner.plugins.values();
        plugins
            .map(|(source, library)| status(source, library))
            .collect()
    }

    /// The directory's files that no service could use now, each with a remark.
    pub fn other_files(&self) -> Vec<(PathBuf, String)> {
        let inner = self.lock();
        let Some(directory) = &inner.directory else {
            return Vec::new();
        };
        let in_use = |file: &Path| {
            inner
                .plugins
                .values()
                .any(|(_, library)| library.file == file)
        };
        directory.remarks(&in_use)
    }

    /// Looks at the directory again and lets the highest version of each loaded plugin (or of the one that is
    /// named) take over. Where nothing is new, services that had fallen back try the plugin again.
    ///
    /// # Errors
    /// No such plugin is loaded.
    pub fn reload(&self, name: Option<&str>) -> Result<Vec<Reloaded>, String> {
        let mut inner = self.lock();
        inner.check_loaded(name)?;
        let Inner {
            directory, plugins, ..
        } = &mut *inner;
        let Some(directory) = directory else {
            return Ok(Vec::new());
        };
        directory.look_at_all();
        let wanted = plugins
            .iter_mut()
            .filter(|(n, _)| name.is_none_or(|name| name == *n));
        let mut done = Vec::new();
        for (name, (source, library)) in wanted {
            let refused = directory.refusal_called(name);
            let mut what = renew(directory, source, library);
            if let Some(why) = &refused {
                what = format!("{what}; refused: {why}");
            }
            tracing::info!("scheduler plugin {name}: {what}");
            done.push(Reloaded {
                name: name.clone(),
                refused: refused.is_some(),
                what,
            });
        }
        Ok(done)
    }

    /// Ends the fall-backs of each plugin (or of the one that is named): its services try the version that they had again.
    ///
    /// # Errors
    /// No such plugin is loaded.
    pub fn retry(&self, name: Option<&str>) -> Result<Vec<Reloaded>, String> {
        let inner = self.lock();
        inner.check_loaded(name)?;
        let wanted = inner.plugins.iter();
        let wanted = wanted.filter(|(n, _)| name.is_none_or(|name| name == *n));
        let retry = |(name, (source, library)): (&String, &(Arc<Source>, Library))| Reloaded {
            name: name.clone(),
            refused: false,
            what: retry(source, library),
        };
        Ok(wanted.map(retry).collect())
    }

    fn adopt(inner: &mut Inner, library: Library) {
        let plugin = &library.plugin;
        tracing::info!(
            file = %library.file.display(),
            "scheduler plugin {} {} is loaded: {}",
            plugin.name(),
            plugin.version(),
            plugin.about()
        );
        let source = Source::new(Arc::clone(plugin), inner.tolerance, (FALLBACK, fallback));
        inner
            .plugins
            .insert(plugin.name().to_owned(), (source, library));
    }

    /// What is locked is whole at any time, so a panic elsewhere is no reason to stop.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn check_loaded(&self, name: Option<&str>) -> Result<(), String> {
        let Some(name) = name.filter(|name| !self.plugins.contains_key(*name)) else {
            return Ok(());
        };
        let known: Vec<&str> = self.plugins.keys().map(String::as_str).collect();
        let known = match known.as_slice() {
            [] => "none".to_owned(),
            known => known.join(", "),
        };
        Err(format!("no plugin {name:?} is loaded; loaded: {known}"))
    }

    fn names(&self) -> Vec<String> {
        let builtin = uvs_schedulers::BUILTIN
            .iter()
            .map(|def| def.name.to_owned());
        builtin.chain(self.plugins.keys().cloned()).collect()
    }

    fn unknown(&self, name: &str) -> String {
        let known = self.names().join(", ");
        let directory = match &self.directory {
            _ if !CAN_LOAD => format!("; {NO_PLUGINS}"),
            Some(directory) => {
                format!("; no plugin in {} is called so", directory.path().display())
            }
            None => String::new(),
        };
        format!("no scheduler is called {name:?}; there are {known}{directory}")
    }
}

fn fallback() -> Box<dyn Scheduler> {
    let def = uvs_schedulers::find(FALLBACK).expect("a built-in scheduler");
    (def.new)(&SchedulerParams::default())
}

fn renew(directory: &Directory, source: &Source, library: &mut Library) -> String {
    let now = describe(library);
    let Some(best) = directory.best(library.plugin.name()) else {
        return format!("{now} goes on; it is in no file any more");
    };
    if !Arc::ptr_eq(&best.plugin, &library.plugin) {
        source.take_over(Arc::clone(&best.plugin));
        *library = best;
        return format!("{} replaces {now}", describe(library));
    }
    if source.fallen_back().is_empty() {
        return format!("{now} is the newest");
    }
    let again = source.take_over(Arc::clone(&library.plugin));
    format!("{now} is the newest; tried again by {}", again.join(", "))
}

fn retry(source: &Source, library: &Library) -> String {
    let now = describe(library);
    if source.fallen_back().is_empty() {
        return format!("{now} goes on; no service has fallen back");
    }
    let again = source.take_over(source.plugin());
    format!("{now} is tried again by {}", again.join(", "))
}

fn describe(library: &Library) -> String {
    let file = library.file.file_name().unwrap_or_default();
    format!("{} ({})", library.plugin.version(), file.display())
}

fn taken_by(library: &Library, taken: &Library) -> String {
    format!(
        "{}: the name {:?} is taken by the plugin of {}; `uvs plugin reload` lets a new version take over",
        library.file.display(),
        library.plugin.name(),
        taken.file.display()
    )
}

fn status(source: &Source, library: &Library) -> Loaded {
    let plugin = &library.plugin;
    Loaded {
        name: plugin.name().to_owned(),
        version: plugin.version().to_owned(),
        about: plugin.about().to_owned(),
        abi: plugin.abi(),
        file: library.file.clone(),
        faults: source.faults().read(),
        fallen_back: source.fallen_back(),
    }
}
