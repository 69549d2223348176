//! What directors tell each other of their connections, so that one can take over from another: the bytes of
//! IPVS's synchronisation, versions 0 and 1; and for UVS among itself a seal, and the conversation in which one asks for all
//! that another has. No socket is opened here and no clock read; when a connection is told of, the engine decides
//! ([`uvs_core::peer`]).
//!
//! Written after net/netfilter/ipvs/ip_vs_sync.c, and held to what the kernel was recorded to send and to take
//! (`tests/golden/sync.json`).
#![forbid(unsafe_code)]

pub mod bulk;
mod bytes;
mod convert;
pub mod message;
pub mod reader;
pub mod seal;
mod v0;
mod v1;
pub mod writer;

pub use message::{Message, Sequence};
pub use reader::{Refused, read};
pub use writer::Writer;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// IPv4 only, without time-outs: what kernels before 2.6.39 speak.
    V0,
    /// Both families, time-outs, marks and options.
    V1,
}
