//! A value that one thread publishes and another takes up: a generation and a lock that is taken only
//! when the generation has moved.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The shared cell.
#[derive(Debug)]
pub(crate) struct Watch<T> {
    generation: AtomicU64,
    value: Mutex<Arc<T>>,
}

impl<T> Watch<T> {
    /// A cell that holds `value`, which no reader has seen.
    pub(crate) fn new(value: T) -> Self {
        Self {
            generation: AtomicU64::new(1),
            value: Mutex::new(Arc::new(value)),
        }
    }

    /// Replaces the value.
    pub(crate) fn publish(&self, value: Arc<T>) {
        *self.value.lock().unwrap_or_else(PoisonError::into_inner) = value;
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The value, where it is newer than `seen`, which moves on; without contention one atomic load.
    pub(crate) fn newer(&self, seen: &mut u64) -> Option<Arc<T>> {
        let generation = self.generation.load(Ordering::Acquire);
        if generation == *seen {
            return None;
        }
        *seen = generation;
        Some(Arc::clone(
            &self.value.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_seen_once() {
        let w = Watch::new(1);
        let mut seen = 0;
        assert_eq!(w.newer(&mut seen).as_deref(), Some(&1));
        assert_eq!(w.newer(&mut seen), None);
        w.publish(Arc::new(2));
        w.publish(Arc::new(3));
        assert_eq!(w.newer(&mut seen).as_deref(), Some(&3));
        assert_eq!(w.newer(&mut seen), None);
    }
}
