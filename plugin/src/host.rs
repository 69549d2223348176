//! The host's side: a library is loaded, its table checked, and its instances are [`Scheduler`]s.
//!
//! Libraries are never unloaded: a thread may still have destructors of theirs to run, and no one can
//! say when the last of their code has been left. A new version is loaded beside the old one.

use std::ffi::{CStr, c_char, c_void};
use std::path::PathBuf;
use std::ptr::null_mut;

use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::narrow;
use uvs_core::scheduler::{Scheduler, SchedulerParams};
use uvs_core::time::Instant;

use crate::abi::{ABI, DETERMINISTIC, NAME_MAX, NONE, PANICKED, Params, Table, is_name_byte};
use crate::fault::Fault;
use crate::file::{FileError, Image};
use crate::guest::{self, Export};
use crate::library;

/// The longest version or description that is shown, in bytes.
const TEXT_MAX: usize = 200;

/// Whether this program can load any (the feature `load`).
pub const CAN_LOAD: bool = cfg!(feature = "load");

/// What a program says that can load none.
pub const NO_PLUGINS: &str = "this build has no plugins: it is linked statically, and cannot load a library; use one that is not";

/// Why a plugin is refused.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// This program can load none.
    #[error("{path}: {NO_PLUGINS}")]
    NoPlugins {
        /// The file.
        path: PathBuf,
    },
    /// Its file is.
    #[error(transparent)]
    File(#[from] FileError),
    /// The dynamic loader refuses it.
    #[error("{path} cannot be loaded: {why}")]
    Loader {
        /// The file.
        path: PathBuf,
        /// What the dynamic loader says.
        why: String,
    },
    /// It is a library, but not of a scheduler.
    #[error(
        "{path} has no symbol uvs_scheduler: export the scheduler with export_scheduler! (C: define uvs_scheduler())"
    )]
    NoSymbol {
        /// The file.
        path: PathBuf,
    },
    /// Its table is wrong.
    #[error("{path}: {source}")]
    Table {
        /// The file.
        path: PathBuf,
        /// How.
        source: TableError,
    },
}

/// Why a table is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Null.
    #[error("uvs_scheduler() returned NULL instead of a table")]
    Missing,
    /// Made for another ABI.
    #[error(
        "it has ABI version {theirs}, this uvs has version {ours}: rebuild it against this release's uvs-plugin or uvs_scheduler.h"
    )]
    Abi {
        /// The plugin's.
        theirs: u32,
        /// The host's.
        ours: u32,
    },
    /// Made from other definitions of the same ABI.
    #[error(
        "its {what} has {theirs} bytes, this uvs's has {ours}: rebuild it against this release's uvs-plugin or uvs_scheduler.h"
    )]
    Size {
        /// Which structure.
        what: &'static str,
        /// The plugin's size.
        theirs: u32,
        /// The host's size.
        ours: u32,
    },
    /// ipvsadm could not name it.
    #[error(
        "its name {0:?} cannot be used: a name has 1 to 15 letters, digits, '-', '_' or '.', and begins with a letter or digit"
    )]
    Name(String),
    /// Not UTF-8, null or overlong.
    #[error("its {0} is not a text of at most 200 bytes")]
    Text(&'static str),
    /// The one function that must be there.
    #[error("its table has no pick function")]
    NoPick,
}

/// A loaded scheduler, of which services get instances.
#[derive(Clone, Debug)]
pub struct Plugin {
    table: Table,
    name: String,
    version: String,
    about: String,
}

impl Plugin {
    /// Loads a library; its constructors run, with all rights of this process.
    ///
    /// # Errors
    /// It is not a plugin that this program can run. It stays loaded all the same.
    pub fn load(image: Image) -> Result<Self, LoadError> {
        let path = image.path().to_owned();
        let table = library::table(image)?;
        // SAFETY: the ABI asks for a table that lives as long as the process, and the library stays.
        unsafe { Self::from_table(table) }.map_err(|source| LoadError::Table { path, source })
    }

    /// A scheduler of this very program as if it were a plugin's: the same functions, without a library.
    ///
    /// # Errors
    /// Its name cannot be used.
    pub fn in_process<E: Export>(
        name: &'static CStr,
        version: &'static CStr,
        about: &'static CStr,
        claims: u64,
    ) -> Result<Self, TableError> {
        let table = guest::table::<E>(name, version, about, claims);
        // SAFETY: a table as `guest` makes it is what the ABI asks for; its strings are static.
        unsafe { Self::from_table(&table) }
    }

    /// A plugin from its table.
    ///
    /// # Safety
    /// `table` is null or points to a table that is valid for its `size`, as are the strings and functions
    /// it names, for as long as the process lives.
    ///
    /// # Errors
    /// It is of another ABI, or incomplete.
    pub unsafe fn from_table(table: *const Table) -> Result<Self, TableError> {
        if table.is_null() {
            return Err(TableError::Missing);
        }
        // SAFETY: not null, and of every version of the ABI these are the first eight bytes.
        let [theirs, size] = unsafe { *table.cast::<[u32; 2]>() };
        if theirs != ABI {
            return Err(TableError::Abi { theirs, ours: ABI });
        }
        check_size("table", size, size_of::<Table>())?;
        // SAFETY: it has this version and this size.
        let table = unsafe { *table };
        check_size("uvs_backend", table.backend_size, size_of::<Backend>())?;
        check_size("uvs_flow", table.flow_size, size_of::<Flow>())?;
        if table.pick.is_none() {
            return Err(TableError::NoPick);
        }
        // SAFETY: the caller's promise about the table's strings.
        let name = unsafe { text(table.name) }.ok_or(TableError::Text("name"))?;
        if !is_name(&name) {
            return Err(TableError::Name(name));
        }
        // SAFETY: as above.
        let version = unsafe { text(table.version) }.ok_or(TableError::Text("version"))?;
        // SAFETY: as above.
        let about = unsafe { text(table.about) }.ok_or(TableError::Text("description (about)"))?;
        Ok(Self {
            table,
            name,
            version,
            about,
        })
    }

