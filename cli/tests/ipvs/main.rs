//! Programs that were written for IPVS in the kernel, unmodified, against `uvs run`: Debian's ipvsadm through its
//! recorded sessions, keepalived through its whole life, and programs of our own that look at the library, and at `--trace` in its place.
//! Need root, or `make test`.

mod carried;
mod keepalived;
mod sessions;
mod traced;
mod upgraded;

#[path = "../support/heir.rs"]
mod heir;
#[path = "../support/stand.rs"]
mod stand;

use uvs_lab::Daemon;

/// The words before a program that is to reach a daemon.
fn run_words() -> String {
    format!("ipvs-run --library {} --", stand::library().display())
}

/// The same, carried from outside of the program.
const TRACE_WORDS: &str = "ipvs-run --trace --";

/// A program with the library, and with the environment that leads it to this daemon.
fn preloaded(daemon: &Daemon<'_>, program: &str) -> std::process::Command {
    daemon.command(&format!("{} {program}", run_words()))
}
