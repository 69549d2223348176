//! Lists in order, as values: a copy shares with its original whatever neither has changed since. So a copy, a change and a
//! comparison cost what was changed, not what is there. [`Services`](crate::services::Services) are one, and a [`Set`] is.

mod set;
mod tally;

use std::sync::Arc;

pub use set::{Changes, Set};
pub use tally::{Counted, Tally, Way};

/// Entries that copies share or do not share together: what one change has to copy, and of how many more a copy of all has
/// one less to note. A chunk grows to twice as many before it is parted.
pub(crate) const CHUNK: usize = 128;

/// What a list has in order.
pub(crate) trait Keyed {
    /// By what.
    type Key: Ord + ?Sized;

    /// That of this entry; no other entry of the list has it.
    fn key(&self) -> &Self::Key;

    /// Whether an entry with the same key is the same in all else.
    fn is(&self, other: &Self) -> bool;
}

/// An entry's chunk, and its place in that.
pub(crate) type Place = (usize, usize);

/// Entries in the order of their keys.
#[derive(Debug)]
pub(crate) struct Chunks<E> {
    /// None of them is empty.
    chunks: Vec<Arc<Vec<E>>>,
    /// How many there are.
    pub(crate) len: usize,
}

/// What two lists do not have in common, each in order; an entry that was changed is in both.
#[derive(Debug)]
pub(crate) struct Difference<'a, E> {
    /// What only the list before has.
    pub(crate) gone: Vec<&'a E>,
    /// What only the list after it has.
    pub(crate) new: Vec<&'a E>,
    /// Entries that were looked at to find this out.
    pub(crate) looked_at: usize,
}

impl<E> Default for Chunks<E> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<E> Clone for Chunks<E> {
    fn clone(&self) -> Self {
        Self {
            chunks: self.chunks.clone(),
            len: self.len,
        }
    }
}

impl<E> Chunks<E> {
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &E> + Clone {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// From a place on.
    pub(crate) fn iter_from(&self, (chunk, at): Place) -> impl Iterator<Item = &E> {
        let mut rest = self.chunks.iter().skip(chunk);
        let first = rest.next().map_or(&[][..], |chunk| &chunk[at..]);
        first.iter().chain(rest.flat_map(|chunk| chunk.iter()))
    }
}

impl<E: Keyed + Clone> Chunks<E> {
    /// All, to be changed in what is not their key: none is shared with copies from then on.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut E> {
        self.chunks.iter_mut().flat_map(Arc::make_mut)
    }

    pub(crate) fn get(&self, (chunk, at): Place) -> &E {
        &self.chunks[chunk][at]
    }

    /// To be changed in what is not its key.
    pub(crate) fn get_mut(&mut self, (chunk, at): Place) -> &mut E {
        &mut Arc::make_mut(&mut self.chunks[chunk])[at]
    }

    /// Where the entry with this key is, or else where it would be.
    pub(crate) fn place(&self, key: &E::Key) -> Result<Place, Place> {
        let behind = self.chunks.partition_point(|c| c[0].key() <= key);
        let chunk = behind.saturating_sub(1);
        let Some(entries) = self.chunks.get(chunk) else {
            return Err((0, 0));
        };
        let found = entries.binary_search_by(|entry| entry.key().cmp(key));
        found.map(|at| (chunk, at)).map_err(|at| (chunk, at))
    }

    /// The entry at a place in the list, the first is 0.
    pub(crate) fn nth(&self, mut place: usize) -> Option<Place> {
        for (chunk, entries) in self.chunks.iter().enumerate() {
            if place < entries.len() {
                return Some((chunk, place));
            }
            place -= entries.len();
        }
        None
    }

    /// Adds one whose key is greater than all that are there.
    pub(crate) fn push(&mut self, entry: E) {
        match self.chunks.last_mut().filter(|chunk| chunk.len() < CHUNK) {
            Some(chunk) => Arc::make_mut(chunk).push(entry),
            None => self.chunks.push(Arc::new(vec![entry])),
        }
        self.len += 1;
    }

