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
use uvs_core::scheduler::{FLAG_1, FLAG_2, Scheduler, SchedulerDef, SchedulerParams};

use crate::gcd::gcd;
use crate::hash::fold;

pub(crate) const DEF: SchedulerDef = SchedulerDef {
    name: "mh",
    about: "Maglev hashing: as sh, and a change of servers moves few other clients",
    new: |params| Box::new(Maglev::new(params)),
};

/// Entries of the table where none are asked for: the kernel's.
pub const DEFAULT_TABLE_SIZE: u32 = 4093;
/// The largest table: 64 MB of it.
pub const MAX_TABLE_SIZE: u32 = 1 << 24;

/// Why a table size will not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "table size {0} is not a prime from 251 to {MAX_TABLE_SIZE}; \
     take 4093, 65537 or 655373: about 100 times the number of servers"
)]
pub struct TableSizeError(u32);

/// Whether mh takes a table of this size; 0 stands for the default.
pub fn check_table_size(size: u32) -> Result<(), TableSizeError> {
    let good = size == 0 || ((251..=MAX_TABLE_SIZE).contains(&size) && is_prime(size));
    if good {
        Ok(())
    } else {
        Err(TableSizeError(size))
    }
}

fn is_prime(n: u32) -> bool {
    n > 1 && (2..).take_while(|d| d * d <= n).all(|d| n % d != 0)
}

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
        let usable = asked > 0 && check_table_size(asked).is_ok();
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
        // Each retry hashes anew, so that a server's clients spread over all others.
        (0..self.size)
            .map(|n| entry((start + n) % self.size))
            .filter_map(server)
            .find(usable)
    }
}

impl Maglev {
    fn rebuild(&mut self, backends: &[Backend]) {
        let weights: Vec<u32> = backends.iter().map(|b| self.last_weights[&b.id]).collect();
        let turns = turns(&weights, self.size);
        let servers = backends.iter().zip(turns);
        let mut servers: Vec<Permutation> = servers
            .map(|(b, turns)| Permutation::of(b, turns, self.size))
            .collect();
        fill(&mut self.table, &mut servers, self.size);
        self.stale = false;
    }
}

/// How many entries each server claims in a row: its weight over the common divisor, cut to the precision
/// that half the table's bits give and to no less than 1; 0 for a server that never had a weight.
fn turns(weights: &[u32], size: u32) -> Vec<u32> {
    let divisor = gcd(weights.iter().copied()).max(1);
    let heaviest = weights.iter().max().map_or(0, |max| max / divisor);
    let shift = bits(heaviest).saturating_sub(bits(size) / 2);
    let turns = |&w: &u32| {
        if w == 0 {
            0
        } else {
            ((w / divisor) >> shift).max(1)
        }
    };
    weights.iter().map(turns).collect()
}

const fn bits(n: u32) -> u32 {
    u32::BITS - n.leading_zeros()
}

/// A server's walk through the table's entries.
#[derive(Clone, Copy)]
struct Permutation {
    /// The next entry to claim, at first the offset.
    entry: u32,
    skip: u32,
    turns: u32,
}

impl Permutation {
    fn of(b: &Backend, turns: u32, size: u32) -> Self {
        let offset = hash(OFFSET_KEY, &b.addr, b.port, 0) % size;
        let skip = hash(SKIP_KEY, &b.addr, b.port, 0) % (size - 1) + 1;
        Self {
            entry: offset,
            skip,
            turns,
        }
    }

    /// The next entry of the walk that is free.
    fn next_free(&mut self, table: &[u32]) -> usize {
        let size = table.len() as u32;
        while table[self.entry as usize] != FREE {
            self.entry += self.skip;
            if self.entry >= size {
                self.entry -= size;
            }
        }
        self.entry as usize
    }
}

/// An entry nobody has claimed yet.
const FREE: u32 = u32::MAX;

/// Fills the table with the indices of the servers as they claim entries; empties it where none has a turn.
fn fill(table: &mut Vec<u32>, servers: &mut [Permutation], size: u32) {
    table.clear();
    if servers.iter().all(|s| s.turns == 0) {
        return;
    }
    table.resize(size as usize, FREE);
    let mut left = size;
    loop {
        for (i, server) in (0..).zip(servers.iter_mut()) {
            for _ in 0..server.turns {
                let entry = server.next_free(table);
                table[entry] = i;
                left -= 1;
                if left == 0 {
                    return;
                }
            }
        }
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
    hasher.finish() as u32
}
