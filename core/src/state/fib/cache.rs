//! Ways found lately, so that the packets of a destination do not each walk rules, prefixes and neighbours.
//!
//! It holds answers of one [`Fib`] only, and is emptied when another takes its place. An answer that depends on
//! more than the destination (rules, several next hops, a link) is not kept.

use super::{Fib, NextHop, Query, Target, Unreachable};
use crate::flow::Addr;
use crate::narrow;

/// Places for answers. A destination has one of them, and three of the same place take turns.
const PLACES: usize = 2048;
/// Answers kept in a place.
const WAYS: usize = 2;

/// A destination, and the way to it.
type Answer = (Addr, Result<NextHop, Unreachable>);

/// The last answers, each in the place of its destination, the latest first. The default has no places and keeps
/// nothing.
#[derive(Clone, Debug, Default)]
pub struct RouteCache(Box<[[Option<Answer>; WAYS]]>);

impl RouteCache {
    /// One that keeps answers.
    pub fn new() -> Self {
        Self(vec![[None; WAYS]; PLACES].into())
    }

    /// Forgets all: the answers were another [`Fib`]'s.
    pub fn clear(&mut self) {
        self.0.fill([None; WAYS]);
    }

    /// As [`Fib::lookup`] of the query to `dst`, which is made only where no answer is kept.
    ///
    /// # Errors
    /// Why there is no way.
    #[inline]
    pub fn lookup(
        &mut self,
        fib: &Fib,
        dst: Addr,
        query: impl FnOnce() -> Query,
    ) -> Result<NextHop, Unreachable> {
        let place = self.0.get_mut(place_of(dst));
        let mut known = place.iter().flat_map(|place| place.iter()).flatten();
        if let Some((_, answer)) = known.find(|(known, _)| *known == dst) {
            return *answer;
        }
        let (answer, kept) = find(fib, &query());
        if let Some(place) = place.filter(|_| kept) {
            place.copy_within(..WAYS - 1, 1);
            place[0] = Some((dst, answer));
        }
        answer
    }
}

/// As [`Fib::lookup`], and whether the destination alone decides.
#[cold]
fn find(fib: &Fib, query: &Query) -> (Result<NextHop, Unreachable>, bool) {
    if query.dst.is_link_local() || fib.has_rules(query.family()) {
        return (fib.lookup(*query), false);
    }
    let route = fib.find(query);
    let several = route.is_ok_and(|route| matches!(route.target, Target::Hops(_)));
    (route.and_then(|route| fib.hop(route, query)), !several)
}

/// By the highest bits of a product, in which all of the address has a part.
fn place_of(dst: Addr) -> usize {
    let n = u128::from_le_bytes(dst.0);
    let (high, low) = ((n >> 64) as u64, (n & 0xffff_ffff_ffff_ffff) as u64);
    let product = (high ^ low.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    narrow::to_place(product >> (u64::BITS - PLACES.ilog2()), PLACES)
}

#[cfg(test)]
mod tests {
    use super::super::{Hop, Interface, ReversePath, Route, Rule};
    use super::*;
    use crate::flow::Family;
    use crate::verdict::PortId;

    const NEAR: Addr = Addr::v4([10, 0, 1, 7]);
    const FAR: Addr = Addr::v4([192, 0, 2, 1]);

    fn fib(far: Target) -> Fib {
        let mut fib = Fib::new();
        fib.set_interface(Interface {
            port: PortId(0),
            ifindex: 2,
            mac: [2; 6],
            mtu: 1500,
            up: true,
            reverse_path: ReversePath::Off,
        });
        let on_link = Target::Hop(Hop::by(2, None));
        fib.add_route(Route::new(Addr::v4([10, 0, 1, 0]), 24, on_link));
        fib.add_route(Route::new(Addr::UNSPECIFIED, 0, far));
        fib
    }

    fn gateway(n: u8) -> Hop {
        Hop::by(2, Some(Addr::v4([10, 0, 1, n])))
    }

    fn kept(cache: &RouteCache) -> usize {
        cache.0.iter().flatten().flatten().count()
    }

    #[test]
    fn it_answers_as_the_fib_and_keeps_what_the_destination_decides() {
        let fib = fib(Target::Hop(gateway(1)));
        let mut cache = RouteCache::new();
        for _ in 0..2 {
            for dst in [NEAR, FAR] {
                let query = Query::to(dst);
                assert_eq!(cache.lookup(&fib, dst, || query), fib.lookup(query));
            }
        }
        assert_eq!(kept(&cache), 2);
        cache.clear();
        assert_eq!(kept(&cache), 0);
    }

    #[test]
    fn one_without_places_answers_all_the_same() {
        let fib = fib(Target::Hop(gateway(1)));
        let mut cache = RouteCache::default();
        assert_eq!(
            cache.lookup(&fib, FAR, || Query::to(FAR)),
            fib.lookup(Query::to(FAR))
        );
        assert_eq!(kept(&cache), 0);
    }

    #[test]
    fn two_of_the_same_place_are_both_kept() {
        let fib = fib(Target::Hop(gateway(1)));
        let mut cache = RouteCache::new();
        let far = |n: u16| Addr::v4([192, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]]);
        let same: Vec<Addr> = (0..u16::MAX)
            .map(far)
            .filter(|dst| place_of(*dst) == place_of(far(0)))
            .take(WAYS + 1)
            .collect();
        for (dst, is_kept) in same.iter().zip([1, 2, 2]) {
            assert!(cache.lookup(&fib, *dst, || Query::to(*dst)).is_ok());
            assert_eq!(kept(&cache), is_kept);
        }
        let unasked = || unreachable!("it is kept");
        assert!(cache.lookup(&fib, same[WAYS], unasked).is_ok());
        assert!(cache.lookup(&fib, same[WAYS - 1], unasked).is_ok());
    }

    #[test]
    fn neighbours_in_number_are_none_in_place() {
        let places: std::collections::BTreeSet<usize> =
            (0..16).map(|n| place_of(Addr::v4([10, 0, 1, n]))).collect();
        assert!(places.len() > 14, "{places:?}");
    }

    #[test]
    fn what_clients_or_rules_decide_is_asked_each_time() {
        let several = fib(Target::Hops([gateway(1), gateway(2)].into()));
        let mut ruled = fib(Target::Hop(gateway(1)));
        ruled.set_rules(
            Family::V4,
            &[Rule::DEFAULT[0], Rule::lookup(100, 7), Rule::DEFAULT[1]],
        );
        let mut cache = RouteCache::new();
        for fib in [several, ruled] {
            assert_eq!(
                cache.lookup(&fib, FAR, || Query::to(FAR)),
                fib.lookup(Query::to(FAR))
            );
            assert_eq!(kept(&cache), 0);
        }
    }
}
