//! `uvs ipvs-run --trace`: what the preload library does, for programs that no library reaches, such as those that
//! are linked statically or written in Go. A filter of seccomp's makes the kernel ask this process about the calls
//! by which a program could speak to IPVS (seccomp_unotify(2)); all but those that do go on as if nothing had been.
//!
//! Nothing is remembered about a program's sockets: which of them is generic netlink's, and which leads to the daemon,
//! is seen by looking at the socket itself (`daemon::Kind`). So fork, threads, dup and a descriptor that is
//! handed to another process need no code.

mod calls;
mod daemon;
mod filter;
mod start;
mod target;

pub use start::Traced;
