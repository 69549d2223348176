//! `uvs ipvs-run --trace`: this process stays beside the program, hands on the signals that are sent to it, and ends
//! as the program did.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use uvs_ipvs_trace::Traced;

/// What a shell adds to the number of the signal that ended a program.
const BY_SIGNAL: i32 = 128;

/// Runs the program, and gives its exit code.
pub(super) fn main(command: Command, socket: &Path) -> anyhow::Result<u8> {
    // The terminal sends these two to the program as well: they are taken, and that is all.
    let mut signals = Signals::new([SIGHUP, SIGTERM, SIGUSR1, SIGUSR2, SIGINT, SIGQUIT])?;
    let traced = Traced::start(command, socket).context(
        "cannot be started under a seccomp filter (Linux 5.19 or later, and none of this kind above it)",
    )?;
    let program = Pid::from_raw(traced.id().cast_signed());
    std::thread::spawn(move || {
        for number in signals.forever().filter(|n| ![SIGINT, SIGQUIT].contains(n)) {
            if let (Some(program), Some(signal)) = (program, Signal::from_named_raw(number)) {
                // The program may have ended.
                let _ = kill_process(program, signal);
            }
        }
    });
    let status = traced.wait()?;
    let by_signal = || status.signal().map_or(1, |signal| BY_SIGNAL + signal);
    let code = status.code().unwrap_or_else(by_signal);
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}
