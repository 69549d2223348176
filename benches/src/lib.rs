//! The engine on a bench: a [`World`] with services, servers and any number of clients, without sockets.
//!
//! Both the engine's benches and the table's fill run on it.

#![forbid(unsafe_code)]

mod frames;
mod world;

pub use frames::{CLIENT_MAC, DIRECTOR_MAC, Sample, super_frame, tcp, udp};
pub use world::{SERVERS, World};
