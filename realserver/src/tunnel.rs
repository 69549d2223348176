//! The device that takes outer headers off: the kernel's `ipip` where it has one, else our decapsulator's.
//!
//! A kernel with `ipip` makes `tunl0` in every network namespace, unless told not to
//! (net.core.fb_tunnels_only_for_init_net); there a device of our own is made. A kernel without gets a TUN
//! device and a process behind it ([`super::decap`]).

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::state::state_file;
use super::{RsError, decap, host, sys};

/// The kernel's own.
const FALLBACK: &str = "tunl0";
/// Ours.
pub(super) const OURS: &str = "uvs-tunl0";
/// Either.
pub const NAMES: [&str; 2] = [FALLBACK, OURS];
/// How long the decapsulator may take to end before it is killed: it has nothing to finish.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether finding out which tunnel this kernel has may create a device (and load a module) for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// Look only.
    LookOnly,
    /// Try.
    MayCreate,
}

/// Who takes outer headers off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tunnel {
    /// The kernel, by the device it made.
    KernelFallback,
    /// The kernel, by a device that we make.
    KernelOurs,
    /// Our decapsulator.
    Decapsulator,
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KernelFallback => write!(f, "the kernel's {FALLBACK}"),
            Self::KernelOurs => write!(f, "the ipip device {OURS}"),
            Self::Decapsulator => write!(f, "the TUN device {OURS} with its decapsulator"),
        }
    }
}

/// Which tunnel this host has or can have.
pub(super) fn choose(probe: Probe) -> Result<Tunnel, RsError> {
    if host::device(FALLBACK)?.is_some() {
        return Ok(Tunnel::KernelFallback);
    }
    if let Some(ours) = host::device(OURS)? {
        return Ok(if ours.kind() == "ipip" {
            Tunnel::KernelOurs
        } else {
            Tunnel::Decapsulator
        });
    }
    // Asking for the device is what loads the module. It fails where the kernel has none.
    if probe == Probe::LookOnly || Tunnel::KernelOurs.start().is_err() {
        return Ok(Tunnel::Decapsulator);
    }
    Tunnel::KernelOurs.stop()?;
    Ok(if host::device(FALLBACK)?.is_some() {
        Tunnel::KernelFallback
    } else {
        Tunnel::KernelOurs
    })
}

impl Tunnel {
    /// Its device.
    pub(super) const fn device(self) -> &'static str {
        match self {
            Self::KernelFallback => FALLBACK,
            Self::KernelOurs | Self::Decapsulator => OURS,
        }
    }

    /// What to say where it is not there.
    pub(super) const fn absence(self) -> &'static str {
        match self {
            Self::KernelFallback | Self::KernelOurs => "there is no ipip tunnel device",
            Self::Decapsulator => {
                "there is no ipip tunnel device and no decapsulator (uvs-tunl0) runs"
            }
        }
    }

    /// Whether it works.
    pub(super) fn is_there(self) -> Result<bool, RsError> {
        Ok(host::device(self.device())?.is_some()
            && (self != Self::Decapsulator || running()?.is_some()))
    }

    /// Makes it.
    pub(super) fn start(self) -> Result<(), RsError> {
        match self {
            Self::KernelFallback => Ok(()),
            // `external` receives from every director; a tunnel without addresses would be `tunl0` itself.
            Self::KernelOurs => {
                host::ip(&["link", "add", "name", OURS, "type", "ipip", "external"]).map(drop)
            }
            Self::Decapsulator => spawn(),
        }
    }

    /// Removes it; whether there was anything to remove.
    pub(super) fn stop(self) -> Result<bool, RsError> {
        match self {
            Self::KernelFallback => Ok(false),
            Self::KernelOurs if host::device(OURS)?.is_none() => Ok(false),
            Self::KernelOurs => host::ip(&["link", "del", OURS]).map(|_| true),
            Self::Decapsulator => end(),
        }
    }
}

/// Starts the decapsulator in the background and waits until it works or says why not.
fn spawn() -> Result<(), RsError> {
    // One whose device was deleted under it is about to end; its lock must be free first.
    end()?;
    let failed = |e: io::Error| RsError::Decapsulator(e.to_string());
    let log_path = state_file("log")?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)
        .map_err(RsError::file("write", &log_path))?;
    sys::keep_descriptors();
    let mut child = Command::new("/proc/self/exe")
        .arg0("uvs")
        .args(["rs", "decap", "--device", OURS])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(failed)?;
    let mut answer = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout)
            .read_line(&mut answer)
            .map_err(failed)?;
    }
    match answer.trim() {
        decap::READY => Ok(()),
        "" => {
            let status = child.wait().map_err(failed)?;
            Err(RsError::Decapsulator(format!(
                "{status}; see {}",
                log_path.display()
            )))
        }
        reason => {
            child.wait().map_err(failed)?;
            Err(RsError::Decapsulator(reason.to_owned()))
        }
    }
}

/// Ends the decapsulator; whether there was one.
fn end() -> Result<bool, RsError> {
    let Some(pid) = running()? else {
        return Ok(false);
    };
    let stays = |_| RsError::DecapsulatorStays(pid.as_raw_nonzero().get());
    // Through a descriptor, so that a pid used again by another process is never hit.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return Ok(false);
    };
    if running()? != Some(pid) {
        return Ok(false);
    }
    for signal in [Signal::TERM, Signal::KILL] {
        // Fails only where it has ended already, and then the wait is over at once.
        let _ = pidfd_send_signal(&process, signal);
        let mut fds = [PollFd::new(&process, PollFlags::IN)];
        let timeout = STOP_TIMEOUT.try_into().ok();
        if poll(&mut fds, timeout.as_ref()).map_err(stays)? > 0 {
            return Ok(true);
        }
    }
    Err(RsError::DecapsulatorStays(pid.as_raw_nonzero().get()))
}

/// The process that holds the pid file's lock.
pub(super) fn running() -> Result<Option<Pid>, RsError> {
    let path = state_file("pid")?;
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(RsError::file("read", path)(e)),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => return Ok(None),
        Err(rustix::io::Errno::WOULDBLOCK) => {}
        Err(e) => return Err(RsError::file("lock", path)(e.into())),
    }
    let mut text = String::new();
    file.read_to_string(&mut text)
        .map_err(RsError::file("read", path))?;
    Ok(text.trim().parse().ok().and_then(Pid::from_raw))
}
