//! The engine on a bench: a [`World`] with services, servers and any number of clients, without sockets.
//!
//! Both the engine's benches and the table's fill run on it. What measures `uvs` itself, in a lab, begins by [`program`].

#![forbid(unsafe_code)]

mod frames;
pub mod pingpong;
pub mod program;
mod world;

pub use frames::{CLIENT_MAC, DIRECTOR_MAC, Sample, super_frame, tcp, udp};
pub use world::{BATCH, SERVERS, World, engine, network, services};
