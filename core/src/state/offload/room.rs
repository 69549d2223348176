//! How much of the hook is one engine's.

use std::ops::{AddAssign, Range};

use super::Untaken;
use serde::{Deserialize, Serialize};

/// How far the kernel's part goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reach {
    /// It tells what is ours; nothing is taken.
    Guard,
    /// It takes TCP connections while they are ESTABLISHED, and UDP: a segment with SYN, FIN or RST comes up.
    /// For kernels whose programs cannot compare and exchange.
    Established,
    /// It takes connections with their first packet, and keeps their state.
    Everything,
}

impl Reach {
    /// Its name, which is the program's as well.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guard => "guard",
            Self::Established => "established",
            Self::Everything => "everything",
        }
    }
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

/// How much of its room an engine uses, and what it has asked for since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOver {
    /// Connections that the kernel forwards.
    pub taken: u32,
    /// Connections of which it only knows that they are ours.
    pub known: u32,
    /// Connections that it may have, taken and known together.
    pub limit: u32,
    /// Connections that were taken.
    pub takes: u64,
    /// Taken connections that were taken anew, as their way or their server had changed.
    pub retakes: u64,
    /// Connections that were released.
    pub releases: u64,
    /// Events that were taken in.
    pub events: u64,
    /// Connections that were not taken when they might have been, by [`Untaken`] in the order of its variants.
    pub untaken: [u64; Untaken::COUNT],
}

impl AddAssign<&Self> for HandedOver {
    fn add_assign(&mut self, other: &Self) {
        // By name, so that the compiler asks for a number that is new.
        let Self {
            taken,
            known,
            limit,
            takes,
            retakes,
            releases,
            events,
            untaken,
        } = other;
        self.taken += taken;
        self.known += known;
        self.limit += limit;
        self.takes += takes;
        self.retakes += retakes;
        self.releases += releases;
        self.events += events;
        for (sum, count) in self.untaken.iter_mut().zip(untaken) {
            *sum += count;
        }
    }
}
