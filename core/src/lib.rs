//! The UVS engine: it is handed bytes and time and returns a verdict.
#![forbid(unsafe_code)]

pub mod arp;
pub mod backend;
pub mod checksum;
pub mod conn;
pub mod counters;
pub mod engine;
pub mod fib;
pub mod flow;
pub mod fragment;
pub mod frame;
pub mod mode;
pub mod options;
pub mod outbox;
pub mod packet;
pub mod ports;
pub mod random;
pub mod ranks;
pub mod rewrite;
pub mod scheduler;
pub mod sctp;
pub mod segment;
pub mod service;
pub mod snapshot;
pub mod tcp;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;
pub mod verdict;
mod wheel;
