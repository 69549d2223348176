//! The cells of connections: who has which, and in which order they are given out.

use std::collections::VecDeque;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::conn::{ConnId, NONE};
use crate::offload::{Birth, Cell, ServerCell};
use crate::time::Instant;

/// In place of a cell: the connection's server's end is ours as a whole.
const WHOLE: u32 = NONE - 1;

/// A direction of a taken connection, as far as the engine depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Way {
    /// The place of the next hop.
    pub(super) hop: u32,
    /// The interface that packets must come in by.
    pub(super) arrival: Option<u32>,
    /// Bytes of the outer header.
    pub(super) overhead: u8,
}

/// What a connection was taken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Terms {
    pub(super) server: ServerCell,
    pub(super) generation: u32,
    pub(super) ways: u32,
    /// From the client.
    pub(super) forward: Way,
    /// From the server, where its packets pass.
    pub(super) reply: Option<Way>,
}

/// A cell that was given out.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) conn: ConnId,
    pub(super) birth: Birth,
    /// `None` where it is only known.
    pub(super) terms: Option<Terms>,
    /// Whether its frames come up because somebody looks at them.
    pub(super) watched: bool,
    /// Its last packet, as far as the engine has taken it in,
    pub(super) last: Instant,
    /// and how many of its client's were forwarded in the kernel until then.
    pub(super) client_packets: u32,
}

/// All cells of this engine's.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Cells {
    range: Range<u32>,
    held: Vec<Option<Held>>,
    /// Cells that were released, the longest ago first.
    released: VecDeque<u32>,
    /// Cells that are in use.
    used: u32,
    /// By a connection's place: its cell, counted from the range's first.
    of: Vec<u32>,
    next_birth: u64,
}

impl Cells {
    pub(super) fn new(range: Range<u32>, first_birth: u64) -> Self {
        Self {
            range,
            held: Vec::new(),
            released: VecDeque::new(),
            used: 0,
            of: Vec::new(),
            next_birth: first_birth.max(1),
        }
    }

    /// How many there may be.
    pub(super) fn limit(&self) -> u32 {
        self.range.end.saturating_sub(self.range.start)
    }

    /// How many are in use.
    pub(super) const fn used(&self) -> u32 {
        self.used
    }

    /// Gives a cell out; `None` where there is none left.
    pub(super) fn hold(&mut self, conn: ConnId, last: Instant) -> Option<Cell> {
        let birth = Birth(self.next_birth);
        let held = Held {
            conn,
            birth,
            terms: None,
            watched: false,
            last,
            client_packets: 0,
        };
        let at = self.next_free()?;
        self.next_birth += 1;
        self.put(at, held);
        Some(Cell(self.range.start + at))
    }

    fn next_free(&mut self) -> Option<u32> {
        let fresh = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        if fresh < self.limit() {
            self.held.push(None);
            return Some(fresh);
        }
        // What another engine's connections left behind may be there still.
        while let Some(at) = self.released.pop_front() {
            if self.held[at as usize].is_none() {
                return Some(at);
            }
        }
        None
    }

    fn put(&mut self, at: u32, held: Held) {
        self.held[at as usize] = Some(held);
        self.used += 1;
        *self.of_mut(held.conn) = at;
    }

    /// Takes the cell of an engine before this one over, with the birth that it has there; `false` where it is
    /// none of this engine's, or given out.
    pub(super) fn adopt(&mut self, cell: Cell, held: Held) -> bool {
        if !self.range.contains(&cell.0) {
            return false;
        }
        let at = cell.0 - self.range.start;
        while self.held.len() <= at as usize {
            let free = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
            self.released.push_back(free);
            self.held.push(None);
        }
        if self.held[at as usize].is_some() {
            return false;
        }
        self.next_birth = self.next_birth.max(held.birth.0 + 1);
        self.put(at, held);
        true
    }

    fn of_mut(&mut self, conn: ConnId) -> &mut u32 {
        let at = conn.0 as usize;
        if self.of.len() <= at {
            self.of.resize(at + 1, NONE);
        }
        &mut self.of[at]
    }

