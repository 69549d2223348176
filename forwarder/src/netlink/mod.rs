//! What the kernel knows of the network, mirrored over rtnetlink: interfaces, addresses, rules,
//! routes and neighbours, so that the engine finds its next hops without a system call.
//!
//! The kernel stays the only owner: UVS sets no address and no route, and asks it to resolve and keep
//! the neighbours it needs. Synchronous; the event socket's descriptor goes into the daemon's poll.

mod event;
mod locality;
mod messages;
mod mirror;
mod neighbours;
mod questions;
mod rules;
mod settings;
mod socket;
mod tables;

use std::io;

pub use event::Event;
pub(crate) use locality::Locality;
pub use mirror::Mirror;
pub(crate) use neighbours::Entry as NeighbourEntry;
pub use rules::Unfollowed;

/// Why the mirror could not be made or a neighbour not be asked for.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// An interface that does not exist.
    #[error("no interface `{name}`; this host has: {existing}")]
    NoInterface {
        /// What was asked for.
        name: String,
        /// The names of those that could have been meant.
        existing: String,
    },
    /// An interface without MAC addresses.
    #[error("interface `{name}` is not Ethernet; UVS runs on Ethernet interfaces only")]
    NotEthernet {
        /// Its name.
        name: String,
    },
    /// An interface named more than once.
    #[error("interface `{name}` is given twice; give each interface once")]
    Twice {
        /// Its name.
        name: String,
    },
    /// The neighbour table's limit.
    #[error(
        "the kernel's neighbour table is full, {address} cannot be kept resolved; raise net.{}.neigh.default.gc_thresh3",
        .address.family().name().to_lowercase()
    )]
    NeighboursFull {
        /// The neighbour there was no room for.
        address: uvs_core::flow::Addr,
    },
    /// No right to change neighbours.
    #[error("asking the kernel to resolve {address} needs CAP_NET_ADMIN")]
    Permission {
        /// The neighbour.
        address: uvs_core::flow::Addr,
    },
    /// A system call failed.
    #[error("rtnetlink: cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl NetlinkError {
    /// Wraps an I/O error together with what was tried.
    fn io(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}