    /// What `ipvsadm -s` calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// One line about it.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// The version of the ABI it was built for.
    pub fn abi(&self) -> u32 {
        self.table.abi
    }

    /// Whether it claims that instances with the same seed and history pick the same servers.
    pub fn is_deterministic(&self) -> bool {
        self.table.claims & DETERMINISTIC != 0
    }

    /// An instance for one service.
    ///
    /// # Errors
    /// The plugin could not make one.
    pub fn instance(&self, params: &SchedulerParams) -> Result<Instance, Fault> {
        let table = self.table;
        let params = Params::from(*params);
        let mut state = null_mut();
        if let Some(create) = table.create {
            // SAFETY: the ABI's own signature; `params` outlives the call.
            state = unsafe { create(&params) };
            if state.is_null() {
                let function = "create";
                return Err(Fault::Failed { function, code: 0 });
            }
        }
        Ok(Instance { table, state })
    }
}

/// A plugin's scheduler at work for one service.
///
/// As a [`Scheduler`] it answers a fault with an index beyond all servers, which the engine refuses and
/// counts; [`supervised`](crate::supervised) does more.
#[derive(Debug)]
pub struct Instance {
    table: Table,
    state: *mut c_void,
}

// SAFETY: the ABI asks that a state may be used by one thread at a time, whichever it is.
unsafe impl Send for Instance {}

impl Instance {
    /// Asks for a server, and checks that it exists and may be used.
    ///
    /// # Errors
    /// The plugin broke its contract.
    pub fn try_pick(&mut self, flow: &Flow, backends: &[Backend]) -> Result<Option<usize>, Fault> {
        let Some(pick) = self.table.pick else {
            return Ok(None);
        };
        // SAFETY: the ABI's own signature; `state` came from this table's `create` and `&mut self` keeps
        // other threads away; flow and servers outlive the call.
        let index = unsafe { pick(self.state, flow, backends.as_ptr(), backends.len()) };
        match usize::try_from(index).ok().map(|i| (i, backends.get(i))) {
            Some((i, Some(backend))) if backend.is_available() => Ok(Some(i)),
            Some((index, Some(_))) => Err(Fault::Forbidden { index }),
            None if index == NONE => Ok(None),
            None if index == PANICKED => Err(Fault::Panicked),
            None | Some((_, None)) => Err(Fault::WrongIndex {
                index,
                servers: backends.len(),
            }),
        }
    }

    /// Tells of the present set.
    ///
    /// # Errors
    /// The plugin failed.
    pub fn try_backends_changed(&mut self, backends: &[Backend]) -> Result<(), Fault> {
        let Some(changed) = self.table.backends_changed else {
            return Ok(());
        };
        // SAFETY: as for `pick`.
        let code = unsafe { changed(self.state, backends.as_ptr(), backends.len()) };
        succeeded("backends_changed", code)
    }

    /// Tells the time.
    ///
    /// # Errors
    /// The plugin failed.
    pub fn try_tick(&mut self, now: Instant) -> Result<(), Fault> {
        let Some(tick) = self.table.tick else {
            return Ok(());
        };
        // SAFETY: as for `pick`.
        let code = unsafe { tick(self.state, now.0) };
        succeeded("tick", code)
    }
}

impl Scheduler for Instance {
    fn backends_changed(&mut self, backends: &[Backend]) {
        // Nothing to refuse here; the next pick is checked whatever the plugin knows.
        let _ = self.try_backends_changed(backends);
    }

    fn pick(&mut self, flow: &Flow, backends: &[Backend]) -> Option<usize> {
        self.try_pick(flow, backends).unwrap_or(Some(usize::MAX))
    }

    fn tick(&mut self, now: Instant) {
        let _ = self.try_tick(now);
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(destroy) = self.table.destroy.filter(|_| !self.state.is_null()) {
            // SAFETY: `state` came from this table's `create` and is not used again.
            unsafe { destroy(self.state) }
        }
    }
}

fn succeeded(function: &'static str, code: i32) -> Result<(), Fault> {
    match i64::from(code) {
        0.. => Ok(()),
        PANICKED => Err(Fault::Panicked),
        _ => Err(Fault::Failed { function, code }),
    }
}

fn check_size(what: &'static str, theirs: u32, ours: usize) -> Result<(), TableError> {
    let ours = narrow::to_u32(ours);
    if theirs == ours {
        return Ok(());
    }
    Err(TableError::Size { what, theirs, ours })
}

fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(is_name_byte)
}

/// # Safety
/// `text` is null or ends with a NUL.
unsafe fn text(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    let text = text.to_str().ok().filter(|t| t.len() <= TEXT_MAX)?;
    // It is printed in lists, a line each.
    (!text.contains(char::is_control)).then(|| text.to_owned())
}
