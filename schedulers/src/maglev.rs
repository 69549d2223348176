//! Maglev's look-up table: its size, and how servers fill it. Pure functions, with no scheduler around.
//!
//! Source: Eisenbud et al., "Maglev: a fast and reliable software network load balancer" (NSDI 2016) §3.4.

use crate::gcd::gcd;
use uvs_core::narrow;

/// Entries of the table where none are asked for: the kernel's.
pub const DEFAULT_TABLE_SIZE: u32 = 4093;
/// The smallest table: the kernel's smallest.
pub const MIN_TABLE_SIZE: u32 = 251;
/// The largest table: 64 MB of it.
pub const MAX_TABLE_SIZE: u32 = 1 << 24;

/// Why a table size will not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("table size {0} is not a prime from {MIN_TABLE_SIZE} to {MAX_TABLE_SIZE}")]
pub struct TableSizeError(u32);

impl TableSizeError {
    /// What to take instead: the next prime, or the sizes of the paper.
    pub fn help(&self) -> String {
        let next = (self.0..=MAX_TABLE_SIZE).find(|n| check_table_size(*n).is_ok());
        let next = next.map_or_else(String::new, |n| format!("the next prime is {n}; "));
        format!("{next}take 4093, 65537 or 655373, about 100 times the number of servers")
    }
}

/// Whether mh takes a table of this size; 0 stands for the default.
pub fn check_table_size(size: u32) -> Result<(), TableSizeError> {
    match size {
        0 => Ok(()),
        MIN_TABLE_SIZE..=MAX_TABLE_SIZE if is_prime(size) => Ok(()),
        _ => Err(TableSizeError(size)),
    }
}

/// How many entries each server claims in a row: its weight over the common divisor, cut to half as many
/// bits as the table's size has and to no less than 1; 0 for a server that never had a weight.
pub(crate) fn turns(weights: &[u32], size: u32) -> Vec<u32> {
    let divisor = gcd(weights.iter().copied()).max(1);
    let heaviest = weights.iter().max().map_or(0, |max| max / divisor);
    let shift = bits(heaviest).saturating_sub(bits(size) / 2);
    let turns = |weight: &u32| match *weight {
        0 => 0,
        weight => ((weight / divisor) >> shift).max(1),
    };
    weights.iter().map(turns).collect()
}

/// A server's walk through the table's entries.
pub(crate) struct Permutation {
    /// The next entry to claim, at first the offset.
    pub(crate) entry: u32,
    /// The way to the one after it, modulo the table's size.
    pub(crate) skip: u32,
    /// Entries to claim in a row.
    pub(crate) turns: u32,
}

/// Fills the table with the indices of the servers as they claim entries; empties it where none has a turn.
pub(crate) fn fill(table: &mut Vec<u32>, servers: &mut [Permutation], size: u32) {
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

/// An entry nobody has claimed yet.
const FREE: u32 = u32::MAX;

impl Permutation {
    /// The next entry of the walk that is free.
    fn next_free(&mut self, table: &[u32]) -> usize {
        let size = narrow::to_u32(table.len());
        while table[self.entry as usize] != FREE {
            self.entry += self.skip;
            if self.entry >= size {
                self.entry -= size;
            }
        }
        self.entry as usize
    }
}

fn is_prime(n: u32) -> bool {
    (2..)
        .take_while(|d| d * d <= n)
        .all(|d| !n.is_multiple_of(d))
}

const fn bits(n: u32) -> u32 {
    u32::BITS - n.leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_worked_example() {
        let walk = |entry, skip| Permutation {
            entry,
            skip,
            turns: 1,
        };
        let mut table = Vec::new();
        fill(&mut table, &mut [walk(3, 4), walk(0, 2), walk(3, 1)], 7);
        assert_eq!(table, [1, 0, 1, 0, 2, 2, 0]);
        fill(&mut table, &mut [walk(3, 4), walk(3, 1)], 7);
        assert_eq!(table, [0, 0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn turns_keep_as_many_bits_as_half_the_tables() {
        assert_eq!(turns(&[100, 1, 0], 4093), [50, 1, 0]);
        assert_eq!(turns(&[6000, 60, 0], 4093), [50, 1, 0]);
        assert_eq!(turns(&[63, 1], 4093), [63, 1]);
        assert_eq!(turns(&[100, 1], 65_537), [100, 1]);
        assert_eq!(turns(&[0, 0], 4093), [0, 0]);
    }

    #[test]
    fn a_table_size_must_be_prime() {
        for size in [0, 251, 4093, 65_537, 655_373] {
            assert_eq!(check_table_size(size), Ok(()));
        }
        for size in [1, 7, 4096, 65_536, 65_539 * 2, u32::MAX] {
            assert_eq!(check_table_size(size), Err(TableSizeError(size)));
        }
        let error = check_table_size(4096).expect_err("not a prime");
        assert_eq!(
            error.to_string(),
            "table size 4096 is not a prime from 251 to 16777216"
        );
        assert_eq!(
            error.help(),
            "the next prime is 4099; take 4093, 65537 or 655373, about 100 times the number of servers"
        );
        assert!(TableSizeError(u32::MAX).help().starts_with("take 4093"));
    }
}
