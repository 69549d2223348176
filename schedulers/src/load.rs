//! The comparison all "least" schedulers share: the smallest `cost / weight`, ties to the first.
//!
//! Servers come newest first, so a tie goes to the server added last, as in the kernel.

use std::cmp::Ordering;

use uvs_core::backend::Backend;

/// The available server with the smallest `cost / weight`.
pub(crate) fn least(backends: &[Backend], cost: impl Fn(&Backend) -> u64) -> Option<usize> {
    least_among(backends, 0..backends.len(), cost)
}

/// Likewise among `candidates`, which are indices into `backends`; the first in their order wins a tie.
pub(crate) fn least_among(
    backends: &[Backend],
    candidates: impl Iterator<Item = usize>,
    cost: impl Fn(&Backend) -> u64,
) -> Option<usize> {
    candidates
        .filter(|&i| backends[i].is_available())
        .min_by(|&a, &b| compare(&backends[a], &backends[b], &cost))
}

/// `cost(a) / weight(a)` against `cost(b) / weight(b)` without a division: both sides times both weights.
///
/// A cost has up to 64 bits and a weight 31, so the products need more than 64.
pub(crate) fn compare(a: &Backend, b: &Backend, cost: impl Fn(&Backend) -> u64) -> Ordering {
    let left = u128::from(cost(a)) * u128::from(b.weight);
    let right = u128::from(cost(b)) * u128::from(a.weight);
    left.cmp(&right)
}

/// Whether a server has more active connections than weight while another has less than half of its own:
/// lblc and lblcr then take a destination elsewhere.
pub(crate) fn is_swamped(server: &Backend, backends: &[Backend]) -> bool {
    let idle = |b: &Backend| u64::from(b.active) * 2 < u64::from(b.weight);
    server.active > server.weight && backends.iter().any(idle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::testing::servers::backend;

    #[test]
    fn the_ratio_decides_and_a_tie_goes_to_the_first() {
        let mut set = [backend(1, 2), backend(2, 4), backend(3, 0)];
        set[0].active = 2;
        set[1].active = 4;
        assert_eq!(least(&set, Backend::overhead), Some(0));
        set[0].inactive = 1;
        assert_eq!(least(&set, Backend::overhead), Some(1));
    }

    #[test]
    fn a_server_is_swamped_only_if_another_is_half_idle() {
        let mut set = [backend(1, 2), backend(2, 2)];
        set[0].active = 3;
        assert!(is_swamped(&set[0], &set));
        set[1].active = 1;
        assert!(!is_swamped(&set[0], &set));
        set[0].active = 2;
        set[1].active = 0;
        assert!(!is_swamped(&set[0], &set));
    }

    #[test]
    fn the_largest_loads_and_weights_do_not_overflow() {
        let mut set = [backend(1, i32::MAX as u32), backend(2, i32::MAX as u32)];
        set[0].active = u32::MAX;
        set[0].inactive = u32::MAX;
        set[1].active = u32::MAX;
        assert_eq!(least(&set, Backend::overhead), Some(1));
    }
}
