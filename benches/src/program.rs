//! What a program needs that measures `uvs` in a lab.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// The `uvs` to measure: the one that is named, or the one beside this program.
///
/// # Errors
/// It is not there.
pub fn uvs(named: Option<&Path>) -> Result<PathBuf> {
    let uvs = match named {
        Some(path) => path.to_owned(),
        None => env::current_exe()?.with_file_name("uvs"),
    };
    ensure!(
        uvs.is_file(),
        "{} is not there; build it with: cargo build --release -p uvs",
        uvs.display()
    );
    Ok(uvs)
}

/// Bytes of memory that a process has in use (proc(5): VmRSS).
///
/// # Errors
/// It is not there any more.
pub fn resident(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes
        .map(|kilobytes| kilobytes * 1024)
        .with_context(|| format!("no VmRSS in {path}"))
}

/// A flag that a signal raises, and does no more from now on, so that what was made is also removed.
///
/// # Errors
/// The host's.
pub fn interrupted() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&flag))
            .context("cannot watch for signals")?;
    }
    Ok(flag)
}
