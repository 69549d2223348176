//! Where what outlives the command lies, a set of files for each network namespace.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::RsError;

/// Where state lies unless `$UVS_STATE_DIR` says otherwise: gone with the next boot, as the settings are. Not in /run/uvs, which
/// belongs to the user that the daemon runs as: what root reads back to undo must be root's.
const STATE_DIR: &str = "/run/uvs-rs";

/// This network namespace's state file with this ending.
pub(super) fn state_file(ending: &str) -> Result<PathBuf, RsError> {
    let netns = Path::new("/proc/self/ns/net");
    let inode = fs::metadata(netns)
        .map_err(RsError::file("read", netns))?
        .ino();
    Ok(state_dir().join(format!("rs-{inode}.{ending}")))
}

pub(super) fn state_dir() -> PathBuf {
    std::env::var_os("UVS_STATE_DIR").map_or_else(|| PathBuf::from(STATE_DIR), PathBuf::from)
}
