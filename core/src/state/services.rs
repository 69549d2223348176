//! Services in the order in which they were added, as a value: a copy shares with its original whatever neither has
//! changed since. So a copy, a change and a comparison cost what was changed, not what is there.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use crate::service::ServiceSpec;
use crate::shared::{Chunks, Keyed};

/// What tells one service of a list from all others that it ever had; ascending in the order of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Serial(u64);

impl Serial {
    /// The one of this number; 0 is before all.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// Its number, from 1 on.
    pub const fn number(self) -> u64 {
        self.0
    }
}

#[derive(Clone, Debug)]
struct Entry {
    serial: Serial,
    spec: Arc<ServiceSpec>,
}

impl Keyed for Entry {
    type Key = Serial;

    fn key(&self) -> &Serial {
        &self.serial
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.spec, &other.spec)
    }
}

/// Services in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub struct Services {
    entries: Chunks<Entry>,
    /// Serials given so far.
    given: u64,
}

/// What two lists do not have in common, each in its list's order; a service that was changed is in both.
#[derive(Debug, Default)]
pub struct Difference<'a> {
    /// What only the list before has.
    pub gone: Vec<&'a Arc<ServiceSpec>>,
    /// What only the list after it has.
    pub new: Vec<&'a Arc<ServiceSpec>>,
    /// Entries that were looked at to find this out: what the comparison has cost.
    pub looked_at: usize,
}

impl Services {
    /// How many there are.
    pub const fn len(&self) -> usize {
        self.entries.len
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<ServiceSpec>> + Clone {
        self.entries.iter().map(|entry| &entry.spec)
    }

    /// From this serial on, oldest first, each with its own.
    pub fn iter_from(&self, serial: Serial) -> impl Iterator<Item = (Serial, &Arc<ServiceSpec>)> {
        let (Ok(place) | Err(place)) = self.entries.place(&serial);
        let rest = self.entries.iter_from(place);
        rest.map(|entry| (entry.serial, &entry.spec))
    }

    /// All, oldest first, to be changed: none is shared with copies from then on.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Arc<ServiceSpec>> {
        self.entries.iter_mut().map(|entry| &mut entry.spec)
    }

    /// The newest.
    pub fn last(&self) -> Option<&Arc<ServiceSpec>> {
        self.iter().next_back()
    }

    /// Adds one as the newest.
    pub fn push(&mut self, spec: Arc<ServiceSpec>) -> Serial {
        self.given += 1;
        let serial = Serial(self.given);
        self.entries.push(Entry { serial, spec });
        serial
    }

    /// The one of this serial.
    pub fn get(&self, serial: Serial) -> Option<&Arc<ServiceSpec>> {
        let place = self.entries.place(&serial).ok()?;
        Some(&self.entries.get(place).spec)
    }

    /// The one of this serial, to be changed.
    pub fn get_mut(&mut self, serial: Serial) -> Option<&mut Arc<ServiceSpec>> {
        let place = self.entries.place(&serial).ok()?;
        Some(&mut self.entries.get_mut(place).spec)
    }

    /// Removes the one of this serial.
    pub fn remove(&mut self, serial: Serial) -> Option<Arc<ServiceSpec>> {
        let place = self.entries.place(&serial).ok()?;
        Some(self.entries.remove(place).spec)
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// What has changed from `before` to this. It costs what was changed where one is made from a copy of the
    /// other, and a walk through both where they have nothing to do with each other.
    pub fn since<'a>(&'a self, before: &'a Self) -> Difference<'a> {
        let specs = |of: Vec<&'a Entry>| of.into_iter().map(|entry| &entry.spec).collect();
        let difference = self.entries.since(&before.entries);
        Difference {
            gone: specs(difference.gone),
            new: specs(difference.new),
            looked_at: difference.looked_at,
        }
    }
}

impl PartialEq for Services {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Services {}

impl FromIterator<Arc<ServiceSpec>> for Services {
    fn from_iter<I: IntoIterator<Item = Arc<ServiceSpec>>>(specs: I) -> Self {
        let mut all = Self::default();
        for spec in specs {
            all.push(spec);
        }
        all
    }
}

impl From<Vec<Arc<ServiceSpec>>> for Services {
    fn from(specs: Vec<Arc<ServiceSpec>>) -> Self {
        specs.into_iter().collect()
    }
}

/// By the place in the list, the oldest is 0.
impl Index<usize> for Services {
    type Output = Arc<ServiceSpec>;

