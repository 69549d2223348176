//! What lblc and lblcr remember by destination address, within a limit and for a limited time.

use std::collections::BTreeMap;
use std::time::Duration;

use uvs_core::flow::Addr;
use uvs_core::time::Instant;

/// Destinations remembered at most; at the limit new ones are still scheduled, but not remembered.
pub(crate) const MAX_ENTRIES: usize = 16_384;
/// An entry that was not used for so long is dropped.
pub(crate) const EXPIRATION: Duration = Duration::from_secs(24 * 60 * 60);
/// Likewise while the cache is full.
pub(crate) const EXPIRATION_WHEN_FULL: Duration = Duration::from_secs(6 * 60);

/// Values by destination address. Ordered, so that nothing depends on a hash's seed.
#[derive(Clone)]
pub(crate) struct Cache<T> {
    entries: BTreeMap<Addr, Entry<T>>,
    /// The first tick: there is no earlier time to reckon from.
    origin: Option<Instant>,
    /// Time from the first tick to the last one, a minute fine.
    now: Duration,
}

#[derive(Clone)]
struct Entry<T> {
    value: T,
    used: Duration,
}

impl<T> Cache<T> {
    pub(crate) const fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            origin: None,
            now: Duration::ZERO,
        }
    }

    /// The time as of the last tick.
    pub(crate) const fn now(&self) -> Duration {
        self.now
    }

    /// What is remembered for `addr`, which counts as used now.
    pub(crate) fn get(&mut self, addr: &Addr) -> Option<&mut T> {
        let entry = self.entries.get_mut(addr)?;
        entry.used = self.now;
        Some(&mut entry.value)
    }

    /// Remembers `value` for `addr`, unless that would be one entry too many.
    pub(crate) fn insert(&mut self, addr: Addr, value: T) {
        if self.entries.len() < MAX_ENTRIES || self.entries.contains_key(&addr) {
            self.entries.insert(
                addr,
                Entry {
                    value,
                    used: self.now,
                },
            );
        }
    }

    /// Drops what was not used for too long.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.now = now.since(*self.origin.get_or_insert(now));
        let full = self.entries.len() >= MAX_ENTRIES;
        let limit = if full {
            EXPIRATION_WHEN_FULL
        } else {
            EXPIRATION
        };
        self.entries
            .retain(|_, entry| self.now - entry.used < limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_secs(1_000_000);

    fn addr(n: usize) -> Addr {
        let [.., a, b, c] = n.to_be_bytes();
        Addr::v4([10, a, b, c])
    }

    #[test]
    fn an_entry_lives_as_long_as_it_is_used() {
        let mut cache = Cache::new();
        cache.insert(addr(1), 'a');
        cache.insert(addr(2), 'b');
        cache.tick(START);
        let almost = START + EXPIRATION - Duration::from_secs(1);
        cache.tick(almost);
        assert_eq!(cache.get(&addr(1)), Some(&mut 'a'));
        cache.tick(almost + Duration::from_secs(60));
        assert_eq!(cache.get(&addr(1)), Some(&mut 'a'));
        assert_eq!(cache.get(&addr(2)), None);
    }

    #[test]
    fn a_full_cache_takes_nothing_new_until_the_idle_are_dropped() {
        let mut cache = Cache::new();
        (0..MAX_ENTRIES).for_each(|n| cache.insert(addr(n), n));
        cache.tick(START);
        cache.insert(addr(MAX_ENTRIES), 0);
        assert_eq!(cache.get(&addr(MAX_ENTRIES)), None);
        cache.insert(addr(5), 55);
        assert_eq!(cache.get(&addr(5)), Some(&mut 55));
        cache.tick(START + Duration::from_secs(60));
        assert!(cache.get(&addr(6)).is_some());
        cache.tick(START + EXPIRATION_WHEN_FULL);
        assert_eq!(cache.entries.len(), 1);
        assert!(cache.get(&addr(6)).is_some());
    }
}
