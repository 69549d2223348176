//! The plugin directory: which files are there, what was found in each, and which one has a name.
//!
//! A file is looked at once in each of its states. What was refused is not loaded a second time, since
//! loading is permanent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use uvs_plugin::file::{Identity, Image};
use uvs_plugin::host::Plugin;

/// A plugin and the file it came from.
#[derive(Clone, Debug)]
pub(super) struct Library {
    pub(super) plugin: Arc<Plugin>,
    pub(super) file: PathBuf,
}

/// Which file's code is being loaded, and since when: for others to see, as that is the file's own code, which may not
/// return.
#[derive(Clone, Debug, Default)]
pub(super) struct Loading(Arc<Mutex<Option<(PathBuf, Instant)>>>);

impl Loading {
    fn set(&self, file: Option<&Path>) {
        let loading = file.map(|file| (file.to_owned(), Instant::now()));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = loading;
    }

    /// A sentence, where it takes longer than that.
    pub(super) fn longer(&self, than: Duration) -> Vec<String> {
        let loading = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let late = loading.iter().filter(|(_, since)| since.elapsed() > than);
        let said = late.map(|(file, since)| {
            let (file, time) = (file.display(), since.elapsed().as_secs());
            format!("the scheduler plugin {file} has not returned from being loaded for {time} s")
        });
        said.collect()
    }
}

/// What was found in a file in a state of it.
#[derive(Debug)]
struct Look {
    /// `None` where the file could not even be asked.
    identity: Option<Identity>,
    /// Whether the same state of the file would be found the same: not so where its owner, or the
    /// directory's mode, was what displeased.
    settled: bool,
    found: Result<Arc<Plugin>, String>,
}

/// The directory, and all that was ever looked at.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    looks: BTreeMap<PathBuf, Look>,
    loading: Loading,
}

