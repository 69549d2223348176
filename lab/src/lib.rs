//! The lab: network namespaces with a client, a director and three real servers, on one machine.
//!
//! `uvs lab`, the tests and the benches all stand on these topologies. A [`Host`] is one namespace, a
//! [`Lab`] is one of the four modes' topologies with a real HTTP server on every real server, and
//! [`traffic`], [`load`], [`udp`] and [`capture`] drive and judge what passes. Whatever a value here made
//! is gone when it is dropped, also when a test panics; what a `kill -9` left is removed by the next
//! [`Lab::build`]. The crate knows `uvs` only as a program it is given the path of.

#![forbid(unsafe_code)]

pub mod capture;
mod daemon;
pub mod demo;
mod error;
pub mod frames;
mod host;
mod http;
pub mod install;
pub mod load;
mod options;
mod plan;
pub mod probe;
pub mod process;
pub mod relay;
pub mod rootless;
pub mod screen;
mod service;
pub mod session;
pub mod share;
pub mod shell;
mod sweep;
pub mod tools;
mod topology;
pub mod traffic;
pub mod udp;
mod wiring;

pub use daemon::Daemon;
pub use error::{Error, Result};
pub use host::Host;
pub use http::Content;
pub use options::{Offloads, Options, VipOwner};
pub use plan::{Mode, Plan, SERVERS};
pub use service::{Families, Service, twin};
pub use sweep::Names;
pub use topology::{Lab, RealServer};
