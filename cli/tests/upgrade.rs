//! `uvs upgrade`: a new process takes over under traffic and nobody notices, time after time; one that refuses, ends or
//! hangs leaves the running daemon as it was. Needs root, or `make test`.

#[path = "hook/director.rs"]
#[allow(dead_code, reason = "shared with the tests of the hook")]
mod director;
#[path = "support/heir.rs"]
mod heir;
#[path = "support/stand.rs"]
mod stand;

#[path = "upgrade/fails.rs"]
mod fails;
#[path = "upgrade/hook.rs"]
mod hook;
#[path = "upgrade/load.rs"]
mod load;
#[path = "upgrade/systemd.rs"]
mod systemd;

use std::path::{Path, PathBuf};

use uvs_lab::{Daemon, Lab, install};

use stand::{fill, uvs};

/// A daemon with these words, and the service of all these tests.
fn serving<'lab>(lab: &'lab Lab, words: &str) -> Daemon<'lab> {
    let daemon = lab.start_daemon_with(uvs(), words).expect("uvs runs");
    fill(lab, &daemon);
    daemon
}

/// A program that takes no part, as a script.
fn script(lab: &Lab, text: &str) -> PathBuf {
    let path = lab.dir().join("other-uvs");
    install::script(&path, &format!("#!/bin/sh\n{text}\n")).expect("written");
    path
}

/// What `uvs upgrade` says of a program that must not succeed.
fn refused(lab: &Lab, daemon: &Daemon<'_>, binary: &Path) -> String {
    let mut command = daemon.command(&format!("upgrade --binary {}", binary.display()));
    let output = lab.director.enter(move || command.output());
    let output = output.expect("the director's namespace").expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).expect("text")
}