impl Directory {
    pub(super) fn new(path: &Path, loading: Loading) -> Self {
        Self {
            path: path.to_owned(),
            looks: BTreeMap::new(),
            loading,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The plugin of this name: from a file called after it, or else from any that was not looked at yet.
    ///
    /// # Errors
    /// A file is called after it and refused.
    pub(super) fn find(&mut self, name: &str) -> Result<Option<Library>, String> {
        let (called, others): (Vec<_>, Vec<_>) = self
            .files()
            .into_iter()
            .partition(|file| is_called(file, name));
        called.iter().for_each(|file| self.look_at(file));
        if let Some(library) = self.best(name) {
            return Ok(Some(library));
        }
        others.iter().for_each(|file| self.look_at(file));
        match self.best(name) {
            Some(library) => Ok(Some(library)),
            None => self.refusal_called(name).map_or(Ok(None), Err),
        }
    }

    /// The plugin of this file, which may be given relative to the directory.
    ///
    /// # Errors
    /// It is refused.
    pub(super) fn load(&mut self, file: &Path) -> Result<Library, String> {
        let mut file = self.path.join(file);
        if file.parent() != Some(&self.path) {
            // Elsewhere, which is refused here; or written in another way.
            let image = Image::installed(&self.path, &file).map_err(|e| e.to_string())?;
            let name = image.path().file_name();
            file = self.path.join(name.unwrap_or_default());
        }
        self.look_at(&file);
        let plugin = self.looks[&file].found.clone()?;
        Ok(Library { plugin, file })
    }

    /// Looks at every file that is new or has changed.
    pub(super) fn look_at_all(&mut self) {
        self.files().iter().for_each(|file| self.look_at(file));
    }

    /// Of the files that are there and were looked at, the highest version of this name; among equal ones
    /// the one whose file sorts last.
    pub(super) fn best(&self, name: &str) -> Option<Library> {
        let there = self.looks.iter().filter(|(file, look)| {
            look.identity.is_some() && Identity::of(file).ok() == look.identity
        });
        let named = there.filter_map(|(file, look)| {
            let plugin = look
                .found
                .as_ref()
                .ok()
                .filter(|plugin| plugin.name() == name)?;
            Some((file, plugin))
        });
        let (file, plugin) = named.max_by_key(|(_, plugin)| order(plugin.version()))?;
        Some(Library {
            plugin: Arc::clone(plugin),
            file: file.clone(),
        })
    }

    /// Why a file that is called after this name is refused.
    pub(super) fn refusal_called(&self, name: &str) -> Option<String> {
        let mut called = self.looks.keys().filter(|file| is_called(file, name));
        called.find_map(|file| self.refusal_of(file))
    }

    fn refusal_of(&self, file: &Path) -> Option<String> {
        let look = self.looks.get(file)?;
        look.found.as_ref().err().filter(|_| file.exists()).cloned()
    }

    /// What there is to say of each file that is not `in_use`.
    pub(super) fn remarks(&self, in_use: &dyn Fn(&Path) -> bool) -> Vec<(PathBuf, String)> {
        let remark = |file: &Path| {
            let present = |look: &&Look| Identity::of(file).ok() == look.identity;
            match self.looks.get(file).filter(present) {
                None if in_use(file) => {
                    Some("has changed: `uvs plugin reload` loads it".to_owned())
                }
                None => Some("not loaded: a service that names it loads it".to_owned()),
                Some(_) if in_use(file) => None,
                Some(Look {
                    found: Ok(plugin), ..
                }) => Some(format!(
                    "{} {}, not in use: `uvs plugin reload` lets the highest version take over",
                    plugin.name(),
                    plugin.version()
                )),
                Some(Look {
                    found: Err(why), ..
                }) => Some(format!("refused: {why}")),
            }
        };
        let files = self.files().into_iter();
        files
            .filter_map(|file| Some((remark(&file)?, file)))
            .map(|(what, file)| (file, what))
            .collect()
    }

    /// The directory's `*.so`, sorted; none where there is no such directory.
    fn files(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(&self.path) else {
            return Vec::new();
        };
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|file| file.extension().is_some_and(|e| e == "so"))
            .collect();
        files.sort();
        files
    }

    fn look_at(&mut self, file: &Path) {
        let identity = Identity::of(file).ok();
        let known = self.looks.get(file);
        if !known.is_some_and(|look| look.settled && look.identity == identity) {
            // Said before, as its code runs, which may not return.
            tracing::info!(file = %file.display(), "a scheduler plugin is being loaded");
            self.loading.set(Some(file));
            let look = Look::at(&self.path, file);
            self.loading.set(None);
            self.looks.insert(file.to_owned(), look);
        }
    }
}

impl Look {
    fn at(directory: &Path, file: &Path) -> Self {
        match Image::installed(directory, file) {
            Ok(image) => Self {
                identity: Some(image.identity()),
                settled: true,
                found: load(image),
            },
            Err(error) => Self {
                identity: Identity::of(file).ok(),
                settled: false,
                found: Err(error.to_string()),
            },
        }
    }
}

fn load(image: Image) -> Result<Arc<Plugin>, String> {
    let file = image.path().to_owned();
    let plugin = Plugin::load(image).map_err(|e| e.to_string())?;
    if uvs_schedulers::find(plugin.name()).is_some() {
        return Err(format!(
            "{}: the name {:?} is taken by a built-in scheduler: give the plugin another one",
            file.display(),
            plugin.name()
        ));
    }
    Ok(Arc::new(plugin))
}

/// Whether a file is called after a scheduler: `libNAME.so`, `NAME.so`, either with a version after the name,
/// and `-` and `_` being the same, as they are to cargo.
fn is_called(file: &Path, name: &str) -> bool {
    let Some(stem) = file.file_stem().and_then(|stem| stem.to_str()) else {
        return false;
    };
    let (stem, name) = (stem.replace('-', "_"), name.replace('-', "_"));
    let is = |stem: &str| {
        let rest = stem.strip_prefix(name.as_str());
        rest.is_some_and(|rest| {
            let version = rest.strip_prefix(['_', '.']).unwrap_or("x");
            rest.is_empty() || version.starts_with(|c: char| c.is_ascii_digit())
        })
    };
    is(&stem) || stem.strip_prefix("lib").is_some_and(is)
}

/// A version as something that sorts: `1.10.0` is above `1.9`, and `2.0-rc1` below `2.0`.
fn order(version: &str) -> (Vec<u64>, bool, String) {
    let (numbers, suffix) = match version.split_once(['-', '~']) {
        Some((numbers, suffix)) => (numbers, Some(suffix)),
        None => (version, None),
    };
    let numbers = numbers.split(['.', '+']).map(|n| n.parse().unwrap_or(0));
    let mut numbers: Vec<u64> = numbers.collect();
    while numbers.last() == Some(&0) {
        numbers.pop();
    }
    (numbers, suffix.is_none(), suffix.unwrap_or("").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_after_their_scheduler() {
        let called = |file, name| is_called(Path::new(file), name);
        for file in [
            "hrw.so",
            "libhrw.so",
            "/d/libhrw-2.so",
            "hrw-1.2.0.so",
            "libhrw_3.so",
            "hrw.2.so",
        ] {
            assert!(called(file, "hrw"), "{file}");
        }
        for file in [
            "libhrwx.so",
            "xhrw.so",
            "liblibhrw.so",
            "hrw-extra.so",
            "libhrw-.so",
        ] {
            assert!(!called(file, "hrw"), "{file}");
        }
        assert!(called("libmy_lb.so", "my-lb") && called("my-lb-2.so", "my_lb"));
    }

    #[test]
    fn versions_sort_by_their_numbers() {
        let sorted = ["", "0.9", "1.0-rc1", "1.0-rc2", "1.0.0", "1.2", "1.10", "2"];
        for pair in sorted.windows(2) {
            assert!(order(pair[0]) < order(pair[1]), "{pair:?}");
        }
        assert_eq!(order("1.0"), order("1.0.0"));
    }
}
