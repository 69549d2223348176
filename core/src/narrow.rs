//! Numbers in fewer bits, without a branch: for lengths and places that fit by what they count, and for those
//! of which only the low bits are wanted. A number from outside is converted with `try_from` instead.

/// The low 8 bits.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "what it is for")]
pub const fn to_u8(n: usize) -> u8 {
    n as u8
}

/// The low 16 bits.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "what it is for")]
pub const fn to_u16(n: usize) -> u16 {
    n as u16
}

/// The low 32 bits.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "what it is for")]
pub const fn to_u32(n: usize) -> u32 {
    n as u32
}

/// The place of a hash among `places`, of which there is at least one.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "any bits of a hash are as good as others"
)]
pub const fn to_place(hash: u64, places: usize) -> usize {
    hash as usize % places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_low_bits_remain() {
        let n = 0x1234_5678;
        assert_eq!(
            (to_u8(n), to_u16(n), to_u32(n)),
            (0x78, 0x5678, 0x1234_5678)
        );
        assert_eq!(to_place(u64::MAX, 1 << 16), 0xffff);
    }
}
