//! lblcr, locality-based least connection with replication: a destination address has a set of servers.
//!
//! A destination goes to the least loaded (by wlc) available server of its set. If there is none, or it is
//! swamped (more active connections than weight while another server has less than half of its own), wlc
//! picks from all servers and the pick joins the set. A set of more than one that has not changed for a day
//! loses its most loaded member, so that replicas of what is no longer in demand go away. Source: the
//! behaviour of Linux's `ip_vs_lblcr.c`.

use std::collections::BTreeMap;
use std::time::Duration;

use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::scheduler::{Fork, Scheduler, SchedulerDef};
use uvs_core::time::Instant;

use crate::cache::{Cache, EXPIRATION};
use crate::load;

pub(crate) const DEF: SchedulerDef = SchedulerDef {
    name: "lblcr",
    about: "lblc with replication: a destination in demand gets several servers",
    new: |_| {
        Box::new(Replication {
            cache: Cache::new(),
            indices: BTreeMap::new(),
        })
    },
};

#[derive(Clone)]
struct Replication {
    cache: Cache<Replicas>,
    indices: BTreeMap<u64, usize>,
}

/// The servers of one destination.
#[derive(Clone)]
struct Replicas {
    /// By id, the newest first.
    members: Vec<u64>,
    changed: Duration,
}

impl Scheduler for Replication {
    fn backends_changed(&mut self, backends: &[Backend]) {
        self.indices = backends.iter().map(|b| b.id).zip(0..).collect();
    }

    fn pick(&mut self, flow: &Flow, backends: &[Backend]) -> Option<usize> {
        let now = self.cache.now();
        let Some(replicas) = self.cache.get(&flow.dst) else {
            let new = load::least(backends, Backend::overhead)?;
            self.cache.insert(
                flow.dst,
                Replicas {
                    members: vec![backends[new].id],
                    changed: now,
                },
            );
            return Some(new);
        };
        let least = replicas.least(backends, &self.indices);
        if now.saturating_sub(replicas.changed) > EXPIRATION {
            replicas.shrink(backends, &self.indices, now);
        }
        if let Some(i) = least
            && !load::is_swamped(&backends[i], backends)
        {
            return Some(i);
        }
        let new = load::least(backends, Backend::overhead)?;
        replicas.join(backends[new].id, &self.indices, now);
        Some(new)
    }

    fn tick(&mut self, now: Instant) {
        self.cache.tick(now);
    }

    fn fork(&self) -> Fork {
        Fork::Exact(Box::new(self.clone()))
    }
}

impl Replicas {
    fn least(&self, backends: &[Backend], indices: &BTreeMap<u64, usize>) -> Option<usize> {
        let members = self
            .members
            .iter()
            .filter_map(|id| indices.get(id).copied());
        load::least_among(backends, members, Backend::overhead)
    }

    /// Loses a member that is gone, else the most loaded one; the last one stays.
    fn shrink(&mut self, backends: &[Backend], indices: &BTreeMap<u64, usize>, now: Duration) {
        if self.members.len() < 2 {
            return;
        }
        let gone = self.members.iter().position(|id| !indices.contains_key(id));
        let weighted = |m: &usize| backends[indices[&self.members[*m]]].weight > 0;
        let leaves = gone.or_else(|| {
            (0..self.members.len())
                .filter(weighted)
                .rev()
                .max_by(|&a, &b| {
                    let server = |m: usize| &backends[indices[&self.members[m]]];
                    load::compare(server(a), server(b), Backend::overhead)
                })
        });
        if let Some(m) = leaves {
            self.members.remove(m);
            self.changed = now;
        }
    }

