//! What several engines know of each other: how much each server has to do at each of them, how many connections all may
//! have, and whether some are not where they belong.
//!
//! A worker writes its own column and reads the others'. No two workers write to one cache line: each column is an
//! allocation of its own. All of it is relaxed: a number may be as old as it takes a store to become visible, and the
//! engine looks at others' numbers once a millisecond at most ([`STALE`]). A row is a server's in all columns; who has
//! which is settled under a lock, which is taken when services change and never for a packet.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::MOST;
use crate::flow::Endpoint;
use crate::service::ServiceKey;

/// How old what is known of other workers' load may be, beside what it takes a store to become visible.
pub(crate) const STALE: Duration = Duration::from_millis(1);
/// Rows of a column's first part; each is as long as all before it together.
const FIRST: usize = 64;
/// Parts of a column: more rows than there can be servers.
const PARTS: usize = 26;
/// Connections that a worker asks for at once, at most.
const MOST_AT_ONCE: u32 = 256;

/// Active and inactive connections.
pub(crate) type Total = (u32, u32);

/// What all engines of a director know.
pub struct Board {
    columns: Vec<Column>,
    rows: Mutex<Rows>,
    /// Connections that no worker has asked for yet.
    left: Line<AtomicU32>,
    limit: u32,
    buckets: Mutex<HashMap<ServiceKey, Arc<SharedBucket>>>,
}

/// Alone on its cache lines: two, since processors fetch them in pairs.
#[repr(align(128))]
#[derive(Default)]
struct Line<T>(T);

/// One worker's.
#[derive(Default)]
struct Column {
    parts: [OnceLock<Box<[AtomicU64]>>; PARTS],
    /// Connections that are not with their owners, or may not be.
    strays: Line<AtomicU32>,
}

/// Who has which row.
#[derive(Default)]
struct Rows {
    /// With how many workers have it.
    of: HashMap<(ServiceKey, Endpoint), (u32, u32)>,
    free: Vec<u32>,
    next: u32,
}

/// A token bucket that all workers take from: when it will be full again, nanoseconds.
pub(crate) type SharedBucket = AtomicU64;

impl Board {
    /// For so many workers, which may have `limit` connections together.
    pub fn new(workers: u32, limit: u32) -> Self {
        let columns = (0..workers.clamp(1, MOST)).map(|_| Column::default());
        Self {
            columns: columns.collect(),
            rows: Mutex::default(),
            left: Line(AtomicU32::new(limit)),
            limit,
            buckets: Mutex::default(),
        }
    }

    /// Connections that all workers may have together.
    pub(crate) const fn limit(&self) -> u32 {
        self.limit
    }

    /// A worker comes to know a server; its row.
    pub(crate) fn join(&self, key: (ServiceKey, Endpoint)) -> u32 {
        let rows = &mut *lock(&self.rows);
        let (free, next) = (&mut rows.free, &mut rows.next);
        let (row, workers) = rows.of.entry(key).or_insert_with(|| {
            let row = free.pop().unwrap_or_else(|| {
                *next += 1;
                *next - 1
            });
            (row, 0)
        });
        *workers += 1;
        *row
    }

    /// A worker knows a server no more, and has taken its load off.
    pub(crate) fn leave(&self, key: &(ServiceKey, Endpoint)) {
        let rows = &mut *lock(&self.rows);
        let Some((row, workers)) = rows.of.get_mut(key) else {
            return;
        };
        *workers -= 1;
        if *workers == 0 {
            rows.free.push(*row);
            rows.of.remove(key);
        }
    }

    /// Says what a worker has of a server's load.
    pub(crate) fn write(&self, worker: u32, row: u32, (active, inactive): Total) {
        if let Some(cell) = self.columns[worker as usize].cell(row) {
            cell.store(u64::from(active) << 32 | u64::from(inactive), Relaxed);
        }
    }

    /// A server's load at all workers but this one.
    pub(crate) fn others(&self, worker: u32, row: u32) -> Total {
        let columns = (0..).zip(&self.columns);
        let others = columns.filter(|(number, _)| *number != worker);
        let loads = others.filter_map(|(_, column)| column.part(row));
        loads.fold((0, 0), |(active, inactive), cell| {
            let [a, b, c, d, rest @ ..] = cell.load(Relaxed).to_be_bytes();
            (
                active + u32::from_be_bytes([a, b, c, d]),
                inactive + u32::from_be_bytes(rest),
            )
        })
    }

    /// Says how many connections of a worker's are not with their owners, or may not be.
    pub(crate) fn set_strays(&self, worker: u32, strays: u32) {
        self.columns[worker as usize]
            .strays
            .0
            .store(strays, Relaxed);
    }

    /// Whether any worker has such.
    pub(crate) fn has_strays(&self) -> bool {
        let mut strays = self.columns.iter().map(|c| c.strays.0.load(Relaxed));
        strays.any(|n| n > 0)
    }

