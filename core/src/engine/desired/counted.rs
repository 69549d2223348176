//! A set whose members may be in it for several services: each counts it in, and out when it goes. So the set follows
//! the change of one service without a look at the others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// Whether something comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
}

/// The set.
#[derive(Clone, Debug)]
pub(super) struct Counted<T>(HashMap<T, u32>);

impl<T> Default for Counted<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + Hash> PartialEq for Counted<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T: Eq + Hash> Counted<T> {
    /// Counts a member in, or out: it is one until it was counted out as often as in.
    pub(super) fn count(&mut self, way: Way, member: T) {
        match (self.0.entry(member), way) {
            (Entry::Occupied(mut times), Way::In) => *times.get_mut() += 1,
            (Entry::Occupied(times), Way::Out) if *times.get() == 1 => {
                times.remove();
            }
            (Entry::Occupied(mut times), Way::Out) => *times.get_mut() -= 1,
            (Entry::Vacant(place), Way::In) => {
                place.insert(1);
            }
            (Entry::Vacant(_), Way::Out) => debug_assert!(false, "counted out and never in"),
        }
    }

    pub(super) fn contains(&self, member: &T) -> bool {
        self.0.contains_key(member)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_stays_until_the_last_has_counted_it_out() {
        let mut set = Counted::default();
        set.count(Way::In, 7);
        set.count(Way::In, 7);
        set.count(Way::Out, 7);
        assert!(set.contains(&7));
        set.count(Way::Out, 7);
        assert!(!set.contains(&7) && set.is_empty());
    }
}
