//! Ways found lately, so that the packets of a destination do not each walk rules, prefixes and neighbours.
//!
//! It holds answers of one [`Fib`] only, and is emptied when another takes its place. An answer that depends on
//! more than the destination (rules, several next hops, a link) is not kept. Where a connection's are is kept beside it
//! ([`Ways`]), so that only its first packet each way looks for its destination.

use super::{Fib, NextHop, Query, Target, Unreachable};
use crate::flow::Addr;
use crate::narrow;

/// Places for destinations. A destination has one of them, and four of the same place take turns.
const PLACES: usize = 2048;
/// Destinations kept in a place: as many as a cache line holds.
const WAYS: usize = 3;
/// Answers that there are at most, before all are forgotten. Destinations behind a gateway share one.
const ANSWERS: usize = 8192;
/// How many of the last answers a new one is compared with.
const LATELY: usize = 4;

/// The answer of a place that keeps none.
const NONE: u16 = u16::MAX;

/// A destination, and where its answer is.
#[derive(Clone, Copy, Debug)]
struct Known {
    dst: Addr,
    answer: u16,
}

/// The destinations of a place, the latest first.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Place([Known; WAYS]);

const _: () = assert!(size_of::<Place>() == 64);

impl Place {
    const EMPTY: Self = Self(
        [Known {
            dst: Addr::UNSPECIFIED,
            answer: NONE,
        }; WAYS],
    );
}

/// Whither a connection's packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// From the client to its server.
    Server,
    /// From the server to its client.
    Client,
}

/// Where a connection's answers are among those of one [`RouteCache`], until that forgets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ways {
    era: u32,
    /// By [`Towards`].
    answers: [u16; 2],
}

impl Ways {
    /// Nothing has been asked for the connection yet.
    pub const NONE: Self = Self {
        era: 0,
        answers: [NONE; 2],
    };
}

/// The last answers, each destination in its place. The default has no places and keeps nothing.
#[derive(Clone, Debug, Default)]
pub struct RouteCache {
    places: Box<[Place]>,
    answers: Vec<Result<NextHop, Unreachable>>,
    /// How often all was forgotten, which [`Ways`] of before do not know.
    era: u32,
}

impl RouteCache {
    /// One that keeps answers.
    pub fn new() -> Self {
        Self {
            places: vec![Place::EMPTY; PLACES].into(),
            answers: Vec::new(),
            era: 0,
        }
    }

    /// Forgets all: the answers were another [`Fib`]'s.
    pub fn clear(&mut self) {
        self.places.fill(Place::EMPTY);
        self.answers.clear();
        // A connection that sends nothing lives for weeks at most; this comes round after years.
        self.era = self.era.wrapping_add(1);
    }

    /// What was found for a connection, and would be found again.
    #[inline(always)]
    pub fn kept(&self, ways: Ways, towards: Towards) -> Option<Result<NextHop, Unreachable>> {
        if ways.era != self.era {
            return None;
        }
        let answer = ways.answers[towards as usize];
        self.answers.get(usize::from(answer)).copied()
    }

    /// As [`RouteCache::lookup`] for a connection's packet, of which [`RouteCache::kept`] knows then.
    ///
    /// # Errors
    /// Why there is no way.
    pub fn lookup_for(
        &mut self,
        (ways, towards): (&mut Ways, Towards),
        fib: &Fib,
        query: &Query,
    ) -> Result<NextHop, Unreachable> {
        let (answer, place) = self.find(fib, query);
        if ways.era != self.era {
            *ways = Ways {
                era: self.era,
                ..Ways::NONE
            };
        }
        ways.answers[towards as usize] = place;
        answer
    }

    /// Where the answer for a destination is kept.
    fn place_for(&self, dst: Addr) -> Option<u16> {
        let Place(ways) = self.places.get(place_of(dst))?;
        let known = ways.iter().find(|known| known.dst == dst)?;
        Some(known.answer)
    }

    /// As [`Fib::lookup`].
    ///
    /// # Errors
    /// Why there is no way.
    pub fn lookup(&mut self, fib: &Fib, query: &Query) -> Result<NextHop, Unreachable> {
        self.find(fib, query).0
    }

    /// As [`RouteCache::lookup`], and where the answer is kept; [`NONE`] where it is not.
    fn find(&mut self, fib: &Fib, query: &Query) -> (Result<NextHop, Unreachable>, u16) {
        if let Some(place) = self.place_for(query.dst)
            && let Some(answer) = self.answers.get(usize::from(place))
        {
            return (*answer, place);
        }
        let (answer, kept) = find(fib, query);
        let place = match kept && !self.places.is_empty() {
            true => self.keep(query.dst, answer),
            false => NONE,
        };
        (answer, place)
    }

    /// Keeps an answer; where.
    fn keep(&mut self, dst: Addr, answer: Result<NextHop, Unreachable>) -> u16 {
        let from = self.answers.len().saturating_sub(LATELY);
        let same = self.answers[from..].iter().position(|kept| *kept == answer);
        let at = same.map_or_else(|| self.add(answer), |place| from + place);
        let answer = narrow::to_u16(at);
        let Place(ways) = &mut self.places[place_of(dst)];
        ways.copy_within(..WAYS - 1, 1);
        ways[0] = Known { dst, answer };
        answer
    }

