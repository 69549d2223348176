//! A set in order, as a value.

use std::fmt;

use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Chunks, Keyed, Way};

/// A set in order, of which a copy, a change and a comparison cost what was changed.
pub struct Set<T>(Chunks<Member<T>>);

#[derive(Clone, Debug)]
struct Member<T>(T);

impl<T: Ord> Keyed for Member<T> {
    type Key = T;

    fn key(&self) -> &T {
        &self.0
    }

    fn is(&self, _: &Self) -> bool {
        true
    }
}

/// What two sets do not have in common, in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Changes<'a, T> {
    /// What only the set before has.
    pub gone: Vec<&'a T>,
    /// What only the set after it has.
    pub new: Vec<&'a T>,
}

impl<'a, T> Changes<'a, T> {
    /// All, what has come before what has gone: as they are counted in and out.
    pub fn ways(self) -> impl Iterator<Item = (Way, &'a T)> {
        let come = self.new.into_iter().map(|member| (Way::In, member));
        let gone = self.gone.into_iter().map(|member| (Way::Out, member));
        come.chain(gone)
    }
}

impl<T: Ord + Clone> Set<T> {
    /// Without members.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.0.len
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + Clone {
        self.0.iter().map(|member| &member.0)
    }

    /// Whether this is a member.
    pub fn contains(&self, member: &T) -> bool {
        self.0.place(member).is_ok()
    }

    /// Makes it a member; whether it was none.
    pub fn insert(&mut self, member: T) -> bool {
        let place = self.0.place(&member);
        if let Err(place) = place {
            self.0.insert(place, Member(member));
        }
        place.is_err()
    }

    /// Makes it no member; whether it was one.
    pub fn remove(&mut self, member: &T) -> bool {
        let place = self.0.place(member);
        if let Ok(place) = place {
            self.0.remove(place);
        }
        place.is_ok()
    }

    /// What has changed from `before` to this. It costs what was changed where one is made from a copy of the other, and a
    /// walk through both where they have nothing to do with each other.
    pub fn since<'a>(&'a self, before: &'a Self) -> Changes<'a, T> {
        let members = |of: Vec<&'a Member<T>>| of.into_iter().map(|member| &member.0).collect();
        let difference = self.0.since(&before.0);
        Changes {
            gone: members(difference.gone),
            new: members(difference.new),
        }
    }

    /// The members of either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.extend(other.since(self).new.into_iter().cloned());
        both
    }
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self(Chunks::default())
    }
}

impl<T> Clone for Set<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: fmt::Debug> fmt::Debug for Set<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = self.0.iter().map(|member| &member.0);
        f.debug_set().entries(members).finish()
    }
}

impl<T: Ord + Clone> PartialEq for Set<T> {
    fn eq(&self, other: &Self) -> bool {
        let same = || self.since(other);
        self.len() == other.len() && same().new.is_empty()
    }
}

impl<T: Ord + Clone> Eq for Set<T> {}

impl<T: Ord + Clone> Extend<T> for Set<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, members: I) {
        for member in members {
            self.insert(member);
        }
    }
}

impl<T: Ord + Clone> FromIterator<T> for Set<T> {
    fn from_iter<I: IntoIterator<Item = T>>(members: I) -> Self {
        let mut all: Vec<T> = members.into_iter().collect();
        all.sort_unstable();
        all.dedup();
        let mut set = Self::default();
        for member in all {
            set.0.push(Member(member));
        }
        set
    }
}

impl<T: Ord + Clone> From<Vec<T>> for Set<T> {
    fn from(members: Vec<T>) -> Self {
        members.into_iter().collect()
    }
}

impl<T: Ord + Clone, const N: usize> From<[T; N]> for Set<T> {
    fn from(members: [T; N]) -> Self {
        members.into_iter().collect()
    }
}

impl<T: Serialize> Serialize for Set<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Its length is told before, which some forms need.
        let mut all = serializer.serialize_seq(Some(self.0.len))?;
        for member in self.0.iter() {
            all.serialize_element(&member.0)?;
        }
        all.end()
    }
}

impl<'de, T: Deserialize<'de> + Ord + Clone> Deserialize<'de> for Set<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::CHUNK;
    use super::*;

    #[test]
    fn a_comparison_with_a_copy_costs_what_was_changed() {
        let before: Set<u32> = (0..10_000).map(|n| n * 2).collect();
        let mut after = before.clone();
        assert!(after.insert(7001) && !after.insert(7001) && after.remove(&40));
        let difference = after.0.since(&before.0);
        assert!(difference.looked_at <= 2 * CHUNK + 1);
        let changes = Changes {
            gone: vec![&40],
            new: vec![&7001],
        };
        assert_eq!(after.since(&before), changes);
        assert_ne!(after, before);
    }

    #[test]
    fn what_is_added_in_any_order_lies_in_full_chunks() {
        let mut ascending = Set::new();
        let mut descending = Set::new();
        for n in 0..10_000 {
            ascending.insert(n);
            descending.insert(10_000 - n);
        }
        for set in [&ascending, &descending] {
            assert!(set.0.count() <= 2 * 10_000 / CHUNK, "{}", set.0.count());
        }
    }

    proptest! {
        #[test]
        fn a_set_is_as_a_tree_would_be(
            steps in vec((any::<bool>(), 0..2000_u16), 0..1500), cut in 0..1500_usize,
        ) {
            let mut set = Set::new();
            let mut model = BTreeSet::new();
            let mut before = (set.clone(), model.clone());
            for (n, (comes, member)) in steps.into_iter().enumerate() {
                if n == cut {
                    before = (set.clone(), model.clone());
                }
                if comes {
                    prop_assert_eq!(set.insert(member), model.insert(member));
                } else {
                    prop_assert_eq!(set.remove(&member), model.remove(&member));
                }
            }
            prop_assert_eq!(set.len(), model.len());
            prop_assert!(set.iter().eq(&model) && before.0.iter().eq(&before.1));
            let changes = Changes {
                gone: before.1.difference(&model).collect(),
                new: model.difference(&before.1).collect(),
            };
            prop_assert_eq!(set.since(&before.0), changes);
            let both: Set<u16> = model.union(&before.1).copied().collect();
            prop_assert_eq!(set.union(&before.0), both);
            prop_assert_eq!(set == before.0, model == before.1);
        }
    }
}
