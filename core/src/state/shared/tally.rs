//! Members that several count in: each counts them in for itself, and out when it goes. So what all have together follows the
//! change of one without a look at the others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use super::Set;

/// Whether something comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It comes.
    In,
    /// It goes.
    Out,
}

/// Members, and how often each was counted in.
#[derive(Clone, Debug)]
pub struct Counted<T>(HashMap<T, u32>);

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
    /// Counts a member in, or out: it is one until it was counted out as often as in. Whether it has become one, or is none
    /// any more, by that.
    pub fn count(&mut self, way: Way, member: T) -> bool {
        match (self.0.entry(member), way) {
            (Entry::Occupied(mut times), Way::In) => {
                *times.get_mut() += 1;
                false
            }
            (Entry::Occupied(times), Way::Out) if *times.get() == 1 => {
                times.remove();
                true
            }
            (Entry::Occupied(mut times), Way::Out) => {
                *times.get_mut() -= 1;
                false
            }
            (Entry::Vacant(place), Way::In) => {
                place.insert(1);
                true
            }
            (Entry::Vacant(_), Way::Out) => {
                debug_assert!(false, "counted out and never in");
                false
            }
        }
    }

    /// Whether this is a member.
    pub fn contains(&self, member: &T) -> bool {
        self.0.contains_key(member)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The same, whose members are a [`Set`] too.
#[derive(Clone, Debug)]
pub struct Tally<T> {
    counted: Counted<T>,
    members: Set<T>,
}

impl<T> Default for Tally<T> {
    fn default() -> Self {
        Self {
            counted: Counted::default(),
            members: Set::default(),
        }
    }
}

impl<T: Ord + Clone + Hash> Tally<T> {
    /// As [`Counted::count`].
    pub fn count(&mut self, way: Way, member: T) -> bool {
        let changes = self.counted.count(way, member.clone());
        if changes {
            match way {
                Way::In => self.members.insert(member),
                Way::Out => self.members.remove(&member),
            };
        }
        changes
    }

    /// Those that were counted in more often than out.
    pub const fn members(&self) -> &Set<T> {
        &self.members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_stays_until_the_last_has_counted_it_out() {
        let mut tally = Tally::default();
        assert!(tally.count(Way::In, 7));
        assert!(!tally.count(Way::In, 7));
        assert!(!tally.count(Way::Out, 7));
        assert_eq!(*tally.members(), Set::from([7]));
        assert!(tally.count(Way::Out, 7));
        assert!(tally.members().is_empty() && tally.counted.is_empty());
    }
}
