//! mh, Maglev hashing: a client always comes to the same server, and a change of servers moves few others.
//!
//! Each server has its own permutation of the table's M entries (M prime): `offset, offset + skip, …` mod M,
//! with offset and skip hashed from its address and port. The servers take turns, each claiming the next
//! free entry of its permutation, until the table is full; a heavier server gets more turns in a row. A
//! client's entry is the hash of its address, with `mh-port` of address plus source port. A server that is
//! quiesced keeps its entries (its last weight above 0 counts), so that nothing else moves: its clients are
//! refused, or with `mh-fallback` spread over the others.
//!
//! Source: Eisenbud et al., "Maglev: a fast and reliable software network load balancer" (NSDI 2016) §3.4;
//! hash, keys, turns and the default size as in the behaviour of Linux's `ip_vs_mh.c` on 64-bit machines.

use std::collections::BTreeMap;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;
use uvs_core::backend::Backend;
use uvs_core::flow::{Addr, Flow};
use uvs_core::scheduler::{FLAG_1, FLAG_2, Fork, Scheduler, SchedulerDef, SchedulerParams};

use crate::hash::fold;
use crate::maglev::{self, DEFAULT_TABLE_SIZE, Permutation};

pub(crate) const DEF: SchedulerDef = SchedulerDef {
    name: "mh",
    about: "Maglev hashing: as sh, and a change of servers moves few other clients",
    new: |params| Box::new(Maglev::new(params)),
};

#[derive(Clone)]
struct Maglev {
    /// Index of each entry's server; empty where there is no server.
    table: Vec<u32>,
    /// Built at the first pick after a change: a thousand changes in a row need one table.
    stale: bool,
    /// By server: its last weight above 0.
    last_weights: BTreeMap<u64, u32>,
    size: u32,
    fallback: bool,
    use_port: bool,
}

impl Maglev {
    fn new(params: &SchedulerParams) -> Self {
        let asked = params.table_size;
        let usable = asked > 0 && maglev::check_table_size(asked).is_ok();
        Self {
            table: Vec::new(),
            stale: false,
            last_weights: BTreeMap::new(),
            size: if usable { asked } else { DEFAULT_TABLE_SIZE },
            fallback: params.flags & FLAG_1 != 0,
            use_port: params.flags & FLAG_2 != 0,
        }
    }
}

impl Scheduler for Maglev {
    fn backends_changed(&mut self, backends: &[Backend]) {
        let last = |b: &Backend| match b.weight {
            0 => self.last_weights.get(&b.id).copied().unwrap_or(0),
            weight => weight,
        };
        self.last_weights = backends.iter().map(|b| (b.id, last(b))).collect();
        self.stale = true;
    }

    fn pick(&mut self, flow: &Flow, backends: &[Backend]) -> Option<usize> {
        if self.stale {
            self.rebuild(backends);
        }
        let port = if self.use_port { flow.src_port } else { 0 };
        let entry = |offset| hash(OFFSET_KEY, &flow.src, port, offset) % self.size;
        let server = |entry: u32| self.table.get(entry as usize).map(|&i| i as usize);
        let usable = |i: &usize| backends[*i].is_available();
        let start = entry(0);
        let first = server(start)?;
        if usable(&first) || !self.fallback {
            return Some(first).filter(usable);
        }
        if !backends.iter().any(Backend::is_available) {
            return None;
        }
        // Each retry hashes again, so that a server's clients spread over all others.
        (0..self.size)
            .map(|n| entry((start + n) % self.size))
            .filter_map(server)
            .find(usable)
    }

    fn fork(&self) -> Fork {
        Fork::Exact(Box::new(self.clone()))
    }

    fn is_consistent(&self) -> bool {
        true
    }
}

impl Maglev {
    fn rebuild(&mut self, backends: &[Backend]) {
        let weight = |b: &Backend| self.last_weights.get(&b.id).copied().unwrap_or(b.weight);
        let weights: Vec<u32> = backends.iter().map(weight).collect();
        let turns = maglev::turns(&weights, self.size);
        let walk = |(b, turns): (&Backend, u32)| Permutation {
            entry: hash(OFFSET_KEY, &b.addr, b.port, 0) % self.size,
            skip: hash(SKIP_KEY, &b.addr, b.port, 0) % (self.size - 1) + 1,
            turns,
        };
        let mut walks: Vec<Permutation> = backends.iter().zip(turns).map(walk).collect();
        maglev::fill(&mut self.table, &mut walks, self.size);
        self.stale = false;
    }
}

/// The kernel's two fixed keys, so that all directors agree.
const OFFSET_KEY: u64 = 2_654_435_761;
const SKIP_KEY: u64 = 2_654_446_892;

