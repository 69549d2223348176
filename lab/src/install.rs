//! Programs that are put somewhere to be run from there.
//!
//! Another process writes them. What this one has open for writing, a process that another thread starts meanwhile has
//! open too until it runs its own program, and what somebody has open for writing cannot be run (ETXTBSY of execve(2)).

use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::process::{SOON, output};

/// Copies a program, so that everybody may run it.
///
/// # Errors
/// It cannot be copied.
pub fn program(from: &Path, to: &Path) -> Result<()> {
    let mut install = Command::new("install");
    install.args(["-T", "-m", "755"]).arg(from).arg(to);
    output(install, "", SOON).map(drop)
}

/// Writes a script, so that everybody may run it; `text` begins with its interpreter.
///
/// # Errors
/// It cannot be written.
pub fn script(to: &Path, text: &str) -> Result<()> {
    let mut sh = Command::new("sh");
    sh.args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"]);
    sh.arg(to);
    output(sh, text, SOON).map(drop)
}
