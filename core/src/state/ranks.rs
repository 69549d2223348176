//! Which connections go first when places run out: by rank, and within a rank the longest there.
//!
//! A list through the connections for each rank; a connection is in at most one of them.

use serde::{Deserialize, Serialize};

use crate::wheel::NONE;

/// In which order connections are evicted for a new one, the first to go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Rank {
    /// A template of which no connection was established, and none is left.
    Unproven,
    /// Its client has only asked for it.
    HalfOpen,
    /// Both sides have closed, or one has reset.
    Over,
    /// One datagram, unanswered.
    Single,
    /// Never evicted.
    Protected,
}

impl Rank {
    /// Those that are evicted, the first to go first.
    pub(crate) const EVICTABLE: [Self; Self::Protected as usize] =
        [Self::Unproven, Self::HalfOpen, Self::Over, Self::Single];
}

/// The first and last of each list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ranks {
    ends: [(u32, u32); Rank::Protected as usize],
}

/// A connection's place in its rank's list. Packed: every connection has one.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[repr(C, packed)]
pub(crate) struct Link {
    before: u32,
    after: u32,
    rank: Rank,
}

/// What has a place in a rank's list.
pub(crate) trait Ranked {
    /// Its place.
    fn link(&mut self) -> &mut Link;
}

impl Link {
    /// In no list.
    pub(crate) const NONE: Self = Self {
        before: NONE,
        after: NONE,
        rank: Rank::Protected,
    };

    /// The rank of the list it is in.
    pub(crate) const fn rank(self) -> Rank {
        self.rank
    }

    /// Who follows in that list.
    pub(crate) fn after(self) -> Option<u32> {
        (self.after != NONE).then_some(self.after)
    }
}

impl Ranks {
    pub(crate) const fn new() -> Self {
        Self {
            ends: [(NONE, NONE); Rank::Protected as usize],
        }
    }

    /// The longest there of a rank.
    pub(crate) fn first(&self, rank: Rank) -> Option<u32> {
        let (first, _) = *self.ends.get(rank as usize)?;
        (first != NONE).then_some(first)
    }

    /// Puts the connection `id` last in its new rank's list; in the same rank it keeps its place.
    pub(crate) fn set<T: Ranked>(&mut self, slab: &mut [T], id: u32, rank: Rank) {
        let link = *slab[id as usize].link();
        if link.rank == rank {
            return;
        }
        self.leave(slab, link);
        let mut link = Link { rank, ..Link::NONE };
        if let Some(ends) = self.ends.get_mut(rank as usize) {
            link.before = ends.1;
            match slab.get_mut(ends.1 as usize) {
                Some(last) => last.link().after = id,
                None => ends.0 = id,
            }
            ends.1 = id;
        }
        *slab[id as usize].link() = link;
    }

    fn leave<T: Ranked>(&mut self, slab: &mut [T], link: Link) {
        let Some(ends) = self.ends.get_mut(link.rank as usize) else {
            return;
        };
        match slab.get_mut(link.before as usize) {
            Some(before) => before.link().after = link.after,
            None => ends.0 = link.after,
        }
        match slab.get_mut(link.after as usize) {
            Some(after) => after.link().before = link.before,
            None => ends.1 = link.before,
        }
    }
}