    fn join(&mut self, id: u64, indices: &BTreeMap<u64, usize>, now: Duration) {
        if self.members.contains(&id) {
            return;
        }
        // A server that is gone keeps its place, for it may come back; but they must not pile up.
        if self.members.len() >= 2 * indices.len() {
            self.members.retain(|id| indices.contains_key(id));
        }
        self.members.insert(0, id);
        self.changed = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::testing::servers::{backends, flow};

    /// Clients 5, 105, 205 … have the same destination.
    fn pick(lblcr: &mut dyn Scheduler, client: u64, set: &[Backend]) -> Option<u64> {
        lblcr.pick(&flow(100 * client + 5), set).map(|i| set[i].id)
    }

    fn two_replicas() -> (Box<dyn Scheduler>, Vec<Backend>) {
        let mut set = backends(&[(3, 2), (2, 2), (1, 2)]);
        let mut lblcr = (DEF.new)(&Default::default());
        lblcr.backends_changed(&set);
        lblcr.tick(Instant::ZERO);
        assert_eq!(pick(&mut *lblcr, 0, &set), Some(3));
        set[0].active = 3;
        assert_eq!(pick(&mut *lblcr, 1, &set), Some(2));
        (lblcr, set)
    }

    #[test]
    fn a_swamped_server_gets_help_and_both_stay_in_the_set() {
        let (mut lblcr, mut set) = two_replicas();
        set[1].active = 2;
        assert_eq!(pick(&mut *lblcr, 2, &set), Some(2));
        set[0].active = 1;
        assert_eq!(pick(&mut *lblcr, 3, &set), Some(3));
    }

    #[test]
    fn of_equally_loaded_members_the_newest_is_taken() {
        let (mut lblcr, mut set) = two_replicas();
        set[0].active = 1;
        set[1].active = 1;
        assert_eq!(pick(&mut *lblcr, 2, &set), Some(2));
    }

    #[test]
    fn after_a_day_without_change_the_most_loaded_replica_leaves() {
        let (mut lblcr, mut set) = two_replicas();
        let hours = |n: u64| Instant::from_secs(n * 60 * 60);
        lblcr.tick(hours(13));
        assert_eq!(pick(&mut *lblcr, 2, &set), Some(2));
        lblcr.tick(hours(25));
        assert_eq!(pick(&mut *lblcr, 3, &set), Some(2));
        // Server 3 is idle and no longer a member.
        set[0].active = 0;
        set[1].active = 1;
        assert_eq!(pick(&mut *lblcr, 4, &set), Some(2));
    }

    #[test]
    fn one_replica_leaves_a_day_and_of_equals_the_newest() {
        let set = backends(&[(3, 1), (2, 1), (1, 1)]);
        let indices = set.iter().map(|b| b.id).zip(0..).collect();
        let hour = |n: u64| Duration::from_secs(n * 60 * 60);
        let mut replication = Replication {
            cache: Cache::new(),
            indices,
        };
        replication.tick(Instant::ZERO);
        let members = vec![1, 2, 3];
        replication.cache.insert(
            flow(5).dst,
            Replicas {
                members,
                changed: Duration::ZERO,
            },
        );
        for (now, left) in [
            (13, vec![1, 2, 3]),
            (25, vec![2, 3]),
            (26, vec![2, 3]),
            (49, vec![2, 3]),
            (50, vec![3]),
        ] {
            replication.tick(Instant::ZERO + hour(now));
            assert!(pick(&mut replication, now, &set).is_some());
            let replicas = replication.cache.get(&flow(5).dst).expect("an entry");
            assert_eq!(replicas.members, left, "after {now} hours");
        }
    }

    #[test]
    fn a_set_whose_servers_are_gone_gets_a_new_one() {
        let (mut lblcr, set) = two_replicas();
        let left = [set[2]];
        lblcr.backends_changed(&left);
        assert_eq!(pick(&mut *lblcr, 2, &left), Some(1));
    }

    #[test]
    fn servers_that_come_and_go_do_not_pile_up() {
        let mut replication = Replication {
            cache: Cache::new(),
            indices: BTreeMap::new(),
        };
        for id in 1..100 {
            let set = backends(&[(id, 1)]);
            replication.backends_changed(&set);
            assert_eq!(pick(&mut replication, id, &set), Some(id));
        }
        let replicas = replication.cache.get(&flow(5).dst).expect("an entry");
        assert!(replicas.members.len() <= 2, "{:?}", replicas.members);
    }
}