    fn index(&self, place: usize) -> &Self::Output {
        let place = self.entries.nth(place).expect("a place in the list");
        &self.entries.get(place).spec
    }
}

impl IndexMut<usize> for Services {
    fn index_mut(&mut self, place: usize) -> &mut Self::Output {
        let place = self.entries.nth(place).expect("a place in the list");
        &mut self.entries.get_mut(place).spec
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::flow::{Addr, Endpoint, Protocol};
    use crate::service::ServiceKey;
    use crate::shared::CHUNK;

    fn service(port: u16) -> Arc<ServiceSpec> {
        let vip = Endpoint::new(Addr::v4([10, 0, 0, 1]), port);
        Arc::new(ServiceSpec::new(
            ServiceKey::address(Protocol::Tcp, vip),
            "rr",
        ))
    }

    fn filled(ports: u16) -> Services {
        (1..=ports).map(service).collect()
    }

    fn ports(specs: &[&Arc<ServiceSpec>]) -> Vec<u16> {
        specs.iter().map(|s| s.key.vip().port).collect()
    }

    #[test]
    fn a_comparison_costs_what_was_changed_and_not_what_is_there() {
        for many in [1000, 10_000] {
            let before = filled(many);
            let mut after = before.clone();
            let serial = Serial(500);
            Arc::make_mut(after.get_mut(serial).expect("there")).slow_start = 7;
            let difference = after.since(&before);
            assert_eq!(ports(&difference.gone), [500]);
            assert_eq!(ports(&difference.new), [500]);
            assert_eq!(difference.new[0].slow_start, 7);
            assert_eq!(difference.looked_at, CHUNK);
            after.remove(serial);
            after.push(service(u16::MAX));
            let difference = after.since(&before);
            assert_eq!(ports(&difference.gone), [500]);
            assert_eq!(ports(&difference.new), [u16::MAX]);
            assert!(difference.looked_at <= 2 * CHUNK + 1);
        }
    }

    #[test]
    fn what_was_removed_leaves_no_trail_of_chunks() {
        let mut list = filled(10_000);
        for serial in (1..=10_000).filter(|n| n % 100 != 0) {
            assert!(list.remove(Serial(serial)).is_some());
        }
        assert_eq!(list.len(), 100);
        assert!(list.entries.count() <= 100 * 4 / CHUNK + 1, "{list:?}");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push,
        Remove(usize),
        Change(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Push),
            2 => any::<usize>().prop_map(Step::Remove),
            2 => any::<usize>().prop_map(Step::Change),
        ]
    }

    proptest! {
        #[test]
        fn a_list_is_as_a_vector_would_be(steps in vec(step(), 0..400), cut in 0..400_usize) {
            let mut list = Services::default();
            let mut model: Vec<(Serial, Arc<ServiceSpec>)> = Vec::new();
            let mut before = (list.clone(), model.clone());
            for (n, step) in (0..).zip(steps) {
                if usize::from(n) == cut {
                    before = (list.clone(), model.clone());
                }
                match step {
                    Step::Push => model.push((list.push(service(n)), service(n))),
                    Step::Remove(at) if !model.is_empty() => {
                        let (serial, spec) = model.remove(at % model.len());
                        prop_assert_eq!(list.remove(serial), Some(spec));
                        prop_assert_eq!(list.remove(serial), None);
                    }
                    Step::Change(at) if !model.is_empty() => {
                        let at = at % model.len();
                        Arc::make_mut(list.get_mut(model[at].0).expect("there")).flags += 1;
                        Arc::make_mut(&mut model[at].1).flags += 1;
                        prop_assert_eq!(&list[at], &model[at].1);
                    }
                    Step::Remove(_) | Step::Change(_) => {}
                }
            }
            let of = |model: &[(Serial, Arc<ServiceSpec>)]| -> Services {
                model.iter().map(|(_, spec)| Arc::clone(spec)).collect()
            };
            prop_assert_eq!(&list, &of(&model));
            prop_assert_eq!(&before.0, &of(&before.1));
            for from in [0, cut as u64 / 2, 400].map(Serial::from_number) {
                let rest = list.iter_from(from).map(|(serial, spec)| (serial, Arc::clone(spec)));
                let wanted = model.iter().filter(|(serial, _)| *serial >= from).cloned();
                prop_assert_eq!(rest.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
            }
            let difference = list.since(&before.0);
            let only = |of: &[(Serial, Arc<ServiceSpec>)], without: &[(Serial, Arc<ServiceSpec>)]| {
                let only = of.iter().filter(|one| !without.contains(one));
                only.map(|(_, spec)| Arc::clone(spec)).collect::<Vec<_>>()
            };
            let cloned = |of: &[&Arc<ServiceSpec>]| -> Vec<_> { of.iter().map(|s| Arc::clone(s)).collect() };
            prop_assert_eq!(cloned(&difference.gone), only(&before.1, &model));
            prop_assert_eq!(cloned(&difference.new), only(&model, &before.1));
        }
    }
}
