//! The greatest common divisor of weights, which wrr and mh reduce them by.

/// The greatest common divisor of `weights`, zeros left out; 0 where there is nothing else.
pub(crate) fn gcd(weights: impl Iterator<Item = u32>) -> u32 {
    weights.fold(0, |mut a, mut b| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    })
}

#[cfg(test)]
mod tests {
    use super::gcd;

    #[test]
    fn zeros_do_not_count() {
        assert_eq!(gcd([0, 12, 0, 18].into_iter()), 6);
        assert_eq!(gcd([0, 0].into_iter()), 0);
        assert_eq!(gcd([7].into_iter()), 7);
        assert_eq!(gcd([i32::MAX as u32, 2].into_iter()), 1);
    }
}
