//! What a killed daemon has left of its hook: to be looked at, and to be removed, by whoever is no daemon.

use std::io;
use std::path::Path;

use super::bpffs;
use crate::guard::{Claim, GuardError};

/// Why it stays.
#[derive(Debug, thiserror::Error)]
pub enum LeftoverError {
    /// A daemon needs it.
    #[error(transparent)]
    Busy(#[from] GuardError),
    /// The kernel refused.
    #[error("the hook cannot be removed: {0}")]
    Io(#[from] io::Error),
}

/// What there is of a hook below `pins` and on the interfaces of this network namespace, in a line; `None` = nothing.
///
/// # Errors
/// The kernel's.
pub fn show(pins: &Path) -> io::Result<Option<String>> {
    let found = uvs_hook::leftovers(&bpffs::of_namespace(pins)?);
    Ok((!found.is_empty()).then(|| found.to_string()))
}

/// Removes it; says whether there was one.
///
/// # Errors
/// A daemon that runs in this network namespace needs it, unless `force`; the kernel refused.
pub fn down(pins: &Path, force: bool) -> Result<bool, LeftoverError> {
    let _claim = if force { None } else { Some(Claim::new()?) };
    remove(pins).map_err(Into::into)
}

/// As [`down`], for whoever has the claim.
pub(crate) fn remove(pins: &Path) -> io::Result<bool> {
    uvs_hook::remove_leftovers(&bpffs::of_namespace(pins)?)
}
