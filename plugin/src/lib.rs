//! Schedulers from outside: a plain C ABI, and the two adaptors between it and [`Scheduler`].
//!
//! ```text
//! your struct ── impl Scheduler ── guest ── abi::Table ── host ── impl Scheduler ── the engine
//! ```
//!
//! The two sides are inverses, so the engine cannot tell a plugin from a built-in scheduler, and the
//! flow and the servers are the same bytes on both. Authors need [`Scheduler`] and [`export_scheduler!`];
//! docs/plugins.md shows how. In C, `include/uvs_scheduler.h` says the same as [`abi`].

pub mod abi;
#[cfg(feature = "host")]
pub mod call;
#[cfg(all(feature = "host", feature = "testing"))]
pub mod check;
#[cfg(feature = "host")]
pub mod fault;
#[cfg(feature = "host")]
pub mod file;
pub mod guest;
#[cfg(feature = "host")]
pub mod host;
#[cfg(feature = "host")]
mod library;
#[cfg(feature = "host")]
mod pace;
#[cfg(feature = "host")]
mod stopwatch;
#[cfg(feature = "host")]
pub mod supervised;

pub use uvs_core::backend::Backend;
pub use uvs_core::flow::{Addr, Endpoint, Flow, Protocol};
pub use uvs_core::random::Random;
pub use uvs_core::scheduler::{FLAG_1, FLAG_2, FLAG_3, Scheduler, SchedulerParams};
#[cfg(feature = "testing")]
pub use uvs_core::testing;
pub use uvs_core::time::Instant;

/// Compiles what README.md shows.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
