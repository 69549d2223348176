//! Room for connections, of which all workers of a director have one limit: each asks the board for some at a time, and gives
//! back what it has too much of.

use super::Flows;

impl Flows {
    /// Gets more room where the table is full; the table stays full where the director's is.
    #[inline]
    pub(super) fn get_room(&mut self) {
        if self.conns.len() >= self.conns.limit()
            && let Some(crew) = &self.pool.crew
        {
            let more = crew.board.take_room();
            self.conns.set_limit(self.conns.limit() + more);
        }
    }

    /// Gives back room, where a connection has ended and there is much.
    #[inline]
    pub(super) fn give_room(&mut self) {
        if let Some(crew) = &self.pool.crew {
            let (limit, some) = (self.conns.limit(), crew.board.at_once());
            if limit - self.conns.len() > 2 * some {
                self.conns.set_limit(limit - some);
                crew.board.give_room(some);
            }
        }
    }

    /// Connections for which there is room that no worker has asked for yet.
    pub(super) fn room_of_all(&self) -> u32 {
        self.pool.crew.as_ref().map_or(0, |crew| crew.board.room())
    }

    /// How many connections there may be, and for how many of them there is room, at all workers.
    pub(in crate::engine) fn room(&self) -> (u32, u32) {
        let own = self.conns.limit().saturating_sub(self.conns.len());
        match &self.pool.crew {
            None => (self.conns.limit(), own),
            Some(crew) => (crew.board.limit(), own + crew.board.room()),
        }
    }
}
