//! What a killed daemon has left of its hook: to be looked at, and to be removed, by whoever is no daemon.

use std::io;
use std::path::Path;

use uvs_hook::{HookError, Leftovers};

use super::bpffs;
use crate::guard::{Claim, GuardError};

/// Why it stays.
#[derive(Debug, thiserror::Error)]
pub enum LeftoverError {
    /// A daemon needs it.
    #[error(transparent)]
    Busy(#[from] GuardError),
    /// The kernel refused.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The kernel does not tell which network namespace this is.
    #[error("the network namespace's number: {0}")]
    Io(#[from] io::Error),
}

/// What there is of a hook below `pins` and on the interfaces of this network namespace, in a line; `None` = nothing.
///
/// # Errors
/// The kernel's.
pub fn show(pins: &Path) -> io::Result<Option<String>> {
    let directory = bpffs::of_namespace(pins)?;
    let found = uvs_hook::leftovers(&directory)?;
    let Leftovers { pinned, filters } = &found;
    let said = || {
        format!(
            "the hook: {} things pinned in {}, filters on {} interfaces",
            pinned.len(),
            directory.display(),
            filters.len()
        )
    };
    Ok((!found.is_empty()).then(said))
}

/// Removes it; says whether there was one.
///
/// # Errors
/// A daemon that runs in this network namespace needs it, unless `force`; the kernel refused.
pub fn down(pins: &Path, force: bool) -> Result<bool, LeftoverError> {
    let _claim = if force { None } else { Some(Claim::new()?) };
    remove(pins)
}

/// As [`down`], for whoever has the claim.
pub(crate) fn remove(pins: &Path) -> Result<bool, LeftoverError> {
    let removed = uvs_hook::remove_leftovers(&bpffs::of_namespace(pins)?)?;
    Ok(!removed.is_empty())
}
