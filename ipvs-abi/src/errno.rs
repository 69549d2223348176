//! What the kernel's IPVS refuses with: programs make their sentences from these numbers alone.

use uvs_control::protocol::{self, Refusal};

/// An errno of asm-generic/errno-base.h and errno.h, as IPVS uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Errno {
    /// EPERM: not permitted.
    Permission = 1,
    /// ENOENT: no such real server; an unknown scheduler or persistence engine.
    NoEntry = 2,
    /// ESRCH: no such service; no such sync daemon.
    NoService = 3,
    /// EIO: the director could not do it.
    Failed = 5,
    /// EFAULT: an argument is not as it must be.
    Fault = 14,
    /// EEXIST: the service, the real server or the sync daemon is there already.
    Exists = 17,
    /// ENODEV: no such interface.
    NoDevice = 19,
    /// EINVAL: a value or a combination that cannot be.
    Invalid = 22,
    /// ERANGE: a value out of its range.
    Range = 34,
    /// EOPNOTSUPP: not supported.
    Unsupported = 95,
    /// EAFNOSUPPORT: neither IPv4 nor IPv6, or this interface has no IPv6.
    Family = 97,
}

impl Errno {
    /// The number, as a system call would set it.
    pub const fn number(self) -> i32 {
        self as i32
    }
}

impl From<Refusal> for Errno {
    fn from(refusal: Refusal) -> Self {
        match refusal.errno {
            protocol::Errno::Exists => Self::Exists,
            protocol::Errno::NotFound => Self::NoService,
            protocol::Errno::NoServer | protocol::Errno::NoScheduler => Self::NoEntry,
            protocol::Errno::NoDevice => Self::NoDevice,
            protocol::Errno::Range => Self::Range,
            protocol::Errno::Invalid => Self::Invalid,
            protocol::Errno::Unsupported => Self::Unsupported,
            protocol::Errno::Permission => Self::Permission,
            protocol::Errno::Failed => Self::Failed,
        }
    }
}
