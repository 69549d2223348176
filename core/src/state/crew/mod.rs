//! Several engines as one director: which of them a connection belongs to, and what they know of each other.
//!
//! Each engine is one worker's and shares nothing on a packet's way: both directions of a connection come to the same
//! one ([`Steering`]), and what has to be one director's, the servers' load and the limits, is on a [`Board`] that each
//! writes for itself and all read. What comes to another worker all the same is handed over to the right one.

mod board;
mod steering;

use std::sync::Arc;

pub use board::Board;
pub(crate) use board::{STALE, SharedBucket, Total};
pub use steering::{Class, Fan, MULTIPLIERS, SHIFTS, Steering, words};

/// Workers at most: a frame on its way between them says in one word which have seen it.
pub const MOST: u32 = 64;

/// An engine's place among several.
#[derive(Clone)]
pub struct Crew {
    /// Its number, from 0.
    pub number: u32,
    /// How client and worker belong together.
    pub fan: Fan,
    /// What all know.
    pub board: Arc<Board>,
}

/// Where a packet goes that belongs to no connection of the engine that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handing {
    /// The worker's number.
    pub to: u32,
    /// The workers that do not know its connection, a bit each; all of them = the one that it goes to is to open one.
    pub asked: u64,
}

impl Crew {
    /// One worker that is told of by each of several.
    ///
    /// # Panics
    /// Where `number` is none of the fan's workers.
    pub fn new(number: u32, fan: Fan, board: Arc<Board>) -> Self {
        assert!(number < fan.workers(), "there is no such worker");
        Self { number, fan, board }
    }

    /// Where a packet goes whose connection is not here, and of which the workers `asked` have said the same: to
    /// its owner, and where that does not know it either and there are connections that are not with their owners, to all
    /// others in turn; `None` = it is for this engine to say what becomes of it.
    pub fn next(&self, owner: u32, asked: u64) -> Option<Handing> {
        let all = u64::MAX >> (MOST - self.fan.workers());
        if asked == all {
            return None;
        }
        let asked = asked | 1 << self.number;
        let has_not_been = |worker: &u32| asked & 1 << worker == 0;
        let others = || (0..self.fan.workers()).find(has_not_been);
        let next = match owner {
            owner if has_not_been(&owner) => Some(owner),
            _ if self.board.has_strays() => others(),
            _ => None,
        };
        match next {
            Some(to) => Some(Handing { to, asked }),
            None if owner == self.number => None,
            None => Some(Handing {
                to: owner,
                asked: all,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crew(of: u32) -> Vec<Crew> {
        let (fan, board) = (Fan::new(of, 7), Arc::new(Board::new(of, 1000)));
        let member = |number| Crew::new(number, fan, Arc::clone(&board));
        (0..of).map(member).collect()
    }

    /// The workers that a packet visits, beginning with the first, until one says what becomes of it.
    fn way(crew: &[Crew], first: u32, owner: u32) -> Vec<u32> {
        let (mut at, mut asked, mut way) = (first, 0, vec![first]);
        while let Some(handing) = crew[at as usize].next(owner, asked) {
            (at, asked) = (handing.to, handing.asked);
            way.push(at);
            assert!(way.len() < 200, "it never ends: {way:?}");
        }
        way
    }

    #[test]
    fn a_packet_goes_to_its_owner_and_no_further() {
        for of in [1, 2, 4, 64] {
            let crew = crew(of);
            for owner in 0..of {
                assert_eq!(way(&crew, owner, owner), [owner]);
                let other = (owner + 1) % of;
                if other != owner {
                    assert_eq!(way(&crew, other, owner), [other, owner]);
                }
            }
        }
    }

    #[test]
    fn where_some_are_not_with_their_owners_all_are_asked_before_one_is_opened() {
        for of in [2, 4, 64] {
            let crew = crew(of);
            crew[0].board.set_strays(0, 1);
            for (first, owner) in [(0, 0), (0, 1), (of - 1, 0)] {
                let way = way(&crew, first, owner);
                assert_eq!(way.last(), Some(&owner), "{way:?}");
                let mut seen = way;
                seen.sort_unstable();
                seen.dedup();
                assert_eq!(seen, (0..of).collect::<Vec<_>>());
            }
            crew[0].board.set_strays(0, 0);
            assert_eq!(way(&crew, 0, 0), [0]);
        }
    }
}
