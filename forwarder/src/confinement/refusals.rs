//! The filter of the daemon's threads, and the thread that the kernel asks about what it names: so that a refusal is
//! counted and logged, with the thread and the call, and not only an error of whoever tried.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use uvs_control::config::Seccomp;
use uvs_seccomp::{Answer, Call, Listener};

use super::calls;

/// How many calls were refused, or would have been.
#[derive(Debug, Default)]
pub(super) struct Refusals(AtomicU64);

impl Refusals {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Puts the filter in force for the calling thread and all that it starts. Where the kernel cannot ask, since a process above
/// has such a filter, it refuses by itself.
pub(super) fn begin(mode: Seccomp, may_bpf: bool, refusals: &Arc<Refusals>) -> io::Result<()> {
    let asking = calls::of_threads(libc::SECCOMP_RET_USER_NOTIF, may_bpf);
    let listener = match uvs_seccomp::ask(&asking, 0) {
        Ok(listener) => Listener(listener),
        Err(e) if mode == Seccomp::On && e.raw_os_error() == Some(libc::EBUSY) => {
            let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
            return uvs_seccomp::filter(&calls::of_threads(refused, may_bpf));
        }
        Err(e) => return Err(e),
    };
    let refusals = Arc::clone(refusals);
    // Without the thread a call that is refused does not exist (ENOSYS), as nobody has the listener then.
    let thread = thread::Builder::new().name("uvs-refusals".to_owned());
    thread.spawn(move || {
        while let Ok(Some(call)) = listener.next() {
            refusals.0.fetch_add(1, Ordering::Relaxed);
            let answer = match mode {
                Seccomp::Log => Answer::Kernel,
                Seccomp::On | Seccomp::Off => Answer::Errno(libc::EPERM),
            };
            listener.answer(&call, answer);
            log(mode, &call);
        }
    })?;
    Ok(())
}

fn log(mode: Seccomp, call: &Call) {
    let name = calls::name(call.number);
    let name = name.map_or_else(|| call.number.to_string(), str::to_owned);
    let thread = std::fs::read_to_string(format!("/proc/{}/comm", call.thread));
    let thread = thread
        .as_deref()
        .map_or("a thread that has ended", str::trim_end);
    match mode {
        Seccomp::Log => tracing::warn!(
            call = name,
            thread,
            "a system call that confinement.seccomp = \"on\" refuses"
        ),
        Seccomp::On | Seccomp::Off => tracing::warn!(
            call = name,
            thread,
            "a system call is refused (EPERM): the daemon makes none such, so a plugin or a library of it does"
        ),
    }
}