/// Linux's hsiphash of one 32-bit word on 64-bit machines: the low half of SipHash-1-3.
fn hash(key: u64, addr: &Addr, port: u16, offset: u32) -> u32 {
    let word = fold(addr)
        .wrapping_add(u32::from(port))
        .wrapping_add(offset);
    let mut hasher = SipHasher13::new_with_keys(key, key);
    hasher.write(&word.to_le_bytes());
    (hasher.finish() & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::testing::servers::{backend, backends, flow, ids_picked};

    fn maglev(size: u32, flags: u32, set: &[Backend]) -> Maglev {
        let mut mh = Maglev::new(&SchedulerParams {
            flags,
            table_size: size,
            seed: 0,
        });
        mh.backends_changed(set);
        mh.rebuild(set);
        mh
    }

    fn equal(n: u64) -> Vec<Backend> {
        (0..n).map(|id| backend(id, 1)).collect()
    }

    fn entries_per_server(mh: &Maglev, servers: usize) -> Vec<usize> {
        let mut entries = vec![0; servers];
        mh.table.iter().for_each(|&i| entries[i as usize] += 1);
        entries
    }

    #[test]
    fn equal_servers_differ_by_at_most_one_entry() {
        let spread = |n: u64, size| {
            let set = equal(n);
            let entries = entries_per_server(&maglev(size, 0, &set), set.len());
            entries
                .iter()
                .max()
                .zip(entries.iter().min())
                .map(|(most, least)| most - least)
        };
        for n in 3..=1000 {
            assert!(spread(n, 4093) <= Some(1), "{n} servers, 4093 entries");
        }
        for n in (3..=1000).step_by(97).chain([1000]) {
            assert!(spread(n, 65_537) <= Some(1), "{n} servers, 65537 entries");
        }
        assert_eq!(spread(1000, 655_373), Some(1));
    }

    /// The share of the surviving servers' entries that removing the first `k` of `n` servers moves.
    fn moved(n: u64, size: u32, k: usize) -> f64 {
        let set = equal(n);
        let before = maglev(size, 0, &set);
        let after = maglev(size, 0, &set[k..]);
        let pairs = before.table.iter().zip(&after.table);
        let survivors = pairs.filter(|(b, _)| **b as usize >= k);
        let (mut all, mut moved) = (0, 0);
        for (b, a) in survivors {
            all += 1;
            moved += u32::from(*b as usize != *a as usize + k);
        }
        f64::from(moved) / f64::from(all)
    }

    #[test]
    fn removing_a_server_moves_few_entries_of_the_others() {
        // Up to one server to 40 entries at most 5 % for one removal, and far less in large tables.
        for n in (3..=100).step_by(7).chain([100]) {
            assert!(
                moved(n, 4093, 1) <= 0.05,
                "{n} of 4093: {}",
                moved(n, 4093, 1)
            );
        }
        for n in (3..=1000).step_by(83).chain([1000]) {
            let share = moved(n, 65_537, 1);
            assert!(share <= 0.02, "1 of {n} servers, 65537 entries: {share}");
        }
        for (n, size, k, bound) in [
            (3, 65_537, 1, 0.01),
            (400, 65_537, 1, 0.02),
            (400, 65_537, 20, 0.03),
            (1000, 65_537, 1, 0.02),
            (1000, 65_537, 50, 0.05),
            (1000, 655_373, 1, 0.01),
            (1000, 655_373, 50, 0.015),
        ] {
            let share = moved(n, size, k);
            assert!(
                share <= bound,
                "{k} of {n} servers, {size} entries: {share}"
            );
        }
    }

    #[test]
    fn entries_are_in_proportion_to_the_weights() {
        let set = backends(&[(1, 30), (2, 20), (3, 10), (4, 0)]);
        let entries = entries_per_server(&maglev(65_537, 0, &set), 4);
        for (entries, expected) in entries.iter().zip([32_768, 21_846, 10_923, 0]) {
            assert!(entries.abs_diff(expected) <= 3, "{entries}, not {expected}");
        }
    }

    #[test]
    fn quiescing_a_server_moves_nobody_else() {
        let mut set = backends(&[(3, 1), (2, 1), (1, 1)]);
        let clients: Vec<Flow> = (0..300).map(flow).collect();
        let mut mh = maglev(0, 0, &set);
        let before: Vec<_> = clients.iter().map(|c| mh.pick(c, &set)).collect();
        set[1].weight = 0;
        mh.backends_changed(&set);
        for (client, was) in clients.iter().zip(before) {
            assert_eq!(mh.pick(client, &set), was.filter(|&i| i != 1));
        }
    }

    #[test]
    fn the_fallback_goes_on_from_the_clients_own_entry() {
        let mut set = backends(&[(3, 1), (2, 1), (1, 1)]);
        let mut mh = maglev(0, FLAG_1, &set);
        set[0].weight = 0;
        for client in (0..300).map(flow) {
            let entry = |offset| hash(OFFSET_KEY, &client.src, 0, offset) % 4093;
            let server = |offset| mh.table[entry(offset) as usize] as usize;
            let mut offsets = std::iter::once(0).chain(entry(0)..4093);
            let expected = offsets.find(|&offset| server(offset) != 0).map(server);
            assert_eq!(mh.pick(&client, &set), expected);
        }
    }

    #[test]
    fn the_fallback_spreads_a_servers_clients_over_the_others() {
        let mut set = backends(&[(3, 1), (2, 1), (1, 1)]);
        set[1].flags = Backend::OVERLOADED;
        let picked = ids_picked(&mut maglev(0, FLAG_1, &set), &set, 3000);
        let share = picked.iter().filter(|id| **id == 1).count();
        assert!((1300..1700).contains(&share), "{share}");
        assert!(!picked.contains(&2));
    }
}
