//! Looking for the connections of many packets at once, before each has its turn.
//!
//! In a large table a look-up waits for memory three times in a row: for the index, for the reference in it, for the
//! connection. Of a batch of packets these waits are made to overlap: each step is taken for all of them before the next
//! one. None of it decides anything: a [`Hint`] only says where to look first.

use std::hint::black_box;
use std::mem::offset_of;

use super::{Conn, ConnId, ConnTable, FREE, NONE, REPLIES, Side, UNHASHED, hash, side_of};
use crate::flow::Flow;

/// Bytes that the processor fetches at once.
const LINE: usize = 64;

// A connection has two lines, and reading these two fields fetches both.
const _: () = assert!(offset_of!(Conn, deadline) / LINE != offset_of!(Conn, ends.client) / LINE);

/// Where a packet's connection may be found. A wrong one costs a look-up and changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Of its flow.
    hash: u64,
    /// What the index has under that hash, or [`NONE`].
    reference: u32,
}

impl Hint {
    /// Nothing is known.
    pub const NONE: Self = Self {
        hash: 0,
        reference: NONE,
    };
}

impl ConnTable {
    /// The first step: what a packet with this flow is looked up by.
    #[inline]
    pub(crate) fn hint(&self, flow: &Flow) -> Hint {
        Hint {
            hash: hash(self.keys, flow),
            reference: NONE,
        }
    }

    /// The second step: reads what the index has.
    #[inline]
    pub(crate) fn refer(&self, hint: &mut Hint) {
        let mut under = self.index.iter_hash(hint.hash);
        hint.reference = under.next().copied().unwrap_or(NONE);
    }

    /// The third step: fetches the connection.
    #[inline]
    pub(crate) fn fetch(&self, hint: Hint) {
        if let Some(conn) = self.slab.get((hint.reference >> 1) as usize) {
            black_box((conn.deadline, conn.ends.client));
            black_box(self.ways.get((hint.reference >> 1) as usize));
        }
    }

    /// As [`ConnTable::find`], which is asked only where the hint is wrong.
    #[inline(always)]
    pub(crate) fn find_at(&self, hint: Hint, flow: &Flow) -> Option<(ConnId, Side)> {
        let (id, side) = (ConnId(hint.reference >> 1), side_of(hint.reference));
        match self.slab.get(id.0 as usize) {
            Some(conn) if conn.has_key(side) && conn.is_flow(side, flow) => Some((id, side)),
            _ => self.find(flow),
        }
    }
}

impl Conn {
    /// Whether it is in the index for this side. No two are with the same flow.
    #[inline(always)]
    const fn has_key(&self, side: Side) -> bool {
        let hashed = match side {
            Side::Client => !self.has(UNHASHED),
            Side::Server => self.has(REPLIES),
        };
        hashed && self.slot != FREE
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::conn::TEMPLATE;
    use crate::flow::{Addr, Endpoint, Protocol};
    use crate::time::Instant;

    const PLACES: u32 = 24;

    fn conn(n: u8) -> Conn {
        let at = |b, port| Endpoint::new(Addr::v4([10, 0, b, 1]), port);
        let mut conn = Conn::new(Protocol::Tcp, at(1, n.into()), at(2, 80), at(3, 80));
        conn.flags |= if n.is_multiple_of(3) { TEMPLATE } else { 0 };
        conn
    }

    fn flows(n: u8) -> [Flow; 2] {
        [conn(n).client_flow(), conn(n).server_flow()]
    }

    proptest! {
        /// Hints that are right, that were, that are of others, and that are of nothing.
        #[test]
        fn whatever_the_hint_what_is_found_is_the_same(
            before in proptest::collection::vec(0..16_u8, 0..40),
            after in proptest::collection::vec(0..16_u8, 0..40),
            reference in 0..2 * PLACES + 4,
        ) {
            let mut table = ConnTable::new(PLACES, (1, 2));
            let put = |table: &mut ConnTable, n: u8| match table.find(&conn(n).client_flow()) {
                Some((id, _)) if n.is_multiple_of(6) => table.invalidate(id, 0),
                Some((id, _)) => drop(table.remove(id)),
                None => drop(table.insert(Instant::ZERO, conn(n), !n.is_multiple_of(5))),
            };
            before.into_iter().for_each(|n| put(&mut table, n));
            let asked: Vec<Flow> = (0..16).flat_map(flows).collect();
            let mut hints: Vec<Hint> = asked.iter().map(|flow| table.hint(flow)).collect();
            hints.iter_mut().for_each(|hint| table.refer(hint));
            hints.iter().for_each(|hint| table.fetch(*hint));
            after.into_iter().for_each(|n| put(&mut table, n));
            hints.push(Hint::NONE);
            hints.push(Hint { hash: 0, reference });
            for flow in &asked {
                for hint in &hints {
                    prop_assert_eq!(table.find_at(*hint, flow), table.find(flow));
                }
            }
        }
    }
}