    /// Adds an answer; where it is.
    fn add(&mut self, answer: Result<NextHop, Unreachable>) -> usize {
        if self.answers.len() == ANSWERS {
            self.clear();
        }
        self.answers.push(answer);
        self.answers.len() - 1
    }
}

/// As [`Fib::lookup`], and whether the destination alone decides.
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
        let known = cache.places.iter().flat_map(|place| place.0);
        known.filter(|known| known.answer != NONE).count()
    }

    #[test]
    fn it_answers_as_the_fib_and_keeps_what_the_destination_decides() {
        let fib = fib(Target::Hop(gateway(1)));
        let mut cache = RouteCache::new();
        for _ in 0..2 {
            for dst in [NEAR, FAR] {
                let query = Query::to(dst);
                assert_eq!(cache.lookup(&fib, &query), fib.lookup(query));
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
            cache.lookup(&fib, &Query::to(FAR)),
            fib.lookup(Query::to(FAR))
        );
        assert_eq!(kept(&cache), 0);
    }

    #[test]
    fn a_connections_ways_are_kept_until_all_is_forgotten() {
        let fib = fib(Target::Hop(gateway(1)));
        let mut cache = RouteCache::new();
        let mut ways = Ways::NONE;
        let both = [(Towards::Server, NEAR), (Towards::Client, FAR)];
        for (towards, dst) in both {
            assert_eq!(cache.kept(ways, towards), None);
            let query = Query::to(dst);
            let found = cache.lookup_for((&mut ways, towards), &fib, &query);
            assert_eq!(found, fib.lookup(query));
        }
        for (towards, dst) in both {
            let way = fib.lookup(Query::to(dst));
            assert_eq!(cache.kept(ways, towards), Some(way));
        }
        cache.clear();
        // What others find now is not its own.
        for dst in [[10, 0, 1, 8], [192, 0, 2, 2]].map(Addr::v4) {
            assert!(cache.lookup(&fib, &Query::to(dst)).is_ok());
        }
        assert_eq!(
            both.map(|(towards, _)| cache.kept(ways, towards)),
            [None; 2]
        );
        let query = Query::to(NEAR);
        let found = cache.lookup_for((&mut ways, Towards::Server), &fib, &query);
        assert_eq!(cache.kept(ways, Towards::Server), Some(found));
        assert_eq!(cache.kept(ways, Towards::Client), None, "of before");
    }

    #[test]
    fn as_many_of_the_same_place_as_it_has_ways_are_kept() {
        let fib = fib(Target::Hop(gateway(1)));
        let mut cache = RouteCache::new();
        let far = |n: u16| Addr::v4([192, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]]);
        let same: Vec<Addr> = (0..u16::MAX)
            .map(far)
            .filter(|dst| place_of(*dst) == place_of(far(0)))
            .take(WAYS + 1)
            .collect();
        for (dst, is_kept) in same.iter().zip([1, 2, 3, 3]) {
            assert!(cache.lookup(&fib, &Query::to(*dst)).is_ok());
            assert_eq!(kept(&cache), is_kept);
        }
        for kept in [same[WAYS], same[WAYS - 1]] {
            let nowhere = Fib::new();
            assert!(cache.lookup(&nowhere, &Query::to(kept)).is_ok(), "unasked");
        }
    }

    #[test]
    fn destinations_behind_a_gateway_share_its_answer_and_those_on_a_link_have_their_own() {
        let fib = fib(Target::Hop(gateway(1)));
        let mut cache = RouteCache::new();
        let mut ask = |dst: [u8; 4]| {
            let dst = Addr::v4(dst);
            assert_eq!(
                cache.lookup(&fib, &Query::to(dst)),
                fib.lookup(Query::to(dst))
            );
            cache.answers.len()
        };
        assert_eq!([ask([192, 0, 2, 1]), ask([192, 0, 2, 2])], [1, 1]);
        assert_eq!([ask([10, 0, 1, 7]), ask([10, 0, 1, 8])], [2, 3]);
        assert_eq!([ask([192, 0, 2, 3]), ask([192, 0, 2, 1])], [3, 3]);
    }

    #[test]
    fn when_there_are_too_many_answers_all_are_forgotten() {
        let mut fib = fib(Target::Hop(gateway(1)));
        fib.add_route(Route::new(
            Addr::v4([10, 1, 0, 0]),
            16,
            Target::Hop(Hop::by(2, None)),
        ));
        let mut cache = RouteCache::new();
        for n in 0..=ANSWERS {
            let [.., high, low] = n.to_be_bytes();
            let dst = Addr::v4([10, 1, high, low]);
            for _ in 0..2 {
                assert_eq!(
                    cache.lookup(&fib, &Query::to(dst)),
                    fib.lookup(Query::to(dst))
                );
            }
            assert!(cache.answers.len() <= ANSWERS);
        }
        assert_eq!((kept(&cache), cache.answers.len()), (1, 1));
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
                cache.lookup(&fib, &Query::to(FAR)),
                fib.lookup(Query::to(FAR))
            );
            assert_eq!(kept(&cache), 0);
            let mut ways = Ways::NONE;
            let query = Query::to(FAR);
            let found = cache.lookup_for((&mut ways, Towards::Client), &fib, &query);
            assert_eq!(found, fib.lookup(query));
            assert_eq!(cache.kept(ways, Towards::Client), None);
        }
    }
}
