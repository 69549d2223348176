//! The UVS engine: it is handed bytes and time and returns a verdict.
#![forbid(unsafe_code)]

pub mod arp;
pub mod backend;
pub mod checksum;
pub mod fib;
pub mod flow;
pub mod frame;
pub mod mode;
pub mod packet;
pub mod scheduler;
pub mod service;
pub mod snapshot;
pub mod time;
pub mod verdict;
