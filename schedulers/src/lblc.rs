//! lblc, locality-based least connection: a destination address stays with its server while that can take it.
//!
//! For transparent caches: one cache then holds one site. A destination goes to the server it went to last;
//! if that is gone, unavailable or swamped (more active connections than weight while another server has
//! less than half of its own), or there was none, to the one wlc picks, which is remembered. Source: the
//! behaviour of Linux's `ip_vs_lblc.c`, except that a server at its upper threshold counts as unavailable.

use std::collections::BTreeMap;

use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::scheduler::{Fork, Scheduler, SchedulerDef};
use uvs_core::time::Instant;

use crate::cache::Cache;
use crate::load;

pub(crate) const DEF: SchedulerDef = SchedulerDef {
    name: "lblc",
    about: "locality-based least connection: a destination stays with a server that can take it",
    new: |_| {
        Box::new(Locality {
            cache: Cache::new(),
            indices: BTreeMap::new(),
        })
    },
};

#[derive(Clone)]
struct Locality {
    /// The id of each destination's server.
    cache: Cache<u64>,
    indices: BTreeMap<u64, usize>,
}

impl Scheduler for Locality {
    fn backends_changed(&mut self, backends: &[Backend]) {
        self.indices = backends.iter().map(|b| b.id).zip(0..).collect();
    }

    fn pick(&mut self, flow: &Flow, backends: &[Backend]) -> Option<usize> {
        let known = self
            .cache
            .get(&flow.dst)
            .and_then(|id| self.indices.get(id).copied());
        if let Some(i) = known
            && backends[i].is_available()
            && !load::is_swamped(&backends[i], backends)
        {
            return Some(i);
        }
        let new = load::least(backends, Backend::overhead)?;
        self.cache.insert(flow.dst, backends[new].id);
        Some(new)
    }

    fn tick(&mut self, now: Instant) {
        self.cache.tick(now);
    }

    fn fork(&self) -> Fork {
        Fork::Exact(Box::new(self.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::testing::servers::{backends, flow};

    /// Clients 5, 105, 205 … have the same destination.
    fn pick(lblc: &mut dyn Scheduler, client: u64, set: &[Backend]) -> Option<u64> {
        lblc.pick(&flow(100 * client + 5), set).map(|i| set[i].id)
    }

    #[test]
    fn a_destination_stays_until_its_server_is_swamped_or_quiesced() {
        let mut set = backends(&[(2, 2), (1, 2)]);
        let mut lblc = (DEF.new)(&Default::default());
        lblc.backends_changed(&set);
        assert_eq!(pick(&mut *lblc, 0, &set), Some(2));
        set[0].active = 2;
        assert_eq!(pick(&mut *lblc, 1, &set), Some(2));
        set[0].active = 3;
        assert_eq!(pick(&mut *lblc, 2, &set), Some(1));
        set[0].active = 0;
        assert_eq!(pick(&mut *lblc, 3, &set), Some(1));
        set[1].weight = 0;
        lblc.backends_changed(&set);
        assert_eq!(pick(&mut *lblc, 4, &set), Some(2));
    }

    #[test]
    fn a_destination_not_asked_for_in_a_day_is_forgotten() {
        let mut set = backends(&[(2, 1), (1, 1)]);
        let mut lblc = (DEF.new)(&Default::default());
        lblc.backends_changed(&set);
        lblc.tick(Instant::from_secs(1000));
        assert_eq!(pick(&mut *lblc, 0, &set), Some(2));
        set[0].inactive = 1;
        lblc.tick(Instant::from_secs(2000));
        assert_eq!(pick(&mut *lblc, 1, &set), Some(2));
        lblc.tick(Instant::from_secs(2000 + 24 * 60 * 60));
        assert_eq!(pick(&mut *lblc, 2, &set), Some(1));
    }

    #[test]
    fn a_destination_follows_its_server_to_another_place_in_the_list() {
        let mut set = backends(&[(2, 1), (1, 1)]);
        let mut lblc = (DEF.new)(&Default::default());
        lblc.backends_changed(&set);
        assert_eq!(pick(&mut *lblc, 0, &set), Some(2));
        set[0].inactive = 1;
        set.splice(0..0, backends(&[(3, 1)]));
        lblc.backends_changed(&set);
        assert_eq!(pick(&mut *lblc, 1, &set), Some(2));
    }
}