    /// Connections for which there is room that no worker has asked for.
    pub(crate) fn room(&self) -> u32 {
        self.left.0.load(Relaxed)
    }

    /// Asks for room for more connections; how many were granted, 0 = the director has as many as it may.
    pub(crate) fn take_room(&self) -> u32 {
        let wanted = self.at_once();
        let take = |left: u32| Some(left - left.min(wanted));
        let before = self.left.0.fetch_update(Relaxed, Relaxed, take);
        before.unwrap_or_else(|left| left).min(wanted)
    }

    /// Takes room for so many more, whether or not it is there: connections that are there already.
    pub(crate) fn claim_room(&self, connections: u32) {
        let take = |left: u32| Some(left.saturating_sub(connections));
        let _ = self.left.0.fetch_update(Relaxed, Relaxed, take);
    }

    /// Gives back room for so many.
    pub(crate) fn give_room(&self, connections: u32) {
        self.left.0.fetch_add(connections, Relaxed);
    }

    /// Connections that are asked for at once: what all workers have in hand and do not use is a sixteenth of the limit at
    /// most.
    pub(crate) fn at_once(&self) -> u32 {
        let workers = u32::try_from(self.columns.len()).unwrap_or(MOST);
        (self.limit / (32 * workers)).clamp(1, MOST_AT_ONCE)
    }

    /// The bucket of a service's limit of new connections, which all workers share.
    pub(crate) fn bucket(&self, service: ServiceKey) -> Arc<SharedBucket> {
        let mut buckets = lock(&self.buckets);
        Arc::clone(buckets.entry(service).or_default())
    }
}

impl Column {
    /// The cell of a row, which is made where it is not there.
    fn cell(&self, row: u32) -> Option<&AtomicU64> {
        let (part, at, len) = place(row);
        let make = || (0..len).map(|_| AtomicU64::new(0)).collect();
        self.parts.get(part)?.get_or_init(make).get(at)
    }

    /// The cell of a row, where something was written to its part.
    fn part(&self, row: u32) -> Option<&AtomicU64> {
        let (part, at, _) = place(row);
        self.parts.get(part)?.get()?.get(at)
    }
}

/// The part that a row is in, its place there, and the part's length: 64, 64, 128, 256 …
const fn place(row: u32) -> (usize, usize, usize) {
    let row = row as usize;
    if row < FIRST {
        return (0, row, FIRST);
    }
    let doubled = (row / FIRST).ilog2() as usize;
    let first = FIRST << doubled;
    (doubled + 1, row - first, first)
}

/// A lock, also where a thread has panicked with it: what is under these is whole after each step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Addr, Protocol};

    fn server(last: u8) -> (ServiceKey, Endpoint) {
        let at = |last| Endpoint::new(Addr::v4([10, 0, 0, last]), 80);
        (ServiceKey::address(Protocol::Tcp, at(100)), at(last))
    }

    #[test]
    fn a_servers_row_is_the_same_for_all_and_is_given_again_when_none_has_it() {
        let board = Board::new(2, 100);
        let rows: Vec<u32> = (0..3).map(|n| board.join(server(n))).collect();
        assert_eq!(rows, [0, 1, 2]);
        assert_eq!(board.join(server(1)), 1, "the other worker's");
        board.leave(&server(1));
        assert_eq!(board.join(server(9)), 3, "one still has it");
        board.leave(&server(1));
        assert_eq!(board.join(server(8)), 1);
    }

    #[test]
    fn what_each_has_written_the_others_read_in_rows_of_every_part() {
        let board = Board::new(3, 100);
        for row in [0, 63, 64, 127, 128, 1_000, 100_000] {
            assert_eq!(board.others(0, row), (0, 0), "nothing yet");
            board.write(0, row, (1, 10));
            board.write(1, row, (2, u32::MAX - 40));
            board.write(2, row, (4, 30));
            assert_eq!(board.others(1, row), (5, 40));
            assert_eq!(board.others(0, row), (6, u32::MAX - 10));
        }
    }

    #[test]
    fn all_together_get_as_much_room_as_there_is() {
        for (workers, limit) in [(2, 1), (2, 3), (4, 1000), (8, 1_000_000)] {
            let board = Board::new(workers, limit);
            let mut got = 0;
            loop {
                match board.take_room() {
                    0 => break,
                    more => got += more,
                }
            }
            assert_eq!(got, limit);
            board.give_room(1);
            assert_eq!(board.take_room(), 1);
        }
    }

    #[test]
    fn columns_share_no_cache_line() {
        assert_eq!(align_of::<Column>() % 128, 0);
        let board = Board::new(2, 10);
        let at = |worker: usize| std::ptr::from_ref(&board.columns[worker].strays.0).addr();
        assert!(at(0).abs_diff(at(1)) >= 128);
    }
}