    /// Adds one where it is to be, as [`place`](Self::place) says.
    pub(crate) fn insert(&mut self, (chunk, at): Place, entry: E) {
        self.len += 1;
        // In ascending order they fill chunk after chunk.
        let is_last = chunk + 1 == self.chunks.len();
        let takes = |chunk: &&mut Arc<Vec<E>>| !is_last || at < chunk.len().max(CHUNK);
        let Some(entries) = self.chunks.get_mut(chunk).filter(takes) else {
            self.chunks.push(Arc::new(vec![entry]));
            return;
        };
        let entries = Arc::make_mut(entries);
        entries.insert(at, entry);
        if entries.len() > 2 * CHUNK {
            let rest = entries.split_off(CHUNK);
            self.chunks.insert(chunk + 1, Arc::new(rest));
        }
    }

    /// Takes out the one at a place.
    pub(crate) fn remove(&mut self, (chunk, at): Place) -> E {
        let entry = Arc::make_mut(&mut self.chunks[chunk]).remove(at);
        self.len -= 1;
        self.close(chunk);
        entry
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What has changed from `before` to this. It costs what was changed where one is made from a copy of the other, and a
    /// walk through both where they have nothing to do with each other.
    pub(crate) fn since<'a>(&'a self, before: &'a Self) -> Difference<'a, E> {
        let mut difference = Difference {
            gone: Vec::new(),
            new: Vec::new(),
            looked_at: 0,
        };
        let (mut old, mut new) = (Cursor::new(before), Cursor::new(self));
        loop {
            old.skip_shared(&mut new);
            let order = match (old.entry(), new.entry()) {
                (None, None) => return difference,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(old), Some(new)) => old.key().cmp(new.key()),
            };
            let gone = order.is_le().then(|| old.next()).flatten();
            let came = order.is_ge().then(|| new.next()).flatten();
            difference.looked_at += 1;
            if let (Some(gone), Some(came)) = (gone, came)
                && gone.is(came)
            {
                continue;
            }
            difference.gone.extend(gone);
            difference.new.extend(came);
        }
    }

    /// Something was taken out of a chunk: it goes where it is empty, and neighbours become one where both are half
    /// empty, so that there are never many more chunks than are filled.
    fn close(&mut self, chunk: usize) {
        if self.chunks[chunk].is_empty() {
            self.chunks.remove(chunk);
        }
        for first in [Some(chunk), chunk.checked_sub(1)].into_iter().flatten() {
            let Some([one, next]) = self.chunks.get_mut(first..first + 2) else {
                continue;
            };
            if one.len() + next.len() <= CHUNK / 2 {
                Arc::make_mut(one).extend(next.iter().cloned());
                self.chunks.remove(first + 1);
            }
        }
    }

    /// How many chunks there are.
    #[cfg(test)]
    pub(crate) const fn count(&self) -> usize {
        self.chunks.len()
    }
}

/// A place in a list that is walked through.
struct Cursor<'a, E> {
    chunks: &'a [Arc<Vec<E>>],
    /// In the first of them.
    at: usize,
}

impl<'a, E> Cursor<'a, E> {
    fn new(list: &'a Chunks<E>) -> Self {
        Self {
            chunks: &list.chunks,
            at: 0,
        }
    }

    fn entry(&self) -> Option<&'a E> {
        self.chunks.first().map(|chunk| &chunk[self.at])
    }

    fn next(&mut self) -> Option<&'a E> {
        let entry = self.entry()?;
        self.at += 1;
        if self.at == self.chunks[0].len() {
            (self.chunks, self.at) = (&self.chunks[1..], 0);
        }
        Some(entry)
    }

    /// Passes over what both share, where both are at the beginning of it.
    fn skip_shared(&mut self, other: &mut Self) {
        while let ([one, ours @ ..], [same, theirs @ ..]) = (self.chunks, other.chunks)
            && (self.at, other.at) == (0, 0)
            && Arc::ptr_eq(one, same)
        {
            (self.chunks, other.chunks) = (ours, theirs);
        }
    }
}
