//! What is in one map, in order, so that what two states of it do not have in common is found by one walk: a change of
//! one service among thousands must not cost what they all cost.

use std::cmp::Ordering;
use std::io;

use crate::error::HookError;
use crate::layout::bytes;
use crate::sys::map::Map;

/// A key or a value, as the map has it.
pub(super) trait Element: Clone + PartialEq {
    /// Its bytes.
    fn to_bytes(&self) -> Vec<u8>;

    /// From bytes as many as it has; what lacks is 0.
    fn of_bytes(bytes: &[u8]) -> Self;
}

impl<const N: usize> Element for [u64; N] {
    fn to_bytes(&self) -> Vec<u8> {
        bytes(self)
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let (words, _) = bytes.as_chunks();
        std::array::from_fn(|n| words.get(n).map_or(0, |word| u64::from_le_bytes(*word)))
    }
}

impl Element for u64 {
    fn to_bytes(&self) -> Vec<u8> {
        bytes(&[*self])
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let [word] = <[Self; 1]>::of_bytes(bytes);
        word
    }
}

impl Element for Vec<u8> {
    fn to_bytes(&self) -> Vec<u8> {
        self.clone()
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        bytes.to_vec()
    }
}

/// Keys with their values; in order, each key once, but while they are [entered](Self::enter).
pub(super) struct Elements<K, V>(Vec<(K, V)>);

impl<K, V> Default for Elements<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Element + Ord, V: Element> Elements<K, V> {
    /// What is in a map.
    pub(super) fn read(map: &Map) -> io::Result<Self> {
        let mut all = Self::default();
        for key in map.keys()? {
            if let Some(value) = map.lookup(&key)? {
                all.enter(K::of_bytes(&key), V::of_bytes(&value));
            }
        }
        all.put_in_order(|value, _| value);
        Ok(all)
    }

    /// Enters one; [`put_in_order`](Self::put_in_order) when all are.
    pub(super) fn enter(&mut self, key: K, value: V) {
        self.0.push((key, value));
    }

    /// Puts what was entered in order; of those with one key, the first's value and the next's make one.
    pub(super) fn put_in_order(&mut self, both: impl Fn(V, V) -> V) {
        self.0.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.0.dedup_by(|(key, value), (kept, of)| {
            let same = key == kept;
            if same {
                *of = both(of.clone(), value.clone());
            }
            same
        });
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    /// Writes what `new` has and this has not, or otherwise.
    pub(super) fn add(&self, new: &Self, map: &Map, what: &str) -> Result<(), HookError> {
        for (key, value) in new.without(self, |value, old| value == old) {
            let done = map.update(&key.to_bytes(), &value.to_bytes());
            done.map_err(|e| HookError::refused(format!("add {what}"), e))?;
        }
        Ok(())
    }

    /// Takes out what `new` has no more.
    pub(super) fn take(&self, new: &Self, map: &Map) -> Result<(), HookError> {
        for (key, _) in self.without(new, |_, _| true) {
            map.delete(&key.to_bytes())
                .map_err(|e| HookError::refused("take a rule out", e))?;
        }
        Ok(())
    }

    /// Those that are not in `others`; one is where there is its key, with a value that is the `same`.
    fn without<'a>(
        &'a self,
        others: &'a Self,
        same: impl Fn(&V, &V) -> bool + 'a,
    ) -> impl Iterator<Item = &'a (K, V)> {
        let mut others = others.0.iter().peekable();
        self.0.iter().filter(move |(key, value)| {
            while others.next_if(|(other, _)| other < key).is_some() {}
            let there = others.peek().filter(|(other, _)| other == key);
            !there.is_some_and(|(_, other)| same(value, other))
        })
    }
}

impl<K: Element + Ord> Elements<K, u64> {
    /// Those of either, with the bits of both.
    pub(super) fn union(&self, other: &Self) -> Self {
        let (mut ours, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut both = Vec::with_capacity(self.len().max(other.len()));
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (None, None) => return Self(both),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, _)), Some((b, _))) => a.cmp(b),
            };
            let one = order.is_le().then(|| ours.next()).flatten();
            let two = order.is_ge().then(|| theirs.next()).flatten();
            let bits = one.map_or(0, |(_, v)| *v) | two.map_or(0, |(_, v)| *v);
            both.extend(one.or(two).map(|(key, _)| (key.clone(), bits)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(of: &[(u64, u64)]) -> Elements<[u64; 1], u64> {
        let mut all = Elements::default();
        of.iter().for_each(|(key, value)| all.enter([*key], *value));
        all.put_in_order(|value, more| value | more);
        all
    }

    #[test]
    fn what_is_entered_twice_is_there_once_with_all_its_bits() {
        assert_eq!(elements(&[(3, 1), (1, 1), (3, 4)]).0, [([1], 1), ([3], 5)]);
    }

    #[test]
    fn one_walk_finds_what_is_new_otherwise_or_gone() {
        let (old, new) = (
            elements(&[(1, 1), (2, 1), (4, 1)]),
            elements(&[(2, 1), (3, 1), (4, 3)]),
        );
        let written: Vec<_> = new.without(&old, |value, old| value == old).collect();
        assert_eq!(written, [&([3], 1), &([4], 3)]);
        let taken: Vec<_> = old.without(&new, |_, _| true).collect();
        assert_eq!(taken, [&([1], 1)]);
        let both = [([1], 1), ([2], 1), ([3], 1), ([4], 3)];
        assert_eq!(old.union(&new).0, both);
    }

    #[test]
    fn words_are_read_as_they_were_written() {
        let key = [7, u64::MAX, 3];
        assert_eq!(<[u64; 3]>::of_bytes(&key.to_bytes()), key);
        assert_eq!(u64::of_bytes(&5_u64.to_bytes()), 5);
    }
}
