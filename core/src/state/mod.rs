//! What the engine knows: addresses and flows, services and servers, connections and their states, routes,
//! and what is counted.
//!
//! Nothing here looks at a frame. The crate's root names each of these modules, and that is how they are used.

pub mod access;
pub mod backend;
pub mod conn;
pub mod counters;
pub mod crew;
pub mod fib;
pub mod flow;
pub mod marks;
pub mod numbers;
pub mod offload;
pub mod peer;
pub mod plugins;
pub mod ports;
pub mod random;
pub mod ranks;
pub(crate) mod rate;
pub(crate) mod reasons;
pub mod record;
pub mod sctp;
pub(crate) mod sequence;
pub mod service;
pub mod services;
pub mod shared;
pub mod snapshot;
pub(crate) mod splice;
pub(crate) mod sysctls;
pub mod tcp;
pub mod time;
pub mod verdict;
pub(crate) mod wheel;
