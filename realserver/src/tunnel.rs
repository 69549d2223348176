//! The device that takes outer headers off: the kernel's where it has one for what is carried in what, else
//! our decapsulator's.
//!
//! A kernel with `ipip` or `sit` makes `tunl0` or `sit0` in every network namespace, unless told not to
//! (net.core.fb_tunnels_only_for_init_net); there a device of our own is made. `ip6tnl0` takes IPv6 alone out
//! of IPv6, so a device of our own is made for that in any case. What the kernel has no device for goes by a
//! TUN device and a process behind it ([`super::decap`]).

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

use super::family::Family;
use super::state::state_file;
use super::{RsError, decap, host, sys};

/// The decapsulator's.
pub(super) const OURS: &str = "uvs-tunl0";
/// All that a tunnel's device can be.
pub const NAMES: [&str; 6] = ["tunl0", "sit0", "ip6tnl0", OURS, "uvs-sit0", "uvs-ip6tnl0"];
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

/// What is carried in what, as Linux's tunnel drivers divide it among themselves; each is called as its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Carried {
    /// IPv4 in IPv4
    Ipip,
    /// IPv6 in IPv4
    Sit,
    /// Either family in IPv6
    Ip6tnl,
}

impl Carried {
    /// All there are.
    pub(super) const ALL: [Self; 3] = [Self::Ipip, Self::Sit, Self::Ip6tnl];

    /// What carries `inner` in `outer`.
    pub(super) const fn of(outer: Family, inner: Family) -> Self {
        match (outer, inner) {
            (Family::Ipv4, Family::Ipv4) => Self::Ipip,
            (Family::Ipv4, Family::Ipv6) => Self::Sit,
            (Family::Ipv6, _) => Self::Ip6tnl,
        }
    }

    /// The driver's name, which is also the kind that `ip` shows.
    pub(super) const fn driver(self) -> &'static str {
        match self {
            Self::Ipip => "ipip",
            Self::Sit => "sit",
            Self::Ip6tnl => "ip6tnl",
        }
    }

    /// The device that the kernel makes and that does all of it.
    const fn fallback(self) -> Option<&'static str> {
        match self {
            Self::Ipip => Some("tunl0"),
            Self::Sit => Some("sit0"),
            Self::Ip6tnl => None,
        }
    }

    /// Our device of the kernel's.
    const fn ours(self) -> &'static str {
        match self {
            Self::Ipip => OURS,
            Self::Sit => "uvs-sit0",
            Self::Ip6tnl => "uvs-ip6tnl0",
        }
    }

    /// What makes a device that receives from every director. `external` does where the driver has it; a tunnel
    /// without addresses would be the fallback itself, which is what `sit` is asked for where that is not there.
    const fn link(self) -> &'static [&'static str] {
        match self {
            Self::Ipip => &["type", "ipip", "external"],
            Self::Sit => &["type", "sit", "mode", "ip6ip"],
            Self::Ip6tnl => &["type", "ip6tnl", "mode", "any", "external"],
        }
    }
}

/// Who takes outer headers off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tunnel {
    /// The kernel, by the device it made.
    KernelFallback(Carried),
    /// The kernel, by a device that we make.
    KernelOurs(Carried),
    /// Our decapsulator.
    Decapsulator,
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KernelFallback(_) => write!(f, "the kernel's {}", self.device()),
            Self::KernelOurs(carried) => {
                write!(f, "the {} device {}", carried.driver(), self.device())
            }
            Self::Decapsulator => write!(f, "the TUN device {OURS} with its decapsulator"),
        }
    }
}

/// Which tunnel this host has or can have.
pub(super) fn choose(carried: Carried, probe: Probe) -> Result<Tunnel, RsError> {
    if let Some(found) = made_by_kernel(carried)? {
        return Ok(found);
    }
    if let Some(ours) = host::device(carried.ours())? {
        return Ok(if ours.kind() == carried.driver() {
            Tunnel::KernelOurs(carried)
        } else {
            Tunnel::Decapsulator
        });
    }
    // Asking for the device is what loads the module. It fails where the kernel has none.
    let ours = Tunnel::KernelOurs(carried);
    if probe == Probe::LookOnly || ours.start().is_err() {
        return Ok(Tunnel::Decapsulator);
    }
    ours.stop()?;
    Ok(made_by_kernel(carried)?.unwrap_or(ours))
}

fn made_by_kernel(carried: Carried) -> Result<Option<Tunnel>, RsError> {
    let Some(name) = carried.fallback() else {
        return Ok(None);
    };
    Ok(host::device(name)?.map(|_| Tunnel::KernelFallback(carried)))
}

impl Tunnel {
    /// Its device.
    pub(super) const fn device(self) -> &'static str {
        match self {
            Self::KernelFallback(carried) => match carried.fallback() {
                Some(name) => name,
                None => carried.ours(),
            },
            Self::KernelOurs(carried) => carried.ours(),
            Self::Decapsulator => OURS,
        }
    }

    /// What to say where it is not there.
    pub(super) fn absence(self) -> String {
        match self {
            Self::KernelFallback(carried) | Self::KernelOurs(carried) => {
                format!("there is no {} tunnel device", carried.driver())
            }
            Self::Decapsulator => {
                format!(
                    "there is no tunnel device of the kernel's and no decapsulator ({OURS}) runs"
                )
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
            Self::KernelFallback(_) => Ok(()),
            Self::KernelOurs(carried) => {
                let words = ["link", "add", "name", carried.ours()];
                host::ip(&[&words, carried.link()].concat()).map(drop)
            }
            Self::Decapsulator => spawn(),
        }
    }

    /// Removes it; whether there was anything to remove.
    pub(super) fn stop(self) -> Result<bool, RsError> {
        match self {
            Self::KernelFallback(_) => Ok(false),
            Self::KernelOurs(carried) if host::device(carried.ours())?.is_none() => Ok(false),
            Self::KernelOurs(carried) => host::ip(&["link", "del", carried.ours()]).map(|_| true),
            Self::Decapsulator => end(),
        }
    }
}

/// What the kernel has no device for, and the decapsulator must therefore do: never what the kernel does too.
fn left_to_us() -> Result<Vec<&'static str>, RsError> {
    let mut left = Vec::new();
    for carried in Carried::ALL {
        if choose(carried, Probe::MayCreate)? == Tunnel::Decapsulator {
            left.push(carried.driver());
        }
    }
    Ok(left)
}

/// Starts the decapsulator in the background and waits until it works or says why not.
fn spawn() -> Result<(), RsError> {
    // One whose device was deleted under it is about to end; its lock must be free first.
    end()?;
    let carried = left_to_us()?.join(",");
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
        .args(["rs", "decap", "--device", OURS, "--carried", &carried])
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
