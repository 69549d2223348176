//! Keys of connections that have ended come out of the maps.
//!
//! A connection may have been opened again on the same flow in the meantime, and what was there may have been reused: so
//! what a key leads to is compared before it is taken out. A program does it, for many keys a call.

use std::sync::atomic::Ordering::{Relaxed, Release};

use crate::error::HookError;
use crate::hook::Hook;
use crate::layout::{Key, addr, bytes};

impl Hook {
    /// Takes out the keys that lead to no connection: of one that a killed daemon was about to end.
    pub(crate) fn sweep_keys(&self) -> Result<(), HookError> {
        for map in [&self.maps.flows4, &self.maps.flows6] {
            let keys = map.keys();
            for key in keys.map_err(HookError::io("the flows of an earlier daemon"))? {
                let target = map.lookup(&key).ok().flatten();
                let target = target.and_then(|t| Some(u64::from_le_bytes(*t.first_chunk()?)));
                if target.is_none_or(|target| !self.leads_somewhere(target)) {
                    let deleted = map.delete(&key);
                    deleted.map_err(|e| HookError::refused("take a flow out", e))?;
                }
            }
        }
        Ok(())
    }

    fn leads_somewhere(&self, target: u64) -> bool {
        let cell = (target & 0xffff_ffff) >> 1;
        let conn = usize::try_from(cell)
            .ok()
            .and_then(|cell| self.memory.conns.get(cell));
        let word = conn.map_or(0, |conn| conn.word.load(Relaxed));
        word != 0 && word >> 32 == target >> 32
    }

    /// Takes the staged flows out, the first `count`.
    pub(crate) fn take_out(&self, count: usize) {
        if count == 0 {
            return;
        }
        let removals = &self.memory.control().removals;
        removals.store(count as u64, Release);
        let called = self
            .programs
            .remove
            .as_ref()
            .is_some_and(|p| p.call().is_ok());
        if !called {
            self.take_out_singly(count);
        }
    }

    /// As the program `remove`, for kernels that cannot call one. Only this process puts keys in and takes them out, so
    /// that nothing comes between the comparison and what follows.
    pub(crate) fn take_out_singly(&self, count: usize) {
        for removal in self.memory.removals.iter().take(count) {
            let [a, b] = [0, 1].map(|i| removal.src[i].load(Relaxed));
            let [c, d] = [0, 1].map(|i| removal.dst[i].load(Relaxed));
            let rest = removal.rest.load(Relaxed);
            let both_v4 = addr([a, b]).is_v4() && addr([c, d]).is_v4();
            let (map, key) = if both_v4 {
                let key = Key::V4([b >> 32 | (d >> 32) << 32, rest]);
                (&self.maps.flows4, key)
            } else {
                (&self.maps.flows6, Key::V6([a, b, c, d, rest]))
            };
            let key = match &key {
                Key::V4(words) => bytes(words),
                Key::V6(words) => bytes(words),
            };
            let target = removal.target.load(Relaxed).to_le_bytes();
            if let Ok(Some(found)) = map.lookup(&key)
                && found == target
            {
                // A key that stays leads to a cell that is nobody's, which the program sees.
                drop(map.delete(&key));
            }
        }
    }
}
