//! Routes with several next hops: which of them a connection takes, and which of them live.

use super::query::finalize;
use super::{Fib, Hop, Interface, Query, Route};
use crate::flow::Addr;

impl Fib {
    /// The next hop of a connection's packets. It stays the same while it lives, whatever becomes of the
    /// others; only the connections of one that is dead are spread over the rest.
    pub(super) fn choose<'r>(&self, route: &'r Route, query: &Query) -> Option<&'r Hop> {
        let hops = route.hops();
        if hops.len() < 2 {
            return hops.first();
        }
        let place = query.spread();
        let chosen = share(hops.iter(), place)?;
        if self.lives(chosen, query.dst) {
            return Some(chosen);
        }
        let living = hops.iter().filter(|h| self.lives(h, query.dst));
        share(living, finalize(!place)).or(Some(chosen))
    }

    /// Whether a next hop can be sent to, as far as is known (`fib_good_nh` in net/ipv4/fib_semantics.c).
    fn lives(&self, hop: &Hop, dst: Addr) -> bool {
        let via = hop.gateway.unwrap_or(dst);
        let sends = |i: &Interface| i.ifindex == hop.ifindex && i.up;
        !hop.dead && self.interfaces.iter().any(sends) && !self.failed.contains(&(hop.ifindex, via))
    }

    /// The neighbours that packets of a query may be sent to, each with its interface's index: one, or as
    /// many as the route has next hops.
    pub fn neighbours_of(&self, query: Query) -> Vec<(u32, Addr)> {
        if query.dst.is_link_local() {
            return vec![(query.out, query.dst)];
        }
        let Ok(mut route) = self.find(&query) else {
            return Vec::new();
        };
        if query.binds_source && self.has_rules(query.family()) {
            let source = self
                .find(&query)
                .and_then(|r| self.hop(r, &query))
                .map_or(query.src, |hop| hop.source);
            route = self.find(&query.from(source)).unwrap_or(route);
        }
        let hops = route.hops().iter();
        hops.map(|h| (h.ifindex, h.gateway.unwrap_or(query.dst)))
            .collect()
    }
}

/// The hop whose share of the weights holds `place`.
fn share<'r>(hops: impl Iterator<Item = &'r Hop> + Clone, place: u64) -> Option<&'r Hop> {
    let total: u64 = hops.clone().map(|h| u64::from(h.weight)).sum();
    let mut left = ((place >> 32) * total) >> 32;
    let mut hops = hops;
    hops.find(|h| {
        let weight = u64::from(h.weight);
        let within = left < weight;
        left = left.saturating_sub(weight);
        within
    })
}
