//! Filters of system calls (seccomp(2)), and the kernel's questions to another thread or process about calls that a
//! filter names (seccomp_unotify(2)). The daemon confines itself by these, and `uvs ipvs-run --trace` carries by them.

pub mod code;
mod install;
mod listener;

pub use install::{ask, filter};
pub use listener::{Answer, Call, Listener, errno, wait};
