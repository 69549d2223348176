//! Keys that are to be put into a map, all by one call a turn.

use uvs_core::offload::{Birth, Cell};

use crate::sys::map::Map;

/// Keys and values for one map, and whose they are.
#[derive(Default)]
pub(crate) struct Batch {
    keys: Vec<u8>,
    values: Vec<u8>,
    owners: Vec<Owner>,
}

#[derive(Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) cell: Cell,
    pub(crate) birth: Birth,
    /// Which of its keys it is.
    pub(crate) key: u64,
}

impl Batch {
    /// One more.
    pub(crate) fn push(&mut self, key: &[u64], value: u64, owner: Owner) {
        self.keys
            .extend(key.iter().flat_map(|word| word.to_le_bytes()));
        self.values.extend(value.to_le_bytes());
        self.owners.push(owner);
    }

    /// Puts all in, and empties itself; those that found no room.
    pub(crate) fn put_in(&mut self, map: &Map) -> Vec<Owner> {
        let mut failed = Vec::new();
        let key = map.shape().key as usize;
        let mut done = 0;
        while done < self.owners.len() {
            let put = map.update_batch(&self.keys[done * key..], &self.values[done * 8..]);
            let Err((some, _)) = put else { break };
            // The first that was not put in found no room; those behind it may.
            done += some;
            failed.extend(self.owners.get(done));
            done += 1;
        }
        self.keys.clear();
        self.values.clear();
        self.owners.clear();
        failed
    }
}