    fn at(&self, conn: ConnId) -> Option<u32> {
        let at = *self.of.get(conn.0 as usize)?;
        (at < WHOLE).then_some(at)
    }

    /// A connection's cell.
    pub(super) fn of(&self, conn: ConnId) -> Option<(Cell, &Held)> {
        let at = self.at(conn)?;
        let held = self.held[at as usize].as_ref()?;
        Some((Cell(self.range.start + at), held))
    }

    /// As [`Cells::of`], to be changed.
    pub(super) fn of_conn_mut(&mut self, conn: ConnId) -> Option<&mut Held> {
        let at = self.at(conn)?;
        self.held[at as usize].as_mut()
    }

    /// Whose a cell is.
    pub(super) fn get(&self, cell: Cell) -> Option<&Held> {
        let at = cell.0.checked_sub(self.range.start)?;
        self.held.get(at as usize)?.as_ref()
    }

    /// All that are given out.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Cell, &Held)> {
        let cells = (self.range.start..).map(Cell).zip(&self.held);
        cells.filter_map(|(cell, held)| Some((cell, held.as_ref()?)))
    }

    /// Takes a connection's cell back.
    pub(super) fn release(&mut self, conn: ConnId) -> Option<(Cell, Held)> {
        let at = self.at(conn)?;
        *self.of_mut(conn) = NONE;
        let held = self.held[at as usize].take()?;
        self.used -= 1;
        self.released.push_back(at);
        Some((Cell(self.range.start + at), held))
    }

    /// Notes that a connection without a cell has its server's end ours as a whole.
    pub(super) fn note_whole(&mut self, conn: ConnId) {
        *self.of_mut(conn) = WHOLE;
    }

    /// Whether that was noted; it is forgotten.
    pub(super) fn forget_whole(&mut self, conn: ConnId) -> bool {
        let whole = self.is_whole(conn);
        if whole {
            *self.of_mut(conn) = NONE;
        }
        whole
    }

    /// Whether that was noted.
    pub(super) fn is_whole(&self, conn: ConnId) -> bool {
        self.of.get(conn.0 as usize) == Some(&WHOLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_secs(1);

    #[test]
    fn a_released_cell_is_given_out_again_after_all_others_and_with_another_birth() {
        let mut cells = Cells::new(10..13, 5);
        let given: Vec<_> = (0..3).map(|n| cells.hold(ConnId(n), NOW)).collect();
        assert_eq!(given, [Some(Cell(10)), Some(Cell(11)), Some(Cell(12))]);
        assert_eq!(cells.hold(ConnId(3), NOW), None);
        for n in [1, 0] {
            let (cell, held) = cells.release(ConnId(n)).unwrap();
            assert_eq!((cell.0, held.birth.0), (10 + n, 5 + u64::from(n)));
        }
        assert_eq!(cells.hold(ConnId(7), NOW), Some(Cell(11)));
        assert_eq!(cells.hold(ConnId(8), NOW), Some(Cell(10)));
        let births: Vec<u64> = cells.iter().map(|(_, held)| held.birth.0).collect();
        assert_eq!(births, [9, 8, 7]);
        assert_eq!(cells.used(), 3);
    }

    #[test]
    fn a_cell_that_was_taken_over_is_not_given_out_and_its_birth_not_again() {
        let mut cells = Cells::new(0..3, 1);
        let held = Held {
            conn: ConnId(4),
            birth: Birth(40),
            terms: None,
            watched: false,
            last: NOW,
            client_packets: 0,
        };
        assert!(cells.adopt(Cell(1), held));
        assert!(!cells.adopt(Cell(1), held), "given out");
        assert!(!cells.adopt(Cell(3), held), "not of this engine's");
        assert_eq!(cells.hold(ConnId(0), NOW), Some(Cell(2)));
        assert_eq!(cells.hold(ConnId(1), NOW), Some(Cell(0)));
        assert_eq!(cells.hold(ConnId(2), NOW), None);
        let birth = |n| cells.of(ConnId(n)).map(|(_, held)| held.birth.0);
        assert_eq!(
            [birth(4), birth(0), birth(1)],
            [Some(40), Some(41), Some(42)]
        );
    }
}
