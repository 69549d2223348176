//! The daemon: packets by AF_PACKET into the engine and out of it, the host's routes and neighbours by netlink,
//! the guard that keeps the kernel silent, and `uvs run` as one call.

mod clock;
pub mod confinement;
mod connection_log;
pub mod cpu;
pub mod daemon;
mod firewall;
#[cfg(any(test, feature = "testing"))]
pub mod golden;
pub mod guard;
pub mod hook;
mod ipvs;
pub mod kernel;
pub mod log;
pub mod netlink;
mod port;
mod random;
#[cfg(feature = "replay")]
pub mod replay;
pub mod succession;
mod sync;
pub mod sys;
pub mod trace;
mod worker;
mod workers;

/// The release, and the commit that it was built from where that is known.
pub const VERSION: &str = env!("UVS_VERSION");
