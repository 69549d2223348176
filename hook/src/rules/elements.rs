//! What is in the map of networks, in order, so that what two states of it do not have in common is found by one walk.

use std::collections::BTreeMap;
use std::io;

use crate::error::HookError;
use crate::sys::map::Map;

/// What is in a map of words: the keys and their values.
pub(super) fn read<const K: usize, const V: usize>(
    map: &Map,
) -> io::Result<Vec<([u64; K], [u64; V])>> {
    let all = all(map)?;
    let words = all
        .iter()
        .map(|(key, value)| (of_bytes(key), of_bytes(value)));
    Ok(words.collect())
}

/// Words from bytes; what lacks is 0.
fn of_bytes<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let (words, _) = bytes.as_chunks();
    std::array::from_fn(|n| words.get(n).map_or(0, |word| u64::from_le_bytes(*word)))
}

fn all(map: &Map) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut all = Vec::new();
    for key in map.keys()? {
        if let Some(value) = map.lookup(&key)? {
            all.push((key.clone(), value));
        }
    }
    Ok(all)
}

/// Keys with their values.
#[derive(Default)]
pub(super) struct Elements(BTreeMap<Vec<u8>, Vec<u8>>);

impl Elements {
    /// What is in a map.
    pub(super) fn read(map: &Map) -> io::Result<Self> {
        Ok(Self(all(map)?.into_iter().collect()))
    }

    /// Enters one, in the place of another with its key.
    pub(super) fn enter(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.0.insert(key, value);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes what `new` has and this has not, or otherwise.
    pub(super) fn add(&self, new: &Self, map: &Map, what: &str) -> Result<(), HookError> {
        for (key, value) in new
            .0
            .iter()
            .filter(|(key, value)| self.0.get(*key) != Some(value))
        {
            let done = map.update(key, value);
            done.map_err(|e| HookError::refused(format!("add {what}"), e))?;
        }
        Ok(())
    }

    /// Takes out what `new` has no more.
    pub(super) fn take(&self, new: &Self, map: &Map) -> Result<(), HookError> {
        for key in self.0.keys().filter(|key| !new.0.contains_key(*key)) {
            map.delete(key)
                .map_err(|e| HookError::refused("take a rule out", e))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::bytes;

    #[test]
    fn words_are_read_as_they_were_written() {
        let key = [7, u64::MAX, 3];
        assert_eq!(of_bytes::<3>(&bytes(&key)), key);
    }
}
