//! How much of the hook is one engine's.

use std::ops::Range;

/// How far the kernel's part goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// It tells what is ours; nothing is taken.
    Guard,
    /// It takes TCP connections while they are ESTABLISHED, and UDP: a segment with SYN, FIN or RST comes up.
    /// For kernels whose programs cannot compare and exchange.
    Established,
    /// It takes connections with their first packet, and keeps their state.
    Everything,
}

/// What one engine may use. Those of several engines do not overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Cells of connections, taken and known together: their limit.
    pub cells: Range<u32>,
    /// Cells of servers.
    pub servers: Range<u32>,
    /// Places of next hops.
    pub hops: Range<u32>,
    /// The first [`Birth`](super::Birth): above all that were given out in the same maps before.
    pub first_birth: u64,
}
